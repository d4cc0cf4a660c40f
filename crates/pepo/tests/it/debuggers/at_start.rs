//! Programs that the word `wait` holds at their first instruction, and each debugger that takes them over there.

use std::{
    fs::{self, File},
    process::{Child, Stdio},
};

use pepo_testkit::{Fixture, Life, only_child, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    held::Held,
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
        let line = fixture.command();
        let line: Vec<&str> = line.iter().map(String::as_str).chain(["10"]).collect();
        AtStart::of(surroundings, &line, name)
    }

    fn of(surroundings: &Surroundings, line: &[&str], name: &str) -> AtStart {
        let output = surroundings.path(name);
        let to = File::create(&output).unwrap();
        let words = [&["entry", "-s", "--"], line].concat();
        let mut command = surroundings.command(&words);
        command.env("PEPO_DEBUG", "wait").stdin(Stdio::null()).stdout(to.try_clone().unwrap()).stderr(to);
        let entry = command.spawn().unwrap();
        wait::until("the program is held", LIMIT, || {
            let said = fs::read_to_string(&output).unwrap();
            if said.contains("is held at its first instruction") { Ok(()) } else { Err(said) }
        });
        let pid = only_child(entry.id());
        AtStart { entry, pid, output }
    }
}

impl Life for AtStart {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for AtStart {
    fn drop(&mut self) {
        // The entry ends its program with itself.
        let _ = kill_process(Pid::from_child(&self.entry), Signal::TERM);
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
        assert!(
            run.stdout.contains("it was held at its start, and goes on by `continue`; the pause budget"),
            "{run:?}"
        );
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

#[test]
fn what_no_debugger_could_be_put_on_is_still_held_and_said_to_be() {
    let surroundings = Surroundings::new();
    let (_, fixture) = debuggers().into_iter().find(|(debugger, _)| *debugger == "gdb").unwrap();
    let target = AtStart::new(&surroundings, &fixture, "refused.out");
    let name = format!("pid/{}", target.pid);
    let run = surroundings.run(&["attach", &name, "--debugger", "python", "-ex", "continue"]);
    assert!(run.status != Some(0) && run.stderr.contains(&format!("pepo release {name}")), "{run:?}");
    assert!(status_field(target.pid, "State").starts_with('T'), "{run:?}");
    surroundings.run(&["release", &name]).ok();
    target.assert_goes_on();
}

#[test]
fn a_debugger_that_died_is_told_with_how_its_target_is() {
    let surroundings = Surroundings::new();
    for (debugger, fixture) in outside() {
        let target = AtStart::new(&surroundings, &fixture, &format!("{debugger}.out"));
        let name = format!("pid/{}", target.pid);
        let mut session = Held::attach(&surroundings, &["attach", &name, "--debugger", debugger]);
        for adapter in adapters(session.pid()) {
            let _ = kill_process(Pid::from_raw(adapter.cast_signed()).unwrap(), Signal::KILL);
        }
        let closed = session.waits_for("closed");
        assert_eq!(closed["failure"]["code"], "P0403", "{closed}");
        assert!(closed["failure"]["hints"].to_string().contains("runs on now"), "{debugger}: {closed}");
        target.assert_goes_on();
    }
}

#[test]
fn an_interrupted_attach_tells_how_the_program_is() {
    let surroundings = Surroundings::new();
    for (debugger, fixture) in debuggers() {
        let target = AtStart::new(&surroundings, &fixture, &format!("{debugger}.out"));
        let name = format!("pid/{}", target.pid);
        let mut command = surroundings.command(&["attach", &name, "--debugger", debugger]);
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // The first moment at which it can be in the midst of attaching; when it is further, that must be told truly as well.
        wait::until("it has begun", LIMIT, || {
            let begun = fs::read_link(format!("/proc/{}/exe", child.id())).is_ok();
            let sessions =
                fs::read_dir(surroundings.path("pepo_run").join("sessions")).into_iter().flatten().count();
            if begun && sessions > 0 { Ok(()) } else { Err(sessions) }
        });
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert!(said.contains("error[P0005]"), "{debugger}: {said}");
        if said.contains("the target was let go") {
            target.assert_goes_on();
        } else {
            assert!(said.contains("no debugger was put in place"), "{debugger}: {said}");
            assert!(status_field(target.pid, "State").starts_with('T'), "{debugger}: {said}");
        }
        assert_eq!(status_field(target.pid, "TracerPid"), "0", "{debugger}: {said}");
    }
}

#[test]
fn of_a_runtime_with_a_debugger_of_its_own_the_port_is_told() {
    let surroundings = Surroundings::new();
    for (line, client, listens) in [
        (
            &["node", "-e", "0"][..],
            "node inspect 127.0.0.1:9229",
            "Debugger listening on ws://127.0.0.1:9229/",
        ),
        (
            &["java", "Missing"],
            "jdb -attach 127.0.0.1:5005",
            "Listening for transport dt_socket at address: 5005",
        ),
    ] {
        let target = AtStart::of(&surroundings, line, line[0]);
        let name = format!("pid/{}", target.pid);
        let run = surroundings.run(&["attach", &name]);
        assert_eq!(run.status, Some(6), "{run:?}");
        let release = format!("pepo release {name}");
        assert!([client, &release].iter().all(|words| run.stderr.contains(words)), "{run:?}");
        surroundings.run(&["release", &name]).ok();
        wait::until(&format!("{} waits at its port", line[0]), LIMIT, || match target.output() {
            said if said.contains(listens) => Ok(()),
            said => Err(said),
        });
    }
}

/// Debuggers that are processes of their own.
fn outside() -> Vec<(&'static str, Fixture)> {
    debuggers().into_iter().filter(|(name, _)| *name != "python").collect()
}

fn status_field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// Processes below the command but for its guard and the stub, through which the guard lets go.
fn adapters(command: u32) -> Vec<u32> {
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let spared = |pid: &u32| ["pepo", "lldb-server", "gdbserver"].contains(&name(pid).trim());
    descendants(command).into_iter().filter(|pid| !spared(pid)).collect()
}

/// All processes below one.
fn descendants(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: String = lists.collect();
    let children = lists.split_whitespace().map(|child| child.parse().unwrap());
    children.flat_map(|child| descendants(child).into_iter().chain([child])).collect()
}

/// Whoever dies before the first `continue`: the program is left as it was held, or runs; nobody traces it, and it lives.
mod safety {
    use super::*;

    #[test]
    fn a_held_program_outlives_the_command() {
        outlives(&debuggers(), |session| vec![session]);
    }

    #[test]
    fn a_held_program_outlives_the_debugger() {
        outlives(&outside(), adapters);
    }

    #[test]
    fn a_held_program_outlives_both() {
        outlives(&outside(), |session| [adapters(session), vec![session]].concat());
    }

    fn outlives(debuggers: &[(&str, Fixture)], victims: impl Fn(u32) -> Vec<u32>) {
        let surroundings = Surroundings::new();
        for (debugger, fixture) in debuggers {
            let target = AtStart::new(&surroundings, fixture, &format!("{debugger}.out"));
            let name = format!("pid/{}", target.pid);
            let session = Held::attach(&surroundings, &["attach", &name, "--debugger", debugger]);
            let victims = victims(session.pid());
            assert!(!victims.is_empty(), "{debugger}");
            for victim in victims {
                // One may have ended by the death of another.
                let _ = kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), Signal::KILL);
            }
            let of = |name| status_field(target.pid, name);
            wait::until(&format!("{debugger} is gone and the program goes on, or can"), LIMIT, || {
                if of("TracerPid") == "0" && of("State").starts_with('T') {
                    kill_process(Pid::from_raw(target.pid.cast_signed()).unwrap(), Signal::CONT).unwrap();
                }
                target.last_beat().map(drop).ok_or_else(|| format!("{} by {}", of("State"), of("TracerPid")))
            });
            target.assert_goes_on();
            assert_eq!(of("TracerPid"), "0", "{debugger}");
        }
    }
}
