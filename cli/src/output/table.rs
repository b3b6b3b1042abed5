//! Columns.

use super::wrap::hanging;

/// The space between two columns.
const GAP: usize = 2;
/// What the last column gets at least, where a row is wider than the terminal; with less, it goes beneath.
const LAST: usize = 24;
/// The narrowest column.
const NARROWEST: usize = 6;
/// How far a last cell that goes beneath is indented.
const BENEATH: usize = 4;

/// Lays out rows in columns, two spaces apart, each as wide as its widest cell; the last is not filled up.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let widths = widths(rows);
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(widest.saturating_sub(width(cell)) + GAP));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Lays out rows as [`table`] does, in a terminal of so many columns: a cell that is too wide for its column has a line
/// for itself, and the last column is wrapped. Nothing is cut.
pub(crate) fn fit(rows: &[Vec<String>], columns: Option<usize>) -> Vec<String> {
    let whole = table(rows);
    let Some(columns) = columns else { return whole };
    if whole.iter().all(|line| width(line) <= columns) {
        return whole;
    }
    let mut widths = widths(rows);
    let last = widths.pop().unwrap_or_default().min(LAST);
    let taken = |widths: &[usize], cap: usize| widths.iter().map(|width| width.min(&cap) + GAP).sum::<usize>();
    let mut cap = widths.iter().copied().max().unwrap_or_default();
    while cap > NARROWEST && taken(&widths, cap) + last > columns {
        cap -= 1;
    }
    let widths: Vec<usize> = widths.into_iter().map(|width| width.min(cap)).collect();
    rows.iter().flat_map(|row| fitted(row, &widths, columns)).collect()
}

/// Lays out rows as [`fit`] does, two spaces in.
pub(crate) fn indented(rows: &[Vec<String>], columns: Option<usize>) -> Vec<String> {
    let lines = fit(rows, columns.map(|columns| columns.saturating_sub(GAP)));
    lines.into_iter().map(|line| format!("  {line}")).collect()
}

/// Lays out rows beneath a title; nothing where there are none.
pub(crate) fn section(title: &str, rows: &[Vec<String>], columns: Option<usize>) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![title.to_owned()];
    lines.extend(indented(rows, columns));
    lines
}

fn fitted(row: &[String], widths: &[usize], columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut begins = 0;
    for (index, cell) in row.iter().enumerate() {
        if cell.is_empty() {
            begins += widths.get(index).map_or(0, |column| column + GAP);
            continue;
        }
        let is_wide = index < widths.len() && begins > 0 && begins + width(cell) > columns;
        let used = width(line.trim_end());
        if used > 0 && (is_wide || used + GAP > begins) {
            lines.push(line.trim_end().to_owned());
            line = String::new();
        }
        let indent = if is_wide { BENEATH.min(begins) } else { begins };
        line.push_str(&" ".repeat(indent.saturating_sub(width(&line))));
        match widths.get(index) {
            Some(column) => {
                line.push_str(cell);
                begins += column + GAP;
            }
            None if begins + width(cell) <= columns => line.push_str(cell),
            None if begins + LAST > columns => {
                lines.push(line.trim_end().to_owned());
                let beneath = " ".repeat(BENEATH);
                lines.extend(hanging(&format!("{beneath}{cell}"), columns, &beneath));
                return lines;
            }
            None => {
                line.push_str(cell);
                lines.extend(hanging(&line, columns, &" ".repeat(begins)));
                return lines;
            }
        }
    }
    lines.push(line.trim_end().to_owned());
    lines
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = width(cell);
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    widths
}

/// Counts the columns that a text takes, without its colours.
pub(crate) fn width(text: &str) -> usize {
    let mut plain = text.to_owned();
    for style in super::state::STYLES {
        plain = plain.replace(style, "");
    }
    plain.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::state;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let cell = |text: &str| text.to_owned();
        let green = format!("{}ok{}", state::GOOD, state::END);
        let rows = [vec![cell("a"), green.clone(), cell("x")], vec![cell("abc"), cell("denied"), cell("")]];
        assert_eq!(table(&rows), [format!("a    {green}      x"), "abc  denied".to_owned()]);
    }

    #[test]
    fn what_fits_is_left_alone() {
        let rows = [row(&["a", "b"]), row(&["abc", "d"])];
        assert_eq!(fit(&rows, Some(6)), table(&rows));
        assert_eq!(fit(&[row(&["abcdef", "ghijkl"])], None), ["abcdef  ghijkl"], "pipes get everything in full");
    }

    #[test]
    fn a_wide_cell_has_a_line_for_itself() {
        let rows = [
            row(&["docker.io/library/alpine:3.22", "4bcff63911fc", "✔ verified"]),
            row(&["a:1", "6f1c0e2b9d77", "✘ unsigned"]),
        ];
        assert_eq!(
            fit(&rows, Some(40)),
            [
                "docker.io/library/alpine:3.22",
                "                4bcff63911fc  ✔ verified",
                "a:1             6f1c0e2b9d77  ✘ unsigned",
            ]
        );
    }

    #[test]
    fn the_last_column_is_wrapped_in_its_place() {
        let rows = [row(&["revoked", "r/app:1.2", "key release-2024 revoked: leaked laptop"])];
        assert_eq!(
            fit(&rows, Some(46)),
            ["revoked  r/app:1.2  key release-2024 revoked:", "                    leaked laptop"]
        );
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_but_single_words() {
        let rows = [
            row(&["✘ untrusted", "registry.example.org/store/application:1.4", "signed by a key that nothing trusts"]),
            row(&["✔ verified", "a:1", "by release"]),
        ];
        for columns in 20..120 {
            for line in fit(&rows, Some(columns)) {
                assert!(width(&line) <= columns || !line.trim().contains(' '), "{columns}: {line:?}");
            }
        }
    }
}
