//! Numbers of processes and threads, typed by who counts.
//!
//! The same process has one number in each PID namespace it is seen from; mixing them up means touching a stranger.
//! None of the types can hold 0, which `kill` and `ptrace` understand as something else than a process.

use std::{fmt, num::NonZeroU32};

macro_rules! number {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(NonZeroU32);

        impl $name {
            /// The typed number; `None` for 0 and for what is no `pid_t`.
            #[must_use]
            pub fn new(number: u32) -> Option<$name> {
                if number > i32::MAX as u32 { None } else { NonZeroU32::new(number).map($name) }
            }

            /// The bare number, for system calls and the wire.
            #[must_use]
            pub fn get(self) -> u32 {
                self.0.get()
            }

            /// As the C library's `pid_t`; always positive.
            #[must_use]
            pub fn as_raw(self) -> i32 {
                // `new` refuses what does not fit.
                self.0.get().cast_signed()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A process as the agent's `/proc` numbers it.
    AgentPid
}
number! {
    /// A process as its own innermost PID namespace numbers it: what a user sees inside the container.
    ContainerPid
}
number! {
    /// A thread as the agent's `/proc` numbers it.
    AgentTid
}

impl AgentPid {
    /// The number of this very process.
    #[must_use]
    pub fn own() -> AgentPid {
        // A process always has a positive number.
        AgentPid::new(std::process::id()).unwrap_or(AgentPid(NonZeroU32::MIN))
    }
}

impl From<AgentPid> for AgentTid {
    /// The main thread has the process's number.
    fn from(pid: AgentPid) -> AgentTid {
        AgentTid(pid.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_positive_pid_t_is_a_number() {
        assert_eq!(AgentPid::new(0), None);
        assert_eq!(AgentPid::new(u32::MAX), None);
        assert_eq!(AgentPid::new(1 << 31), None);
        assert_eq!(AgentPid::new(i32::MAX as u32).map(AgentPid::as_raw), Some(i32::MAX));
        assert_eq!(AgentPid::own().get(), std::process::id());
    }
}
