//! The engines' own commands, for verbs that start containers or ask what an image runs.

use std::process::{Command, Stdio};

use pepo_wire::{Code, Failure};
use serde_json::Value;

use crate::config::Context;

/// Those that are known, in the order in which they are tried.
pub(crate) const ALL: [&str; 2] = ["docker", "podman"];

/// Whether there is such a program in PATH.
pub(crate) fn is_installed(engine: &str, context: &Context) -> bool {
    let path = context.environment.path.as_deref().unwrap_or_default();
    std::env::split_paths(path).any(|folder| folder.join(engine).is_file())
}

/// What an image says of itself (`.Config` of its `inspect`), if the engine has it; else the engine's own words.
pub(crate) fn image(engine: &str, name: &str) -> Result<Result<Value, String>, Failure> {
    let line = ["image", "inspect", "--format", "{{json .Config}}", name];
    let told = command(engine).args(line).stdin(Stdio::null()).output();
    let told = told.map_err(|error| not_started(engine, &error))?;
    if !told.status.success() {
        return Ok(Err(String::from_utf8_lossy(&told.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&told.stdout).map(Ok).map_err(|error| {
        Failure::new(Code::EngineRefused, format!("`{engine} image inspect {name}` is not understood"))
            .because(error)
    })
}

/// An engine's command is in PATH and does not start.
pub(crate) fn not_started(engine: &str, error: &std::io::Error) -> Failure {
    Failure::new(Code::ToolMissing, format!("`{engine}` cannot be started")).because(error)
}

#[expect(clippy::disallowed_methods, reason = "the only place where engines' own commands are started")]
pub(crate) fn command(engine: &str) -> Command {
    Command::new(engine)
}
