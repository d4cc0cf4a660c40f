//! The target's executable and root, opened for an adapter: it needs no right to look into `/proc/PID` itself.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use pepo_process::Process;
use rustix::fs::{Mode, OFlags};

/// The executable, as an adapter behind the relay sees it.
pub const EXE: &str = "/proc/self/fd/200";
/// The target's root folder, as that adapter sees it.
pub const ROOT: &str = "/proc/self/fd/201";

/// Numbers that nobody else uses: Rust and programs take the lowest that are free.
const NUMBERS: [(RawFd, &str, OFlags); 2] =
    [(200, "exe", OFlags::RDONLY), (201, "root", OFlags::PATH.union(OFlags::DIRECTORY))];

/// What was opened, with the number under which the adapter has it. What can't be opened is missing.
pub(super) struct Opened(Vec<(OwnedFd, RawFd)>);

impl Opened {
    pub(super) fn of(process: &Process) -> Opened {
        let open = |name, flags| {
            rustix::fs::openat(process.proc_dir(), name, flags | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let opened = NUMBERS.iter().filter_map(|&(number, name, flags)| Some((open(name, flags)?, number)));
        Opened(opened.collect())
    }

    pub(super) fn none() -> Opened {
        Opened(Vec::new())
    }

    /// For [`super::child::start`].
    pub(super) fn numbers(&self) -> Vec<(RawFd, RawFd)> {
        self.0.iter().map(|(file, number)| (file.as_raw_fd(), *number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_numbers_agree() {
        for (path, (number, ..)) in [EXE, ROOT].iter().zip(NUMBERS) {
            assert_eq!(*path, format!("/proc/self/fd/{number}"));
        }
    }
}
