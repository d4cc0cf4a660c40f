//! Builds programs and tests for this machine's static target, and finds what was built.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths;
use crate::run::{Cmd, cmd, which};

/// One built test program.
pub(crate) struct Program {
    /// Package and target, for people.
    pub(crate) name: String,
    /// The executable.
    pub(crate) path: PathBuf,
    /// The package's folder, in which cargo would run it.
    pub(crate) folder: PathBuf,
}

/// `cargo VERB` for this machine's static target.
pub(crate) fn cargo(verb: &str) -> Cmd {
    cmd("cargo").arg(verb).env("CARGO_BUILD_TARGET", paths::triple()).dir(&paths::root())
}

/// A program as the tests need it: the toolkit known, `pepo` built, a Go compiler on PATH.
pub(crate) fn with_toolkit(command: Cmd) -> Cmd {
    let command = command
        .env("PEPO_TOOLS", paths::tools())
        .env("PEPO_BIN", built(Profile::Dev, "pepo"))
        .env("CARGO_BUILD_TARGET", paths::triple())
        .without_env("PEPO_RUN");
    match which("go") {
        Some(_) => command,
        None => command.env("PATH", path_with(paths::tools().join("go/bin"))),
    }
}

/// Builds all programs and all tests of the workspace, and gives the tests.
pub(crate) fn tests() -> Result<Vec<Program>> {
    cargo("build").args(["--workspace", "--bins"]).run()?;
    let command = cargo("test").args(["--workspace", "--lib", "--bins", "--tests", "--no-run"]);
    let mut child = command.arg("--message-format=json-render-diagnostics").piped()?;
    let out = child.stdout.take().context("cargo's output is piped")?;
    let mut found = Vec::new();
    for line in BufReader::new(out).lines() {
        let message: Value = serde_json::from_str(&line?).context("cargo prints JSON")?;
        found.extend(program(&message));
    }
    match child.wait()?.success() {
        true => Ok(found),
        false => bail!("the tests do not build"),
    }
}

/// The test program that one of cargo's messages tells of, if it does.
fn program(message: &Value) -> Option<Program> {
    // `--bins` also builds those whose manifest says that they have no tests.
    let is_test = message["profile"]["test"] == true && message["target"]["test"] == true;
    if message["reason"] != "compiler-artifact" || !is_test {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let folder = manifest.parent()?.to_owned();
    let package = folder.file_name()?.to_string_lossy().into_owned();
    let target = &message["target"];
    let name = format!("{package} {} {}", target["kind"][0].as_str()?, target["name"].as_str()?);
    Some(Program { name, path: message["executable"].as_str()?.into(), folder })
}

/// How a program is built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quickly.
    Dev,
    /// As it is shipped.
    Release,
}

/// Builds `pepo` and the program `name` of the trials, and runs that with `words`.
pub(crate) fn trial(name: &str, profile: Profile, words: Vec<String>) -> Result<()> {
    let packages = ["--package", "pepo", "--package", "pepo-trials", "--bin", "pepo", "--bin", name];
    let release = matches!(profile, Profile::Release).then_some("--release");
    cargo("build").args(packages).args(release).run()?;
    let program = with_toolkit(cmd(built(profile, name)).args(words)).dir(&paths::root()).quiet();
    program.env("PEPO_BIN", built(profile, "pepo")).env("PEPO_ENTRY_BIN", entry_path()).run()
}

/// Builds the program that starts and ends clusters, and runs it with `words`.
pub(crate) fn cluster(words: Vec<String>) -> Result<()> {
    cargo("build").args(["--quiet", "--package", "pepo-testkit", "--bin", "cluster"]).run()?;
    held_cluster(words).run()
}

/// The same program, built already.
pub(crate) fn held_cluster(words: Vec<String>) -> Cmd {
    with_toolkit(cmd(built(Profile::Dev, "cluster")).args(words)).quiet()
}

/// Packs static programs, each for another machine, as one image, with debuggers if they are wanted.
pub(crate) fn image(name: &str, out: &str, binaries: &[PathBuf], debuggers: bool) -> Result<()> {
    cargo("build").args(["--quiet", "--package", "pepo-testkit", "--bin", "image"]).run()?;
    let switch = debuggers.then_some("--debuggers");
    with_toolkit(cmd(built(Profile::Dev, "image")).args(switch).args([name, out]).args(binaries)).run()
}

/// Builds the start of containers as a program of its own, as it is shipped.
pub(crate) fn entry() -> Result<()> {
    cargo("build").args(["--profile", "entry", "--package", "pepo-entry"]).run()
}

fn entry_path() -> PathBuf {
    paths::target_dir().join(paths::triple()).join("entry/pepo-entry")
}

/// Where a program of ours is built.
fn built(profile: Profile, name: &str) -> PathBuf {
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    paths::target_dir().join(paths::triple()).join(folder).join(name)
}

fn path_with(folder: PathBuf) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_cargos_messages() {
        let test = serde_json::json!({"reason": "compiler-artifact", "manifest_path": "/w/crates/wire/Cargo.toml",
            "profile": {"test": true}, "target": {"kind": ["lib"], "name": "pepo_wire", "test": true},
            "executable": "/w/target/x/debug/deps/pepo_wire-1"});
        let found = program(&test).unwrap();
        assert_eq!(found.name, "wire lib pepo_wire");
        assert_eq!(found.folder, PathBuf::from("/w/crates/wire"));
        let mut without_tests = test;
        without_tests["target"]["test"] = false.into();
        assert!(program(&without_tests).is_none());
        let library = serde_json::json!({"reason": "compiler-artifact", "profile": {"test": false}});
        assert!(program(&library).is_none());
    }
}
