//! What can go wrong while reading a process, with its facts; and how it is told to a person.

use std::{io, path::PathBuf};

use pepo_wire::{Code, Failure, FailureExt};

use crate::AgentPid;

/// A failed act on one process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It ended, or its number is free.
    #[error("process {pid} has ended")]
    Gone {
        /// Its number.
        pid: AgentPid,
    },
    /// The number belongs to a thread that is not the main one.
    #[error("{pid} is a thread of a process, not a process")]
    NotAProcess {
        /// The number.
        pid: AgentPid,
    },
    /// The start time differs: the number was given to another process.
    #[error("process {pid} is not the one that was named: it started at tick {found}, not {wanted}")]
    Reused {
        /// The number.
        pid: AgentPid,
        /// Start time that was asked for, in clock ticks after boot.
        wanted: u64,
        /// Start time of the process that has the number now.
        found: u64,
    },
    /// `/proc` shows the processes of another PID namespace than ours.
    #[error("/proc belongs to another PID namespace than this process")]
    ForeignProc,
    /// A file below `/proc/PID` could not be read.
    #[error("cannot read {what} of process {pid}")]
    Read {
        /// Its number.
        pid: AgentPid,
        /// The file below `/proc/PID`.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file below `/proc/PID` is not written as proc(5) says.
    #[error("{what} of process {pid} is not well formed")]
    Malformed {
        /// Its number.
        pid: AgentPid,
        /// The file below `/proc/PID`.
        what: String,
    },
    /// Memory could not be read or written.
    #[error("cannot {act} {length} bytes at {address:#x} of process {pid}")]
    Memory {
        /// Its number.
        pid: AgentPid,
        /// "read" or "write".
        act: &'static str,
        /// Address in the process.
        address: u64,
        /// Number of bytes.
        length: usize,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A path in the target's root does not lead to a file.
    #[error("{} is not there in the root of process {pid}", path.display())]
    NoFile {
        /// Its number.
        pid: AgentPid,
        /// As the target sees it.
        path: PathBuf,
    },
    /// A path in the target's root leads to something else than a regular file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// As the target sees it.
        path: PathBuf,
    },
    /// A file in the target's root could not be opened or read.
    #[error("cannot open {} in the root of process {pid}", path.display())]
    File {
        /// Its number.
        pid: AgentPid,
        /// As the target sees it.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The signal would end the process: it has no handler for it.
    #[error("process {pid} does not catch signal {signal}")]
    NotCaught {
        /// Its number.
        pid: AgentPid,
        /// Number of the signal.
        signal: i32,
    },
    /// A signal could not be sent.
    #[error("cannot send signal {signal} to process {pid}")]
    Signal {
        /// Its number.
        pid: AgentPid,
        /// Number of the signal.
        signal: i32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl ProcessError {
    /// The error for a failed read below `/proc/PID`; what the kernel says of a dead process becomes [`ProcessError::Gone`].
    pub(crate) fn read(pid: AgentPid, what: impl Into<String>, source: impl Into<io::Error>) -> ProcessError {
        let source = source.into();
        match source.raw_os_error() {
            Some(libc::ESRCH) => ProcessError::Gone { pid },
            _ => ProcessError::Read { pid, what: what.into(), source },
        }
    }

    /// Did the process end?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, ProcessError::Gone { .. } | ProcessError::Reused { .. })
    }

    /// Was it a right that was missing?
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self {
            ProcessError::Read { source, .. }
            | ProcessError::Memory { source, .. }
            | ProcessError::File { source, .. }
            | ProcessError::Signal { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    fn code(&self) -> Code {
        match self {
            _ if self.is_denied() => Code::FileDenied,
            ProcessError::Gone { .. } => Code::ProcessGone,
            ProcessError::NotAProcess { .. } => Code::ProcessNotFound,
            ProcessError::Reused { .. } | ProcessError::ForeignProc => Code::PidNotProven,
            ProcessError::NoFile { .. } | ProcessError::NotAFile { .. } => Code::FileNotFound,
            ProcessError::NotCaught { .. } => Code::NotNow,
            _ => Code::Internal,
        }
    }
}

impl FailureExt for ProcessError {
    fn failure(&self) -> Failure {
        let failure = Failure::new(self.code(), self.to_string());
        let failure = match std::error::Error::source(self) {
            Some(source) => failure.because_of(source),
            None => failure,
        };
        match self {
            ProcessError::Gone { .. } | ProcessError::Reused { .. } | ProcessError::NotAProcess { .. } => {
                failure.try_command("list what runs now", ["pepo", "ps"])
            }
            ProcessError::Read { pid, .. } | ProcessError::Memory { pid, .. } if self.is_denied() => failure
                .try_command(
                    "see which right is missing",
                    ["pepo".to_owned(), "check".into(), format!("pid/{pid}")],
                ),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_told_with_the_command_that_explains_it() {
        let pid = AgentPid::own();
        let error = ProcessError::read(pid, "mem", io::Error::from_raw_os_error(libc::EACCES));
        let failure = error.failure();
        assert_eq!(failure.code(), Code::FileDenied);
        assert_eq!(failure.hints[0].command, ["pepo".to_owned(), "check".into(), format!("pid/{pid}")]);
        assert_eq!(failure.why.len(), 1, "{failure:?}");
    }

    #[test]
    fn the_kernels_word_for_a_dead_process_is_gone() {
        let error = ProcessError::read(AgentPid::own(), "stat", io::Error::from_raw_os_error(libc::ESRCH));
        assert!(error.is_gone());
        assert_eq!(error.failure().code(), Code::ProcessGone);
    }
}
