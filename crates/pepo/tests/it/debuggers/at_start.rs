//! Programs that the word `wait` holds at their first instruction, and each debugger that takes them over there.

use std::{
    fs::File,
    process::{Child, Stdio},
};

use pepo_testkit::{Fixture, Life, wait};

use crate::{
    session::{self, LIMIT, language},
    support::{Run, Surroundings},
};

/// A fixture's program as the child of an entry that holds it.
struct AtStart {
    entry: Child,
    pid: u32,
    output: std::path::PathBuf,
}

impl AtStart {
    fn new(surroundings: &Surroundings, fixture: &Fixture, name: &str) -> AtStart {
        let output = surroundings.path(name);
        let to = File::create(&output).unwrap();
        let line = fixture.command();
        let line = line.iter().map(String::as_str).chain(["10"]);
        let words: Vec<&str> = ["entry", "-s", "--"].into_iter().chain(line).collect();
        let mut command = surroundings.command(&words);
        command.env("PEPO_DEBUG", "wait").stdin(Stdio::null()).stdout(to.try_clone().unwrap()).stderr(to);
        let entry = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", entry.id());
        let pid = wait::until("the program is held", LIMIT, || {
            let child = std::fs::read_to_string(&children).unwrap();
            let said = std::fs::read_to_string(&output).unwrap();
            let held = said.contains("is held at its first instruction");
            child.trim().parse().ok().filter(|_| held).ok_or(said)
        });
        AtStart { entry, pid, output }
    }
}

impl Life for AtStart {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for AtStart {
    fn drop(&mut self) {
        // The entry ends its program with itself.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.entry),
            rustix::process::Signal::TERM,
        );
        let _ = self.entry.wait();
    }
}

fn attach(surroundings: &Surroundings, target: &str, debugger: &str, script: &[&str]) -> Run {
    let script = script.iter().flat_map(|line| ["-ex", line]);
    let line: Vec<&str> = ["attach", target, "--debugger", debugger].into_iter().chain(script).collect();
    surroundings.run(&line).ok()
}

/// Each debugger, with the fixture that it takes.
fn debuggers() -> Vec<(&'static str, Fixture)> {
    let of =
        |wanted: &str| session::fixtures().into_iter().find(|fixture| language(fixture) == wanted).unwrap();
    vec![("gdb", of("native")), ("lldb", of("native")), ("delve", of("go")), ("python", of("python"))]
}

#[test]
fn a_breakpoint_is_there_before_the_first_line_runs() {
    let surroundings = Surroundings::new();
    for (debugger, fixture) in debuggers() {
        let target = AtStart::new(&surroundings, &fixture, &format!("{debugger}.out"));
        let place = format!("{}:{}", fixture.source_name(), fixture.line("BREAK"));
        let name = format!("pid/{}", target.pid);
        let checked = surroundings.run(&["check", &name, "--for", "attach"]).ok();
        assert!(checked.stdout.contains("it is held at its first instruction"), "{checked:?}");
        let breaks = format!("break {place}");
        let run = attach(&surroundings, &name, debugger, &[&breaks, "continue", "bt", "detach"]);
        assert!(run.stdout.contains("it was held at its start"), "{run:?}");
        let stopped = run.stdout.split("(pepo) continue").nth(1).unwrap();
        assert!(stopped.contains("stopped: breakpoint") && stopped.contains(&place), "{run:?}");
        target.assert_goes_on();
    }
}

#[test]
fn who_lets_a_held_program_go_lets_it_run() {
    let surroundings = Surroundings::new();
    for (debugger, fixture) in debuggers() {
        let target = AtStart::new(&surroundings, &fixture, &format!("{debugger}.out"));
        attach(&surroundings, &format!("pid/{}", target.pid), debugger, &["detach"]);
        target.assert_goes_on();
    }
}
