//! May we look at a process, may we stop it; and if not, what exactly forbids it.
//!
//! Follows ptrace(2), "Ptrace access mode checking", step by step and in its order, from facts alone: nothing is tried on
//! the target. Memory is read and written through `/proc/PID/mem`, whose owner and mode are asked besides. The folders of procfs and sysfs are parameters, so that a machine which is not at hand (with Yama, AppArmor,
//! SELinux) can be judged from a recording.

/// The machine: Yama, security modules, kernel.
pub mod system;

/// Users, capabilities and labels of a process.
pub mod credentials;

/// Which rule of the kernel forbids it.
pub mod denial;

/// System calls that tell of ourselves and of namespaces.
mod syscalls;

use std::path::Path;

use crate::{Process, status::Status};

pub use credentials::{Credentials, Dumpable, Namespace};
pub use denial::Denial;
pub use system::{Roots, System};

/// Number of CAP_DAC_OVERRIDE.
pub const DAC_OVERRIDE: u32 = 1;
/// Number of CAP_DAC_READ_SEARCH.
pub const DAC_READ_SEARCH: u32 = 2;
/// Number of CAP_SYS_PTRACE.
pub const SYS_PTRACE: u32 = 19;
/// Number of CAP_SYS_ADMIN.
pub const SYS_ADMIN: u32 = 21;
/// Number of CAP_PERFMON.
pub const PERFMON: u32 = 38;
/// Number of CAP_BPF.
pub const BPF: u32 = 39;

/// May it be done?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Yes,
    /// No: this forbids it.
    No(Box<Denial>),
}

impl Verdict {
    /// Is it a yes?
    #[must_use]
    pub fn is_yes(&self) -> bool {
        matches!(self, Verdict::Yes)
    }

    /// What forbids it.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Verdict::Yes => None,
            Verdict::No(denial) => Some(denial),
        }
    }
}

impl From<Verdict> for pepo_wire::agent::Verdict {
    fn from(verdict: Verdict) -> Self {
        use pepo_wire::FailureExt as _;
        pepo_wire::agent::Verdict { yes: verdict.is_yes(), why: verdict.denial().map(Denial::failure) }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Memory and the like through `/proc`: checked with the file system's user and the effective capabilities.
    Look,
    /// ptrace(2): checked with the real user and the permitted capabilities.
    Stop,
}

/// Everything a judgement needs besides the target: read once, used for many.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Where procfs and sysfs are.
    pub roots: Roots,
    /// The machine.
    pub system: System,
    /// Ourselves.
    pub own: Credentials,
}

impl Judge {
    /// Reads the machine and ourselves.
    #[must_use]
    pub fn new(roots: &Roots) -> Judge {
        let own = Credentials::read(&roots.proc.join("self")).unwrap_or_default();
        Judge { system: System::read(roots), own, roots: roots.clone() }
    }

    /// What the checks look at in a process; parents and labels are left out where no rule of this machine asks for them.
    #[must_use]
    pub fn credentials(&self, folder: &Path, status: &Status) -> Credentials {
        let mut theirs = Credentials::with_status(folder, status, &self.own);
        if self.system.module.is_some() {
            theirs.label = credentials::label(folder);
        }
        if self.system.yama.is_some_and(|scope| scope > 0) {
            theirs.ancestors = credentials::ancestors(&self.roots.proc, status.parent);
        }
        theirs
    }

    /// May the memory of a process be read without stopping it?
    #[must_use]
    pub fn look(&self, theirs: &Credentials) -> Verdict {
        self.verdict(theirs, Act::Look)
    }

    /// May the process be stopped?
    #[must_use]
    pub fn stop(&self, theirs: &Credentials) -> Verdict {
        self.verdict(theirs, Act::Stop)
    }

    fn verdict(&self, theirs: &Credentials, act: Act) -> Verdict {
        match self.deny(theirs, act) {
            None => Verdict::Yes,
            Some(denial) => Verdict::No(Box::new(denial)),
        }
    }

    /// The steps of ptrace(2), in its order; the numbers are the manual's.
    fn deny(&self, theirs: &Credentials, act: Act) -> Option<Denial> {
        self.deny_state(theirs)
            // 1. A thread of the same process may always look; it cannot stop itself.
            .or_else(|| (theirs.pid == self.own.pid).then_some(Denial::Itself).filter(|_| act == Act::Stop))
            .or_else(|| if theirs.pid == self.own.pid { None } else { self.deny_access(theirs, act) })
            .or_else(|| self.deny_files(theirs, act))
            .or_else(|| if act == Act::Stop { self.deny_attach(theirs) } else { None })
    }

    /// Is there anything to look at?
    fn deny_state(&self, theirs: &Credentials) -> Option<Denial> {
        if theirs.is_zombie {
            return Some(Denial::Ended { pid: theirs.pid, parent: theirs.parent });
        }
        (!theirs.has_memory).then_some(Denial::KernelThread { pid: theirs.pid })
    }

