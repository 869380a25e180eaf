//! Tables for people: columns as wide as what is in them, the last one as long as it likes.

use std::fmt::Write;

use crate::output::{Palette, Style};

/// Lays out rows under headings.
pub fn table<const N: usize>(
    palette: Palette,
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = palette.paint(Style::Strong, line(headings, widths));
    text.push('\n');
    for row in &rows {
        text.push_str(&line(row.each_ref().map(String::as_str), widths));
        text.push('\n');
    }
    text
}

fn line<const N: usize>(cells: [&str; N], widths: [usize; N]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.into_iter().zip(widths) {
        // Writing to a string cannot fail.
        let _ = write!(line, "{cell:<width$}  ");
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".into(), "first".into()], ["long".into(), "second".into()]];
        let expected = "NAME  ABOUT\na     first\nlong  second\n";
        assert_eq!(table(Palette::PLAIN, ["NAME", "ABOUT"], rows), expected);
    }
}
