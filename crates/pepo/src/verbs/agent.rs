//! `pepo agent` (hidden): the agent beside a target. On stdin and stdout it is what a helper container runs; in a pod one waits as the
//! helper's main process, and each exec is a pipe to it.

/// Waiting, and joining what waits.
#[cfg(target_os = "linux")]
mod waiting;

#[cfg(target_os = "linux")]
use std::{
    io,
    pin::Pin,
    task::{Context as Task, Poll},
    time::Duration,
};

use clap::Args;
#[cfg(target_os = "linux")]
use tokio::io::{AsyncRead, ReadBuf, Stdin};

use crate::{config::Context, render::Outcome};

/// Arguments of `pepo agent`.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Agent {
    /// Serve one client on stdin and stdout
    #[arg(long)]
    stdio: bool,
    /// Serve whoever joins, and end when nobody has for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: Option<u64>,
    /// Carry bytes between stdin, stdout and the agent that waits here
    #[arg(long)]
    join: bool,
}

/// Serves until the stream ends or SIGTERM comes, then lets go of what its client held.
#[cfg(target_os = "linux")]
pub(crate) async fn run(arguments: &Agent, context: &Context) -> Outcome {
    let mut config = context.local.agent_config()?;
    if arguments.join {
        return waiting::join(&config.run_dir).await;
    }
    // In the target's PID namespace a process that loses its parent would become the target's child, for ever.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let served = match arguments.wait {
        Some(seconds) => {
            config.tools = config.tools.of_helper();
            waiting::serve(config, Duration::from_secs(seconds), terminated()?).await
        }
        None => {
            config.tools = config.tools.of_image();
            let input = Input { stdin: tokio::io::stdin(), end: Box::pin(terminated()?), ended: false };
            pepo_agent::serve(tokio::io::join(input, tokio::io::stdout()), config).await
        }
    };
    collect().await;
    Ok(served?)
}

/// Resolves when the process is asked to end.
#[cfg(target_os = "linux")]
fn terminated() -> Result<impl Future<Output = ()> + Send, pepo_wire::Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signal = signal(SignalKind::terminate()).map_err(crate::render::no_runtime)?;
    Ok(async move {
        signal.recv().await;
    })
}

/// Standard input, which also ends when the process is asked to.
#[cfg(target_os = "linux")]
struct Input<F> {
    stdin: Stdin,
    end: Pin<Box<F>>,
    ended: bool,
}

#[cfg(target_os = "linux")]
impl<F: Future<Output = ()>> AsyncRead for Input<F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ended = self.ended || self.end.as_mut().poll(task).is_ready();
        if self.ended { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stdin).poll_read(task, to) }
    }
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
