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
        message.push_str(part);
        message.push('\n');
    }
    let _ = io::stderr().write_all(message.as_bytes());
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
