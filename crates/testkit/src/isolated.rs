//! Targets in namespaces of their own (pid, mount, network, IPC, UTS) with a root of their own, as a container
//! runtime makes them, but in milliseconds and without any engine.

use std::{
    env, fs,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    compile::{self, Recipe},
    fixtures::Fixture,
    image::Image,
    life::Life,
    programs::command,
    running::{Running, children},
    wait,
};

/// How a target is isolated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Isolation {
    /// User and group id; another than 0 has no capabilities.
    pub uid: u32,
    /// Nothing can be written below `/` (but in `/dev/shm`).
    pub read_only_root: bool,
}

/// Starts a fixture as process 1 of its own namespaces, in a root that holds the files of [`Image::of`] alone.
///
/// # Panics
/// If it cannot be started: this needs root.
pub fn spawn_isolated(fixture: &Fixture, arguments: &[&str], isolation: Isolation) -> Running {
    let image = Image::of(fixture);
    let root = tempfile::Builder::new().prefix("pepo-root-").tempdir().expect("a temporary folder");
    image.unpack(root.path()).unwrap_or_else(|error| panic!("{error:#}"));
    fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("own folder");
    let mode = if isolation.read_only_root { "ro" } else { "rw" };
    let mut command = command(support("isolate"));
    command.arg(root.path()).arg(isolation.uid.to_string()).arg(mode);
    command.args(image.command_line()).args(arguments);
    let running = start(&mut command, root);
    if fixture.program == "loop" {
        running.wait_started();
    }
    running
}

/// A helper program of this crate, compiled once.
pub(crate) fn support(name: &str) -> std::path::PathBuf {
    compiled(name, env::consts::ARCH, &[])
}

/// A program that only waits, static, for a machine as Rust calls it (`aarch64`): also for another than this.
///
/// # Panics
/// If it does not compile.
pub fn waiting_program(machine: &str) -> std::path::PathBuf {
    // Rust brings what links for machines that are not this one.
    compiled("pause", machine, &["-Clinker=rust-lld", "-Clink-self-contained=yes"])
}

fn compiled(name: &str, machine: &str, options: &[&str]) -> std::path::PathBuf {
    let source = compile::workspace().join(format!("crates/testkit/support/{name}.rs"));
    let words = ["rustc", "--edition=2024", "-Copt-level=1", "--crate-name", name, "-o", name];
    let mut step: Vec<String> = words.iter().chain(options).map(|word| (*word).to_owned()).collect();
    let target = format!("{machine}-unknown-linux-musl");
    step.extend(["--target".to_owned(), target, source.display().to_string()]);
    let recipe = Recipe { name: name.to_owned(), source, steps: vec![step] };
    compile::cached(&recipe).unwrap_or_else(|error| panic!("{error:#}")).join(name)
}

/// Starts the helper and finds its one child, the target.
fn start(command: &mut Command, root: TempDir) -> Running {
    let helper = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let helper_pid = helper.id();
    let mut running = Running::watch(helper);
    let target = wait::until("the isolated process", Duration::from_secs(10), || {
        children(helper_pid).first().copied().ok_or_else(|| running.output())
    });
    running.adopt(target, root);
    running
}
