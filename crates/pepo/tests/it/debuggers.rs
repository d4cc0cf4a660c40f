//! Sessions on processes of this machine, with real debuggers.

/// Programs that are held at their first instruction.
mod at_start;
/// Core files.
mod cores;
/// Several targets in one session.
mod groups;
/// A real editor, as the page tells to configure it.
mod helix;

use std::process::Stdio;

use pepo_testkit::{Fixture, Life, Running, Symbols, Variant, clean::Snapshot, fixtures, spawn, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    editor,
    held::Held,
    session::{self, LIMIT, changes_a_variable},
    support::{Run, Surroundings},
    terminal::Terminal,
};

fn target(fixture: &Fixture) -> (Running, String) {
    let running = spawn(fixture, &["1000"]);
    let name = format!("pid/{}", running.pid());
    (running, name)
}

#[test]
fn a_script_changes_a_variable_in_every_language() {
    let surroundings = Surroundings::new();
    for fixture in session::fixtures() {
        let (running, name) = target(&fixture);
        let before = Snapshot::take(running.pid());
        changes_a_variable(&surroundings, &[&name], &fixture, &running, &before);
    }
}

#[test]
fn an_editor_changes_a_variable_in_every_language() {
    let surroundings = Surroundings::new();
    for fixture in session::fixtures() {
        let (running, name) = target(&fixture);
        let before = Snapshot::take(running.pid());
        editor::changes_a_variable(&surroundings, json!({"target": name}), &fixture, &running, &before);
    }
}

#[test]
fn debug_files_of_the_user_serve_programs_without_any() {
    let surroundings = Surroundings::new();
    let split = Variant::debug().symbols(Symbols::Split);
    let (c, rust, go) = (fixtures::c(split), fixtures::rust(split), fixtures::go(split));
    let file = |fixture: &Fixture| fixture.debug_file.clone().unwrap();
    let folder = |fixture: &Fixture| file(fixture).parent().unwrap().to_owned();
    // Before it was stripped.
    let whole = fixtures::go(Variant::debug()).path;
    for (fixture, debugger, symbols) in
        [(&c, "lldb", file(&c)), (&c, "gdb", folder(&c)), (&go, "delve", folder(&go)), (&go, "delve", whole)]
    {
        let (running, name) = target(fixture);
        let before = Snapshot::take(running.pid());
        let symbols = symbols.to_str().unwrap();
        let line = [name.as_str(), "--debugger", debugger, "--symbols", symbols];
        changes_a_variable(&surroundings, &line, fixture, &running, &before);
    }
    // Rust's compiler has put the answer into the code.
    let (running, name) = target(&rust);
    let (symbols, place) = (folder(&rust), format!("break {}:{}", rust.source_name(), rust.line("BREAK")));
    let line = ["attach", &name, "--symbols", symbols.to_str().unwrap(), "-ex", &place, "-ex", "continue"];
    let run = surroundings.run(&[&line[..], &["-ex", "print counter", "-ex", "bt"]].concat()).ok();
    assert!(run.stdout.contains("counter = ") && run.stdout.contains("looper::main"), "{}", run.stdout);
    running.assert_goes_on();
}

#[test]
fn debug_files_of_another_program_are_told_apart() {
    let surroundings = Surroundings::new();
    let stripped = fixtures::c(Variant::debug().symbols(Symbols::Stripped));
    let (running, name) = target(&stripped);
    let other = fixtures::rust(Variant::debug().symbols(Symbols::Split)).debug_file.unwrap();
    let other = other.to_str().unwrap();
    let run = surroundings.run(&["attach", &name, "--symbols", other, "-ex", "bt"]).fails(6);
    assert!(
        run.stderr.starts_with("error[P0112]") && run.stderr.contains("has the build id"),
        "{}",
        run.stderr
    );
    let own = stripped.path.to_str().unwrap();
    let run = surroundings.run(&["attach", &name, "--symbols", own, "-ex", "bt"]).fails(6);
    assert!(run.stderr.contains("has no debug information either"), "{}", run.stderr);
    surroundings.run(&["attach", &name, "--symbols", "/no/such/folder", "-ex", "bt"]).fails(2);
    running.assert_goes_on();
}

