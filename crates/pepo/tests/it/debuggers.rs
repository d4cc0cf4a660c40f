//! Sessions on processes of this machine, with real debuggers.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
};

use pepo_testkit::{Fixture, Life, Running, Variant, clean::Snapshot, fixtures, spawn, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    session::{self, LIMIT, changes_a_variable},
    support::Surroundings,
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
        changes_a_variable(&surroundings, &name, &fixture, &running, &before);
    }
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
    let bad = surroundings.run(&["attach", &name, "-ex", "frobnicate", "-ex", "bt"]).fails(2);
    assert_eq!(
        bad.stderr.matches("error[").count() + bad.stdout.matches("error[").count(),
        1,
        "{}",
        bad.snapshot()
    );
    assert!(bad.stdout.contains("the target stood still"), "{}", bad.snapshot());
    running.assert_goes_on();
}

/// A session held open by a command of its own, whose stdin stays open.
struct Held {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Held {
    /// Attaches and waits for the first stop.
    fn open(surroundings: &Surroundings, name: &str, fixture: &Fixture) -> Held {
        let mut command = surroundings.command(&["attach", name, "--output", "json"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut held = Held { child, said };
        held.waits_for("attached");
        held.types(&format!("break {}:{}\n", fixture.source_name(), fixture.line("BREAK")));
        held.types("continue\n");
        held.waits_for("stopped");
        held
    }

    fn types(&mut self, text: &str) {
        use std::io::Write as _;
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next saying of this kind.
    #[track_caller]
    fn waits_for(&mut self, kind: &str) -> Value {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if self.said.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                self.child.stderr.as_mut().unwrap().read_to_string(&mut errors).unwrap();
                panic!("no {kind} before the end, but:\n{all}{errors}");
            }
            all += &line;
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["kind"] == kind {
                return value;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn status(&mut self) -> Option<i32> {
        let ended = wait::try_until(LIMIT, || self.child.try_wait().unwrap().ok_or(()));
        ended.expect("the command ends").code()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn signals_and_a_closed_stdin_let_the_target_go() {
    let surroundings = Surroundings::new();
    for fixture in session::fixtures() {
        for way in [Some(Signal::TERM), Some(Signal::HUP), None] {
            let (running, name) = target(&fixture);
            let before = Snapshot::take(running.pid());
            let mut held = Held::open(&surroundings, &name, &fixture);
            match way {
                Some(signal) => held.signal(signal),
                None => drop(held.child.stdin.take()),
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

#[test]
fn two_clients_at_once_debug_two_targets() {
    let fixture = fixtures::go(Variant::debug());
    let surroundings = Surroundings::new();
    let ((first, first_name), (second, second_name)) = (target(&fixture), target(&fixture));
    let mut held = Held::open(&surroundings, &first_name, &fixture);
    let mut other = Held::open(&surroundings, &second_name, &fixture);
    let sessions = surroundings.run(&["sessions", "--output", "json"]).ok().json();
    let live: Vec<_> =
        sessions["sessions"].as_array().unwrap().iter().filter(|one| one["state"] == "live").collect();
    assert_eq!(live.len(), 2, "{sessions}");
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
        let mut held = Held::open(&surroundings, &name, &fixture);
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
fn a_person_at_a_terminal_pauses_completes_and_lets_go() {
    let fixture = fixtures::c(Variant::debug());
    let (running, name) = target(&fixture);
    let before = Snapshot::take(running.pid());
    let surroundings = Surroundings::new().with("TERM", "xterm");
    let mut terminal = Terminal::run(&surroundings, &["attach", &name]);
    terminal.waits_for("(pepo)", 1);
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
