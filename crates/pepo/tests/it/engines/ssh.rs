//! An engine behind ssh, with a real sshd and the user's own `ssh`. It is on this very kernel, so its process ids would mean
//! something here, and must not be used all the same.

use std::{os::unix::process::CommandExt as _, process::Stdio, time::Duration};

use pepo_testkit::{
    Container, Engine, Image, Kind, Life as _, RunOptions, Sshd, Variant, clean::Snapshot, fixtures, wait,
};
use rustix::process::{Pid, Signal, kill_process_group};

use super::until_only;
use crate::{
    session::{LIMIT, changes_a_variable},
    support::{Run, Surroundings},
    terminal::Terminal,
};

/// The command with `DOCKER_HOST` behind the sshd.
fn behind(sshd: &Sshd, engine: &Engine) -> Surroundings {
    let path = std::env::var("PATH").unwrap_or_default();
    let surroundings = Surroundings::new().with("PATH", format!("{}:{path}", sshd.client().display()));
    let name = if engine.kind() == Kind::Docker { "DOCKER_HOST" } else { "CONTAINER_HOST" };
    surroundings.with(name, sshd.address(engine.socket()))
}

/// A container of Python's, whose debugger needs no tools where the engine is.
fn run(engine: &Engine, name: &str) -> Container {
    let options = RunOptions::named(&format!("ssh-{name}-{}", std::process::id())).args(&["1000"]);
    let container = engine.run(&Image::usual(&fixtures::python(Variant::debug())), &options);
    container.wait_started();
    container
}

fn everything(kind: Kind, prefix: &str) {
    let (engine, sshd) = (Engine::shared(kind), Sshd::start(&[]));
    let container = run(&engine, "all");
    let surroundings = behind(&sshd, &engine);
    let name = format!("{prefix}/{}", container.name());
    let before = Snapshot::take(container.pid()).and_containers_of(&engine);

    let listed = surroundings.run(&["ps", "--on", prefix, "--output", "json"]).ok().json();
    let row = listed["targets"].as_array().unwrap().iter().find(|one| one["target"] == *name);
    let row = row.unwrap_or_else(|| panic!("no {name} in {listed}\n{}", sshd.log()));
    assert_eq!(row["container_id"], container.id(), "{row}");
    // A bare name means this machine, and an engine behind ssh is not here.
    let bare = surroundings.run(&["stack", container.name()]).fails(3);
    assert!(bare.stderr.contains(&format!("elsewhere there is {name}")), "{}", bare.stderr);

    let stack = surroundings.run(&["-vv", "stack", &name]).ok();
    assert!(stack.stdout.contains("tid 1"), "{}", stack.snapshot());
    assert!(stack.stderr.contains("helper container pepo-helper-"), "{}", stack.stderr);
    before.assert_same();
    changes_a_variable(&surroundings, &[&name], &fixtures::python(Variant::debug()), &container, &before);
    wait::until("no ssh is left", LIMIT, || match sshd.connections() {
        0 => Ok(()),
        some => Err(format!("{some} connections\n{}", sshd.log())),
    });
}

#[test]
fn a_container_of_docker_is_listed_looked_at_and_debugged() {
    everything(Kind::Docker, "docker");
}

#[test]
fn a_container_of_podman_is_listed_looked_at_and_debugged() {
    everything(Kind::Podman, "podman");
}

/// A session in a terminal that stands at a breakpoint.
fn at_a_breakpoint(surroundings: &Surroundings, container: &Container) -> Terminal {
    let fixture = fixtures::python(Variant::debug());
    let mut terminal = Terminal::run(surroundings, &["attach", &format!("docker/{}", container.name())]);
    terminal.waits_for("(pepo)", 1);
    terminal.types(&format!("break {}:{}\r", fixture.source_name(), fixture.line("NEXT")));
    terminal.waits_for("(pepo)", 2);
    terminal.types("continue\r");
    terminal.waits_for("stopped", 1);
    container.assert_stands_still(Duration::from_millis(500));
    terminal
}

