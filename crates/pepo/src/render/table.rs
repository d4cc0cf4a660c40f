//! Aligned tables: columns as wide as their widest cell, two spaces between, nothing at the line's end. On a terminal that is too
//! narrow for that, cells flow or are cut, then columns are left out; what goes to a file or a program stays whole.

use super::style::{Paint, Style};

/// Which way a column leans, and what becomes of it where room is scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lean {
    /// Words that are always whole: what is typed again.
    Left,
    /// Numbers.
    Right,
    /// Words that are cut, and left out before the table is wider than the terminal.
    Cut,
    /// Sentences that go on below themselves.
    Flow,
}

/// A column that gives way keeps so many columns of the terminal, or goes.
const NARROWEST: usize = 8;
/// Between two columns.
const GAP: &str = "  ";

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
    room: Option<usize>,
}

impl Table {
    /// An empty table with these headings; all headings empty means that no heading line is shown.
    pub(crate) fn new(columns: &[(&'static str, Lean)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), room: None }
    }

    /// On a terminal with so many columns.
    pub(crate) fn within(self, room: Option<usize>) -> Table {
        Table { room, ..self }
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
            lines.extend(self.row_lines(&headings, &widths, paint));
        }
        lines.extend(self.rows.iter().flat_map(|row| self.row_lines(row, &widths, paint)));
        let named = self.columns.iter().zip(&widths);
        let left_out: Vec<&str> =
            named.filter(|(_, width)| width.is_none()).map(|((name, _), _)| *name).collect();
        if !left_out.is_empty() {
            lines.push(paint.over(Style::Faint, &format!("no room for: {}", left_out.join(", "))));
        }
        lines
    }

    /// How wide each column is; none for one that is left out.
    fn widths(&self) -> Vec<Option<usize>> {
        let cell = |row: &Vec<Cell>, column: usize| row.get(column).map_or(0, |cell| width(&cell.text));
        let natural = |column: usize| {
            self.rows.iter().map(|row| cell(row, column)).fold(width(self.columns[column].0), usize::max)
        };
        let mut whole: Vec<Option<usize>> =
            (0..self.columns.len()).map(|column| Some(natural(column))).collect();
        let room = self.room.unwrap_or(usize::MAX);
        loop {
            let mut widths = whole.clone();
            while taken(&widths) > room && self.shrink(&mut widths) {}
            // What is left out makes room for the others.
            if taken(&widths) <= room || !self.leave_out(&mut whole) {
                return widths;
            }
        }
    }

    /// Takes one from the widest column that gives way.
    fn shrink(&self, widths: &mut [Option<usize>]) -> bool {
        let gives = self.columns.iter().map(|(_, lean)| matches!(lean, Lean::Cut | Lean::Flow));
        let wide =
            widths.iter_mut().zip(gives).filter(|(_, gives)| *gives).filter_map(|(one, _)| one.as_mut());
        match wide.filter(|width| **width > NARROWEST).max_by_key(|width| **width) {
            Some(widest) => {
                *widest -= 1;
                true
            }
            None => false,
        }
    }

    /// Leaves out the last column that may be.
    fn leave_out(&self, widths: &mut [Option<usize>]) -> bool {
        let last =
            (0..widths.len()).rev().find(|&at| self.columns[at].1 == Lean::Cut && widths[at].is_some());
        if let Some(at) = last {
            widths[at] = None;
        }
        last.is_some()
    }

    /// One row: more than one line where sentences flow.
    fn row_lines(&self, cells: &[Cell], widths: &[Option<usize>], paint: Paint) -> Vec<String> {
        let parts: Vec<Vec<String>> = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| match (self.columns[at].1, widths[at]) {
                (_, None) => Vec::new(),
                (Lean::Cut, Some(width)) => vec![cut(&printable(&cell.text), width)],
                (Lean::Flow, Some(width)) => flow(&printable(&cell.text), width),
                _ => vec![printable(&cell.text)],
            })
            .collect();
        let depth = parts.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let line = |depth: usize| {
            let shown = cells.iter().enumerate().filter_map(|(at, cell)| {
                let width = widths[at]?;
                let text = parts[at].get(depth).map_or("", String::as_str);
                Some(self.aligned(at, text, width, cell.style, paint))
            });
            shown.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
        };
        (0..depth).map(line).collect()
    }

    fn aligned(&self, column: usize, text: &str, wide: usize, style: Style, paint: Paint) -> String {
        let gap = " ".repeat(wide.saturating_sub(width(text)));
        let text = if text.is_empty() { String::new() } else { paint.over(style, text) };
        match self.columns[column].1 {
            Lean::Right => gap + &text,
            Lean::Left | Lean::Cut | Lean::Flow => text + &gap,
        }
    }
}

/// Columns of the terminal that columns of the table take.
fn taken(widths: &[Option<usize>]) -> usize {
    let shown = widths.iter().flatten();
    shown.clone().sum::<usize>() + GAP.len() * shown.count().saturating_sub(1)
}

/// At most so wide, with an ellipsis where something was cut.
pub(crate) fn cut(text: &str, wide: usize) -> String {
    if width(text) <= wide {
        return text.to_owned();
    }
    let mut left = wide.saturating_sub(1);
    let fits = |c: &char| {
        let fits = char_width(*c) <= left;
        left = left.saturating_sub(char_width(*c));
        fits
    };
    text.chars().take_while(fits).chain(std::iter::once('…')).collect()
}

/// Lines of whole words, each so wide if its words are not wider.
fn flow(text: &str, wide: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= wide => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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

    fn narrow(room: usize) -> Vec<String> {
        let columns = [("NAME", Lean::Left), ("IMAGE", Lean::Cut), ("PID", Lean::Right), ("WHY", Lean::Flow)];
        let mut table = Table::new(&columns).within(Some(room));
        table.row(["shop", "example.org/shop:1.4", "1", "it is what it is"].map(Cell::from).to_vec());
        table.lines(Paint::NEVER)
    }

    #[test]
    fn where_room_is_scarce_cells_flow_or_are_cut_and_then_columns_go() {
        assert_eq!(
            narrow(80),
            ["NAME  IMAGE                 PID  WHY", "shop  example.org/shop:1.4    1  it is what it is"]
        );
        assert_eq!(
            narrow(37),
            [
                "NAME  IMAGE         PID  WHY",
                "shop  example.org…    1  it is what",
                "                         it is"
            ]
        );
        assert_eq!(
            narrow(24),
            ["NAME  PID  WHY", "shop    1  it is what it", "           is", "no room for: IMAGE"]
        );
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
