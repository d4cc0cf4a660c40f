//! The one agent of a pod's target: it waits as the helper's main process and serves whoever joins its socket. Its output is the
//! container's log, so it says nothing.
//!
//! Tasks: one for each client, which ends with its stream (also when its client's heartbeat is lost) after the agent has let go. The socket
//! is closed only then: so the end of an exec says that the target was let go.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use pepo_agent::AgentConfig;
use pepo_wire::{Code, Failure};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::collect;
use crate::render::Outcome;

/// Bytes under way between a socket and the service.
const DUPLEX: usize = 256 << 10;
/// So long a joiner waits for the agent, which may just be starting.
const STARTING: Duration = Duration::from_secs(10);

fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("agent.sock")
}

/// Serves until nobody has used it for `idle`, or SIGTERM comes.
pub(super) async fn serve(
    config: AgentConfig,
    idle: Duration,
    end: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let listener = listen(&config.run_dir)?;
    let mut clients = JoinSet::new();
    let mut deadline = Instant::now() + idle;
    tokio::pin!(end);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Some(stream) = accepted.ok().map(|(stream, _)| stream).filter(is_own) {
                    clients.spawn(client(stream, config.clone()));
                }
            }
            Some(ended) = clients.join_next() => {
                tracing::info!(?ended, "a client has gone");
                deadline = Instant::now() + idle;
                if clients.is_empty() {
                    collect().await;
                }
            }
            () = sleep_until(deadline), if clients.is_empty() => break,
            () = &mut end => break,
        }
    }
    // Those that are left lose their streams, and let go.
    clients.shutdown().await;
    let _ = std::fs::remove_file(socket(&config.run_dir));
    Ok(())
}

/// The socket, for this user alone.
fn listen(run_dir: &Path) -> Result<UnixListener, Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = socket(run_dir);
    let failed = |error: io::Error| {
        Failure::new(Code::FileDenied, format!("no socket can be made at {}", path.display())).because(error)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir).map_err(failed)?;
    UnixListener::bind(&path).map_err(failed)
}

/// In a pod others may share the network or see this file system; a joiner is of the agent's own user.
fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}

/// Serves one client; its stream is closed after all it held was let go.
async fn client(stream: UnixStream, config: AgentConfig) -> Result<(), Failure> {
    let (mut from_client, mut to_client) = stream.into_split();
    let (ours, theirs) = tokio::io::duplex(DUPLEX);
    let (mut from_agent, mut to_agent) = tokio::io::split(theirs);
    let inward = async {
        let copied = tokio::io::copy(&mut from_client, &mut to_agent).await;
        let _ = to_agent.shutdown().await;
        copied
    };
    let outward = tokio::io::copy(&mut from_agent, &mut to_client);
    let serving = pepo_agent::serve(ours, config);
    tokio::pin!(serving);
    // Copying ends with the service, not the other way round: a client that vanished is found out by its heartbeat.
    let copying = async { tokio::join!(inward, outward) };
    tokio::pin!(copying);
    tokio::select! {
        served = &mut serving => served,
        _ = &mut copying => serving.await,
    }
}

/// Carries bytes until the agent has let go.
pub(super) async fn join(run_dir: &Path) -> Outcome {
    let stream = connect(&socket(run_dir)).await?;
    let (mut from_agent, mut to_agent) = stream.into_split();
    let inward = tokio::spawn(async move {
        let _ = carry(tokio::io::stdin(), &mut to_agent).await;
        let _ = to_agent.shutdown().await;
    });
    let carried = carry(&mut from_agent, tokio::io::stdout()).await;
    inward.abort();
    carried.map_err(|error| Failure::new(Code::StreamBroken, "the client does not listen").because(error))?;
    Ok(())
}

/// Copies, and hands on at once what has come: standard output has a buffer of its own.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.flush().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

/// The agent may have been started a moment ago.
async fn connect(path: &Path) -> Result<UnixStream, Failure> {
    let end = Instant::now() + STARTING;
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= end => {
                return Err(Failure::new(
                    Code::AgentNotStarted,
                    format!("no agent waits at {}", path.display()),
                )
                .because(error));
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use pepo_debug::tools::Tools;

    use super::*;

    #[tokio::test]
    async fn an_agent_ends_when_nobody_has_used_it_for_a_while_and_not_while_somebody_does() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let config = AgentConfig::new(Tools::default(), run.clone(), "/proc/self/exe".into());
        let idle = Duration::from_millis(200);
        let mut serving = tokio::spawn(serve(config, idle, std::future::pending()));
        let mut client = connect(&socket(&run)).await.unwrap();
        let mut first = [0];
        client.read_exact(&mut first).await.unwrap();
        assert!(tokio::time::timeout(4 * idle, &mut serving).await.is_err(), "somebody is there");
        drop(client);
        tokio::time::timeout(Duration::from_secs(60), serving).await.unwrap().unwrap().unwrap();
        assert!(!socket(&run).exists());
    }
}
