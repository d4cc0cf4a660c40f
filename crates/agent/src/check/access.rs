//! Rules about what the kernel allows. Each speaks of one step of ptrace(2), "Ptrace access mode checking"; since the first
//! step that fails decides, at most one of them says no for a verb.

use pepo_look::Timer;
use pepo_process::permits::{Denial, Namespace, SYS_PTRACE};
use pepo_wire::{Code, Failure, FailureExt as _};

use super::{ALL, CORE, FILES, LOOKING, SAMPLING, STOPPING, Said, facts::Facts};

/// What a step says: its denial for each verb it concerns, else what there is to know.
fn step(facts: &Facts, is_it: impl Fn(&Denial) -> bool, otherwise: impl FnOnce() -> Vec<Said>) -> Vec<Said> {
    let denied = |verdict: &pepo_process::permits::Verdict| {
        verdict.denial().filter(|denial| is_it(denial)).map(Denial::failure)
    };
    match (denied(&facts.look), denied(&facts.stop)) {
        (Some(failure), Some(_)) => vec![Said::no(ALL, failure)],
        (Some(failure), None) => vec![Said::no(LOOKING, failure)],
        (None, Some(failure)) => vec![Said::no(STOPPING, failure)],
        (None, None) => otherwise(),
    }
}

/// Does it run at all?
pub(super) fn state(facts: &Facts) -> Vec<Said> {
    let gone = |denial: &Denial| {
        matches!(denial, Denial::Ended { .. } | Denial::KernelThread { .. } | Denial::Itself)
    };
    step(facts, gone, || {
        if facts.held {
            return vec![Said::ok(STOPPING, "it is held at its first instruction: a debugger begins there")];
        }
        if facts.status.state.is_stopped() {
            let failure = Failure::new(Code::NotNow, "the process is stopped by a signal")
                .because("a debugger waits for it until it is continued")
                .try_command(
                    "let it run",
                    ["pepo".to_owned(), "release".into(), format!("pid/{}", facts.theirs.pid)],
                );
            return vec![Said::risk(STOPPING, failure)];
        }
        vec![Said::ok(ALL, "the process runs")]
    })
}

/// Same user?
pub(super) fn user(facts: &Facts) -> Vec<Said> {
    let other = |denial: &Denial| matches!(denial, Denial::OtherUser { .. });
    step(facts, other, || {
        let (own, theirs) = (facts.judge.own.uid[1], facts.theirs.uid[1]);
        let what = if own == theirs {
            format!("the same user, uid {own}")
        } else {
            format!("Pepo runs as uid {own}, the process as uid {theirs}")
        };
        vec![Said::ok(ALL, what)]
    })
}

/// CAP_SYS_PTRACE, and what opens the files of `/proc`?
pub(super) fn capabilities(facts: &Facts) -> Vec<Said> {
    let missing =
        |denial: &Denial| matches!(denial, Denial::NeedsCapability { .. } | Denial::NeedsFiles { .. });
    // Where another step says no that the capability would pass, it is needed.
    let would_pass = |verdict: &pepo_process::permits::Verdict| {
        verdict.denial().is_some_and(|denial| {
            matches!(denial, Denial::OtherUser { .. } | Denial::NotDumpable { .. } | Denial::Yama { .. })
        })
    };
    step(facts, missing, || match facts.judge.own.has_in(SYS_PTRACE, &facts.theirs.user_namespace, true) {
        true => vec![Said::ok(ALL, "CAP_SYS_PTRACE is there")],
        false if would_pass(&facts.look) || would_pass(&facts.stop) => Vec::new(),
        false => vec![Said::ok(ALL, "no capability is needed")],
    })
}

/// User namespaces only have to be told where they differ; what they forbid is told by `user` and `capabilities`.
pub(super) fn user_namespace(facts: &Facts) -> Vec<Said> {
    let what = match facts.theirs.user_namespace {
        Namespace::Same => return Vec::new(),
        Namespace::Below { .. } => "the process is in a user namespace below Pepo's",
        Namespace::Apart => "the process is in a user namespace apart from Pepo's",
    };
    if facts
        .stop
        .denial()
        .is_some_and(|denial| matches!(denial, Denial::OtherUser { .. } | Denial::NeedsCapability { .. }))
    {
        return Vec::new();
    }
    vec![Said::ok(ALL, what)]
}

/// Has it made itself untouchable?
pub(super) fn dumpable(facts: &Facts) -> Vec<Said> {
    step(facts, |denial| matches!(denial, Denial::NotDumpable { .. }), Vec::new)
}

/// Yama?
pub(super) fn yama(facts: &Facts) -> Vec<Said> {
    step(
        facts,
        |denial| matches!(denial, Denial::Yama { .. }),
        || match facts.judge.system.yama {
            None => Vec::new(),
            Some(0) => vec![Said::ok(ALL, "kernel.yama.ptrace_scope=0 restricts nothing")],
            Some(scope) => {
                vec![Said::ok(ALL, format!("kernel.yama.ptrace_scope={scope} does not restrict Pepo here"))]
            }
        },
    )
}

