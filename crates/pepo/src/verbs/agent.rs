//! `pepo agent --stdio` (hidden): the agent on stdin and stdout. What a helper container runs beside its target.

use clap::Args;

use crate::{config::Context, render::Outcome};

/// Arguments of `pepo agent`.
#[derive(Args, Debug)]
pub(crate) struct Agent {
    /// Serve one client on stdin and stdout
    #[arg(long, required = true)]
    stdio: bool,
}

/// Serves until the stream ends, then lets go of what its client held.
#[cfg(target_os = "linux")]
pub(crate) async fn run(_arguments: &Agent, context: &Context) -> Outcome {
    let io = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
    Ok(pepo_agent::serve(io, context.local.agent_config()?).await?)
}

/// An agent stands beside Linux processes alone.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn run(_arguments: &Agent, _context: &Context) -> Outcome {
    Err(crate::local::not_here().into())
}
