//! What can go wrong while Python code is put into a process.

use std::{io, time::Duration};

use pepo_process::ProcessError;
use pepo_wire::{Code, Failure, FailureExt};

/// Why the debugger could not be put into the process. The process runs on in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// The process could not be read.
    #[error("the process could not be read")]
    Process(#[from] ProcessError),
    /// This architecture has no tested way to call into a stopped thread.
    #[error("calls into a stopped thread are not made on {arch}")]
    Architecture {
        /// As Rust names it.
        arch: &'static str,
    },
    /// Something else traces it.
    #[error("process {tracer} traces it")]
    Traced {
        /// As the agent's `/proc` numbers it.
        tracer: u32,
    },
    /// A function that is called is not there.
    #[error("`{name}` was not found in {place}")]
    NoSymbol {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        place: &'static str,
    },
    /// A ptrace request failed.
    #[error("{act} failed")]
    Ptrace {
        /// What was tried, in words.
        act: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No thread was at a safe place, or the interpreter did not come to one.
    #[error("no safe moment within {}: {last}", seconds(*.limit))]
    NoMoment {
        /// How long it was tried.
        limit: Duration,
        /// Why the last try was given up.
        last: String,
    },
    /// The code inside the process reported a failure.
    #[error("the debugger's code did not start inside the process: {words}")]
    Inside {
        /// Its words.
        words: String,
    },
    /// The code inside the process did not answer.
    #[error("the debugger's code inside the process did not answer within {}", seconds(*.limit))]
    Silent {
        /// How long it was waited for.
        limit: Duration,
    },
    /// A descriptor of the channel could not be used.
    #[error("{act} failed")]
    Channel {
        /// What was tried, in words.
        act: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl InjectError {
    pub(super) fn ptrace(act: &'static str) -> impl Fn(io::Error) -> InjectError {
        move |source| InjectError::Ptrace { act, source }
    }

    pub(super) fn channel(act: &'static str) -> impl Fn(io::Error) -> InjectError {
        move |source| InjectError::Channel { act, source }
    }

    fn code(&self) -> Code {
        match self {
            InjectError::Architecture { .. } | InjectError::NoSymbol { .. } => Code::RuntimeUnsupported,
            InjectError::Ptrace { source, .. } | InjectError::Channel { source, .. } => {
                match source.raw_os_error() {
                    Some(libc::ESRCH) => Code::ProcessGone,
                    Some(libc::EPERM | libc::EACCES) => Code::NeedsCapability,
                    _ => Code::Internal,
                }
            }
            InjectError::Traced { .. } => Code::AlreadyTraced,
            InjectError::NoMoment { .. } => Code::NotNow,
            InjectError::Inside { .. } => Code::ToolDied,
            InjectError::Silent { .. } => Code::TimedOut,
            InjectError::Process(_) => Code::Internal,
        }
    }
}

impl FailureExt for InjectError {
    fn failure(&self) -> Failure {
        if let InjectError::Process(error) = self {
            return error.failure();
        }
        let failure = Failure::new(self.code(), "the Python debugger could not be put into the process")
            .because_of(self);
        match self.code() {
            Code::NeedsCapability => failure.hint("CAP_SYS_PTRACE, or the process's own user, is needed"),
            Code::NotNow | Code::TimedOut => {
                failure.hint("try again in a moment; `pepo stack` shows what its threads do")
            }
            _ => failure,
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
