//! How the entry ends when it is not the program that ends: one fault, with what failed, why, and what to do next.

use std::fmt;

/// Exit statuses of the entry's own, the numbers of `docs/exit-codes.md`; beside them only the program's own status,
/// and a shell's 126 and 127 for a program that cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked of the init cannot be; or a command line that tini refuses, too.
    No = 1,
    /// The words were not understood.
    Usage = 2,
    /// A right is missing.
    Permission = 4,
    /// A server or a file could not be reached.
    Unreachable = 5,
    /// An archive, or the place for it, cannot be treated so.
    Unsupported = 6,
    /// Time or room ran out.
    Limit = 8,
    /// The program is there but may not be run.
    NotRunnable = 126,
    /// There is no such program.
    NotFound = 127,
    /// A fault inside the entry.
    Internal = 70,
}

/// What failed, why, and what to do next.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    exit: Exit,
    what: String,
    next: Option<String>,
}

impl Fault {
    /// A fault: what failed and why, in one line.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Fault {
        Fault { exit, what: what.into(), next: None }
    }

    /// The same with what to do next.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Fault {
        self.next = Some(next.into());
        self
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        self.exit as u8
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.what)?;
        match &self.next {
            Some(next) => write!(to, "\n  → {next}"),
            None => Ok(()),
        }
    }
}
