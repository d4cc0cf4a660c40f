//! The engines' own commands, for verbs that start containers or ask what an image runs.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use pepo_wire::{Code, Failure};
use serde_json::Value;

use crate::{config::Context, render::Outcome};

/// Those that are known, in the order in which they are tried.
pub(crate) const ALL: [&str; 2] = ["docker", "podman"];

/// Whether there is such a program in PATH.
pub(crate) fn is_installed(engine: &str, context: &Context) -> bool {
    let path = context.environment.path.as_deref().unwrap_or_default();
    std::env::split_paths(path).any(|folder| folder.join(engine).is_file())
}

/// What an image says of itself (`.Config` of its `inspect`), if the engine has it; else the engine's own words.
pub(crate) fn image(engine: &str, name: &str) -> Result<Result<Value, String>, Failure> {
    inspect(engine, &["image", "inspect", "--format", "{{json .Config}}", name])
}

/// What an engine says of a container.
pub(crate) fn container(engine: &str, id: &str) -> Result<Value, Failure> {
    // Without a format: with one, Docker gives the container and Podman a list.
    let told = inspect(engine, &["container", "inspect", id])?;
    told.map(|mut list| list.get_mut(0).map(Value::take).unwrap_or_default()).map_err(|why| {
        Failure::new(Code::EngineRefused, format!("{engine} tells nothing of {id}")).because(why)
    })
}

fn inspect(engine: &str, line: &[&str]) -> Result<Result<Value, String>, Failure> {
    let told = command(engine).args(line).stdin(Stdio::null()).output();
    let told = told.map_err(|error| not_started(engine, &error))?;
    if !told.status.success() {
        return Ok(Err(String::from_utf8_lossy(&told.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&told.stdout).map(Ok).map_err(|error| {
        Failure::new(Code::EngineRefused, format!("`{engine} {}` is not understood", line.join(" ")))
            .because(error)
    })
}

/// This binary, where it is: for mounting it into a container.
pub(crate) fn own_binary() -> Result<String, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Code::NotReachable, "this binary cannot be mounted into a container").because(why)
    };
    if cfg!(not(target_os = "linux")) {
        return Err(failed(&"it is not Linux's"));
    }
    let own = std::env::current_exe().map_err(|error| failed(&error))?;
    match own.to_str().filter(|path| !path.contains([',', '"']) && Path::new(path).is_file()) {
        Some(path) => Ok(path.to_owned()),
        None => Err(failed(&format!("its path is {}", own.display()))),
    }
}

/// An engine's command takes our place: terminal, signals and status are its own.
#[cfg(unix)]
pub(crate) fn become_command(engine: &str, mut command: Command) -> Outcome {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(not_started(engine, &error).into())
}

/// The same where no process takes another's place: it runs in the foreground, and we end as it does.
#[cfg(not(unix))]
#[expect(clippy::disallowed_methods, reason = "the command's status is ours, as if it had taken our place")]
pub(crate) fn become_command(engine: &str, mut command: Command) -> Outcome {
    let status = command.status().map_err(|error| not_started(engine, &error))?;
    std::process::exit(status.code().unwrap_or(1));
}

/// An engine's command is in PATH and does not start.
pub(crate) fn not_started(engine: &str, error: &std::io::Error) -> Failure {
    Failure::new(Code::ToolMissing, format!("`{engine}` cannot be started")).because(error)
}

#[expect(clippy::disallowed_methods, reason = "the only place where engines' own commands are started")]
pub(crate) fn command(engine: &str) -> Command {
    Command::new(engine)
}
