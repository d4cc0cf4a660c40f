//! A debugger session as seen from the user's side: DAP messages and control both ways.
//!
//! Two carriers: the agent's session ([`AgentLink`]) and the bare stream of an adapter ([`StreamLink`], for controls that
//! run the same script without Pepo between).

use std::sync::Arc;

use async_trait::async_trait;
use pepo_client::{Event, Session, SessionSender};
use pepo_wire::{
    Code, Failure,
    agent::{BudgetSpent, Closed, PauseReport},
    dap::{FrameDecoder, encode_frame},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Mutex,
};

/// What comes out of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// One DAP message without its header.
    Dap(Vec<u8>),
    /// The target begins or ends to stand still, and each second between.
    Pause(PauseReport),
    /// The budget is spent: all breakpoints are cleared and the target runs.
    BudgetSpent(BudgetSpent),
    /// Words for the user.
    Notice(String),
    /// The last event.
    Closed(Closed),
}

/// A session. Dropping it ends it.
#[async_trait]
pub trait Link: Send {
    /// The way in; can be used beside [`Link::next`].
    fn outgoing(&self) -> Arc<dyn Outgoing>;

    /// The next event; `None` after [`LinkEvent::Closed`]. Loses nothing when dropped half-way.
    async fn next(&mut self) -> Option<LinkEvent>;
}

/// The way into a session.
#[async_trait]
pub trait Outgoing: Send + Sync {
    /// Sends one DAP message without its header.
    ///
    /// # Errors
    /// [`Code::StreamBroken`].
    async fn send(&self, message: Vec<u8>) -> Result<(), Failure>;

    /// Says that calls may come: what they are to meet is set. Means something where the session was opened so.
    ///
    /// # Errors
    /// [`Code::StreamBroken`].
    async fn ready(&self) -> Result<(), Failure>;

    /// Asks to let the target go; [`LinkEvent::Closed`] follows.
    ///
    /// # Errors
    /// [`Code::StreamBroken`].
    async fn close(&self) -> Result<(), Failure>;
}

/// A session of an agent's.
#[derive(Debug)]
pub struct AgentLink {
    session: Session,
    over: bool,
}

impl AgentLink {
    /// Takes over a session that was opened.
    #[must_use]
    pub fn new(session: Session) -> AgentLink {
        AgentLink { session, over: false }
    }
}

#[async_trait]
impl Link for AgentLink {
    fn outgoing(&self) -> Arc<dyn Outgoing> {
        Arc::new(self.session.sender())
    }

    async fn next(&mut self) -> Option<LinkEvent> {
        while !self.over {
            let event = match self.session.next().await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(failure) => {
                    self.over = true;
                    return Some(LinkEvent::Closed(failed(failure)));
                }
            };
            match event {
                // Words of the time before the session was open.
                Event::Opened(_) | Event::SymbolsWanted(_) => {}
                Event::Dap(bytes) => return Some(LinkEvent::Dap(bytes)),
                Event::Pause(report) => return Some(LinkEvent::Pause(report)),
                Event::BudgetSpent(spent) => return Some(LinkEvent::BudgetSpent(spent)),
                Event::Notice(notice) => return Some(LinkEvent::Notice(notice.text)),
                Event::Closed(closed) => {
                    self.over = true;
                    return Some(LinkEvent::Closed(closed));
                }
            }
        }
        None
    }
}

#[async_trait]
impl Outgoing for SessionSender {
    async fn send(&self, message: Vec<u8>) -> Result<(), Failure> {
        self.send_dap(message).await
    }

    async fn ready(&self) -> Result<(), Failure> {
        SessionSender::ready(self).await
    }

    async fn close(&self) -> Result<(), Failure> {
        SessionSender::close(self).await
    }
}

/// The last word about a session that broke.
fn failed(failure: Failure) -> Closed {
    Closed { reason: "failed".into(), failure: Some(failure), ..Closed::default() }
}

/// The bare stream of an adapter: DAP with headers.
pub struct StreamLink {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Arc<StreamWriter>,
    decoder: FrameDecoder,
    over: bool,
}

/// The writing half; `None` once it is closed.
struct StreamWriter(Mutex<Option<Box<dyn AsyncWrite + Send + Unpin>>>);

impl StreamLink {
    /// Speaks over two halves. Closing drops the writing half.
    #[must_use]
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> StreamLink {
        let writer = Arc::new(StreamWriter(Mutex::new(Some(Box::new(writer)))));
        StreamLink { reader: Box::new(reader), writer, decoder: FrameDecoder::default(), over: false }
    }

    /// Speaks over one stream.
    #[must_use]
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> StreamLink {
        let (reader, writer) = tokio::io::split(stream);
        StreamLink::new(reader, writer)
    }

    fn end(&mut self, closed: Closed) -> Option<LinkEvent> {
        self.over = true;
        Some(LinkEvent::Closed(closed))
    }
}

#[async_trait]
impl Link for StreamLink {
    fn outgoing(&self) -> Arc<dyn Outgoing> {
        self.writer.clone()
    }

    async fn next(&mut self) -> Option<LinkEvent> {
        let mut portion = [0; 8192];
        while !self.over {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Some(LinkEvent::Dap(frame)),
                Ok(None) => {}
                Err(error) => {
                    let failure = Failure::new(Code::ToolConfused, "the adapter's stream is not DAP")
                        .because_of(&error);
                    return self.end(failed(failure));
                }
            }
            match self.reader.read(&mut portion).await {
                Ok(0) | Err(_) => return self.end(Closed { reason: "detached".into(), ..Closed::default() }),
                Ok(count) => self.decoder.feed(&portion[..count]),
            }
        }
        None
    }
}

#[async_trait]
impl Outgoing for StreamWriter {
    async fn send(&self, message: Vec<u8>) -> Result<(), Failure> {
        let broken = || Failure::new(Code::StreamBroken, "the adapter's stream is closed");
        let mut writer = self.0.lock().await;
        let writer = writer.as_mut().ok_or_else(broken)?;
        let write = async {
            writer.write_all(&encode_frame(&message)).await?;
            writer.flush().await
        };
        write.await.map_err(|error| broken().because_of(&error))
    }

    /// A bare adapter has nobody who holds calls.
    async fn ready(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Failure> {
        if let Some(mut writer) = self.0.lock().await.take() {
            // A stream that is broken already is closed all the same.
            let _ = writer.shutdown().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_pass_a_bare_stream_both_ways_and_its_end_is_told() {
        let (here, there) = tokio::io::duplex(64);
        let (mut here, mut there) = (StreamLink::over(here), StreamLink::over(there));
        let long = vec![b'x'; 1000];
        let (sent, got) = tokio::join!(async { here.outgoing().send(long.clone()).await }, there.next());
        sent.unwrap();
        assert_eq!(got, Some(LinkEvent::Dap(long)));
        there.outgoing().close().await.unwrap();
        assert!(matches!(here.next().await, Some(LinkEvent::Closed(_))));
        assert_eq!(here.next().await, None);
    }

    #[tokio::test]
    async fn a_stream_that_is_not_dap_fails_with_its_reason() {
        let (mut raw, there) = tokio::io::duplex(64);
        raw.write_all(b"Content-Length: -5\r\n\r\n").await.unwrap();
        let mut link = StreamLink::over(there);
        let Some(LinkEvent::Closed(closed)) = link.next().await else { panic!("not closed") };
        assert_eq!(closed.failure.unwrap().code(), Code::ToolConfused);
    }
}
