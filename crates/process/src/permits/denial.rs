//! Which rule of the kernel forbids it, and the smallest change that would grant it.

use std::fmt;

use pepo_wire::{Code, Failure, FailureExt};

use super::system::Module;

/// What forbids to look at or stop a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It has ended and only waits to be collected.
    Ended {
        /// Its number.
        pid: u32,
        /// The parent that should collect it; 0 when unknown.
        parent: u32,
    },
    /// It is a thread of the kernel.
    KernelThread {
        /// Its number.
        pid: u32,
    },
    /// It is ourselves.
    Itself,
    /// It belongs to another user, and we lack the capability that would not mind.
    OtherUser {
        /// Its number.
        pid: u32,
        /// Our effective user and group.
        own: (u32, u32),
        /// Its effective user and group.
        theirs: (u32, u32),
        /// Is its user namespace not ours?
        other_namespace: bool,
    },
    /// It is privileged beyond us, and we lack the capability that would not mind.
    NeedsCapability {
        /// Its number.
        pid: u32,
        /// Capabilities it has and we have not.
        missing: u64,
        /// Is its user namespace not ours?
        other_namespace: bool,
    },
    /// It has made itself untouchable.
    NotDumpable {
        /// Its number.
        pid: u32,
    },
    /// Its files below `/proc` are its user's alone, and we lack the capability that would not mind.
    NeedsFiles {
        /// Its number.
        pid: u32,
        /// Whose they are.
        owner: u32,
        /// What would open them: CAP_DAC_READ_SEARCH to read, CAP_DAC_OVERRIDE to write.
        capability: u32,
    },
    /// Yama restricts ptrace.
    Yama {
        /// Value of `kernel.yama.ptrace_scope`.
        scope: u32,
    },
    /// A security module's labels forbid it.
    SecurityModule {
        /// Which.
        module: Module,
        /// Our label.
        own: String,
        /// Its label.
        theirs: String,
    },
    /// A seccomp filter of ours forbids the call.
    Seccomp {
        /// Name of the call.
        call: &'static str,
    },
    /// Another tracer holds it.
    AlreadyTraced {
        /// Its number.
        pid: u32,
        /// The tracer's number.
        tracer: u32,
        /// The tracer's name.
        name: String,
    },
}

impl Denial {
    /// Number of the process, where the denial is about one.
    fn pid(&self) -> Option<u32> {
        match *self {
            Denial::Ended { pid, .. }
            | Denial::KernelThread { pid }
            | Denial::OtherUser { pid, .. }
            | Denial::NeedsCapability { pid, .. }
            | Denial::NotDumpable { pid }
            | Denial::NeedsFiles { pid, .. }
            | Denial::AlreadyTraced { pid, .. } => Some(pid),
            _ => None,
        }
    }

    fn code(&self) -> Code {
        match self {
            Denial::Ended { .. } => Code::ProcessGone,
            Denial::KernelThread { .. } | Denial::Itself => Code::NoDebugger,
            Denial::OtherUser { .. } => Code::OtherUser,
            Denial::NeedsCapability { .. } | Denial::NeedsFiles { .. } => Code::NeedsCapability,
            Denial::NotDumpable { .. } => Code::NotDumpable,
            Denial::Yama { .. } => Code::Yama,
            Denial::SecurityModule { .. } => Code::SecurityModule,
            Denial::Seccomp { .. } => Code::Seccomp,
            Denial::AlreadyTraced { .. } => Code::AlreadyTraced,
        }
    }

    fn why(&self) -> Option<String> {
        Some(match self {
            Denial::OtherUser { own, theirs, other_namespace: false, .. } => {
                format!("Pepo runs as {}:{}, the process as {}:{}", own.0, own.1, theirs.0, theirs.1)
            }
            Denial::OtherUser { other_namespace: true, .. } => {
                "its user namespace was not made by this user".into()
            }
            Denial::NeedsCapability { other_namespace: true, .. } => "it is in another user namespace".into(),
            Denial::NeedsCapability { missing, .. } if *missing != 1 << super::SYS_PTRACE => {
                format!("the process has {}, which Pepo has not", capability_names(*missing))
            }
            Denial::NeedsFiles { pid, owner, .. } => {
                format!(
                    "/proc/{pid}/mem is open to its owner alone, uid {owner}, and CAP_SYS_PTRACE does not open files"
                )
            }
            Denial::Yama { scope: 1 } => "kernel.yama.ptrace_scope=1 lets only parents trace".into(),
            Denial::Yama { scope: 2 } => "kernel.yama.ptrace_scope=2 lets only CAP_SYS_PTRACE trace".into(),
            Denial::Yama { .. } => "kernel.yama.ptrace_scope=3 lets nobody trace until the next boot".into(),
            Denial::SecurityModule { own, theirs, .. } => {
                format!("Pepo runs as `{own}`, the process as `{theirs}`")
            }
            Denial::Ended { parent, .. } if *parent > 0 => {
                format!("its parent {parent} has not collected it yet")
            }
            _ => return None,
        })
    }

