//! Columns.

use super::wrap::{hanging, wrap};

/// The space between two columns.
const GAP: usize = 2;
/// What the last column gets at least, where a row is wider than the terminal; with less, it goes beneath.
const LAST: usize = 24;
/// The narrowest that a wide column may become; a terminal with less room gets lines of words.
const NARROWEST: usize = 16;
/// How far what goes beneath is indented.
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
    let last = widths.pop().unwrap_or_default().min(LAST.max(columns * 2 / 5));
    let taken = |widths: &[usize], cap: usize| widths.iter().map(|width| width.min(&cap) + GAP).sum::<usize>();
    let mut cap = widths.iter().copied().max().unwrap_or_default();
    while cap > NARROWEST && taken(&widths, cap) + last > columns {
        cap -= 1;
    }
    if taken(&widths, cap) + last > columns {
        return rows.iter().flat_map(|row| flowing(row, columns)).collect();
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

/// Puts cells one behind the other, on the next line where there is no room for one.
fn flowing(row: &[String], columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for cell in row.iter().filter(|cell| !cell.is_empty()) {
        if !line.is_empty() && width(&line) + GAP + width(cell) > columns {
            lines.append(&mut wrap(&line, columns));
            line = format!("{}{cell}", " ".repeat(BENEATH));
        } else if line.is_empty() {
            line.clone_from(cell);
        } else {
            line.push_str(&" ".repeat(GAP));
            line.push_str(cell);
        }
    }
    lines.append(&mut wrap(&line, columns));
    lines
}

fn fitted(row: &[String], widths: &[usize], columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut begins = 0;
    for (index, cell) in row.iter().enumerate() {
        let column = widths.get(index);
        if !cell.is_empty() {
            // The last cell is wrapped: its longest word decides.
            let needed = match column {
                Some(_) => width(cell),
                None => cell.split(' ').map(width).max().unwrap_or_default(),
            };
            let is_wide = begins > 0 && begins + needed > columns;
            let used = width(line.trim_end());
            if used > 0 && (is_wide || used + GAP > begins) {
                lines.push(line.trim_end().to_owned());
                line = String::new();
            }
            let indent = if is_wide { BENEATH.min(begins) } else { begins };
            line.push_str(&" ".repeat(indent.saturating_sub(width(&line))));
            if column.is_none() {
                lines.extend(hanging(&line, cell, columns, &" ".repeat(indent)));
                return lines;
            }
            line.push_str(cell);
        }
        begins += column.map_or(0, |column| column + GAP);
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
            fit(&rows, Some(44)),
            [
                "docker.io/library/alpine:3.22",
                "                    4bcff63911fc  ✔ verified",
                "a:1                 6f1c0e2b9d77  ✘ unsigned",
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
        let digest = "sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";
        let rows = [row(&["digest", digest]), row(&["artifact type", "x"])];
        assert_eq!(fit(&rows, Some(80)), ["digest", &format!("    {digest}"), "artifact type  x"]);
    }

    #[test]
    fn a_narrow_terminal_gets_lines_of_words() {
        let rows = [row(&["9c8494904bf8", "160 B", "application/vnd.oci.image.config.v1+json", "held"])];
        assert_eq!(
            fit(&rows, Some(40)),
            ["9c8494904bf8  160 B", "    application/vnd.oci.image.config.v1+json", "    held"]
        );
        let rows = [row(&["localhost/team/app:1", "90e0e6e123e7", "6.6 KiB", "✘ unsigned"])];
        assert_eq!(fit(&rows, Some(40)), ["localhost/team/app:1  90e0e6e123e7", "    6.6 KiB  ✘ unsigned"]);
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
