//! `/proc/PID/status`, as proc_pid_status(5) describes it.

use crate::stat::State;

/// The fields of `/proc/PID/status` that are of use here. What an old kernel does not write stays at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it does now.
    pub state: State,
    /// Number of the process (of its main thread) in the agent's `/proc`.
    pub process: u32,
    /// Its parent; 0 when outside the PID namespace.
    pub parent: u32,
    /// What holds it by ptrace, as the agent's `/proc` numbers it; 0 for nothing.
    pub tracer: u32,
    /// Real, effective, saved and file system user, as seen from the agent's user namespace.
    pub uid: [u32; 4],
    /// Real, effective, saved and file system group.
    pub gid: [u32; 4],
    /// Its number in each PID namespace from the agent's to its own innermost.
    pub ns_pid: Vec<u32>,
    /// Its process group in each of these namespaces.
    pub ns_pgid: Vec<u32>,
    /// Number of threads.
    pub threads: u32,
    /// Signals that are blocked (bit 0 is signal 1).
    pub blocked: u64,
    /// Signals that are ignored.
    pub ignored: u64,
    /// Signals with a handler.
    pub caught: u64,
    /// Capabilities in effect (bit 0 is CAP_CHOWN).
    pub effective: u64,
    /// Capabilities permitted.
    pub permitted: u64,
    /// Capability bounding set.
    pub bounding: u64,
    /// Can never gain privileges by exec.
    pub no_new_privs: bool,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Resident memory in bytes; 0 for a zombie or kernel thread.
    pub resident_bytes: u64,
    /// A thread of the kernel, or a zombie: without memory of its own.
    pub has_memory: bool,
}

impl Status {
    /// Reads the file's text; `None` when a field that every kernel writes is missing or wrong.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Status> {
        // The name of the process is escaped by the kernel, so a line is always one field.
        let text = String::from_utf8_lossy(text);
        let mut status = Status { threads: 1, ..Status::default() };
        let mut seen = 0;
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            seen += status.take(name, value.trim())?;
        }
        // State, Tgid, PPid, TracerPid, Uid and Gid are written by every kernel.
        (seen == 6).then_some(status)
    }

    /// Takes one field; `None` when it is broken, 1 when it is one of those that must be there.
    fn take(&mut self, name: &str, value: &str) -> Option<u32> {
        let number = || value.parse::<u32>().ok();
        let mask = || u64::from_str_radix(value, 16).unwrap_or(0);
        match name {
            "State" => self.state = State::new(value.chars().next()?),
            "Tgid" => self.process = number()?,
            "PPid" => self.parent = number()?,
            "TracerPid" => self.tracer = number()?,
            "Uid" => self.uid = four(value)?,
            "Gid" => self.gid = four(value)?,
            _ => {
                match name {
                    "NStgid" => self.ns_pid = numbers(value),
                    "NSpgid" => self.ns_pgid = numbers(value),
                    "Threads" => self.threads = number().unwrap_or(1),
                    "SigBlk" => self.blocked = mask(),
                    "SigIgn" => self.ignored = mask(),
                    "SigCgt" => self.caught = mask(),
                    "CapEff" => self.effective = mask(),
                    "CapPrm" => self.permitted = mask(),
                    "CapBnd" => self.bounding = mask(),
                    "NoNewPrivs" => self.no_new_privs = value != "0",
                    "Seccomp" => self.seccomp = number().unwrap_or(0),
                    "VmRSS" => {
                        let pages = value.split(' ').next().and_then(|text| text.parse::<u64>().ok());
                        self.resident_bytes = pages.unwrap_or(0).saturating_mul(1024);
                        self.has_memory = pages.is_some();
                    }
                    _ => {}
                }
                return Some(0);
            }
        }
        Some(1)
    }

    /// Does the process have a handler for this signal?
    #[must_use]
    pub fn catches(&self, signal: i32) -> bool {
        (1..=64).contains(&signal) && self.caught >> (signal - 1) & 1 == 1
    }

    /// Its number in its own innermost PID namespace.
    #[must_use]
    pub fn container_pid(&self) -> u32 {
        self.ns_pid.last().copied().unwrap_or(self.process)
    }

    /// Is it the first process of its PID namespace?
    #[must_use]
    pub fn is_init(&self) -> bool {
        self.container_pid() == 1
    }
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

fn four(text: &str) -> Option<[u32; 4]> {
    numbers(text).try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A process in a container, as read from the host.
    pub(crate) const NGINX: &str = "Name:\tnginx: worker\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nNgid:\t0\nPid:\t4711\n\
PPid:\t4700\nTracerPid:\t4800\nUid:\t101\t101\t101\t101\nGid:\t101\t101\t101\t101\nFDSize:\t64\nGroups:\t101 \nNStgid:\t4711\t29\n\
NSpid:\t4711\t29\nNSpgid:\t4700\t1\nNSsid:\t4700\t1\nKthread:\t0\nVmPeak:\t   11324 kB\nVmRSS:\t    5112 kB\nThreads:\t3\nSigQ:\t0/96365\n\
SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000000000\nSigIgn:\t0000000040001000\nSigCgt:\t0000000198016a07\n\
CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_process_in_a_container_is_read_with_both_its_numbers() {
        let status = Status::parse(NGINX.as_bytes()).unwrap();
        assert_eq!(
            (status.process, status.container_pid(), status.parent, status.tracer),
            (4711, 29, 4700, 4800)
        );
        assert_eq!(status.uid, [101; 4]);
        assert_eq!(status.ns_pgid, [4700, 1]);
        assert_eq!((status.threads, status.seccomp, status.no_new_privs), (3, 2, true));
        assert_eq!(status.resident_bytes, 5112 * 1024);
        assert_eq!(status.bounding, 0xa804_25fb);
        assert!(!status.is_init());
    }

    #[test]
    fn signals_are_counted_from_one() {
        let status = Status::parse(NGINX.as_bytes()).unwrap();
        assert!(
            status.catches(libc::SIGHUP) && status.catches(libc::SIGUSR1) && status.catches(libc::SIGTERM)
        );
        assert!(
            !status.catches(libc::SIGKILL)
                && !status.catches(0)
                && !status.catches(-1)
                && !status.catches(65)
        );
    }

    #[test]
    fn an_old_kernel_without_the_newer_fields_is_still_read() {
        let old = "Name:\tx\nState:\tZ (zombie)\nTgid:\t5\nPid:\t5\nPPid:\t1\nTracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n";
        let status = Status::parse(old.as_bytes()).unwrap();
        assert_eq!((status.container_pid(), status.seccomp, status.threads), (5, 0, 1));
        assert!(status.state.is_zombie() && !status.has_memory);
    }

    #[test]
    fn a_missing_line_is_refused_and_hostile_bytes_are_not_a_panic() {
        assert_eq!(Status::parse(b""), None);
        assert_eq!(Status::parse(&[0xff; 300]), None);
        assert_eq!(Status::parse(NGINX.replace("Uid:\t101\t", "Uid:\t").as_bytes()), None);
    }
}