    /// The smallest change that grants it.
    fn remedy(&self, failure: Failure) -> Failure {
        let pid = self.pid().unwrap_or(0);
        let check = |prefix: &[&str]| {
            let command = prefix.iter().map(|&word| word.to_owned());
            command.chain(["pepo".to_owned(), "check".into(), format!("pid/{pid}")]).collect::<Vec<String>>()
        };
        match self {
            Denial::OtherUser { theirs, other_namespace: false, .. } => failure
                .try_command("run Pepo as that user", check(&["sudo", "-u", &format!("#{}", theirs.0)]))
                .hint("run it with CAP_SYS_PTRACE (as root; for a helper container: --cap-add SYS_PTRACE)"),
            Denial::OtherUser { .. } | Denial::NeedsCapability { .. } | Denial::NotDumpable { .. } => failure
                .try_command("run Pepo with CAP_SYS_PTRACE, as root has it", check(&["sudo"]))
                .hint("in a helper container: --cap-add SYS_PTRACE"),
            Denial::NeedsFiles { .. } => failure
                .try_command("run Pepo with CAP_DAC_OVERRIDE, as root has it", check(&["sudo"]))
                .hint("in a helper container: --cap-add DAC_OVERRIDE"),
            Denial::Yama { scope: 1 | 2 } => failure
                .hint("run Pepo with CAP_SYS_PTRACE (as root; for a helper container: --cap-add SYS_PTRACE)")
                .try_command("allow it to every user of this machine", ["sudo", "sysctl", "kernel.yama.ptrace_scope=0"]),
            Denial::Yama { .. } => failure.hint("boot with kernel.yama.ptrace_scope below 3"),
            Denial::SecurityModule { module: Module::AppArmor, .. } => {
                failure.hint("run Pepo unconfined (for a helper container: --security-opt apparmor=unconfined)")
            }
            Denial::SecurityModule { module: Module::SeLinux, .. } => {
                failure.hint("run Pepo in an unconfined domain (for a helper container: --security-opt label=disable)")
            }
            Denial::Seccomp { .. } => {
                failure.hint("run Pepo's container with a seccomp profile that allows it (--security-opt seccomp=unconfined)")
            }
            Denial::AlreadyTraced { .. } => failure
                .try_command("see who is attached to what", ["pepo", "sessions"])
                .try_command("let it go", ["pepo".to_owned(), "release".into(), format!("pid/{pid}")]),
            Denial::Ended { .. } | Denial::KernelThread { .. } | Denial::Itself => {
                failure.try_command("list what can be debugged", ["pepo", "ps"])
            }
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Ended { pid, .. } => write!(f, "process {pid} has ended"),
            Denial::KernelThread { pid } => write!(f, "{pid} is a thread of the kernel"),
            Denial::Itself => f.write_str("Pepo does not stop itself"),
            Denial::OtherUser { pid, other_namespace: false, .. } => {
                write!(f, "process {pid} belongs to another user")
            }
            Denial::OtherUser { pid, .. } => write!(f, "process {pid} belongs to another user namespace"),
            Denial::NeedsCapability { pid, .. } => {
                write!(f, "CAP_SYS_PTRACE is missing to touch process {pid}")
            }
            Denial::NotDumpable { pid } => write!(f, "process {pid} made itself untouchable (not dumpable)"),
            Denial::NeedsFiles { pid, capability, .. } => {
                write!(f, "{} is missing to touch process {pid}", capability_names(1 << capability))
            }
            Denial::Yama { .. } => f.write_str("Yama forbids ptrace"),
            Denial::SecurityModule { module, .. } => write!(f, "{} forbids ptrace", module.name()),
            Denial::Seccomp { call } => write!(f, "a seccomp filter forbids Pepo the call {call}"),
            Denial::AlreadyTraced { pid, tracer, name } if name.is_empty() => {
                write!(f, "process {pid} is held by the debugger with pid {tracer}")
            }
            Denial::AlreadyTraced { pid, tracer, name } => {
                write!(f, "process {pid} is held by the debugger {name} (pid {tracer})")
            }
        }
    }
}

impl std::error::Error for Denial {}

impl FailureExt for Denial {
    fn failure(&self) -> Failure {
        let failure = Failure::new(self.code(), self.to_string());
        let failure = match self.why() {
            Some(why) => failure.because(why),
            None => failure,
        };
        self.remedy(failure)
    }
}

/// Names of capabilities, as capabilities(7) has them; the first few.
#[must_use]
pub fn capability_names(set: u64) -> String {
    const NAMES: [&str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    let held: Vec<String> = NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| set >> bit & 1 == 1)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect();
    match held.len() {
        0 => "no capability".to_owned(),
        1..=3 => held.join(", "),
        more => format!("{}, {} and {} more", held[0], held[1], more - 2),
    }
}
