//! A process that closes the inspector again if its opener dies before anything in the program would.
//!
//! From the signal that opens it until a timer in the program is armed that closes it, nobody but us knows of the open port. So the
//! keeper is there before the signal: a fork of this process in a session of its own. It waits for one byte, which says that the
//! timer is armed; without it, when our end of the pipe is gone, it closes the inspector itself.
#![allow(unsafe_code)] // fork(2) has no safe form.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, WaitOptions, waitpid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

/// The keeper, as its opener sees it. Dropped, it lets the keeper close what was opened.
pub(super) struct Keeper {
    /// Gone when the keeper has been told.
    line: Option<PipeWriter>,
    child: Pid,
}

impl Keeper {
    /// Starts it; `close` is what it does when we die, or give up.
    ///
    /// # Errors
    /// Of pipe(2) and fork(2): nothing was started.
    pub(super) fn start(close: impl FnOnce()) -> io::Result<Keeper> {
        let (reader, writer) = io::pipe()?;
        // SAFETY: the child uses no lock of ours: it reads, calls the system, and takes memory, whose allocator (musl's and glibc's
        // alike) is whole after a fork of many threads. It leaves by `_exit`, which runs nothing of ours.
        let child = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                drop(writer);
                keep(reader, close);
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(0) }
            }
            child => Pid::from_raw(child).ok_or(io::ErrorKind::Other)?,
        };
        Ok(Keeper { line: Some(writer), child })
    }

    /// It is not needed any more: the program closes the inspector by itself.
    pub(super) fn leave(mut self) {
        if let Some(mut line) = self.line.take() {
            let _ = line.write_all(&[1]);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.line.take());
        let _ = waitpid(Some(self.child), WaitOptions::empty());
    }
}

/// The child: nothing that ends its parent or its terminal ends it, and who waits for the end of its parent's streams does not wait for it.
fn keep(mut line: PipeReader, close: impl FnOnce()) {
    let _ = rustix::process::setsid();
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        let _ = dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).and_then(|()| dup2_stderr(&null));
    }
    if !matches!(line.read(&mut [0]), Ok(1)) {
        close();
    }
}
