//! A stream that can be cut or frozen: what happens to a connection when a cable or a laptop's lid does.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What the pipe does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Runs,
    Frozen,
    Cut,
}

/// A pipe before an agent's stream.
pub struct Pipe {
    flow: Arc<watch::Sender<Flow>>,
    client: std::sync::Mutex<Option<DuplexStream>>,
}

impl Pipe {
    /// Carries bytes to and from `agent` until it is cut.
    #[must_use]
    pub fn new(agent: UnixStream) -> Pipe {
        let (client, inner) = tokio::io::duplex(64 << 10);
        let (flow, seen) = watch::channel(Flow::Runs);
        let (from_agent, to_agent) = agent.into_split();
        let (from_client, to_client) = tokio::io::split(inner);
        tokio::spawn(up(from_client, to_agent, seen.clone()));
        tokio::spawn(down(from_agent, to_client, seen));
        Pipe { flow: Arc::new(flow), client: std::sync::Mutex::new(Some(client)) }
    }

    /// The client's end; can be taken once.
    ///
    /// # Panics
    /// The second time.
    pub fn client_end(&self) -> DuplexStream {
        self.client.lock().expect("no panic holds it").take().expect("taken once")
    }

    /// Closes the stream in both directions.
    pub fn cut(&self) {
        self.flow.send_replace(Flow::Cut);
    }

    /// Carries nothing any more, and closes nothing.
    pub fn freeze(&self) {
        self.flow.send_replace(Flow::Frozen);
    }
}

async fn up(mut from: ReadHalf<DuplexStream>, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut bytes = vec![0; 16 << 10];
    while let Some(count) = portion(from.read(&mut bytes), &mut flow).await {
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn down(mut from: OwnedReadHalf, mut to: WriteHalf<DuplexStream>, mut flow: watch::Receiver<Flow>) {
    let mut bytes = vec![0; 16 << 10];
    while let Some(count) = portion(from.read(&mut bytes), &mut flow).await {
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// What was read, if bytes still flow; `None` at the end. A frozen pipe waits until it is cut or dropped.
async fn portion(
    read: impl Future<Output = std::io::Result<usize>>,
    flow: &mut watch::Receiver<Flow>,
) -> Option<usize> {
    let count = tokio::select! {
        read = read => read.ok().filter(|count| *count > 0)?,
        changed = flow.wait_for(|flow| *flow != Flow::Runs) => {
            if changed.is_ok_and(|flow| *flow == Flow::Cut) {
                return None;
            }
            0
        }
    };
    if count == 0 || *flow.borrow() == Flow::Frozen {
        // Dropping the pipe ends it as a cut does.
        let _ = flow.wait_for(|flow| *flow == Flow::Cut).await;
        return None;
    }
    Some(count)
}
