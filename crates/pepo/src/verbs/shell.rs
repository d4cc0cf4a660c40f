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
use pepo_platform::{Located, Need, helper_labels, is_orphan};
use pepo_wire::{
    Code, Failure,
    name::{Kind, TargetName},
};
use serde_json::Value;

use crate::{
    config::Context,
    reach,
    render::{End, Outcome},
    signals::{Signal, Signals},
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
    match way_in(engine, &located.container_id) {
        Some(command) => engines::become_command(engine, command),
        None => Beside::new(engine, &located.container_id)?.run().await,
    }
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
fn way_in(engine: &str, id: &str) -> Option<Command> {
    if let Some(shell) = SHELLS.into_iter().find(|shell| runs(engine, id, &[shell, "-c", "exit"])) {
        return Some(exec(engine, id, &[shell]));
    }
    let tools = ENTRIES.into_iter().find(|entry| runs(engine, id, &[entry, "--version"]))?;
    Some(exec(engine, id, &[tools, "sh"]))
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
struct Beside {
    engine: &'static str,
    name: String,
    /// What is said to the engine's command.
    line: Vec<String>,
}

impl Beside {
    fn new(engine: &'static str, id: &str) -> Result<Beside, Failure> {
        let own = engines::own_binary()?;
        let target = engines::container(engine, id)?;
        let text = |path: &str| target.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let list = |path: &str| {
            let items = target.pointer(path).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let tools = format!("/{}", entry::NAME);
        let name = format!("pepo-shell-{}-{}", id.get(..12).unwrap_or(id), std::process::id());
        let mut line: Vec<String> = Vec::new();
        line.extend(["run", "--rm", "--read-only", "--pull=never", "--name", &name].map(str::to_owned));
        line.extend(interactive().map(str::to_owned));
        let labels = helper_labels(id);
        let labels = labels.iter().map(|(name, value)| (*name, value.as_str())).chain([(LABEL, id)]);
        line.extend(labels.map(|(name, value)| format!("--label={name}={value}")));
        line.extend(["pid", "network"].map(|namespace| format!("--{namespace}=container:{id}")));
        line.push(format!("--mount=type=bind,source={own},target={tools},readonly"));
        line.extend(["--security-opt", "no-new-privileges", "--entrypoint", &tools].map(str::to_owned));
        line.extend(list("/HostConfig/CapAdd").iter().map(|one| format!("--cap-add={one}")));
        line.extend(list("/HostConfig/CapDrop").iter().map(|one| format!("--cap-drop={one}")));
        if !text("/Config/User").is_empty() {
            line.extend(["--user".to_owned(), text("/Config/User").to_owned()]);
        }
        line.extend([text("/Image"), "sh", ROOT].map(str::to_owned));
        Ok(Beside { engine, name, line })
    }

    /// Runs it until its shell ends, and makes sure that it is gone: the engine's command removes it, unless it is interrupted before.
    ///
    /// Between us and that command stands the entry, which hands the terminal over, and ends the command when we are killed.
    async fn run(self) -> Outcome {
        remove_orphans(self.engine)?;
        let mut signals = Signals::listen().map_err(|error| engines::not_started(self.engine, &error))?;
        let own = engines::own_binary()?;
        let mut command = tokio::process::Command::from(engines::command(&own));
        command.args(["entry", "-p", "SIGTERM", "--", self.engine]).args(&self.line);
        let mut child = command.spawn().map_err(|error| engines::not_started(self.engine, &error))?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                signal = signals.next() => if signal == Signal::Terminate { terminate(&mut child) },
            }
        };
        let status = status.map_err(|error| engines::not_started(self.engine, &error))?;
        // What is gone already is told as no such container.
        let _ = engines::said(self.engine, &["rm", "-f", &self.name])?;
        match status.code() {
            Some(0) => Ok(()),
            code => Err(End::Status(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
        }
    }
}

/// Asks the engine's command to end.
#[cfg(unix)]
fn terminate(child: &mut tokio::process::Child) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Ends the engine's command.
#[cfg(not(unix))]
fn terminate(child: &mut tokio::process::Child) {
    let _ = child.start_kill();
}

/// Removes containers whose shell's command was killed.
fn remove_orphans(engine: &str) -> Result<(), Failure> {
    let filter = format!("label={LABEL}");
    let Ok(ids) = engines::said(engine, &["ps", "-aq", "--no-trunc", "--filter", &filter])? else {
        return Ok(());
    };
    for id in String::from_utf8_lossy(&ids).split_whitespace() {
        // One may go by itself meanwhile.
        let Ok(container) = engines::container(engine, id) else { continue };
        let labels = serde_json::from_value(container["Config"]["Labels"].clone()).unwrap_or_default();
        if is_orphan(&labels) {
            let _ = engines::said(engine, &["rm", "-f", id])?;
        }
    }
    Ok(())
}
