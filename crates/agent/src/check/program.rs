//! Rules about the program and its debugger.

use pepo_debug::sight::{self, Sight};
use pepo_process::runtime::{Language, RuntimeFacts};
use pepo_wire::{Code, Failure};

use super::{ALL, LOOKING, SAMPLING, STACK, STOPPING, Said, facts::Facts};

/// `e_machine` of this build (System V ABI, processor supplements).
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Is there a debugger for it?
pub(super) fn runtime(facts: &Facts) -> Vec<Said> {
    if !facts.is_readable() {
        return Vec::new();
    }
    match &facts.debugger {
        Err(failure) if matches!(failure.code(), Code::NoDebugger | Code::RuntimeUnsupported) => {
            vec![Said::no(STOPPING, failure.clone())]
        }
        _ => {
            let version =
                facts.runtime.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
            vec![Said::ok(ALL, format!("{}{version}", facts.runtime.language))]
        }
    }
}

/// Can the executable be read, for what it says of itself?
pub(super) fn executable(facts: &Facts) -> Vec<Said> {
    let Some(failure) = &facts.runtime.unread else { return Vec::new() };
    vec![Said::no(STOPPING, failure.clone()), Said::lost(LOOKING, failure.clone())]
}

/// Is it a program for this processor's usual mode?
pub(super) fn architecture(facts: &Facts) -> Vec<Said> {
    let Some(exe) = &facts.runtime.exe else { return Vec::new() };
    if exe.elf.is_64 && exe.elf.machine == MACHINE {
        return Vec::new();
    }
    let failure =
        Failure::new(Code::RuntimeUnsupported, "the program is for another processor or mode than Pepo's")
            .because(format!(
                "its ELF header says machine {} with {} bits",
                exe.elf.machine,
                if exe.elf.is_64 { 64 } else { 32 }
            ));
    vec![Said::risk(STOPPING, failure)]
}

/// Whose calls are shown?
pub(super) fn frames(facts: &Facts) -> Vec<Said> {
    let language = facts.runtime.language;
    if !facts.is_readable() || matches!(language, Language::Native | Language::Go) {
        return Vec::new();
    }
    let mut said = Vec::new();
    let mut verbs = LOOKING;
    let why = match (&facts.python, &facts.jvm) {
        (Some(Ok(whose)), _) => {
            let what = format!("the frames of {whose} are read from memory: nothing is held");
            return vec![Said::ok(LOOKING, what)];
        }
        (_, Some(Ok(version))) => {
            let what = format!("the JVM {version} tells its frames, and holds all its threads meanwhile");
            said.push(Said::ok(STACK, what));
            match &facts.jvm_samples {
                Some(Err(why)) => {
                    verbs = SAMPLING;
                    why.clone()
                }
                samples => {
                    said.extend(samples.iter().flatten().map(|what| Said::ok(SAMPLING, what.clone())));
                    return said;
                }
            }
        }
        (Some(Err(why)), _) | (_, Some(Err(why))) => why.clone(),
        (None, None) if language == Language::Node => {
            let what = "Node is asked through its inspector, which is opened for it".to_owned();
            return vec![Said::ok(LOOKING, what)];
        }
        (None, None) => format!("calls of {language} are not read yet, only those of what runs it"),
    };
    let failure = Failure::new(Code::RuntimeUnsupported, "native frames only").because(why).try_command(
        "see them in a debugger",
        ["pepo".to_owned(), "attach".into(), format!("pid/{}", facts.theirs.pid)],
    );
    said.push(Said::lost(verbs, failure));
    said
}

/// Do native debuggers find types and lines?
pub(super) fn debug_info(facts: &Facts) -> Vec<Said> {
    seen(facts, sight::debug_info)
}

/// Does what the compiler moved about get in the way?
pub(super) fn optimised(facts: &Facts) -> Vec<Said> {
    seen(facts, sight::optimisation)
}

fn seen(facts: &Facts, judge: fn(&RuntimeFacts) -> Option<Sight>) -> Vec<Said> {
    if !reads_debug_info(facts) {
        return Vec::new();
    }
    let said = judge(&facts.runtime).map(|sight| match sight {
        Sight::Full(what) => Said::ok(STOPPING, what),
        Sight::Less(failure) => Said::lost(STOPPING, failure),
        Sight::None(failure) => Said::no(STOPPING, failure),
    });
    said.into_iter().collect()
}

/// Languages whose debuggers read DWARF.
fn reads_debug_info(facts: &Facts) -> bool {
    facts.is_readable() && matches!(facts.runtime.language, Language::Native | Language::Go)
}

/// Is the debugger here, and does its version suit the program's?
pub(super) fn adapter(facts: &Facts) -> Vec<Said> {
    if !facts.is_readable() {
        return Vec::new();
    }
    match &facts.debugger {
        // Told by `runtime` and `debug-info`.
        Err(failure)
            if matches!(failure.code(), Code::NoDebugger | Code::RuntimeUnsupported | Code::NoDebugInfo) =>
        {
            Vec::new()
        }
        Err(failure) => vec![Said::no(STOPPING, failure.clone())],
        Ok((chosen, warnings)) => {
            let from = chosen.tool.as_ref().map(|tool| format!(": {tool}")).unwrap_or_default();
            let ready = Said::ok(STOPPING, format!("{} fits{from}", chosen.name));
            // Told by `debug-info` and `optimised`.
            let warnings = warnings.iter().filter(|warning| warning.code() != Code::NoDebugInfo);
            [ready].into_iter().chain(warnings.map(|warning| Said::lost(STOPPING, warning.clone()))).collect()
        }
    }
}

/// A read-only root hinders nobody here, which is worth saying.
pub(super) fn read_only_root(facts: &Facts) -> Vec<Said> {
    match facts.read_only_root {
        Some(true) => vec![Said::ok(STOPPING, "the root is read-only; Pepo writes nothing there")],
        _ => Vec::new(),
    }
}

/// Is there memory for the debugger where it would run?
pub(super) fn headroom(facts: &Facts) -> Vec<Said> {
    let (Ok((chosen, _)), Some(headroom)) = (&facts.debugger, &facts.headroom) else { return Vec::new() };
    let mib = |bytes: u64| bytes >> 20;
    let of = headroom.limit.map(|limit| format!(" of {} MiB", mib(limit))).unwrap_or_default();
    let free = format!("{} MiB{of} free", mib(headroom.free));
    if headroom.free >= chosen.memory.saturating_mul(2) {
        return vec![Said::ok(STOPPING, free)];
    }
    let failure = Failure::new(Code::NoHeadroom, free)
        .because(format!("{} takes about {} MiB where it runs", chosen.name, mib(chosen.memory)))
        .hint("raise the memory limit, or debug from outside the container");
    vec![if headroom.free < chosen.memory {
        Said::no(STOPPING, failure)
    } else {
        Said::risk(STOPPING, failure)
    }]
}
