//! All that is said: words to standard error, data to standard output. What cannot be said is not: the program
//! matters, not our lines about it.

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::exit::Fault;

/// A line (or more) on standard error, marked as ours. One write a message, so that nothing stands between.
pub(crate) fn line(text: impl Display) {
    let mut message = String::new();
    for part in text.to_string().lines() {
        message.push_str("pepo-entry: ");
        message.push_str(&plain(part));
        message.push('\n');
    }
    let _ = io::stderr().write_all(message.as_bytes());
}

/// The text without characters that do something to whoever reads it: escaped, as are newlines.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain
}

/// `1 name`, `2 names`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Why we end.
pub(crate) fn fault(fault: &Fault) {
    line(fault);
}

/// Data that was asked for.
pub(crate) fn show(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_something_to_a_terminal_is_escaped() {
        assert_eq!(plain("a\u{1b}[31m\r\nb\u{202e}é"), "a\\u{1b}[31m\\r\\nb\\u{202e}é");
    }
}
