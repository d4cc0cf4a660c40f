//! Where words come from, and what the program sees of them.

use crate::support::{Init, as_process, run};

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
