//! Shapes, colours, closed pipes.

use std::process::Stdio;

use crate::support::{Run, Surroundings};

#[test]
fn a_reader_that_goes_away_is_a_quiet_end() {
    let surroundings = Surroundings::new();
    for line in [
        &["completions", "bash"][..],
        &["help", "attach"],
        &["ps", "--all"],
        &["ps", "--all", "--output", "json"],
    ] {
        let mut command = surroundings.command(line);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output =
            command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let run = Run::of(output);
        assert_eq!(
            (run.status, run.stderr.contains("panicked")),
            (Some(0), false),
            "{line:?}: {}",
            run.stderr
        );
        assert!(!run.stderr.contains("error["), "{line:?}: {}", run.stderr);
    }
}

#[test]
fn colours_are_by_wish_and_never_in_a_pipe() {
    let surroundings = Surroundings::new();
    let line = ["stack", "a b"];
    assert!(!surroundings.run(&line).fails(2).stderr.contains('\x1b'));
    let never = surroundings.run(&["stack", "a b", "--color", "never"]).stderr;
    let always = surroundings.run(&["stack", "a b", "--color", "always"]).stderr;
    assert!(always.contains('\x1b') && !never.contains('\x1b'), "{always}{never}");
    let sequences = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    assert_eq!(sequences.replace_all(&always, ""), never);
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_colours_unless_the_user_wants_none() {
    use crate::terminal::Terminal;
    let said = |surroundings: &Surroundings| Terminal::run(surroundings, &["stack", "a b"]).said_in_all();
    let colourful = said(&Surroundings::new());
    assert!(colourful.contains("\x1b["), "{colourful:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = said(&Surroundings::new().with(name, value));
        assert!(plain.contains("error[P0109]") && !plain.contains('\x1b'), "{name}: {plain:?}");
    }
}
