//! Aligned tables: columns as wide as their widest cell, two spaces between, nothing at the line's end.

use super::style::{Paint, Style};

/// Which way a column leans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lean {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One cell: its text and how it is painted.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), style: Style::Plain }
    }
}

impl Cell {
    /// A painted cell.
    pub(crate) fn painted(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
}

/// A table being filled.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Lean)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these headings; all headings empty means that no heading line is shown.
    pub(crate) fn new(columns: &[(&'static str, Lean)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The lines of the table.
    pub(crate) fn lines(&self, paint: Paint) -> Vec<String> {
        let widths = self.widths();
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        if self.columns.iter().any(|(heading, _)| !heading.is_empty()) {
            let headings: Vec<_> =
                self.columns.iter().map(|(h, _)| Cell::painted(*h, Style::Faint)).collect();
            lines.push(self.line(&headings, &widths, paint));
        }
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths, paint)));
        lines
    }

    fn widths(&self) -> Vec<usize> {
        let cell = |row: &Vec<Cell>, column: usize| row.get(column).map_or(0, |cell| width(&cell.text));
        (0..self.columns.len())
            .map(|column| {
                self.rows.iter().map(|row| cell(row, column)).fold(width(self.columns[column].0), usize::max)
            })
            .collect()
    }

    fn line(&self, cells: &[Cell], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            let gap = " ".repeat(widths[index].saturating_sub(width(&cell.text)));
            let text = paint.over(cell.style, &printable(&cell.text));
            if index > 0 {
                line.push_str("  ");
            }
            match self.columns[index].1 {
                Lean::Right => line.extend([gap.as_str(), &text]),
                Lean::Left => line.extend([text.as_str(), &gap]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Control characters of names and command lines never reach a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Columns a text takes on a terminal: combining marks none, East Asian wide and emoji two (Unicode's UAX #11, the main
/// blocks), all else one.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match c as u32 {
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[&str]]) -> String {
        let mut table = Table::new(&[("NAME", Lean::Left), ("PID", Lean::Right), ("STATE", Lean::Left)]);
        for row in rows {
            table.row(row.iter().map(|cell| Cell::from(*cell)).collect());
        }
        table.lines(Paint::NEVER).join("\n")
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let text = table(&[&["shop", "1", "running"], &["a-long-name", "4711", ""], &["x"]]);
        assert_eq!(text, "NAME          PID  STATE\nshop            1  running\na-long-name  4711\nx");
    }

    #[test]
    fn wide_and_combining_characters_are_counted_as_a_terminal_does() {
        for (text, columns) in [("abc", 3), ("日本", 4), ("e\u{301}", 1), ("🎃", 2), ("no¹", 3)] {
            assert_eq!(width(text), columns, "{text}");
        }
        let text = table(&[&["日本", "1", "running"], &["abcd", "2", "gone"]]);
        assert_eq!(text.lines().nth(1).unwrap(), "日本    1  running");
    }

    #[test]
    fn escape_sequences_in_names_are_made_harmless() {
        assert!(!table(&[&["\x1b[31mred", "1", "x"]]).contains('\x1b'));
    }
}
