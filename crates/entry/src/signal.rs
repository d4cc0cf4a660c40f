//! Signals by name and number.

use std::borrow::Cow;

/// The names that tini's `-p` takes, without `SIG`; the kernel's numbers for x86-64 and arm64.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The number of `SIGTERM`, as tini's `-p` takes it.
pub(crate) fn number(name: &str) -> Option<i32> {
    let short = name.strip_prefix("SIG")?;
    NAMES.iter().find(|(name, _)| *name == short).map(|(_, number)| *number)
}

/// `SIGTERM` for its number.
pub(crate) fn name(number: i32) -> Cow<'static, str> {
    match NAMES.iter().find(|(_, other)| *other == number) {
        Some((name, _)) => Cow::Owned(format!("SIG{name}")),
        None => Cow::Owned(format!("signal {number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(number("SIGTERM"), Some(15));
        assert_eq!(number("TERM"), None);
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(40), "signal 40");
    }
}
