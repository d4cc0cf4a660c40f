//! Core files read back by debuggers that are not ours: the same body wherever the target is.

use std::path::{Path, PathBuf};

use pepo_testkit::{Fixture, Image, Life, Variant, clean::Snapshot, command, fixtures, tools};
use serde_json::Value;

use crate::support::Surroundings;

/// What the program of these tests is started with: it has three threads then, and this in a variable.
pub(crate) const ARGUMENTS: [&str; 2] = ["1000", "worker"];

/// The program whose cores are read, with its debug information.
pub(crate) fn fixture() -> Fixture {
    fixtures::c(Variant::debug())
}

/// An image without a shell, which starts the program so.
pub(crate) fn image() -> Image {
    let image = Image::of(&fixture()).named("pepo.test/core:1");
    let program = image.command_line()[0].clone();
    image.command(&[&program, ARGUMENTS[0], ARGUMENTS[1]])
}

/// A core of a target that is named by these words: gdb shows every thread and a variable, and the target goes on as it was.
#[track_caller]
pub(crate) fn one_core(surroundings: &Surroundings, target: &[&str], life: &impl Life) {
    life.wait_started();
    let before = Snapshot::take(life.pid());
    let (told, core) = made(surroundings, target, &["-o", "a.core.zst"]);
    assert_eq!(told["threads"], 3, "{told}");
    assert!(told["stood_still_micros"].as_u64() > Some(0), "{told}");
    let shown = gdb(&fixture().path, &core);
    for word in ["tick_for_ever", "beat_for_ever", "main (", "= 1000"] {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
    life.assert_goes_on();
    let (told, core) = made(surroundings, target, &["--no-stop", "-o", "b.core"]);
    assert_eq!((&told["stopped"], &told["stood_still_micros"]), (&false.into(), &0.into()), "{told}");
    let shown = gdb(&fixture().path, &core);
    assert!(shown.contains("= 1000"), "{shown}");
    life.assert_goes_on();
    before.assert_same();
}

/// What is told of a core, and where it is, opened if it was compressed.
#[track_caller]
pub(crate) fn made(surroundings: &Surroundings, target: &[&str], more: &[&str]) -> (Value, PathBuf) {
    let run = surroundings.run(&[&["core"], target, &["--output", "json"], more].concat()).ok();
    let told = run.json();
    let mut path = surroundings.path(told["file"].as_str().unwrap());
    if told["compressed"] == true {
        assert!(command("zstd").arg("-dq").arg(&path).status().unwrap().success());
        path.set_extension("");
    }
    (told, path)
}

/// What gdb shows: all threads, and a variable. No set of registers is a surprise to it.
#[track_caller]
pub(crate) fn gdb(program: &Path, core: &Path) -> String {
    let words =
        ["-batch", "-nx", "-ex", "set pagination off", "-ex", "thread apply all bt", "-ex", "print pause_us"];
    let output = command("gdb").args(words).args([program, core]).output().unwrap();
    let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!shown.contains("Unexpected size") && !shown.contains("Couldn't find"), "{shown}");
    shown
}

/// What delve shows after these commands.
pub(crate) fn delve(surroundings: &Surroundings, program: &Path, core: &Path, commands: &[&str]) -> String {
    let script = surroundings.path("commands");
    std::fs::write(&script, commands.join("\n") + "\nexit\n").unwrap();
    let mut delve = command(tools().join("delve/bin/dlv"));
    delve.arg("core").args([program, core]).arg("--allow-non-terminal-interactive=true").arg("--init");
    let output = delve.arg(script).stdin(std::process::Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
