//! What the live table shows: which rows, in which order, from where on, and what keys change of it. No terminal is needed for it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use pepo_capture::{By, Capture, Row, rows};

use crate::render::{
    capture::table,
    style::{Paint, Style},
    table::{cut, printable},
};

/// What rows may stand for, by the key that asks for it.
const GROUPS: [(char, By, &str); 4] = [
    ('1', By::Function, "function"),
    ('2', By::Line, "line"),
    ('3', By::Thread, "thread"),
    ('4', By::Process, "process"),
];
/// The keys, for the help.
const KEYS: &[(&str, &str)] = &[
    ("q, Ctrl-C", "end"),
    ("1 2 3 4, Tab", "by function, line, thread, process"),
    ("s", "sort by self, or by total"),
    ("/", "show only names that contain ...; Enter keeps it, Esc drops it"),
    ("p, Space", "hold what is shown; samples are still taken"),
    ("Up, Down, PgUp, PgDn, Home", "move"),
    ("?", "this help"),
];
/// Lines that are no rows: what it is, how it is shown, headings, the keys.
const AROUND: usize = 4;

/// What is to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is over.
    End,
    /// To be shown anew.
    Show,
}

/// How it is shown.
#[derive(Clone, Debug)]
pub(super) struct View {
    by: By,
    by_total: bool,
    filter: String,
    /// Do keys write the filter?
    typing: bool,
    is_held: bool,
    helps: bool,
    /// The first row that is shown.
    from: usize,
    /// Rows that had room the last time.
    page: usize,
}

impl View {
    pub(super) fn new(by: By) -> View {
        View {
            by,
            by_total: false,
            filter: String::new(),
            typing: false,
            is_held: false,
            helps: false,
            from: 0,
            page: 1,
        }
    }

    /// Is what is shown to stay?
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c' | 'd')) { Wish::End } else { Wish::Show };
        }
        if self.typing {
            self.write(key.code);
            return Wish::Show;
        }
        let helped = std::mem::take(&mut self.helps);
        match key.code {
            KeyCode::Char('q') => return Wish::End,
            KeyCode::Char('?' | 'h') => self.helps = !helped,
            KeyCode::Char('s') => (self.by_total, self.from) = (!self.by_total, 0),
            KeyCode::Char('p' | ' ') => self.is_held = !self.is_held,
            KeyCode::Char('/') => (self.typing, self.from) = (true, 0),
            KeyCode::Esc => (self.filter, self.from) = (String::new(), 0),
            KeyCode::Tab | KeyCode::BackTab => {
                let forward = if key.code == KeyCode::Tab { 1 } else { GROUPS.len() - 1 };
                (self.by, self.from) = (GROUPS[(self.group() + forward) % GROUPS.len()].1, 0);
            }
            KeyCode::Char(digit) => {
                if let Some((_, by, _)) = GROUPS.into_iter().find(|(key, ..)| *key == digit) {
                    (self.by, self.from) = (by, 0);
                }
            }
            KeyCode::Down => self.from += 1,
            KeyCode::Up => self.from = self.from.saturating_sub(1),
            KeyCode::PageDown => self.from += self.page,
            KeyCode::PageUp => self.from = self.from.saturating_sub(self.page),
            KeyCode::Home => self.from = 0,
            _ => {}
        }
        Wish::Show
    }

    fn write(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(c) => self.filter.push(c),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => (self.filter, self.typing) = (String::new(), false),
            _ => {}
        }
    }

    fn group(&self) -> usize {
        GROUPS.iter().position(|(_, by, _)| *by == self.by).unwrap_or(0)
    }

    /// The rows as they are wanted.
    fn rows(&self, capture: &Capture) -> Vec<Row> {
        let mut rows = rows(capture, self.by);
        if self.by_total {
            // It was sorted by what is their own, and stays so among equals.
            rows.sort_by_key(|row| std::cmp::Reverse(row.total));
        }
        let wanted = self.filter.to_lowercase();
        rows.retain(|row| {
            [&row.label, &row.module, &row.place].iter().any(|text| text.to_lowercase().contains(&wanted))
        });
        rows
    }

    /// The lines of a screen of so many columns and lines. `more` is what is to be said beside.
    pub(super) fn lines(
        &mut self,
        capture: &Capture,
        more: &[String],
        (columns, height): (usize, usize),
        paint: Paint,
    ) -> Vec<String> {
        let said = more.iter().chain(&capture.meta.notes).rev().take(if height < 12 { 0 } else { 2 });
        let said: Vec<String> = said
            .map(|note| paint.over(Style::Faint, &cut(&printable(&format!("note: {note}")), columns)))
            .collect();
        let mut lines = vec![
            paint.over(Style::Faint, &cut(&printable(&capture.summary()), columns)),
            paint.over(Style::Strong, &cut(&printable(&self.state()), columns)),
        ];
        self.page = height.saturating_sub(AROUND + said.len()).max(1);
        if self.helps {
            lines.extend(
                KEYS.iter().take(self.page + 1).map(|(key, what)| cut(&format!("{key}: {what}"), columns)),
            );
        } else {
            let rows = self.rows(capture);
            self.from = self.from.min(rows.len().saturating_sub(self.page));
            let shown = rows.iter().skip(self.from).take(self.page);
            let mut table = table(shown, capture.total_weight(), Some(columns), paint);
            if rows.is_empty() {
                table.push(paint.over(Style::Faint, &cut(self.nothing(capture), columns)));
            }
            // A line that says which columns have no room takes no row's.
            table.truncate(self.page + 1);
            lines.extend(table);
        }
        lines.resize(height.saturating_sub(1 + said.len()).max(lines.len()), String::new());
        lines.extend(said);
        lines.push(paint.over(Style::Command, &cut(self.keys(), columns)));
        lines.truncate(height);
        lines
    }

    /// How it is shown, on one line: first what is usual, then what is not.
    fn state(&self) -> String {
        let sort = if self.by_total { "total" } else { "self" };
        let mut state = format!("by {}, sorted by {sort}", GROUPS[self.group()].2);
        if self.is_held {
            state += " · held: p goes on";
        }
        if self.typing {
            state += &format!(" · /{}_", self.filter);
        } else if !self.filter.is_empty() {
            state += &format!(" · only {}", self.filter);
        }
        state
    }

    fn nothing(&self, capture: &Capture) -> &'static str {
        match capture.samples.is_empty() {
            true => "nothing ran in the last ten seconds",
            false => "nothing has that in its name",
        }
    }

    fn keys(&self) -> &'static str {
        match self.typing {
            true => "Enter keeps the filter  Esc drops it",
            false => "q end  ? help  s sort  / filter  p hold  Tab by function, line, thread, process",
        }
    }
}

