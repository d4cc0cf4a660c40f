//! The engines' own commands, for verbs that start containers or ask what an image runs.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

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
    inspect(engine, &["image", "inspect", "--format", "{{json .Config}}", name])
}

/// Whether the engine is there: one that is away tells of no image, but that is not what is wrong.
///
/// # Errors
/// [`Code::EngineUnreachable`].
#[cfg(target_os = "linux")]
pub(crate) fn answers(engine: &str) -> Result<(), Failure> {
    let Err(why) = said(engine, &["version"])? else { return Ok(()) };
    if why.contains("permission denied") {
        return Err(Failure::new(Code::SocketDenied, format!("{engine} may not be asked by this user"))
            .because(why)
            .hint("join the group that owns its socket (`sudo usermod -aG docker $USER`), or run as root"));
    }
    let other = if engine == "docker" { "podman" } else { "docker" };
    Err(Failure::new(Code::EngineUnreachable, format!("{engine} does not answer"))
        .because(why)
        .hint(format!("start it, or take another: --on {other}"))
        .try_command("look at this machine", ["pepo", "check"]))
}

/// Whether the engine's command knows the options of a line of `run`: it is asked for its help after them, so nothing is run.
///
/// # Errors
/// [`Code::Usage`] with its own words.
#[cfg(target_os = "linux")]
pub(crate) fn judge(engine: &str, line: &[String]) -> Result<(), Failure> {
    let asked: Vec<_> = ["run", "--help"].into_iter().chain(line.iter().map(String::as_str)).collect();
    said(engine, &asked)?.map(drop).map_err(|why| {
        let why = why.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        Failure::new(Code::Usage, format!("`{engine} run` does not take these options"))
            .because(why)
            .try_command("see them", [engine, "run", "--help"])
    })
}

/// What an engine says of a container.
pub(crate) fn container(engine: &str, id: &str) -> Result<Value, Failure> {
    // Without a format: with one, Docker gives the container and Podman a list.
    let told = inspect(engine, &["container", "inspect", id])?;
    told.map(|mut list| list.get_mut(0).map(Value::take).unwrap_or_default()).map_err(|why| {
        Failure::new(Code::EngineRefused, format!("{engine} tells nothing of {id}")).because(why)
    })
}

/// What it says; if it fails, why.
pub(crate) fn said(engine: &str, line: &[&str]) -> Result<Result<Vec<u8>, String>, Failure> {
    let told = command(engine).args(line).stdin(Stdio::null()).output();
    let told = told.map_err(|error| not_started(engine, &error))?;
    Ok(match told.status.success() {
        true => Ok(told.stdout),
        false => Err(String::from_utf8_lossy(&told.stderr).trim().to_owned()),
    })
}

fn inspect(engine: &str, line: &[&str]) -> Result<Result<Value, String>, Failure> {
    let told = match said(engine, line)? {
        Ok(told) => told,
        Err(why) => return Ok(Err(why)),
    };
    serde_json::from_slice(&told).map(Ok).map_err(|error| {
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
#[cfg(target_os = "linux")]
pub(crate) fn become_command(engine: &str, mut command: Command) -> crate::render::Outcome {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    Err(not_started(engine, &error).into())
}

/// An engine's command is in PATH and does not start.
pub(crate) fn not_started(engine: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Code::ToolMissing, format!("`{engine}` cannot be started")).because(error);
    match error.kind() == std::io::ErrorKind::NotFound {
        true => {
            failure.hint(format!("its command must be in PATH beside its socket: install {engine}'s client"))
        }
        false => failure,
    }
}

#[expect(clippy::disallowed_methods, reason = "the only place where engines' own commands are started")]
pub(crate) fn command(engine: impl AsRef<OsStr>) -> Command {
    Command::new(engine)
}
