//! Columns.

/// Lays out rows in columns, two spaces apart, each as wide as its widest cell; the last is not filled up.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
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
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(widest.saturating_sub(width(cell)) + 2));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
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

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let cell = |text: &str| text.to_owned();
        let green = format!("{}ok{}", state::GOOD, state::END);
        let rows = [vec![cell("a"), green.clone(), cell("x")], vec![cell("abc"), cell("denied"), cell("")]];
        assert_eq!(table(&rows), [format!("a    {green}      x"), "abc  denied".to_owned()]);
    }
}
