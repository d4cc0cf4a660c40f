//! Where words come from, and what the program sees of them.

use std::fs;

use crate::{
    root::Root,
    support::{Init, as_process, run},
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
    let (_, _, stderr) = with(&[("DEBUG", "x,fstree=http://me:pw@h/a.tar#strip=1,wait=5s")]);
    assert!(stderr.contains("PEPO_DEBUG=fstree=http://me:***@h/a.tar#strip=1,wait=5s"), "{stderr}");
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

/// As a ConfigMap is mounted, with links that the kubelet exchanges.
#[test]
fn a_mounted_file_gives_the_words_that_no_variable_gives() {
    let root = Root::new();
    fs::create_dir_all(root.at("/etc/pepo/..data")).unwrap();
    std::os::unix::fs::symlink("..data/debug", root.at("/etc/pepo/debug")).unwrap();
    root.write("/etc/pepo/..data/debug", "# for tonight\nverbose=/from-file\n");
    let script = "echo \"${DEBUG-unset} ${PEPO_DEBUG-unset}\"";
    for (variables, stdout, [file, debug, pepo]) in [
        (&[][..], "unset unset\n", [true, false, false]),
        (&[("DEBUG", "express:*")], "express:* unset\n", [true, false, false]),
        (&[("DEBUG", "verbose=/from-debug")], "unset unset\n", [false, true, false]),
        (
            &[("DEBUG", "verbose=/from-debug"), ("PEPO_DEBUG", "verbose=/from-pepo")],
            "verbose=/from-debug unset\n",
            [false, false, true],
        ),
        (&[("PEPO_DEBUG", "")], "unset unset\n", [false; 3]),
    ] {
        let outcome = root.with(variables, script);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, stdout), "{variables:?}: {outcome:?}");
        let told =
            ["/from-file", "/from-debug", "/from-pepo"].map(|path| fs::remove_file(root.at(path)).is_ok());
        assert_eq!(told, [file, debug, pepo], "{variables:?}");
    }
}

#[test]
fn a_wrong_word_in_the_file_is_an_error_that_lists_them() {
    let root = Root::new();
    fs::create_dir(root.at("/etc/pepo")).unwrap();
    root.write("/etc/pepo/debug", "stayalive,verbos\n");
    let outcome = root.with(&[("DEBUG", "express:*")], "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (2, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("/etc/pepo/debug: there is no word \"verbos\""), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("  verbose[=FILE") && outcome.stderr.contains("  stayalive[=TIME]"));
    // A variable counts alone.
    let outcome = root.with(&[("PEPO_DEBUG", "fstree-optional")], "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
}
