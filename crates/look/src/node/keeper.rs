//! A process that closes the inspector again if its opener dies before anything in the program would.
//!
//! From the signal that opens it until a timer in the program is armed that closes it, nobody but us knows of the open port. So the
//! keeper is there before the signal: a fork of this process in a session of its own. It waits for one byte, which says that the
//! timer is armed; without it, when our end of the pipe is gone, it closes the inspector itself.

use std::io::{self, Read as _};

use crate::forked::{Forked, apart};

/// The keeper, as its opener sees it. Dropped, it lets the keeper close what was opened.
pub(super) struct Keeper(Forked);

impl Keeper {
    /// Starts it; `close` is what it does when we die, or give up.
    ///
    /// # Errors
    /// As [`Forked::start`].
    pub(super) fn start(close: impl FnOnce()) -> io::Result<Keeper> {
        let keep = |mut line: io::PipeReader| {
            apart();
            if !matches!(line.read(&mut [0]), Ok(1)) {
                close();
            }
        };
        Forked::start(keep).map(Keeper)
    }

    /// It is not needed any more: the program closes the inspector by itself.
    pub(super) fn leave(mut self) {
        self.0.tell();
    }
}