#[cfg(test)]
mod tests {
    use pepo_capture::read;

    use super::*;
    use crate::render::table::width;

    fn capture() -> Capture {
        read(b"# pepo\nmain;work;hot 60\nmain;work;warm_and_of_a_name_that_is_long 30\nmain;cool 10\n")
            .unwrap()
    }

    fn press(view: &mut View, keys: &str) {
        for c in keys.chars() {
            let code = match c {
                '\t' => KeyCode::Tab,
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            assert_eq!(view.press(KeyEvent::new(code, KeyModifiers::NONE)), Wish::Show);
        }
    }

    /// The names of the rows, and the line that says how they are shown.
    fn shown(view: &mut View) -> (String, Vec<String>) {
        let lines = view.lines(&capture(), &[], (100, 20), Paint::NEVER);
        let rows = lines[3..].iter().take_while(|line| !line.is_empty());
        let name = |line: &String| line.split_whitespace().nth(4).unwrap_or_default().to_owned();
        (lines[1].clone(), rows.map(name).collect())
    }

    #[test]
    fn keys_sort_group_and_filter() {
        let mut view = View::new(By::Function);
        let long = "warm_and_of_a_name_that_is_long";
        assert_eq!(shown(&mut view).1, ["hot", long, "cool", "main", "work"]);
        press(&mut view, "s");
        assert_eq!(shown(&mut view).1, ["main", "work", "hot", long, "cool"]);
        press(&mut view, "/OOx");
        assert_eq!(shown(&mut view), ("by function, sorted by total · /OOx_".into(), vec!["its".into()]));
        press(&mut view, "\u{8}\u{8}O\n");
        assert_eq!(shown(&mut view), ("by function, sorted by total · only OO".into(), vec!["cool".into()]));
        press(&mut view, "\u{1b}\tp");
        assert_eq!(shown(&mut view).0, "by line, sorted by total · held: p goes on");
        press(&mut view, "4p");
        assert_eq!(shown(&mut view).0, "by process, sorted by total");
        assert_eq!(view.press(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)), Wish::End);
        assert_eq!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::End);
    }

    #[test]
    fn letters_are_a_filter_while_one_is_written() {
        let mut view = View::new(By::Function);
        press(&mut view, "/qsp?");
        assert_eq!(view.filter, "qsp?");
    }

    #[test]
    fn every_size_of_terminal_is_filled_and_none_exceeded() {
        let mut capture = capture();
        capture.meta.notes = vec!["a note".repeat(30), "\u{1b}[31mred".to_owned()];
        for keys in ["", "?", "2s", "3", "4"] {
            for (columns, height) in [(200, 50), (80, 24), (40, 10), (40, 6), (12, 4), (1, 1)] {
                let mut view = View::new(By::Function);
                press(&mut view, keys);
                let lines = view.lines(&capture, &["said".into()], (columns, height), Paint::NEVER);
                assert_eq!(lines.len(), height, "{columns}x{height} {lines:?}");
                let control = |line: &String| line.contains(char::is_control);
                assert!(!lines.iter().any(control), "{lines:?}");
                // Two numbers are as narrow as a row gets.
                assert!(lines.iter().all(|line| width(line) <= columns.max(16)), "{columns} {lines:?}");
            }
        }
    }

    #[test]
    fn one_moves_through_more_rows_than_there_is_room_for_and_not_beyond_them() {
        let mut view = View::new(By::Function);
        let mut first = |code| {
            view.press(KeyEvent::new(code, KeyModifiers::NONE));
            let lines = view.lines(&capture(), &[], (100, 6), Paint::NEVER);
            lines[3].split_whitespace().nth(4).unwrap().to_owned()
        };
        assert_eq!(first(KeyCode::Null), "hot");
        assert_eq!(first(KeyCode::PageDown), "cool");
        assert_eq!(first(KeyCode::PageDown), "main");
        assert_eq!(first(KeyCode::Down), "main");
        assert_eq!(first(KeyCode::Up), "cool");
        assert_eq!(first(KeyCode::Home), "hot");
    }
}
