//! System calls by name: those in which threads wait.

use std::path::PathBuf;

use pepo_process::Process;

/// Calls that wait, whether their first argument is a descriptor, by the numbers of this architecture.
const WAITING: &[(i64, &str, bool)] = &[
    (libc::SYS_read, "read", true),
    (libc::SYS_write, "write", true),
    (libc::SYS_readv, "readv", true),
    (libc::SYS_writev, "writev", true),
    (libc::SYS_pread64, "pread64", true),
    (libc::SYS_recvfrom, "recvfrom", true),
    (libc::SYS_recvmsg, "recvmsg", true),
    (libc::SYS_sendto, "sendto", true),
    (libc::SYS_sendmsg, "sendmsg", true),
    (libc::SYS_accept, "accept", true),
    (libc::SYS_accept4, "accept4", true),
    (libc::SYS_connect, "connect", true),
    (libc::SYS_flock, "flock", true),
    (libc::SYS_fsync, "fsync", true),
    (libc::SYS_ioctl, "ioctl", true),
    (libc::SYS_epoll_pwait, "epoll_pwait", true),
    (libc::SYS_ppoll, "ppoll", false),
    (libc::SYS_pselect6, "pselect6", false),
    (libc::SYS_futex, "futex", false),
    (libc::SYS_nanosleep, "nanosleep", false),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", false),
    (libc::SYS_wait4, "wait4", false),
    (libc::SYS_waitid, "waitid", false),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", false),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", false),
    (libc::SYS_io_getevents, "io_getevents", false),
    (libc::SYS_restart_syscall, "restart_syscall", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", true),
];

/// A call in words: `read(3: socket:[42])`, `futex(0x7f…)`.
pub(crate) fn describe(process: &Process, number: u64, arguments: &[u64; 6]) -> String {
    let known = WAITING.iter().find(|(known, ..)| u64::try_from(*known) == Ok(number));
    match known {
        None => format!("system call {number}"),
        Some((_, name, true)) => format!("{name}({}{})", arguments[0], descriptor(process, arguments[0])),
        Some((_, "futex", _)) => format!("futex({:#x})", arguments[0]),
        Some((_, name, false)) => format!("{name}()"),
    }
}

fn descriptor(process: &Process, number: u64) -> String {
    let link: Option<PathBuf> =
        std::fs::read_link(process.proc_path().join("fd").join(number.to_string())).ok();
    link.map(|path| format!(": {}", path.display())).unwrap_or_default()
}
