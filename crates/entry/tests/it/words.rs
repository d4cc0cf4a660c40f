//! Where words come from, and what the program sees of them.

use std::{fs, os::unix::fs::symlink};

use crate::{
    root::Root,
    support::{Init, Outcome, as_process, run},
};

/// Status, output and what was said for `env` as the program, with these variables.
fn with(variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command =
        as_process(Init::Ours, &[], &["sh", "-c", "echo \"${DEBUG-unset} ${PEPO_DEBUG-unset}\""]);
    let outcome = run(command.envs(variables.iter().copied()));
    (outcome.code(), outcome.stdout, outcome.stderr)
}

#[test]
fn a_debug_of_others_passes_untouched() {
    for value in ["express:*", "1", "*", "a,b", ""] {
        let (code, stdout, stderr) = with(&[("DEBUG", value)]);
        assert_eq!((code, stdout, stderr), (0, format!("{value} unset\n"), String::new()), "{value}");
    }
}

#[test]
fn a_mixture_passes_with_one_line_of_warning() {
    let (code, stdout, stderr) = with(&[("DEBUG", "express:*,stayalive")]);
    assert_eq!((code, stdout.as_str()), (0, "express:*,stayalive unset\n"));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("PEPO_DEBUG=stayalive"), "{stderr}");
}

#[test]
fn words_that_are_taken_are_not_the_programs() {
    assert_eq!(with(&[("DEBUG", "stayalive")]).1, "unset unset\n");
    assert_eq!(with(&[("PEPO_DEBUG", "stayalive"), ("DEBUG", "stayalive")]).1, "stayalive unset\n");
    assert_eq!(with(&[("PEPO_DEBUG", "")]).1, "unset unset\n");
}

#[test]
fn an_unknown_word_of_ours_is_an_error_that_lists_them() {
    let (code, stdout, stderr) = with(&[("PEPO_DEBUG", "stayalive,verbos")]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("there is no word \"verbos\"") && stderr.contains("  verbose[=FILE"), "{stderr}");
    let (code, _, stderr) = with(&[("PEPO_DEBUG", "stayalive=soon")]);
    assert_eq!(code, 2);
    assert!(stderr.contains("write 90s, 30m or 2h"), "{stderr}");
}

/// A root whose `/etc/pepo/debug` is what a kubelet mounts of a ConfigMap: links to a folder of that version.
fn with_file(words: &str) -> Root {
    let root = Root::new();
    fs::create_dir_all(root.at("/etc/pepo/..2026")).unwrap();
    root.write("/etc/pepo/..2026/debug", words);
    symlink("..2026", root.at("/etc/pepo/..data")).unwrap();
    symlink("..data/debug", root.at("/etc/pepo/debug")).unwrap();
    root
}

/// What a program that fails leads to in it, with these variables.
fn failing_in(root: &Root, variables: &[(&str, &str)]) -> Outcome {
    run(root
        .command("", "echo \"${DEBUG-unset}\"; exit 3")
        .env_remove("PEPO_DEBUG")
        .envs(variables.iter().copied()))
}

#[test]
fn a_mounted_file_has_the_words_where_no_variable_has() {
    let root = with_file("verbose\nstayalive=1s\n");
    let outcome = failing_in(&root, &[]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (3, "unset\n"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("traces sh") && outcome.stderr.contains("status 3"),
        "{}",
        outcome.stderr
    );

    // Words of others are no words: the file is read, and the program has its own.
    let outcome = failing_in(&root, &[("DEBUG", "express:*")]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (3, "express:*\n"));
    assert!(outcome.stderr.contains("traces sh"), "{}", outcome.stderr);

    for variable in ["PEPO_DEBUG", "DEBUG"] {
        let outcome = failing_in(&root, &[(variable, "stayalive=1s")]);
        assert_eq!(outcome.code(), 3);
        assert!(!outcome.stderr.contains("traces sh"), "{variable}: {}", outcome.stderr);
    }
}

#[test]
fn an_unknown_word_in_the_file_is_an_error_that_lists_them() {
    let outcome = failing_in(&with_file("verbos\n"), &[]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (2, ""));
    let told = &outcome.stderr;
    assert!(told.contains("/etc/pepo/debug") && told.contains("no word \"verbos\""), "{told}");
    assert!(told.contains("  verbose[=FILE"), "{told}");
}
