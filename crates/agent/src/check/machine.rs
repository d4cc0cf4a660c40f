//! Rules about the machine the agent is on, without a target.

use pepo_process::permits::{PERFMON, SYS_ADMIN, SYS_PTRACE};
use pepo_wire::{Code, Failure};

use super::{ALL, SAMPLING, STOPPING, Said, facts::Machine};

/// The kernel that has everything Pepo asks for: pidfd_getfd(2).
const KERNEL: (u32, u32) = (5, 6);

/// New enough?
pub(super) fn kernel(machine: &Machine) -> Vec<Said> {
    let release = &machine.judge.system.kernel;
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL {
        return vec![Said::ok(ALL, format!("Linux {release}"))];
    }
    let failure = Failure::new(
        Code::RuntimeUnsupported,
        format!("Linux {release} is older than {}.{}", KERNEL.0, KERNEL.1),
    )
    .because("processes cannot be held by a descriptor, so no signal is sent to them");
    vec![Said::lost(ALL, failure)]
}

/// Whose processes can be touched?
pub(super) fn capabilities(machine: &Machine) -> Vec<Said> {
    let own = &machine.judge.own;
    if own.has(SYS_PTRACE) {
        return vec![Said::ok(
            ALL,
            format!("uid {} with CAP_SYS_PTRACE: processes of all users", own.uid[1]),
        )];
    }
    let failure = Failure::new(
        Code::NeedsCapability,
        format!("uid {} without CAP_SYS_PTRACE: its own processes only", own.uid[1]),
    )
    .try_command("run Pepo as root", ["sudo", "pepo", "check"])
    .hint("in a helper container: --cap-add SYS_PTRACE");
    vec![Said::lost(ALL, failure)]
}

/// Yama?
pub(super) fn yama(machine: &Machine) -> Vec<Said> {
    let has = machine.judge.own.has(SYS_PTRACE);
    let failure = |scope: u32, why: &str| {
        Failure::new(Code::Yama, format!("kernel.yama.ptrace_scope={scope}")).because(why)
    };
    match machine.judge.system.yama {
        None => vec![Said::ok(ALL, "no Yama")],
        Some(scope @ 0) => vec![Said::ok(ALL, format!("kernel.yama.ptrace_scope={scope} restricts nothing"))],
        Some(scope @ 1..=2) if has => {
            vec![Said::ok(ALL, format!("kernel.yama.ptrace_scope={scope}, and CAP_SYS_PTRACE passes it"))]
        }
        Some(scope @ 1..=2) => vec![Said::no(
            ALL,
            failure(scope, "it lets only parents or CAP_SYS_PTRACE trace")
                .hint("run Pepo with CAP_SYS_PTRACE (as root; for a helper container: --cap-add SYS_PTRACE)")
                .try_command(
                    "allow it to every user of this machine",
                    ["sudo", "sysctl", "kernel.yama.ptrace_scope=0"],
                ),
        )],
        Some(scope) => vec![Said::no(ALL, failure(scope, "it lets nobody trace until the next boot"))],
    }
}

/// AppArmor, SELinux?
pub(super) fn security_module(machine: &Machine) -> Vec<Said> {
    let system = &machine.judge.system;
    let Some(module) = system.module else {
        return vec![Said::ok(ALL, "no security module judges by labels")];
    };
    if system.selinux_denies_ptrace {
        let failure = Failure::new(Code::SecurityModule, "SELinux forbids ptrace to everyone")
            .because("its boolean deny_ptrace is on")
            .try_command("allow it", ["sudo", "setsebool", "deny_ptrace", "off"]);
        return vec![Said::no(ALL, failure)];
    }
    let label = machine.judge.own.label.as_deref().unwrap_or("unconfined");
    vec![Said::ok(ALL, format!("{}, Pepo runs as `{label}`", module.name()))]
}

/// A filter of ours?
pub(super) fn seccomp(machine: &Machine) -> Vec<Said> {
    if machine.judge.system.ptrace_is_filtered {
        let failure = Failure::new(Code::Seccomp, "a seccomp filter forbids Pepo the call ptrace").hint(
            "run Pepo's container with a seccomp profile that allows it (--security-opt seccomp=unconfined)",
        );
        return vec![Said::no(STOPPING, failure)];
    }
    vec![Said::ok(
        ALL,
        if machine.judge.own.seccomp == 0 { "no seccomp filter" } else { "the seccomp filter allows ptrace" },
    )]
}

/// Can a started program gain rights?
pub(super) fn no_new_privs(machine: &Machine) -> Vec<Said> {
    if !machine.judge.own.no_new_privs || machine.judge.own.has(SYS_PTRACE) {
        return Vec::new();
    }
    let failure = Failure::new(
        Code::NeedsCapability,
        "no-new-privileges: sudo and file capabilities have no effect here",
    )
    .hint("start Pepo outside of this sandbox, or with CAP_SYS_PTRACE from the start");
    vec![Said::lost(STOPPING, failure)]
}

/// Are other users' processes hidden?
pub(super) fn hidden_processes(machine: &Machine) -> Vec<Said> {
    let Some(value) = machine.hidepid.as_ref().filter(|_| !machine.judge.own.has(SYS_PTRACE)) else {
        return Vec::new();
    };
    let failure =
        Failure::new(Code::OtherUser, format!("procfs hides other users' processes (hidepid={value})"))
            .try_command("run Pepo as root", ["sudo", "pepo", "check"]);
    vec![Said::lost(ALL, failure)]
}

/// What would the kernel's timer show?
pub(super) fn perf_events(machine: &Machine) -> Vec<Said> {
    let own = &machine.judge.own;
    let Some(level) = machine.judge.system.perf_event_paranoid else { return Vec::new() };
    let whole = level <= 1 || own.has(PERFMON) || own.has(SYS_ADMIN);
    let what = if whole { "perf events, kernel frames too" } else { "no kernel frames from perf events" };
    vec![Said::ok(SAMPLING, format!("{what} (perf_event_paranoid={level})"))]
}

/// Which debuggers are here?
pub(super) fn tools(machine: &Machine) -> Vec<Said> {
    let said = machine.tools.iter().map(|(entry, tool)| {
        let install = ["pepo", "tools", "install", entry.name];
        let Some(tool) = tool else {
            return Said::lost(
                STOPPING,
                Failure::new(Code::ToolMissing, format!("{} is not installed", entry.name))
                    .try_command("install it", install),
            );
        };
        let minimum = format!("{}.{}", entry.minimum.0, entry.minimum.1);
        if tool.version.as_ref().is_some_and(|version| version.pair() < entry.minimum) {
            let what = format!("{} {} is older than {minimum}", entry.name, tool.version_text());
            return Said::lost(
                STOPPING,
                Failure::new(Code::ToolTooOld, what)
                    .because(tool.path.display().to_string())
                    .try_command("install a newer one", install),
            );
        }
        Said::ok(STOPPING, format!("{} {} in {}", entry.name, tool.version_text(), tool.path.display()))
    });
    let python = Said::ok(STOPPING, "python needs nothing installed");
    said.chain([python]).collect()
}