    fn deny_access(&self, theirs: &Credentials, act: Act) -> Option<Denial> {
        let has_ptrace = self.own.has_in(SYS_PTRACE, &theirs.user_namespace, act == Act::Stop);
        // 3. The same user and group in all their forms, or the capability in the target's user namespace.
        if !has_ptrace && !self.same_user(theirs, act) {
            return Some(self.other_user(theirs));
        }
        // 4. Dumpable, or the capability.
        if !has_ptrace && theirs.dumpable == Dumpable::No {
            return Some(Denial::NotDumpable { pid: theirs.pid });
        }
        self.deny_modules(theirs, act, has_ptrace)
    }

    /// 5. The security modules: commoncap, Yama, then AppArmor or SELinux.
    fn deny_modules(&self, theirs: &Credentials, act: Act, has_ptrace: bool) -> Option<Denial> {
        let own = if act == Act::Stop { self.own.permitted } else { self.own.effective };
        let covered = theirs.permitted & !own == 0 && theirs.user_namespace.is_same();
        if !has_ptrace && !covered {
            let missing = theirs.permitted & !own;
            return Some(Denial::NeedsCapability {
                pid: theirs.pid,
                missing,
                other_namespace: !theirs.user_namespace.is_same(),
            });
        }
        let is_child = theirs.ancestors.contains(&self.own.pid);
        match self.system.yama {
            Some(1) if !has_ptrace && !is_child => Some(Denial::Yama { scope: 1 }),
            Some(2) if !has_ptrace => Some(Denial::Yama { scope: 2 }),
            Some(scope @ 3..) => Some(Denial::Yama { scope }),
            _ => self.system.deny_by_label(self.own.label.as_deref(), theirs.label.as_deref()),
        }
    }

    /// `/proc/PID/mem` has the mode 0600. To open it is a matter of files, path_resolution(7), whatever may be traced. Who stops a
    /// process also writes to it: what a dead debugger left in it has to be put back.
    fn deny_files(&self, theirs: &Credentials, act: Act) -> Option<Denial> {
        let opens = self.own.has(DAC_OVERRIDE) || (act == Act::Look && self.own.has(DAC_READ_SEARCH));
        if opens || self.own.uid[3] == theirs.owner {
            return None;
        }
        let capability = if act == Act::Look { DAC_READ_SEARCH } else { DAC_OVERRIDE };
        Some(Denial::NeedsFiles { pid: theirs.pid, owner: theirs.owner, capability })
    }

    /// What only ptrace itself asks.
    fn deny_attach(&self, theirs: &Credentials) -> Option<Denial> {
        if theirs.tracer != 0 {
            return Some(Denial::AlreadyTraced {
                pid: theirs.pid,
                tracer: theirs.tracer,
                name: theirs.tracer_name.clone(),
            });
        }
        self.system.ptrace_is_filtered.then_some(Denial::Seccomp { call: "ptrace" })
    }

    fn same_user(&self, theirs: &Credentials, act: Act) -> bool {
        // Real credentials stand first, the file system's last.
        let which = if act == Act::Stop { 0 } else { 3 };
        let (uid, gid) = (self.own.uid[which], self.own.gid[which]);
        theirs.uid[..3].iter().all(|&other| other == uid) && theirs.gid[..3].iter().all(|&other| other == gid)
    }

    fn other_user(&self, theirs: &Credentials) -> Denial {
        // Root without the capability is told of the capability, not of the user.
        if self.own.uid[1] == 0 && theirs.user_namespace.is_same() {
            return Denial::NeedsCapability {
                pid: theirs.pid,
                missing: 1 << SYS_PTRACE,
                other_namespace: false,
            };
        }
        Denial::OtherUser {
            pid: theirs.pid,
            own: (self.own.uid[1], self.own.gid[1]),
            theirs: (theirs.uid[1], theirs.gid[1]),
            other_namespace: !theirs.user_namespace.is_same(),
        }
    }
}

/// May the memory of this process be read without stopping it?
#[must_use]
pub fn judge_look(process: &Process) -> Verdict {
    judge(process, Judge::look)
}

/// May this process be stopped?
#[must_use]
pub fn judge_stop(process: &Process) -> Verdict {
    judge(process, Judge::stop)
}

fn judge(process: &Process, ask: impl Fn(&Judge, &Credentials) -> Verdict) -> Verdict {
    match process.status() {
        Ok(status) => {
            let judge = Judge::new(&Roots::default());
            ask(&judge, &judge.credentials(&process.proc_path(), &status))
        }
        Err(_) => Verdict::No(Box::new(Denial::Ended { pid: process.pid().get(), parent: 0 })),
    }
}

/// A recorded `/proc` and `/sys`, for machines that are not at hand.
#[must_use]
pub fn recorded(folder: &Path) -> Roots {
    Roots { proc: folder.join("proc"), sys: folder.join("sys") }
}
