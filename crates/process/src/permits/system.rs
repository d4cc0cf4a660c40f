//! The machine: Yama, security modules, kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Denial, syscalls};

/// Where procfs and sysfs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`, or a recording of it.
    pub proc: PathBuf,
    /// `/sys`, or a recording of it.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { proc: "/proc".into(), sys: "/sys".into() }
    }
}

impl Roots {
    /// Is it this very machine?
    #[must_use]
    pub fn is_live(&self) -> bool {
        *self == Roots::default()
    }
}

/// A security module that mediates ptrace by labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// By profiles of programs.
    AppArmor,
    /// By types and categories.
    SeLinux,
}

impl Module {
    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Module::AppArmor => "AppArmor",
            Module::SeLinux => "SELinux",
        }
    }
}

/// Facts about the machine that decide what may be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// `kernel.yama.ptrace_scope`; `None` without Yama.
    pub yama: Option<u32>,
    /// `kernel.perf_event_paranoid`; `None` without perf events.
    pub perf_event_paranoid: Option<i32>,
    /// Release of the kernel: "6.18.44".
    pub kernel: String,
    /// The security module that enforces labels, if one does.
    pub module: Option<Module>,
    /// SELinux's switch that forbids ptrace to everyone.
    pub selinux_denies_ptrace: bool,
    /// Is the call ptrace forbidden to us by a seccomp filter of ours?
    pub ptrace_is_filtered: bool,
}

impl System {
    /// Reads them.
    #[must_use]
    pub fn read(roots: &Roots) -> System {
        let kernel = roots.proc.join("sys/kernel");
        System {
            yama: number(&kernel.join("yama/ptrace_scope")),
            perf_event_paranoid: number(&kernel.join("perf_event_paranoid")),
            kernel: text(&kernel.join("osrelease")).unwrap_or_default(),
            module: module(&roots.sys),
            selinux_denies_ptrace: text(&roots.sys.join("fs/selinux/booleans/deny_ptrace"))
                .is_some_and(|value| value.starts_with('1')),
            ptrace_is_filtered: roots.is_live() && syscalls::ptrace_is_filtered(),
        }
    }

    /// Do the labels of both sides forbid it? What the loaded policy says in detail cannot be read; this is what the
    /// policies of engines and distributions come to.
    pub(super) fn deny_by_label(&self, own: Option<&str>, theirs: Option<&str>) -> Option<Denial> {
        let module = self.module?;
        let denied = match module {
            Module::AppArmor => denied_by_apparmor(own?, theirs.unwrap_or("unconfined")),
            Module::SeLinux => {
                self.selinux_denies_ptrace || denied_by_selinux(own?, theirs.unwrap_or_default())
            }
        };
        denied.then(|| Denial::SecurityModule {
            module,
            own: own.unwrap_or_default().to_owned(),
            theirs: theirs.unwrap_or_default().to_owned(),
        })
    }
}

/// An unconfined tracer may trace anything; profiles of containers allow their own members (and no others).
fn denied_by_apparmor(own: &str, theirs: &str) -> bool {
    let enforced = own.ends_with("(enforce)") || own.ends_with("(kill)");
    let profile = |label: &str| label.split(" (").next().unwrap_or_default().to_owned();
    enforced && profile(own) != profile(theirs)
}

/// Unconfined domains may trace anything; a container's type may trace the same type with the same categories.
fn denied_by_selinux(own: &str, theirs: &str) -> bool {
    let domain = own.split(':').nth(2).unwrap_or_default();
    let free = ["unconfined_t", "spc_t", "init_t", "kernel_t", "sysadm_t", "initrc_t"];
    !own.is_empty() && !free.contains(&domain) && own != theirs
}

/// Which module enforces labels.
fn module(sys: &Path) -> Option<Module> {
    let lsms = text(&sys.join("kernel/security/lsm")).unwrap_or_default();
    let listed = |name: &str| lsms.split(',').any(|lsm| lsm == name);
    let apparmor = listed("apparmor")
        || text(&sys.join("module/apparmor/parameters/enabled")).is_some_and(|value| value == "Y");
    // A permissive SELinux only writes to the log.
    let selinux = text(&sys.join("fs/selinux/enforce")).is_some_and(|value| value == "1");
    match (selinux, apparmor) {
        (true, _) => Some(Module::SeLinux),
        (false, true) => Some(Module::AppArmor),
        _ => None,
    }
}

pub(super) fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end_matches(['\n', '\0', ' ']).to_owned())
}

fn number<N: std::str::FromStr>(path: &Path) -> Option<N> {
    text(path)?.parse().ok()
}
