//! Rules about the program and its debugger.

use pepo_process::runtime::{DebugInfo, Language};
use pepo_wire::{Code, Failure};

use super::{ALL, STOPPING, Said, facts::Facts};

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

/// Do native debuggers find types and lines?
pub(super) fn debug_info(facts: &Facts) -> Vec<Said> {
    if !reads_debug_info(facts) {
        return Vec::new();
    }
    let runtime = &facts.runtime;
    match &runtime.debug_info {
        DebugInfo::Present => vec![Said::ok(STOPPING, "the binary has debug information")],
        DebugInfo::Split(path) => {
            vec![Said::ok(STOPPING, format!("the debug information is in {}", path.display()))]
        }
        DebugInfo::Elsewhere(name) => {
            let failure = Failure::new(
                Code::NoDebugInfo,
                "the debug information is in a file that is not in the target",
            )
            .because(match name {
                Some(name) => format!("it is called {name}"),
                None => format!("it is for build id {}", runtime.build_id.as_deref().unwrap_or_default()),
            })
            .hint("give its folder with --symbols DIR");
            vec![Said::lost(STOPPING, failure)]
        }
        DebugInfo::Absent => vec![Said::no(STOPPING, no_debug_info(facts))],
        DebugInfo::Unknown => Vec::new(),
    }
}

fn no_debug_info(facts: &Facts) -> Failure {
    let failure = Failure::new(Code::NoDebugInfo, "the binary has no debug information");
    match (facts.runtime.language, facts.runtime.stripped) {
        (Language::Go, _) => failure.hint(
            "build without -ldflags=-w and -s, or give the unstripped binary's folder with --symbols DIR",
        ),
        (_, true) => failure
            .because("it was stripped")
            .hint("give the folder of its debug file with --symbols DIR, or do not strip it"),
        (_, false) => failure.hint("build with -g"),
    }
}

/// Does what the compiler moved about get in the way?
pub(super) fn optimised(facts: &Facts) -> Vec<Said> {
    if !reads_debug_info(facts) || !facts.runtime.debug_info.is_there() {
        return Vec::new();
    }
    match facts.runtime.optimised {
        Some(true) => {
            let how = if facts.runtime.language == Language::Go { "-gcflags='all=-N -l'" } else { "-O0" };
            let failure = Failure::new(Code::NoDebugInfo, "the binary is optimised")
                .because("some variables have no value and steps jump between lines")
                .hint(format!("for full sight build with {how}"));
            vec![Said::lost(STOPPING, failure)]
        }
        Some(false) => vec![Said::ok(STOPPING, "the binary is not optimised")],
        None => Vec::new(),
    }
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
