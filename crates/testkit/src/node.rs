//! Programs of Node with known shares.

use std::path::Path;

use crate::{
    compile,
    life::Life as _,
    programs::{command, tools},
    running::{Running, only_child, spawn_command},
};

/// `hot`, with options for Node; at work when this returns. All inspectors open at the same port, so this and the others here have a
/// network of their own.
///
/// # Panics
/// Without the right to make namespaces.
#[must_use]
pub fn hot_node(options: &[&str]) -> Running {
    in_a_network(&[], options, &program(), &[])
}

/// The same in this machine's network.
#[must_use]
pub fn hot_node_here(options: &[&str]) -> Running {
    let target = spawn_command(command("node").args(options).arg(program()));
    target.wait_started();
    target
}

fn in_a_network(namespaces: &[&str], options: &[&str], script: &Path, arguments: &[&Path]) -> Running {
    let mut line = command("unshare");
    line.arg("--net").args(namespaces).args([
        "--",
        "sh",
        "-c",
        "ip link set lo up && exec node \"$@\"",
        "sh",
    ]);
    let target = spawn_command(line.args(options).arg(script).args(arguments));
    target.wait_started();
    target
}

/// A program with three workers: one at work in `crunch`, one that stands in `stand`, one that waits and has no name.
///
/// # Panics
/// As [`hot_node`].
#[must_use]
pub fn node_with_workers() -> Running {
    in_a_network(&[], &[], &program().with_file_name("workers.js"), &[])
}

/// A program whose main thread stands in a call of the system until somebody writes into `fifo` of the folder.
///
/// # Panics
/// As [`hot_node`].
#[must_use]
pub fn node_that_stands() -> (Running, tempfile::TempDir) {
    until_written(&[])
}

/// A program whose main thread waits for events, but of a process it started alone, until somebody writes into `fifo` of the folder:
/// it looks as if it would open an inspector at once, and opens one only then.
///
/// # Panics
/// As [`hot_node`].
#[must_use]
pub fn node_that_waits_for_a_child() -> (Running, tempfile::TempDir) {
    until_written(&[Path::new("child")])
}

fn until_written(how: &[&Path]) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    let made = command("mkfifo").arg(&fifo).status().expect("mkfifo starts");
    assert!(made.success(), "mkfifo: {made}");
    let script = program().with_file_name("stands.js");
    (in_a_network(&[], &[], &script, &[&[fifo.as_path()], how].concat()), folder)
}

/// `hot` as the first process of a PID namespace; and its number on this machine.
///
/// # Panics
/// As [`hot_node`].
#[must_use]
pub fn hot_node_isolated() -> (Running, u32) {
    let outer = in_a_network(&["--pid", "--fork", "--kill-child"], &[], &program(), &[]);
    let inner = only_child(outer.pid());
    (outer, inner)
}

/// `hot`, made small by esbuild, with its source map beside it, in a folder; at work when this returns.
///
/// # Panics
/// Without esbuild (`cargo xtask setup`); as [`hot_node`].
#[must_use]
pub fn hot_node_minified(folder: &Path) -> Running {
    let script = folder.join("hot.min.js");
    let mut esbuild = command(tools().join("esbuild/bin/esbuild"));
    esbuild.args(["--minify", "--format=iife", "--sourcemap", "--log-level=error"]).arg(program());
    let made = esbuild.arg(format!("--outfile={}", script.display())).status().expect("esbuild starts");
    assert!(made.success(), "esbuild: {made}");
    in_a_network(&[], &[], &script, &[])
}

/// Its source.
#[must_use]
pub fn program() -> std::path::PathBuf {
    compile::workspace().join("fixtures/hot/hot.js")
}
