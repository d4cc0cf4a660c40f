//! Core files: gdb opens them, and whoever dies meanwhile, the target lives.

use std::{
    fs::{self, File},
    io::Read as _,
    process::{Child, Stdio},
};

use pepo_testkit::{Life, Running, Variant, fixtures, spawn, spawn_command, wait};
use rustix::process::Signal;

use crate::{
    core_files::{self, ARGUMENTS, delve, made, one_core},
    session::LIMIT,
    support::{Run, Surroundings},
};

/// A program with 96 MiB that no compressor makes smaller, which says that it lives.
fn large() -> Running {
    let program = "import os, time\nfull = os.urandom(96 << 20)\nbeat = 0\nwhile True:\n beat += 1\n \
                   print(f'beat {beat} ticks={beat} answer=42', flush=True)\n time.sleep(0.05)";
    let running = spawn_command(pepo_testkit::command("python3").args(["-c", program]));
    running.wait_started();
    running
}

fn tracer(running: &Running) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn wait_until_held(running: &Running) {
    wait::until("the target is held", LIMIT, || match tracer(running) {
        0 => Err("nothing traces it"),
        _ => Ok(()),
    });
}

/// A command whose file is a pipe: it comes no further than what is read of it.
fn into_a_pipe(surroundings: &Surroundings, running: &Running, more: &[&str]) -> (Child, File) {
    let pipe = surroundings.path("pipe");
    let _ = fs::remove_file(&pipe);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let name = format!("pid/{}", running.pid());
    let line = ["core", &name, "-o", pipe.to_str().unwrap()];
    let mut command = surroundings.command(&[&line[..], more].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Waits until the command has opened it.
    (child, File::open(&pipe).unwrap())
}

fn to_its_end(child: Child, mut pipe: File) -> Run {
    let reading = std::thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
    let run = Run::to_end(child);
    reading.join().unwrap().unwrap();
    run
}

#[test]
fn gdb_shows_every_thread_and_a_variable_and_the_program_goes_on() {
    let surroundings = Surroundings::new();
    let running = spawn(&core_files::fixture(), &ARGUMENTS);
    one_core(&surroundings, &[&format!("pid/{}", running.pid())], &running);
    assert_eq!(tracer(&running), 0);
}

#[test]
fn delve_shows_the_goroutines_of_a_go_program_and_a_variable() {
    let surroundings = Surroundings::new();
    let fixture = fixtures::go(Variant::debug());
    let running = spawn(&fixture, &["1000", "worker"]);
    let (told, core) = made(&surroundings, &[&format!("pid/{}", running.pid())], &["-o", "a.core"]);
    assert!(told["threads"].as_u64() > Some(2), "{told}");
    let commands = ["goroutines -t", "threads", "print main.pause"];
    let shown = delve(&surroundings, &fixture.path, &core, &commands);
    for word in ["main.tickForEver", "main.beatForEver", "[sleep]", "Millisecond (1000000)"] {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
    let threads = shown.lines().filter(|line| line.trim_start_matches("* ").trim().starts_with("Thread "));
    assert_eq!(Some(threads.count() as u64), told["threads"].as_u64(), "{shown}");
    running.assert_goes_on();
}

#[test]
fn the_target_lives_wherever_the_reader_is_killed() {
    let (surroundings, running) = (Surroundings::new(), large());
    for mebibytes in 0..12 {
        let (mut child, mut pipe) = into_a_pipe(&surroundings, &running, &[]);
        let mut some = vec![0; mebibytes << 20];
        pipe.read_exact(&mut some).unwrap();
        wait_until_held(&running);
        child.kill().unwrap();
        child.wait().unwrap();
        running.assert_goes_on();
        assert_eq!(tracer(&running), 0);
    }
}

#[test]
fn a_way_home_that_hangs_holds_the_target_no_longer_than_its_budget() {
    let (surroundings, running) = (Surroundings::new(), large());
    let (child, pipe) = into_a_pipe(&surroundings, &running, &["--pause-budget", "300ms"]);
    wait_until_held(&running);
    running.assert_goes_on();
    let run = to_its_end(child, pipe);
    assert_eq!(run.status, Some(8), "{}", run.snapshot());
    assert!(run.stderr.contains("P0502") && run.stderr.contains("--no-stop"), "{}", run.stderr);
}

#[test]
fn one_that_ends_meanwhile_is_one_clear_error() {
    let (surroundings, running) = (Surroundings::new(), large());
    let (child, pipe) = into_a_pipe(&surroundings, &running, &[]);
    wait_until_held(&running);
    running.signal(Signal::KILL);
    let run = to_its_end(child, pipe);
    assert_eq!(run.status, Some(3), "{}", run.snapshot());
    assert!(run.stderr.contains("has ended"), "{}", run.stderr);
}

#[test]
fn interrupted_it_leaves_no_file() {
    let (surroundings, running) = (Surroundings::new(), large());
    let name = format!("pid/{}", running.pid());
    let folder = surroundings.path("out");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("a.core");
    let mut command = surroundings.command(&["core", &name, "-o", file.to_str().unwrap()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_held(&running);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let run = Run::to_end(child);
    assert_eq!(run.status, Some(8), "{}", run.snapshot());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    running.assert_goes_on();
}

#[test]
fn a_full_disk_and_a_missing_right_are_one_clear_error_each() {
    let running = spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let name = format!("pid/{}", running.pid());
    let full = Surroundings::new().run(&["core", &name, "-o", "/dev/full"]);
    assert_eq!(full.status, Some(4), "{}", full.snapshot());
    assert!(full.stderr.contains("/dev/full cannot be written"), "{}", full.stderr);
    let surroundings = Surroundings::new().of_nobody();
    let denied = surroundings.run(&["core", &name, "-o", "a.core"]);
    assert_eq!(denied.status, Some(4), "{}", denied.snapshot());
    assert!(!surroundings.path("a.core").exists());
    running.assert_goes_on();
}
