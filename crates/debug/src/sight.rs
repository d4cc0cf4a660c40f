//! How much of a program a debugger that reads debug information would see. Judged before anything is touched, in the same words
//! for `check` and for the debuggers' own [`fits`](crate::debugger::Debugger::fits).

use pepo_process::runtime::{DebugInfo, Language, RuntimeFacts};
use pepo_wire::{Code, Failure};

/// How much would be seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// All; in a clause why.
    Full(String),
    /// Less, and what would help.
    Less(Failure),
    /// Nothing, and what would help.
    None(Failure),
}

/// Are there types and lines? `None`: it is not known.
#[must_use]
pub fn debug_info(runtime: &RuntimeFacts) -> Option<Sight> {
    Some(match &runtime.debug_info {
        DebugInfo::Present => Sight::Full("the binary has debug information".to_owned()),
        DebugInfo::Split(path) => Sight::Full(format!("the debug information is in {}", path.display())),
        DebugInfo::Brought(_) => Sight::Full("the debug information is the user's".to_owned()),
        DebugInfo::Elsewhere(name) => Sight::Less(elsewhere(name.as_deref(), runtime)),
        DebugInfo::Absent => Sight::None(absent(runtime)),
        DebugInfo::Unknown => return None,
    })
}

/// Does what the compiler moved about get in the way? `None`: it cannot be told, or there is nothing to see anyway.
#[must_use]
pub fn optimisation(runtime: &RuntimeFacts) -> Option<Sight> {
    if !runtime.debug_info.is_there() {
        return None;
    }
    if !runtime.optimised? {
        return Some(Sight::Full("the binary is not optimised".to_owned()));
    }
    let how = if runtime.language == Language::Go { "-gcflags='all=-N -l'" } else { "-O0" };
    let failure = Failure::new(Code::NoDebugInfo, "the binary is optimised")
        .because("some variables have no value and steps jump between lines")
        .hint(format!("for full sight build with {how}"));
    Some(Sight::Less(failure))
}

fn elsewhere(name: Option<&str>, runtime: &RuntimeFacts) -> Failure {
    Failure::new(Code::NoDebugInfo, "the debug information is in a file that is not in the target")
        .because(match name {
            Some(name) => format!("it is called {name}"),
            None => format!("it is for build id {}", runtime.build_id.as_deref().unwrap_or("unknown")),
        })
        .hint("give it or its folder with --symbols PATH")
}

fn absent(runtime: &RuntimeFacts) -> Failure {
    let failure = Failure::new(Code::NoDebugInfo, "the binary has no debug information");
    match (runtime.language, runtime.stripped) {
        (Language::Go, _) => failure
            .hint("build without -ldflags=-w and -s, or give the unstripped binary with --symbols PATH"),
        (_, true) => failure
            .because("it was stripped")
            .hint("give its debug file with --symbols PATH, or do not strip it"),
        (_, false) => failure.hint("build with -g"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runtime: &RuntimeFacts, debug_info: &str, optimisation: &str) {
        let word = |sight: Option<Sight>| match sight {
            None => "unknown".to_owned(),
            Some(Sight::Full(_)) => "full".to_owned(),
            Some(Sight::Less(failure)) => format!("less: {}", failure.hints[0].text),
            Some(Sight::None(failure)) => format!("none: {}", failure.hints[0].text),
        };
        assert_eq!(word(super::debug_info(runtime)), debug_info, "{runtime:?}");
        assert_eq!(word(super::optimisation(runtime)), optimisation, "{runtime:?}");
    }

    #[test]
    fn what_is_missing_comes_with_what_would_help() {
        let with = |debug_info| RuntimeFacts { debug_info, ..RuntimeFacts::default() };
        check(&with(DebugInfo::Present), "full", "unknown");
        check(&with(DebugInfo::Split("/usr/lib/debug/x".into())), "full", "unknown");
        check(&with(DebugInfo::Brought("/run/x".into())), "full", "unknown");
        check(&with(DebugInfo::Unknown), "unknown", "unknown");
        let give = "less: give it or its folder with --symbols PATH";
        check(&with(DebugInfo::Elsewhere(None)), give, "unknown");
        check(&with(DebugInfo::Absent), "none: build with -g", "unknown");
        let optimised = |optimised, language| RuntimeFacts {
            optimised: Some(optimised),
            language,
            ..with(DebugInfo::Present)
        };
        check(&optimised(false, Language::Native), "full", "full");
        check(&optimised(true, Language::Native), "full", "less: for full sight build with -O0");
        let go = "less: for full sight build with -gcflags='all=-N -l'";
        check(&optimised(true, Language::Go), "full", go);
    }
}
