//! A fork of this process that hears how we end: what must be put right also when we are killed is done by it.
#![allow(unsafe_code)] // fork(2) has no safe form.

use std::{
    io::{self, PipeReader, PipeWriter, Write as _},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, WaitOptions, waitpid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

/// A fork with the other end of a pipe from us. Dropped, our end is closed, and its own is waited for.
pub(crate) struct Forked {
    line: Option<PipeWriter>,
    child: Pid,
}

impl Forked {
    /// Starts it; it does its `work`, and ends.
    ///
    /// # Errors
    /// Of pipe(2) and fork(2): nothing was started.
    pub(crate) fn start(work: impl FnOnce(PipeReader)) -> io::Result<Forked> {
        let (reader, writer) = io::pipe()?;
        // SAFETY: the child uses no lock of ours: it reads, calls the system, and takes memory, whose allocator (musl's and glibc's
        // alike) is whole after a fork of many threads. It leaves by `_exit`, which runs nothing of ours.
        let child = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                drop(writer);
                work(reader);
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(0) }
            }
            child => Pid::from_raw(child).ok_or(io::ErrorKind::Other)?,
        };
        Ok(Forked { line: Some(writer), child })
    }

    /// Gives it one byte to read.
    pub(crate) fn tell(&mut self) {
        if let Some(line) = &mut self.line {
            let _ = line.write_all(&[1]);
        }
    }

    /// Closes our end, and waits so long for its own; then it is left to itself.
    pub(crate) fn leave(mut self, limit: Duration) {
        drop(self.line.take());
        let end = Instant::now() + limit;
        while matches!(waitpid(Some(self.child), WaitOptions::NOHANG), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::mem::forget(self);
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        drop(self.line.take());
        let _ = waitpid(Some(self.child), WaitOptions::empty());
    }
}

/// Called in the fork: nothing that ends its parent or its terminal ends it, and who waits for the end of its parent's streams does not
/// wait for it.
pub(crate) fn apart() {
    let _ = rustix::process::setsid();
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        let _ = dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).and_then(|()| dup2_stderr(&null));
    }
}