#[test]
fn a_script_is_told_in_words_and_its_failure_once() {
    let fixture = fixtures::c(Variant::debug());
    let (running, name) = target(&fixture);
    let surroundings = Surroundings::new();
    let place = format!("break {}:{}", fixture.source_name(), fixture.line("BREAK"));
    let good = surroundings
        .run(&["attach", &name, "-ex", &place, "-ex", "continue", "-ex", "bt", "-ex", "detach"])
        .ok();
    assert!(good.stdout.starts_with("attached · "), "{}", good.stdout);
    assert!(good.stdout.contains("Ctrl-C pauses, `detach` lets go"), "{}", good.stdout);
    let last = good.stdout.lines().last().unwrap();
    assert!(last.contains("the target stood still") && last.contains("in all"), "{}", good.stdout);
    let unknown = surroundings.run(&["attach", &name, "-ex", "frobnicate", "-ex", "bt"]).fails(2);
    assert_eq!(told(&unknown), 1, "{}", unknown.snapshot());
    assert!(
        !unknown.stdout.contains("attached"),
        "a script with an unknown word attaches: {}",
        unknown.snapshot()
    );
    let fails = surroundings.run(&["attach", &name, "-ex", "print no_such_name", "-ex", "bt"]);
    assert_ne!(fails.status, Some(0), "{}", fails.snapshot());
    assert_eq!(told(&fails), 1, "{}", fails.snapshot());
    assert!(fails.stdout.contains("the target stood still"), "{}", fails.snapshot());
    running.assert_goes_on();
}

/// The child of `system` borrows the target's memory, and gdb ends each call by a fault.
#[test]
fn the_target_goes_on_after_a_call_that_runs_another_program() {
    let fixture = fixtures::c(Variant::debug());
    let place = format!("break {}:{}", fixture.source_name(), fixture.line("BREAK"));
    for debugger in ["lldb", "gdb"] {
        let (running, name) = target(&fixture);
        let before = Snapshot::take(running.pid());
        let surroundings = Surroundings::new();
        let script = [&place, "continue", "print (int)system(\"exit 3\")", "detach"];
        let mut line = vec!["attach", &name, "--debugger", debugger];
        script.iter().for_each(|word| line.extend(["-ex", word]));
        let run = surroundings.run(&line).ok();
        assert!(run.stdout.contains("= 768"), "{debugger}: {}", run.snapshot());
        assert!(!run.stdout.contains("left behind"), "{debugger}: {}", run.snapshot());
        running.assert_goes_on();
        before.assert_same();
    }
}

/// gdb leaves the thread in the call, which would return to where there is no code.
#[test]
fn the_target_goes_on_after_a_call_that_a_breakpoint_interrupts() {
    let fixture = fixtures::c(Variant::debug());
    let place = format!("break {}:{}", fixture.source_name(), fixture.line("BREAK"));
    let (running, name) = target(&fixture);
    let before = Snapshot::take(running.pid());
    let line =
        ["attach", &name, "--debugger", "gdb", "-ex", &place, "-ex", "continue", "-ex", "print tick(1)"];
    let run = Surroundings::new().run(&line);
    assert!(run.stderr.contains("stopped while in a function"), "{}", run.snapshot());
    assert!(!run.stdout.contains("left behind"), "{}", run.snapshot());
    running.assert_goes_on();
    before.assert_same();
}

/// How many errors a run has told.
fn told(run: &Run) -> usize {
    [&run.stderr, &run.stdout].iter().map(|stream| stream.matches("error[").count()).sum()
}

#[test]
fn signals_and_a_closed_stdin_let_the_target_go() {
    let surroundings = Surroundings::new();
    for fixture in session::fixtures() {
        for way in [Some(Signal::TERM), Some(Signal::HUP), None] {
            let (running, name) = target(&fixture);
            let before = Snapshot::take(running.pid());
            let mut held = Held::open(&surroundings, &["attach", &name], &fixture);
            match way {
                Some(signal) => held.signal(signal),
                None => held.hangs_up(),
            }
            let closed = held.waits_for("closed");
            assert_eq!(closed["left_behind"], serde_json::json!([]), "{closed}");
            assert_eq!(held.status(), Some(if way.is_some() { 8 } else { 0 }), "{way:?}");
            running.assert_goes_on();
            before.assert_same();
        }
    }
}

