//! `pepo dap`: the debug adapter protocol for an editor, on stdin and stdout or on a loopback address.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use clap::{Args, ValueEnum as _};
use pepo_dap::{
    AgentLink,
    server::{self, AttachArguments, GuardWish, OpenedTarget, Opener, Server},
};
use pepo_platform::Need;
use pepo_wire::{Code, Failure};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Chosen, On, ProcessArgs, choose},
    config::Context,
    reach,
    render::{Outcome, no_runtime},
    session::{self, OnOff, RemoteFiles, SessionArgs, Spoken},
    signals::Signals,
};

const EXAMPLES: &str = r#"Examples:
  pepo dap                           on stdin and stdout: editors start it so, nobody types it
  pepo dap --listen 127.0.0.1:0      a server; prints its address, and the token that other users need

An editor's configuration, in any of them: the program `pepo` with the argument `dap`, and
  {"request": "attach", "target": "docker/shop", "sourceMap": {"/app": "."}, "pauseBudget": "30s"}
For Neovim (nvim-dap):
  require('dap').adapters.pepo = { type = 'executable', command = 'pepo', args = { 'dap' } }
  require('dap').configurations.python = { { type = 'pepo', request = 'attach', name = 'shop',
    target = 'docker/shop', cwd = '${workspaceFolder}' } }
With a server instead: { type = 'server', host = '127.0.0.1', port = PORT }

What the attach request may say (docs/editors.md has each with its meaning, and Helix):
  target, targets, all, first, atOnce, on, process, pid, hostPid, debugger, sourceMap, cwd,
  symbols, stopOnEntry, pauseBudget, guard, raw, token"#;

/// Arguments of `pepo dap`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Dap {
    /// Listen here instead; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Serves one editor, or those that connect, until they go or a signal comes; then lets go of all targets.
pub(crate) async fn run(arguments: &Dap, context: &Context) -> Outcome {
    let mut signals = Signals::listen().map_err(no_runtime)?;
    let stop = CancellationToken::new();
    let opener = Arc::new(Way { context: context.clone() });
    let ended = async {
        match arguments.listen {
            None => {
                server::serve(tokio::io::stdin(), tokio::io::stdout(), opener, stop.clone()).await;
                Ok(())
            }
            Some(address) => listen(address, context, opener, stop.clone()).await,
        }
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            outcome = &mut ended => return outcome,
            // The server lets go of every target, then it ends by itself.
            _ = signals.next() => stop.cancel(),
        }
    }
}

async fn listen(
    address: SocketAddr,
    context: &Context,
    opener: Arc<Way>,
    stop: CancellationToken,
) -> Outcome {
    if !address.ip().is_loopback() {
        return Err(Failure::new(Code::Usage, format!("{address} can be reached from other machines"))
            .because("whoever reaches the server can run code in its targets")
            .try_command("listen on this machine alone", ["pepo", "dap", "--listen", "127.0.0.1:0"])
            .into());
    }
    let server = Server::bind(address).await?;
    if context.printer.json_wanted() {
        context
            .printer
            .json_line(&json!({ "address": server.address().to_string(), "token": server.token() }))?;
    } else {
        context.printer.data(&format!("listening on {}\ntoken {}", server.address(), server.token()))?;
    }
    server.run(opener, stop).await;
    Ok(())
}

/// The way from an editor's attach request to a session.
struct Way {
    context: Context,
}

#[async_trait]
impl Opener for Way {
    async fn open(&self, arguments: &AttachArguments) -> Result<OpenedTarget, Failure> {
        let chosen = chosen(arguments)?;
        let reached = reach::reach_to_stop(&self.context, &chosen, false, &["attach"]).await?;
        let session =
            session::open(&self.context, &reached, &session_arguments(arguments), Spoken::Configured).await?;
        let opened = session.opened.clone();
        Ok(OpenedTarget {
            opened,
            link: Box::new(AgentLink::new(session)),
            files: Some(RemoteFiles::of(&reached)),
        })
    }

    async fn all(&self, arguments: &AttachArguments) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for name in arguments.names() {
            let chosen = chosen(&arguments.for_target(&name))?;
            let found = reach::locate_all(&self.context, &chosen, Need::Debug).await?;
            names.extend(found.iter().map(|one| one.located.name.to_string()));
        }
        let mut known = std::collections::HashSet::new();
        names.retain(|name| known.insert(name.clone()));
        Ok(names)
    }
}

/// The target, as the command line would have it.
fn chosen(arguments: &AttachArguments) -> Result<Chosen, Failure> {
    let process = ProcessArgs {
        process: arguments.process.clone(),
        pid: arguments.pid,
        host_pid: arguments.host_pid,
        ..ProcessArgs::default()
    };
    let on = arguments.on.as_deref().map(|name| On::from_str(name, false)).transpose().map_err(|_| {
        Failure::new(
            Code::Usage,
            format!("`{}` is not a platform", arguments.on.as_deref().unwrap_or_default()),
        )
        .because("platforms are host, docker, podman, cri and kubernetes")
    })?;
    let chosen = choose(arguments.target.as_deref(), &process)?;
    Ok(Chosen { on: on.map(reach::kind), ..chosen })
}

/// The rest, as the command line would have it. Source maps are the server's own affair.
fn session_arguments(arguments: &AttachArguments) -> SessionArgs {
    SessionArgs {
        debugger: arguments.debugger.clone(),
        pause_budget: arguments.pause_budget.map(|budget| budget.0),
        guard: arguments.guard.map(|wish| match wish {
            GuardWish::On => OnOff::On,
            GuardWish::Off => OnOff::Off,
        }),
        raw: arguments.raw,
        symbols: arguments.symbols.iter().map(Into::into).collect(),
        stop_on_entry: arguments.stop_on_entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_argument_of_attach() {
        for field in server::FIELDS {
            let mut words = EXAMPLES.split(|letter: char| !letter.is_alphanumeric());
            assert!(words.any(|word| word == field.name), "{} is not in the help", field.name);
        }
    }

    #[test]
    fn an_editors_arguments_are_those_of_the_command_line() {
        let arguments = json!({
            "target": "docker/shop", "on": "podman", "process": "worker", "pauseBudget": "10s", "guard": "off",
            "symbols": ["/debug"], "stopOnEntry": true,
        });
        let arguments = AttachArguments::parse(&arguments).unwrap();
        let chosen = chosen(&arguments).unwrap();
        assert_eq!(
            (chosen.name.to_string().as_str(), chosen.process.as_deref()),
            ("docker/shop", Some("worker"))
        );
        assert_eq!(chosen.on, Some(pepo_wire::name::Kind::Podman));
        let session = session_arguments(&arguments);
        assert_eq!(session.pause_budget, Some(std::time::Duration::from_secs(10)));
        assert_eq!(
            (session.guard, session.stop_on_entry, session.symbols.len()),
            (Some(OnOff::Off), true, 1)
        );
        let elsewhere =
            AttachArguments { on: Some("moon".into()), target: Some("x".into()), ..Default::default() };
        assert_eq!(super::chosen(&elsewhere).unwrap_err().code(), Code::Usage);
    }
}
