//! `pepo shell`: a look around inside a container, also where the image has no shell.
//!
//! It takes the engine's own way in (`exec`), so that rights, filters and labels are those that the engine gives. An image without
//! a shell is entered with the entry's small tools: those it was started with, else in a container beside it, of the same image, in
//! the same PID and network namespaces, with the tools mounted; the target's own files are then its root.

use std::{
    io::IsTerminal as _,
    process::{Command, Stdio},
};

use clap::Args;
use pepo_platform::{Located, Need};
use pepo_wire::{
    Code, Failure,
    name::{Kind, TargetName},
};
use serde_json::Value;

use crate::{
    config::Context,
    reach,
    render::Outcome,
    verbs::{engines, entry},
};

const EXAMPLES: &str = "\
Examples:
  pepo shell docker/shop
  echo 'cat /etc/hosts' | pepo shell podman/shop";

/// Shells, the most comfortable first.
const SHELLS: [&str; 2] = ["bash", "sh"];
/// Where the entry is in a container that it started: by `pepo run` or COPY, and by `pepo inject`.
const ENTRIES: [&str; 2] = ["/pepo-entry", "/pepo/pepo-entry"];
/// Whose shell a container is.
const LABEL: &str = "dev.pepo.shell";
/// The target's root, from a container in its PID namespace.
const ROOT: &str = "/proc/1/root";

/// Arguments of `pepo shell`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Shell {
    /// The container, named as `pepo ps` prints it
    #[arg(value_name = "TARGET")]
    target: String,
}

/// Becomes the engine's command.
pub(crate) async fn run(arguments: &Shell, context: &Context) -> Outcome {
    let name: TargetName = arguments.target.parse()?;
    let platforms = reach::platforms(context, reach::on(context), Need::Look);
    let located = platforms.locate(&name).await?.located;
    let engine = engine(&located)?;
    engines::become_command(engine, way_in(engine, &located.container_id)?)
}

/// The command of the container's engine.
fn engine(located: &Located) -> Result<&'static str, Failure> {
    let name = &located.name;
    let failure = |why: &str| Failure::new(Code::NotReachable, format!("no shell in {name}")).because(why);
    match name.kind {
        Some(Kind::Docker) => Ok("docker"),
        Some(Kind::Podman) => Ok("podman"),
        Some(Kind::Cri) => Err(failure("a CRI runtime is entered by its own commands").try_command(
            "on its node",
            ["crictl", "exec", "-it", located.container_id.get(..13).unwrap_or(&located.container_id), "sh"],
        )),
        _ => Err(failure("it is no container of an engine that is known here")
            .try_command("list containers", ["pepo", "ps"])),
    }
}

/// The way in that this container has.
fn way_in(engine: &str, id: &str) -> Result<Command, Failure> {
    if let Some(shell) = SHELLS.into_iter().find(|shell| runs(engine, id, &[shell, "-c", "exit"])) {
        return Ok(exec(engine, id, &[shell]));
    }
    if let Some(tools) = ENTRIES.into_iter().find(|entry| runs(engine, id, &[entry, "--version"])) {
        return Ok(exec(engine, id, &[tools, "sh"]));
    }
    beside(engine, id)
}

/// Does the image have this, and may it be run?
fn runs(engine: &str, id: &str, line: &[&str]) -> bool {
    let mut command = engines::command(engine);
    let command = command.arg("exec").arg(id).args(line).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn exec(engine: &str, id: &str, line: &[&str]) -> Command {
    let mut command = engines::command(engine);
    command.arg("exec").args(interactive()).arg(id).args(line);
    command
}

/// Input always; a terminal if we have one.
fn interactive() -> impl Iterator<Item = &'static str> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    ["-i"].into_iter().chain(terminal.then_some("-t"))
}

/// A container beside the target, as its user, with its capabilities; gone with its shell.
fn beside(engine: &str, id: &str) -> Result<Command, Failure> {
    let own = engines::own_binary()?;
    let target = engines::container(engine, id)?;
    let text = |path: &str| target.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let list = |path: &str| {
        let items = target.pointer(path).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let tools = format!("/{}", entry::NAME);
    let mut command = engines::command(engine);
    command.args(["run", "--rm", "--read-only", "--pull=never"]).args(interactive());
    command.arg(format!("--label={LABEL}={id}"));
    for namespace in ["pid", "network"] {
        command.arg(format!("--{namespace}=container:{id}"));
    }
    command.arg(format!("--mount=type=bind,source={own},target={tools},readonly"));
    command.args(["--security-opt", "no-new-privileges", "--entrypoint", &tools]);
    command.args(list("/HostConfig/CapAdd").iter().map(|one| format!("--cap-add={one}")));
    command.args(list("/HostConfig/CapDrop").iter().map(|one| format!("--cap-drop={one}")));
    if !text("/Config/User").is_empty() {
        command.args(["--user", text("/Config/User")]);
    }
    command.args([text("/Image"), "sh", ROOT]);
    Ok(command)
}
