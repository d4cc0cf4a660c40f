//! Every help text, short and long, is as committed.

use crate::support::{Surroundings, same};

#[test]
fn every_help_text_is_as_committed() {
    let surroundings = Surroundings::new();
    same("help", &surroundings.run(&["--help"]).ok().stdout);
    let looking = ["ps", "check", "stack", "top", "record", "core", "diff"];
    let others = [
        "attach",
        "dap",
        "sessions",
        "release",
        "tools",
        "completions",
        "run",
        "entry",
        "inject",
        "eject",
        "catch",
        "shell",
        "cp",
        "serve",
        "install",
    ];
    for verb in looking.iter().chain(&others) {
        same(&format!("help-{verb}"), &surroundings.run(&["help", verb]).ok().stdout);
    }
    for act in ["start", "stop"] {
        same(&format!("help-catch-{act}"), &surroundings.run(&["help", "catch", act]).ok().stdout);
    }
    same("help-tools-install", &surroundings.run(&["help", "tools", "install"]).ok().stdout);
}

#[test]
fn help_is_the_same_by_flag_and_by_verb_and_needs_nothing() {
    let surroundings = Surroundings::new();
    for verb in ["ps", "attach"] {
        let by_flag = surroundings.run(&[verb, "--help"]).ok();
        assert_eq!(by_flag.stdout, surroundings.run(&["help", verb]).ok().stdout);
        assert_eq!(by_flag.stderr, "");
    }
}

#[test]
fn hidden_verbs_are_not_in_the_help() {
    let help = Surroundings::new().run(&["--help"]).ok().stdout;
    for hidden in ["  agent", "  guard", "  generate", "  node"] {
        assert!(!help.contains(hidden), "{hidden} in\n{help}");
    }
}

#[test]
fn the_version_is_one_line() {
    let version = Surroundings::new().run(&["--version"]).ok().stdout;
    assert_eq!(version, concat!("pepo ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn completions_are_made_for_each_shell() {
    let surroundings = Surroundings::new();
    for (shell, signs) in [
        ("bash", ["complete -F", "__complete"]),
        ("zsh", ["#compdef pepo", "__complete"]),
        ("fish", ["complete --command pepo", "__complete"]),
        ("elvish", ["arg-completer[pepo]", "attach"]),
        ("powershell", ["-CommandName 'pepo'", "attach"]),
    ] {
        let script = surroundings.run(&["completions", shell]).ok().stdout;
        assert!(signs.iter().all(|sign| script.contains(sign)), "{shell}:\n{script}");
    }
}