#[test]
fn ctrl_c_is_for_the_target_and_not_for_ssh() {
    let (engine, sshd) = (Engine::shared(Kind::Docker), Sshd::start(&[]));
    let container = run(&engine, "ctrl-c");
    let before = Snapshot::take(container.pid()).and_containers_of(&engine);
    let surroundings = behind(&sshd, &engine);
    let mut terminal = Terminal::run(&surroundings, &["attach", &format!("docker/{}", container.name())]);
    terminal.waits_for("(pepo)", 1);
    terminal.interrupts();
    terminal.waits_for("stopped", 1);
    terminal.types("bt\r");
    terminal.asks_again_after("main");
    terminal.types("\x04");
    assert_eq!(terminal.status(), Some(0), "{}", terminal.said());
    container.assert_goes_on();
    before.assert_same();
}

#[test]
fn a_cut_connection_leaves_a_target_that_goes_on_and_no_helper() {
    let (engine, sshd) = (Engine::shared(Kind::Docker), Sshd::start(&[]));
    let container = run(&engine, "cut");
    let before = Snapshot::take(container.pid()).and_containers_of(&engine);
    let mut terminal = at_a_breakpoint(&behind(&sshd, &engine), &container);
    sshd.cut();
    assert_eq!(terminal.status(), Some(5), "{}", terminal.said());
    terminal.waits_for("P0305", 1);
    container.assert_goes_on();
    before.assert_same();
}

#[test]
fn a_killed_command_leaves_a_target_that_goes_on_and_no_helper() {
    let (engine, sshd) = (Engine::shared(Kind::Docker), Sshd::start(&[]));
    let container = run(&engine, "killed");
    let before = Snapshot::take(container.pid()).and_containers_of(&engine);
    // The terminal kills its command when it is dropped.
    drop(at_a_breakpoint(&behind(&sshd, &engine), &container));
    container.assert_goes_on();
    before.assert_same();
}

#[test]
fn an_interrupt_at_whatever_moment_leaves_no_helper() {
    let (engine, sshd) = (Engine::shared(Kind::Docker), Sshd::start(&[]));
    let container = run(&engine, "interrupt");
    let surroundings = behind(&sshd, &engine);
    let name = format!("docker/{}", container.name());
    let before = engine.containers();
    for millis in [200, 500, 800, 1200] {
        let mut command = surroundings.command(&["stack", &name]);
        let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        // It may have ended by then.
        let _ = kill_process_group(Pid::from_child(&child), Signal::INT);
        child.wait().unwrap();
        until_only(&engine, &before);
    }
    container.assert_goes_on();
}

/// One clear error for what ssh has to say, and what to type to see it.
#[track_caller]
fn refused(sshd: &Sshd, run: Run, words: &str) {
    let run = run.fails(5);
    assert_eq!(run.stderr.matches("error[").count(), 1, "{}", run.stderr);
    assert!(run.stderr.starts_with("error[P0302]") && run.stderr.contains(words), "{}", run.stderr);
    let hint =
        format!("`ssh -l root -p {} 127.0.0.1 docker version` must work without a question", sshd.port());
    assert!(run.stderr.contains(&hint), "{}", run.stderr);
}

#[test]
fn what_ssh_has_against_it_is_told_and_nobody_is_asked() {
    let engine = Engine::shared(Kind::Docker);
    let ps = |sshd: &Sshd| behind(sshd, &engine).run(&["ps", "--on", "docker"]);
    let asks = |setting: &str| {
        let sshd = Sshd::start(&[]);
        sshd.prefer(setting);
        sshd
    };
    let stranger = asks("UserKnownHostsFile none");
    refused(&stranger, ps(&stranger), "Host key verification failed.");
    let nobody = asks("PubkeyAuthentication no");
    refused(&nobody, ps(&nobody), "Permission denied");
    let password = asks("PreferredAuthentications password");
    refused(&password, ps(&password), "Permission denied");
    let bare = Sshd::start(&["SetEnv PATH=/nowhere"]);
    refused(&bare, ps(&bare), "docker: not found");
    let sshd = Sshd::start(&[]);
    let address = sshd.address(std::path::Path::new("/nowhere.sock"));
    let no_engine = behind(&sshd, &engine).with("DOCKER_HOST", address).run(&["ps", "--on", "docker"]);
    refused(&sshd, no_engine, "connect: no such file or directory");
}
