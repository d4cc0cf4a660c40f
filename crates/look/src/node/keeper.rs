//! A process that closes the inspector again if its opener dies before anything in the program would.
//!
//! From the signal that opens it until a timer in the program is armed that closes it, nobody but us knows of the open port. So the
//! keeper is there before the signal: a fork of this process in a session of its own. It waits for one byte, which says that the
//! timer is armed; without it, when our end of the pipe is gone, it closes the inspector itself.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use crate::forked::{Forked, apart};

/// How long we wait for what it does. Where the program opens its inspector only later, the keeper outlives us.
const WAITS: Duration = Duration::from_secs(10);

/// The keeper, as its opener sees it. Dropped, it lets the keeper close what was opened.
pub(super) struct Keeper(Option<Forked>);

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
        Forked::start(keep).map(|forked| Keeper(Some(forked)))
    }

    /// It is not needed any more: the program closes the inspector by itself.
    pub(super) fn leave(mut self) {
        if let Some(forked) = &mut self.0 {
            forked.tell();
        }
    }

    /// It is left to itself: what it closes is not there yet.
    pub(super) fn outlive(mut self) {
        if let Some(forked) = self.0.take() {
            forked.leave(Duration::ZERO);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(forked) = self.0.take() {
            forked.leave(WAITS);
        }
    }
}
