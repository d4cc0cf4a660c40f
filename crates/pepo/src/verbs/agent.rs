//! `pepo agent --stdio` (hidden): the agent on stdin and stdout. What a helper container runs beside its target.

#[cfg(target_os = "linux")]
use std::time::Duration;

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
    // In the target's PID namespace a process that loses its parent would become the target's child, for ever.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let io = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
    let mut config = context.local.agent_config()?;
    config.tools = config.tools.of_image();
    let served = pepo_agent::serve(io, config).await;
    collect().await;
    Ok(served?)
}

/// How long what debuggers started and left behind may take to end by itself.
#[cfg(target_os = "linux")]
const ENDING: Duration = Duration::from_secs(5);

/// Waits for the end of all children, also those that came by the death of their parents, and collects them.
#[cfg(target_os = "linux")]
async fn collect() {
    use rustix::process::{WaitOptions, wait};
    let end = tokio::time::Instant::now() + ENDING;
    // An error says that there are none.
    while let Ok(ended) = wait(WaitOptions::NOHANG) {
        if ended.is_none() {
            if tokio::time::Instant::now() >= end {
                tracing::error!("something that a debugger started does not end");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// An agent stands beside Linux processes alone.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn run(_arguments: &Agent, _context: &Context) -> Outcome {
    Err(crate::local::not_here().into())
}
