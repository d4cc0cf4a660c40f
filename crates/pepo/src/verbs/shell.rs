//! `pepo shell`: a look around inside a container, also where the image has no shell.
//!
//! It takes the engine's own way in (`exec`), so that rights, filters and labels are those that the engine gives. An image without
//! a shell is entered with the entry's small tools: those it was started with, else in a container beside it, of the same image, in
//! the same PID and network namespaces, with the tools mounted; the target's own files are then its root. Pods are [`pod`].

/// In a pod.
mod pod;

use std::{
    io::IsTerminal as _,
    process::{ExitStatus, Stdio},
};

use clap::Args;
use pepo_platform::{Located, Need, helper_labels, is_orphan};
use pepo_wire::{
    Code, Failure,
    name::{Kind, TargetName},
};
use serde_json::Value;

use crate::{
    arguments::{PodArgs, ProcessArgs, choose},
    config::Context,
    reach,
    render::{End, Outcome},
    signals::{Signal, Signals},
    verbs::{engines, entry},
};

const EXAMPLES: &str = "\
Examples:
  pepo shell docker/shop
  pepo shell pod/shop -n test -c app
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
    #[arg(value_name = "TARGET", required_unless_present = "labels")]
    target: Option<String>,
    /// In a pod.
    #[command(flatten)]
    pod: PodArgs,
}

/// Runs the engine's command in this terminal.
pub(crate) async fn run(arguments: &Shell, context: &Context) -> Outcome {
    let process = ProcessArgs { pod: arguments.pod.clone(), ..ProcessArgs::default() };
    let chosen = choose(arguments.target.as_deref(), &process)?;
    if let Some(server) = context.global.server() {
        return Err(Failure::new(Code::NotReachable, format!("no shell in {}", chosen.name))
            .because(format!("{server} carries looks and sessions, and no shell"))
            .hint("run it on the container's node, without `--on`")
            .into());
    }
    let found = reach::locate(context, &chosen, Need::Look).await?;
    if found.located.name.kind == Some(Kind::Pod) {
        return pod::run(context, &chosen, &found).await;
    }
    let located = found.located;
    let engine = engine(&located)?;
    let target = Target::new(engine, &located)?;
    let status = match target.way_in() {
        Some(line) => in_terminal(engine, &line).await?,
        None => Beside::new(&target)?.run().await?,
    };
    match status.code() {
        Some(0) => Ok(()),
        code => {
            target.still_runs()?;
            Err(End::Status(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
        }
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

/// The container that is looked into.
struct Target<'a> {
    engine: &'static str,
    name: &'a TargetName,
    id: &'a str,
    /// What the engine said of it when the look began.
    told: Value,
}

impl<'a> Target<'a> {
    fn new(engine: &'static str, located: &'a Located) -> Result<Target<'a>, Failure> {
        let id = located.container_id.as_str();
        Ok(Target { engine, name: &located.name, id, told: engines::container(engine, id)? })
    }

    /// The line of the engine's command by which this container is entered.
    fn way_in(&self) -> Option<Vec<String>> {
        if let Some(shell) = SHELLS.into_iter().find(|shell| self.runs(&[shell, "-c", "exit"])) {
            return Some(self.exec(&[shell]));
        }
        let tools = ENTRIES.into_iter().find(|entry| self.runs(&[entry, "--version"]))?;
        Some(self.exec(&[tools, "sh"]))
    }

    /// Does the image have this, and may it be run?
    fn runs(&self, line: &[&str]) -> bool {
        let mut command = engines::command(self.engine);
        let command = command.arg("exec").arg(self.id).args(line).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn exec(&self, line: &[&str]) -> Vec<String> {
        let mut words = vec!["exec".to_owned()];
        words.extend(interactive().map(str::to_owned));
        words.extend([self.id].iter().chain(line).map(|&word| word.to_owned()));
        words
    }

    /// A shell that is ended with its container has no word for it.
    ///
    /// # Errors
    /// [`Code::ProcessGone`] when the container has ended, or another one runs under its name, since the look began.
    fn still_runs(&self) -> Result<(), Failure> {
        let now = engines::container(self.engine, self.id).unwrap_or_default();
        if now["State"]["Running"] == true && now["State"]["StartedAt"] == self.told["State"]["StartedAt"] {
            return Ok(());
        }
        let what = format!("{} ended while it was looked into", self.name);
        let failure = Failure::new(Code::ProcessGone, what);
        let failure = match (&now["State"]["OOMKilled"], now["State"]["ExitCode"].as_i64()) {
            (Value::Bool(true), _) => failure.because("it ran out of its memory"),
            (_, Some(status)) if now["State"]["Running"] == false => {
                failure.because(format!("its status is {status}"))
            }
            (_, Some(_)) => failure.because("it was started anew"),
            _ => return Err(failure.because(format!("{} has no such container any more", self.engine))),
        };
        Err(failure.try_command("its last words", [self.engine, "logs", "--tail=20", self.id]))
    }
}

/// Runs a command of the engine until it ends. Between us and it stands the entry, which hands the terminal over, and ends the
/// command when we are killed.
async fn in_terminal(engine: &str, line: &[String]) -> Result<ExitStatus, Failure> {
    let not_started = |error| engines::not_started(engine, &error);
    let mut signals = Signals::listen().map_err(not_started)?;
    let mut command = if cfg!(target_os = "linux") {
        let own = std::env::current_exe().map_err(not_started)?;
        let mut command = engines::command(own);
        command.args(["entry", "-p", "SIGTERM", "--", engine]);
        command
    } else {
        engines::command(engine)
    };
    command.args(line);
    let mut child = tokio::process::Command::from(command).spawn().map_err(not_started)?;
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(not_started),
            signal = signals.next() => if signal == Signal::Terminate { terminate(&mut child) },
        }
    }
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
    fn new(target: &Target<'_>) -> Result<Beside, Failure> {
        let own = engines::own_binary()?;
        let (engine, id, told) = (target.engine, target.id, &target.told);
        let text = |path: &str| told.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let list = |path: &str| {
            let items = told.pointer(path).and_then(Value::as_array).into_iter().flatten();
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
    async fn run(self) -> Result<ExitStatus, Failure> {
        remove_orphans(self.engine)?;
        let status = in_terminal(self.engine, &self.line).await?;
        // What is gone already is told as no such container.
        let _ = engines::said(self.engine, &["rm", "-f", &self.name])?;
        Ok(status)
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