#[test]
fn a_reader_that_goes_away_lets_the_target_go() {
    let fixture = fixtures::c(Variant::debug());
    let (running, name) = target(&fixture);
    let before = Snapshot::take(running.pid());
    let surroundings = Surroundings::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = surroundings.command(&["attach", &name]);
    let mut child = command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    drop((command, reader));
    let ended = wait::try_until(LIMIT, || child.try_wait().unwrap().ok_or(()));
    assert_eq!(ended.expect("it ends").code(), Some(0));
    running.assert_goes_on();
    before.assert_same();
}

/// Its note stays, and with it the place of its sockets: whoever comes next takes both away, and shows neither.
#[test]
fn the_session_of_a_killed_command_is_never_shown_and_removed_by_the_next() {
    let surroundings = Surroundings::new();
    let noted = || std::fs::read_dir(surroundings.path("pepo_run/sessions")).unwrap().count();
    for fixture in session::fixtures() {
        let (running, name) = target(&fixture);
        let before = Snapshot::take(running.pid());
        let mut held = Held::open(&surroundings, &["attach", &name], &fixture);
        held.signal(Signal::KILL);
        assert_eq!(held.status(), None);
        assert_eq!(noted(), 1, "what is to be removed is there");
        wait::until("nothing is left", LIMIT, || {
            let sessions = surroundings.run(&["sessions", "--output", "json"]).ok().json();
            let mut shown =
                sessions["sessions"].as_array().unwrap().iter().filter(|one| one["target"] == *name);
            // Its guard may not be done yet.
            assert!(shown.all(|one| one["state"] == "foreign"), "{sessions}");
            if noted() == 0 { Ok(()) } else { Err(sessions) }
        });
        running.assert_goes_on();
        before.assert_same();
    }
}

#[test]
fn two_clients_at_once_debug_two_targets() {
    let fixture = fixtures::go(Variant::debug());
    let surroundings = Surroundings::new();
    let ((first, first_name), (second, second_name)) = (target(&fixture), target(&fixture));
    let mut held = Held::open(&surroundings, &["attach", &first_name], &fixture);
    let mut other = Held::open(&surroundings, &["attach", &second_name], &fixture);
    let sessions = surroundings.run(&["sessions", "--output", "json"]).ok().json();
    for name in [&first_name, &second_name] {
        let is_it = |one: &&Value| one["state"] == "live" && one["target"] == **name;
        assert_eq!(sessions["sessions"].as_array().unwrap().iter().filter(is_it).count(), 1, "{sessions}");
    }
    for one in [&mut held, &mut other] {
        one.types("detach\n");
        one.waits_for("closed");
        assert_eq!(one.status(), Some(0));
    }
    first.assert_goes_on();
    second.assert_goes_on();
}

#[test]
fn release_from_another_process_lets_go_at_once() {
    let surroundings = Surroundings::new();
    for fixture in session::fixtures() {
        let (running, name) = target(&fixture);
        let before = Snapshot::take(running.pid());
        let mut held = Held::open(&surroundings, &["attach", &name], &fixture);
        let released = surroundings.run(&["release", &name, "--output", "json"]).ok().json();
        assert_eq!(released["released"].as_array().unwrap().len(), 1, "{released}");
        let closed = held.waits_for("closed");
        assert_eq!(closed["reason"], "released", "{closed}");
        running.assert_goes_on();
        before.assert_same();
        held.status();
    }
}

