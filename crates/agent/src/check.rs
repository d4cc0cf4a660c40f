//! The rules of `check`: what would work, and if not, the one thing that is missing.
//!
//! Nothing is tried: a rule is a small function over facts that were read beforehand, and says what it found, for which verbs,
//! and the smallest change that grants what is missing. [`RULES`] is the table; a new rule is one line there.

/// Rules about what the kernel allows.
mod access;
/// What the rules look at.
mod facts;
/// Rules about the machine, without a target.
mod machine;
/// Rules about the program and its debugger.
mod program;

use pepo_debug::tools::Tools;
use pepo_process::{find, list, permits::Roots};
use pepo_wire::{
    Failure,
    agent::{CheckRequest, CheckResponse, Finding, Level},
};

use facts::{Facts, Machine};

/// The verbs that rules speak of: what looks.
const LOOKING: &[&str] = &["stack", "top", "record"];
const STACK: &[&str] = &["stack"];
/// What looks for a time.
const SAMPLING: &[&str] = &["top", "record"];
const CORE: &[&str] = &["core"];
const FILES: &[&str] = &["cp"];
const ATTACH: &str = "attach";
/// What stops a target; `dap` is `attach` for an editor.
const STOPPING: &[&str] = &[ATTACH, "dap"];
const ALL: &[&str] = &["stack", "top", "record", ATTACH, "dap"];

/// What the rules need beside the request.
#[derive(Clone, Debug)]
pub struct CheckEnv {
    /// Where debuggers are found.
    tools: Tools,
    /// Where procfs and sysfs are.
    roots: Roots,
}

impl CheckEnv {
    /// With these tools, on this machine.
    #[must_use]
    pub fn new(tools: &Tools) -> CheckEnv {
        CheckEnv { tools: tools.clone(), roots: Roots::default() }
    }
}

/// What one rule has to say.
struct Said {
    level: Level,
    verbs: &'static [&'static str],
    what: String,
    failure: Option<Failure>,
}

impl Said {
    /// It works.
    fn ok(verbs: &'static [&'static str], what: impl Into<String>) -> Said {
        Said { level: Level::Ok, verbs, what: what.into(), failure: None }
    }

    /// It works with less.
    fn lost(verbs: &'static [&'static str], failure: Failure) -> Said {
        Said { level: Level::Lost, verbs, what: failure.what.clone(), failure: Some(failure) }
    }

    /// It works, with a danger.
    fn risk(verbs: &'static [&'static str], failure: Failure) -> Said {
        Said { level: Level::Risk, verbs, what: failure.what.clone(), failure: Some(failure) }
    }

    /// It does not work.
    fn no(verbs: &'static [&'static str], failure: Failure) -> Said {
        Said { level: Level::No, verbs, what: failure.what.clone(), failure: Some(failure) }
    }
}

/// One rule: its stable name, and what it says of the facts.
struct Rule<F: 'static> {
    name: &'static str,
    ask: fn(&F) -> Vec<Said>,
}

const fn rule<F>(name: &'static str, ask: fn(&F) -> Vec<Said>) -> Rule<F> {
    Rule { name, ask }
}

/// The rules about a process, in the order they are shown: what forbids most comes first.
const RULES: &[Rule<Facts>] = &[
    rule("state", access::state),
    rule("user", access::user),
    rule("capabilities", access::capabilities),
    rule("user-namespace", access::user_namespace),
    rule("dumpable", access::dumpable),
    rule("yama", access::yama),
    rule("security-module", access::security_module),
    rule("traced", access::traced),
    rule("seccomp", access::seccomp),
    rule("no-new-privs", access::no_new_privs),
    rule("init", access::init),
    rule("core", access::core),
    rule("files", access::files),
    rule("timer", access::timer),
    rule("executable", program::executable),
    rule("runtime", program::runtime),
    rule("architecture", program::architecture),
    rule("frames", program::frames),
    rule("debug-info", program::debug_info),
    rule("optimised", program::optimised),
    rule("adapter", program::adapter),
    rule("read-only-root", program::read_only_root),
    rule("headroom", program::headroom),
];

/// The rules about the machine.
const MACHINE_RULES: &[Rule<Machine>] = &[
    rule("kernel", machine::kernel),
    rule("capabilities", machine::capabilities),
    rule("yama", machine::yama),
    rule("security-module", machine::security_module),
    rule("seccomp", machine::seccomp),
    rule("no-new-privs", machine::no_new_privs),
    rule("hidden-processes", machine::hidden_processes),
    rule("perf-events", machine::perf_events),
    rule("tools", machine::tools),
];

/// Asks every rule.
///
/// # Errors
/// The target is not there.
pub fn check(request: &CheckRequest, env: &CheckEnv) -> Result<CheckResponse, Failure> {
    let Some(target) = &request.target else {
        let machine = Machine::read(&env.roots, &env.tools);
        return Ok(CheckResponse { process: None, findings: ask(MACHINE_RULES, &machine, &request.verbs) });
    };
    let process = find::program(target)?;
    let facts = Facts::of(&process, env, &request.debugger)?;
    let mut shown = list::describe(&process).ok();
    if let (Some(runtime), Ok((chosen, _))) =
        (shown.as_mut().and_then(|shown| shown.runtime.as_mut()), &facts.debugger)
    {
        runtime.debugger = chosen.name.to_owned();
    }
    Ok(CheckResponse { process: shown, findings: ask(RULES, &facts, &request.verbs) })
}

/// What the rules say, for the wanted verbs alone; none means all.
fn ask<F>(rules: &[Rule<F>], facts: &F, wanted: &[String]) -> Vec<Finding> {
    let wants = |verb: &&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == verb);
    let said = rules.iter().flat_map(|rule| (rule.ask)(facts).into_iter().map(move |said| (rule.name, said)));
    said.filter_map(|(name, said)| {
        let verbs: Vec<String> =
            said.verbs.iter().copied().filter(|verb| wants(verb)).map(str::to_owned).collect();
        (!verbs.is_empty()).then(|| Finding {
            level: said.level.into(),
            verbs,
            rule: name.to_owned(),
            what: said.what,
            failure: said.failure,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests;
