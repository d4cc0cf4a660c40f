//! `pepo node` (hidden): the agent of a node. It dials a server and nothing else; a break is waited out.

use std::path::PathBuf;

use clap::Args;

use crate::{config::Context, logging::LogFormat, render::Outcome};

/// Arguments of `pepo node`.
#[derive(Args, Debug)]
pub(crate) struct Node {
    /// The server, as `pepo serve` says it; PEPO_TOKEN holds the token by which the node joins, the first time
    #[arg(long, value_name = "URL")]
    server: String,
    /// Folder of the node's key and certificate; without it, ~/.local/state/pepo/node
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// The log: for people on stderr, with -v; or an object a line on stdout, and nothing else there
    #[arg(long, value_enum, default_value_t, value_name = "SHAPE")]
    pub(crate) log_format: LogFormat,
}

/// Serves until it is asked to end, then lets go of all.
#[cfg(target_os = "linux")]
pub(crate) async fn run(arguments: &Node, context: &Context) -> Outcome {
    use std::sync::Arc;

    use pepo_node::{Config, Event};
    use pepo_platform::{LocalAgent, Need, Options, ReachPolicy};

    use crate::{duration::spoken, reach, render::no_runtime, signals::Signals};

    let server = arguments.server.clone();
    let local: Arc<dyn LocalAgent> = context.local.clone();
    let mut platforms = Options::usual(Some(local));
    platforms.on = reach::on(context);
    platforms.cri_socket.clone_from(&context.global.cri_socket);
    // The node's own rights, or none: nothing is made for a stream.
    platforms.policy = ReachPolicy::InProcess;
    platforms.need = Need::Look;
    let config = Config {
        server: server.clone(),
        token: context.environment.token.clone(),
        state: arguments.state.clone().map_or_else(|| usual(context), Ok)?,
        agent: context.local.agent_config()?,
        platforms,
    };
    let printer = context.printer;
    let as_json = arguments.log_format == LogFormat::Json;
    let tell = move |event| match event {
        Event::Joined(name) if as_json => tracing::info!(%server, node = name, "joined"),
        Event::Away(failure, wait) if as_json => {
            tracing::warn!(%server, code = %failure.code(), %failure, wait_millis = wait.as_millis(), "the server is away");
        }
        Event::Joined(name) => printer.say(&format!("joined {server} as {name}")),
        Event::Away(failure, wait) => {
            printer.warn(&failure);
            printer.say(&format!("dialling {server} again in {}", spoken(wait)));
        }
    };
    let mut signals = Signals::listen().map_err(no_runtime)?;
    Ok(pepo_node::run(config, tell, async {
        signals.next().await;
    })
    .await?)
}

/// In the user's state folder.
#[cfg(target_os = "linux")]
fn usual(context: &Context) -> Result<PathBuf, pepo_wire::Failure> {
    context.environment.state_folder().map(|folder| folder.join("node")).ok_or_else(|| {
        pepo_wire::Failure::new(pepo_wire::Code::Usage, "there is no folder for the node's key")
            .because("neither XDG_STATE_HOME nor HOME is set")
            .try_command("name one", ["pepo", "node", "--state", "/var/lib/pepo/node"])
    })
}

/// Containers are Linux's.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn run(_arguments: &Node, _context: &Context) -> Outcome {
    Err(crate::local::not_here().into())
}