#[test]
fn who_cannot_see_the_sessions_of_others_is_told_so() {
    let fixture = session::fixtures().into_iter().find(|one| session::language(one) == "python").unwrap();
    let (running, name) = target(&fixture);
    let (root, nobody) = (Surroundings::new(), Surroundings::new().of_nobody());
    let mut held = Held::open(&root, &["attach", &name], &fixture);
    for asked in [name.as_str(), "--all"] {
        let run = nobody.run(&["release", asked]).fails(4);
        assert!(run.stderr.contains(&format!("sudo pepo release {asked}")), "{run:?}");
        assert!(!run.stderr.contains("nobody held it"), "{run:?}");
    }
    let checked = nobody.run(&["check", &name, "--for", "attach"]).fails(1);
    assert!(!checked.stdout.contains("no capability is needed"), "{checked:?}");
    held.types("detach\n");
    held.waits_for("closed");
    running.assert_goes_on();
    let run = root.run(&["attach", &name, "--process", "zzz", "-ex", "bt"]).fails(3);
    assert!(run.stderr.contains("leave `--process` and `--pid` out"), "{run:?}");
}

/// A program with a debugger at a terminal, whose prompt is there.
fn at_the_prompt() -> (Running, Snapshot, Surroundings, Terminal) {
    let (running, name) = target(&fixtures::c(Variant::debug()));
    let before = Snapshot::take(running.pid());
    let surroundings = Surroundings::new().with("TERM", "xterm");
    let terminal = Terminal::run(&surroundings, &["attach", &name]);
    terminal.waits_for("(pepo)", 1);
    (running, before, surroundings, terminal)
}

#[test]
fn a_person_at_a_terminal_pauses_completes_and_lets_go() {
    let (running, before, surroundings, mut terminal) = at_the_prompt();
    // The part that was typed is set off from what completion adds.
    terminal.types("thr\t");
    terminal.waits_for("eads", 1);
    terminal.types("\x03");
    terminal.waits_for("stopped", 1);
    terminal.types("bt\r");
    terminal.waits_for("main", 1);
    terminal.types("\x04");
    assert_eq!(terminal.status(), Some(0));
    terminal.waits_for("the target stood still", 1);
    running.assert_goes_on();
    before.assert_same();
    let history = std::fs::read_to_string(surroundings.path("xdg_state_home/pepo/history")).unwrap();
    assert!(history.contains("bt"), "{history:?}");
}

#[test]
fn the_end_of_input_lets_go_of_what_runs() {
    let (running, before, _surroundings, mut terminal) = at_the_prompt();
    terminal.types("continue\r");
    // A key that comes while the editor still has the terminal is its own, and no end of input.
    let ended = wait::try_until(LIMIT, || {
        terminal.types("\x04");
        terminal.has_ended().ok_or(())
    });
    assert_eq!(ended.unwrap_or_else(|()| panic!("it goes on: {}", terminal.said())), Some(0));
    terminal.waits_for("the target stood still", 1);
    running.assert_goes_on();
    before.assert_same();
}

/// One by one: `--all` reaches whatever is held on this machine.
mod safety {
    use super::*;

    #[test]
    fn release_all_lets_go_of_every_session_and_each_target_lives() {
        let surroundings = Surroundings::new();
        let mut sessions: Vec<_> = session::fixtures()
            .into_iter()
            .map(|fixture| {
                let (running, name) = target(&fixture);
                let before = Snapshot::take(running.pid());
                let held = Held::open(&surroundings, &["attach", &name], &fixture);
                (running, before, held, name)
            })
            .collect();
        // From surroundings of its own: whoever is called does not know where the others keep theirs.
        let released = Surroundings::new().run(&["release", "--all", "--output", "json"]).ok().json();
        let told = released["released"].as_array().unwrap();
        assert!(told.len() >= sessions.len(), "{released}");
        for (running, before, held, name) in &mut sessions {
            let closed = held.waits_for("closed");
            assert_eq!(closed["reason"], "released", "{name}: {closed}");
            held.status();
            running.assert_goes_on();
            before.assert_same();
        }
        let left = surroundings.run(&["sessions", "--output", "json"]).ok().json();
        assert_eq!(left["sessions"], serde_json::json!([]));
        let none = Surroundings::new().run(&["release", "--all"]).ok();
        assert!(none.stderr.contains("nothing is held"), "{none:?}");
    }
}
