//! Programs of Node with known shares.

use crate::{
    compile,
    life::Life as _,
    programs::{command, tools},
    running::{Running, only_child, spawn_command},
};

/// `hot`, with options for Node; at work when this returns.
#[must_use]
pub fn hot_node(options: &[&str]) -> Running {
    let target = spawn_command(command("node").args(options).arg(program()));
    target.wait_started();
    target
}

/// The same as the first process of a PID namespace, in a network namespace of its own; and its number on this machine.
///
/// # Panics
/// Without the right to make namespaces.
#[must_use]
pub fn hot_node_isolated() -> (Running, u32) {
    let script = "ip link set lo up && exec node \"$0\"";
    let mut line = command("unshare");
    line.args(["--net", "--pid", "--fork", "--kill-child", "--", "sh", "-c", script]).arg(program());
    let outer = spawn_command(&mut line);
    outer.wait_started();
    let inner = only_child(outer.pid());
    (outer, inner)
}

/// `hot`, made small by esbuild, with its source map beside it, in a folder; at work when this returns.
///
/// # Panics
/// Without esbuild (`cargo xtask setup`).
#[must_use]
pub fn hot_node_minified(folder: &std::path::Path) -> Running {
    let script = folder.join("hot.min.js");
    let mut esbuild = command(tools().join("esbuild/bin/esbuild"));
    esbuild.args(["--minify", "--format=iife", "--sourcemap", "--log-level=error"]).arg(program());
    let made = esbuild.arg(format!("--outfile={}", script.display())).status().expect("esbuild starts");
    assert!(made.success(), "esbuild: {made}");
    let target = spawn_command(command("node").arg(script));
    target.wait_started();
    target
}

/// Its source.
#[must_use]
pub fn program() -> std::path::PathBuf {
    compile::workspace().join("fixtures/hot/hot.js")
}