/// AppArmor, SELinux?
pub(super) fn security_module(facts: &Facts) -> Vec<Said> {
    step(
        facts,
        |denial| matches!(denial, Denial::SecurityModule { .. }),
        || {
            let said = facts.judge.system.module.map(|module| {
                let label = facts.theirs.label.as_deref().unwrap_or("unconfined");
                Said::ok(ALL, format!("{} lets Pepo through to `{label}`", module.name()))
            });
            said.into_iter().collect()
        },
    )
}

/// Is it held by a debugger?
pub(super) fn traced(facts: &Facts) -> Vec<Said> {
    step(
        facts,
        |denial| matches!(denial, Denial::AlreadyTraced { .. }),
        || vec![Said::ok(STOPPING, "nothing else traces it")],
    )
}

/// Seccomp filters: ours may forbid ptrace, the strict mode of the target's forbids what is run inside it.
pub(super) fn seccomp(facts: &Facts) -> Vec<Said> {
    step(
        facts,
        |denial| matches!(denial, Denial::Seccomp { .. }),
        || {
            if facts.status.seccomp == 1 {
                let failure = Failure::new(Code::Seccomp, "the process is in seccomp's strict mode")
                    .because("any call that a debugger makes inside it would end it");
                return vec![Said::risk(STOPPING, failure)];
            }
            if facts.judge.own.seccomp == 0 {
                Vec::new()
            } else {
                vec![Said::ok(STOPPING, "Pepo's own seccomp filter allows ptrace")]
            }
        },
    )
}

/// No-new-privileges matters only to a debugger that would gain rights by being started.
pub(super) fn no_new_privs(facts: &Facts) -> Vec<Said> {
    if !facts.judge.own.no_new_privs || facts.stop.is_yes() {
        return Vec::new();
    }
    let failure = Failure::new(
        Code::NeedsCapability,
        "Pepo cannot gain privileges by starting a program (no-new-privileges)",
    )
    .because("sudo and file capabilities have no effect here")
    .hint("start Pepo outside of this sandbox, or with CAP_SYS_PTRACE from the start");
    vec![Said::lost(STOPPING, failure)]
}

/// The first process of a container takes it along when it ends.
pub(super) fn init(facts: &Facts) -> Vec<Said> {
    if facts.status.is_init() && facts.status.process != 1 {
        vec![Said::ok(STOPPING, "it is the container's first process: the container ends with it")]
    } else {
        Vec::new()
    }
}

/// Are samples taken by the kernel's timer, or by holding threads? Those of Python's and Ruby's frames need neither.
pub(super) fn timer(facts: &Facts) -> Vec<Said> {
    if matches!(facts.python, Some(Ok(_))) {
        return Vec::new();
    }
    let said = facts.timer.as_ref().map(|timer| match timer {
        Ok(Timer::Whole) => Said::ok(SAMPLING, "by the kernel's timer, time in the kernel too"),
        Ok(Timer::UserCode) => Said::lost(SAMPLING, more("time in the kernel is not seen", 1)),
        Err(failure) => {
            let held = "running threads are held for each sample";
            Said::lost(SAMPLING, more(held, 2).because(failure))
        }
    });
    said.into_iter().collect()
}

/// What the kernel's timer would need to show more.
fn more(what: &str, level: u8) -> Failure {
    Failure::new(Code::NeedsCapability, what)
        .hint("run Pepo with CAP_PERFMON (as root; for a helper container: --cap-add PERFMON)")
        .try_command(
            "allow it to every user of this machine",
            ["sudo".to_owned(), "sysctl".into(), format!("kernel.perf_event_paranoid={level}")],
        )
}

/// A core file needs the right to stop it, and no debugger.
pub(super) fn core(facts: &Facts) -> Vec<Said> {
    let unread = facts.runtime.unread.clone();
    match facts.stop.denial().map(Denial::failure).or(unread) {
        Some(failure) => vec![Said::no(CORE, failure)],
        None => vec![Said::ok(CORE, "it may be stopped and read")],
    }
}

/// Its files are reached through its root, which needs the right to look; what its own user may not read or write needs more.
pub(super) fn files(facts: &Facts) -> Vec<Said> {
    match (facts.look.denial(), facts.read_only_root) {
        (Some(denial), _) => vec![Said::no(FILES, denial.failure())],
        (None, Some(true)) => {
            let failure =
                Failure::new(Code::FileDenied, "its root is read-only: files go into volumes alone").hint(
                    "copy to the folder of a volume, such as an emptyDir; files come out of everywhere",
                );
            vec![Said::lost(FILES, failure)]
        }
        (None, _) => vec![Said::ok(FILES, "its files are reached through its own root")],
    }
}
