//! A debugger session, kept alive by its heartbeat.
//!
//! Tasks: one that sends a heartbeat three times a lease, and more often while debug files are looked for; it ends when the
//! session is dropped or its stream breaks.

use std::time::Duration;

use pepo_wire::{
    Code, Failure,
    agent::{
        ClientReady, CloseSession, Closed, Heartbeat, OpenSession, Opened, SessionEvent, SessionRequest,
        agent_client::AgentClient, session_event, session_request,
    },
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{SymbolPaths, agent::answer};

/// What a session says after it was opened.
pub type Event = session_event::Kind;

/// Requests under way to the agent before a sender has to wait.
const WINDOW: usize = 64;
/// Time between heartbeats while the agent waits for debug files.
const SEARCHING: Duration = Duration::from_secs(3);
/// How long a session may take to let go after it was asked to close.
const CLOSING: Duration = Duration::from_secs(20);

/// One debugger on one process. Dropping it lets the target go as well, but without waiting for it.
#[derive(Debug)]
pub struct Session {
    /// What the agent said when the debugger was in place.
    pub opened: Opened,
    sender: SessionSender,
    events: Streaming<SessionEvent>,
    _heart: Heart,
    closed: bool,
}

/// The sending half; can be cloned and used beside [`Session::next`].
#[derive(Clone, Debug)]
pub struct SessionSender {
    requests: mpsc::Sender<SessionRequest>,
}

impl SessionSender {
    /// Sends one DAP message without its header.
    ///
    /// # Errors
    /// [`Code::StreamBroken`].
    pub async fn send_dap(&self, message: Vec<u8>) -> Result<(), Failure> {
        self.send(session_request::Kind::Dap(message)).await
    }

    /// Says that calls may come: what they are to meet is set. Only where the session was opened with `says_ready`.
    ///
    /// # Errors
    /// [`Code::StreamBroken`].
    pub async fn ready(&self) -> Result<(), Failure> {
        self.send(session_request::Kind::Ready(ClientReady {})).await
    }

    /// Asks the agent to detach; [`Event::Closed`] follows.
    ///
    /// # Errors
    /// [`Code::StreamBroken`].
    pub async fn close(&self) -> Result<(), Failure> {
        self.send(session_request::Kind::Close(CloseSession {})).await
    }

    pub(crate) async fn send(&self, kind: session_request::Kind) -> Result<(), Failure> {
        let broken = |_| Failure::new(Code::StreamBroken, "the session's stream to the agent is closed");
        self.requests.send(SessionRequest { kind: Some(kind) }).await.map_err(broken)
    }
}

impl Session {
    pub(crate) async fn open(
        mut service: AgentClient<Channel>,
        open: OpenSession,
        symbols: Option<SymbolPaths>,
    ) -> Result<Session, Failure> {
        let (requests, outgoing) = mpsc::channel(WINDOW);
        let sender = SessionSender { requests };
        sender.send(session_request::Kind::Open(open)).await?;
        let mut events = answer(service.session(ReceiverStream::new(outgoing)).await)?;
        let opened = loop {
            match message(&mut events).await? {
                Some(Event::Opened(opened)) => break opened,
                Some(Event::Closed(Closed { failure: Some(failure), .. })) => return Err(failure),
                Some(Event::SymbolsWanted(wanted)) => {
                    let _heart = Heart::of(&sender, SEARCHING);
                    symbols.clone().unwrap_or_default().bring(wanted, &sender).await?;
                }
                other => {
                    let got = format!("{other:?}");
                    return Err(Failure::new(Code::StreamBroken, "the session was not opened").because(got));
                }
            }
        };
        let lease = Duration::from_secs(u64::from(opened.lease_seconds.max(1)));
        let heart = Heart::of(&sender, lease / 3);
        Ok(Session { opened, sender, events, _heart: heart, closed: false })
    }

    /// A sender to use beside [`Session::next`].
    #[must_use]
    pub fn sender(&self) -> SessionSender {
        self.sender.clone()
    }

    /// Sends one DAP message without its header.
    ///
    /// # Errors
    /// [`Code::StreamBroken`].
    pub async fn send_dap(&self, message: Vec<u8>) -> Result<(), Failure> {
        self.sender.send_dap(message).await
    }

    /// The next event; `None` after [`Event::Closed`].
    ///
    /// # Errors
    /// The agent's failure, or [`Code::StreamBroken`] when the stream ended before the session was closed.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        if self.closed {
            return Ok(None);
        }
        let event = message(&mut self.events).await?;
        match &event {
            Some(Event::Closed(_)) => self.closed = true,
            None => {
                return Err(Failure::new(Code::StreamBroken, "the agent ended the session without a word"));
            }
            Some(_) => {}
        }
        Ok(event)
    }

    /// Lets the target go and waits for the agent's last word. Events on the way are dropped.
    ///
    /// # Errors
    /// [`Code::StreamBroken`], or [`Code::TimedOut`] after twenty seconds.
    pub async fn close(mut self) -> Result<Closed, Failure> {
        self.sender.close().await?;
        let last = async {
            loop {
                match self.next().await? {
                    Some(Event::Closed(closed)) => return Ok(closed),
                    Some(_) => {}
                    None => return Err(Failure::new(Code::StreamBroken, "the session was closed before")),
                }
            }
        };
        let late = |_| Failure::new(Code::TimedOut, format!("the agent did not let go within {CLOSING:?}"));
        tokio::time::timeout(CLOSING, last).await.map_err(late)?
    }
}

async fn message(events: &mut Streaming<SessionEvent>) -> Result<Option<Event>, Failure> {
    loop {
        match events.message().await.map_err(|status| Failure::from_status(&status))? {
            None => return Ok(None),
            Some(SessionEvent { kind: Some(kind) }) => return Ok(Some(kind)),
            // An event from a newer agent.
            Some(SessionEvent { kind: None }) => {}
        }
    }
}

/// Says that this side lives, until it is dropped.
#[derive(Debug)]
struct Heart(JoinHandle<()>);

impl Heart {
    fn of(sender: &SessionSender, every: Duration) -> Heart {
        Heart(tokio::spawn(beat(sender.clone(), every)))
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn beat(sender: SessionSender, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if sender.send(session_request::Kind::Heartbeat(Heartbeat {})).await.is_err() {
            return;
        }
    }
}
