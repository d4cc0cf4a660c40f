//! Process ids of the machine an engine stands on, and when one of them may be believed.
//!
//! An engine answers "which process is the container?" with a bare number. The same number is some other process
//! as soon as engine and Pepo do not share a kernel, and it may be reused at any time. So the number stays a
//! [`HostPid`], which nothing outside this crate can use as an id of its own, until an agent has [proven](Proven) it.

use std::fmt;

/// A process id as an engine numbers it. A claim: see [`Proven`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPid(u32);

impl HostPid {
    /// The claim as a type; `None` for 0, which engines answer for a container that is not running.
    #[must_use]
    pub fn new(pid: u32) -> Option<HostPid> {
        (pid > 0 && i32::try_from(pid).is_ok()).then_some(HostPid(pid))
    }

    /// The number, for messages and as a hint to an agent.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for HostPid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A container's main process, proven: the agent on this machine found the container's id in the cgroup or the mounts
/// of this very process. Namespace and start time tie the number to one process, whatever is started later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The process, as this machine numbers it.
    pub pid: HostPid,
    /// The id the agent read from the process itself.
    pub container_id: String,
    /// Clock ticks after boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// Inode of its PID namespace (namespaces(7)).
    pub pid_namespace: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_process_has_number_zero_or_a_negative_one() {
        assert_eq!(HostPid::new(0), None);
        assert_eq!(HostPid::new(u32::MAX), None);
        assert_eq!(HostPid::new(7).map(HostPid::get), Some(7));
    }
}
