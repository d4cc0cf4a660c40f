//! How the command was called: by its own name, or by kubectl, whose plugin is a program called `kubectl-pepo` and completes by one called
//! `kubectl_complete-pepo`. Whoever has the plugin need not have `pepo`, so what is told to be typed begins with `kubectl`.

use std::{
    ffi::OsStr,
    path::Path,
    sync::{LazyLock, OnceLock},
};

use regex::Regex;

use crate::arguments;

/// The plugin's file name.
const PLUGIN: &str = "kubectl-pepo";
/// That of what completes it.
const COMPLETER: &str = "kubectl_complete-pepo";

/// By whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// By its own name, or another that means nothing.
    Directly,
    /// By kubectl, as a plugin.
    AsPlugin,
    /// By kubectl, to complete the plugin's command line.
    ToComplete,
}

static CALLED: OnceLock<Called> = OnceLock::new();

/// Reads the program's name as it was called; what is said from here on is said as it was called.
pub(crate) fn remember(program: &OsStr) -> Called {
    *CALLED.get_or_init(|| read(program))
}

/// Did kubectl call?
pub(crate) fn by_kubectl() -> bool {
    CALLED.get().is_some_and(|called| *called != Called::Directly)
}

fn read(program: &OsStr) -> Called {
    let name = Path::new(program).file_name().and_then(OsStr::to_str).unwrap_or_default();
    match name.strip_suffix(".exe").unwrap_or(name) {
        PLUGIN => Called::AsPlugin,
        COMPLETER => Called::ToComplete,
        _ => Called::Directly,
    }
}

/// Words for people, with commands as they are typed here.
pub(crate) fn spelled(text: &str) -> String {
    if by_kubectl() { for_kubectl(text) } else { text.to_owned() }
}

/// A command's words as they are typed here.
pub(crate) fn typed(command: &[String]) -> Vec<String> {
    let begins = by_kubectl() && command.first().is_some_and(|program| program == "pepo");
    begins.then(|| "kubectl".to_owned()).into_iter().chain(command.iter().cloned()).collect()
}

/// `pepo` where it begins a command, once.
fn for_kubectl(text: &str) -> String {
    static COMMANDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let command = arguments::command();
        let verbs: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        let verbs = verbs.join("|");
        Regex::new(&format!(
            r"(?m)(?P<before>^|[\s`(]|\x1b\[[0-9;]*m)(?:kubectl )?pepo (?P<verb>(?:{verbs}|help)\b|\[|<|-)"
        ))
        .ok()
    });
    match &*COMMANDS {
        Some(commands) => commands.replace_all(text, "${before}kubectl pepo ${verb}").into_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_is_known_by_its_name() {
        for (program, expected) in [
            ("pepo", Called::Directly),
            ("/usr/local/bin/kubectl-pepo", Called::AsPlugin),
            ("kubectl-pepo.exe", Called::AsPlugin),
            ("bin/kubectl_complete-pepo", Called::ToComplete),
            ("kubectl-pepo-old", Called::Directly),
            ("", Called::Directly),
        ] {
            assert_eq!(read(OsStr::new(program)), expected, "{program}");
        }
    }

    #[test]
    fn commands_are_told_as_kubectls_users_type_them_and_nothing_else_changes() {
        for (text, expected) in [
            ("Usage: pepo stack [OPTIONS]", "Usage: kubectl pepo stack [OPTIONS]"),
            ("Usage: pepo [OPTIONS] <VERB>", "Usage: kubectl pepo [OPTIONS] <VERB>"),
            ("  pepo ps\n  pepo check x", "  kubectl pepo ps\n  kubectl pepo check x"),
            ("`pepo ps --all` shows", "`kubectl pepo ps --all` shows"),
            ("hint: \x1b[1mpepo attach x", "hint: \x1b[1mkubectl pepo attach x"),
            ("hint: kubectl pepo attach x", "hint: kubectl pepo attach x"),
            ("a static pepo at /pepo", "a static pepo at /pepo"),
            ("pepo 0.1.0", "pepo 0.1.0"),
            ("pepo stacks", "pepo stacks"),
        ] {
            assert_eq!(for_kubectl(text), expected);
            assert_eq!(for_kubectl(expected), expected);
        }
    }
}
