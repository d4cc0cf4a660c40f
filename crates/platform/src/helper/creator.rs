//! Who made a helper, written on it as a label, so that a later Pepo can tell whether its maker still lives.

use std::fmt;

/// A process of one boot of one machine. Words that are unknown are `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Creator {
    boot: String,
    pid_namespace: String,
    pid: u32,
    start_time: String,
}

impl Creator {
    /// This process.
    pub(super) fn own() -> Creator {
        let pid = std::process::id();
        let unknown = || "-".to_owned();
        Creator {
            boot: boot().unwrap_or_else(unknown),
            pid_namespace: pid_namespace().unwrap_or_else(unknown),
            pid,
            start_time: start_time(pid).unwrap_or_else(unknown),
        }
    }

    pub(super) fn read(text: &str) -> Option<Creator> {
        let mut words = text.split(' ').map(str::to_owned);
        let (boot, pid_namespace, pid, start_time) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        Some(Creator { boot, pid_namespace, pid: pid.parse().ok()?, start_time })
    }

    /// Is it proven that this process has ended? Only its own machine and PID namespace can tell.
    pub(super) fn is_dead(&self) -> bool {
        let own = Creator::own();
        let comparable = own.boot != "-"
            && own.boot == self.boot
            && own.pid_namespace == self.pid_namespace
            && self.start_time != "-";
        comparable && start_time(self.pid).is_none_or(|start| start != self.start_time)
    }
}

impl fmt::Display for Creator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.boot, self.pid_namespace, self.pid, self.start_time)
    }
}

/// random(4), "/proc/sys/kernel/random/boot_id".
fn boot() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

fn pid_namespace() -> Option<String> {
    std::fs::read_link("/proc/self/ns/pid").ok()?.to_str().map(str::to_owned)
}

/// proc_pid_stat(5), field 22; the second field is in brackets and may hold anything.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_living_maker_is_not_dead_and_survives_being_written() {
        let own = Creator::own();
        assert!(!own.is_dead());
        assert_eq!(Creator::read(&own.to_string()), Some(own));
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let mut past = Creator::own();
        past.start_time = "1".into();
        assert!(past.is_dead());
    }

    #[test]
    fn of_other_machines_nothing_is_known() {
        for change in [
            |one: &mut Creator| one.boot = "other".into(),
            |one: &mut Creator| one.pid_namespace = "pid:[1]".into(),
            |one: &mut Creator| one.boot = "-".into(),
        ] {
            let mut elsewhere = Creator::own();
            elsewhere.start_time = "1".into();
            change(&mut elsewhere);
            assert!(!elsewhere.is_dead(), "{elsewhere}");
        }
        assert_eq!(Creator::read("a b"), None);
    }
}
