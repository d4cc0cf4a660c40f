//! A look: samples as they come, until its time is over or it is stopped.

use pepo_wire::{
    Code, Failure,
    agent::{
        LookEvent, LookRequest, LookStarted, StartLook, StopLook, agent_client::AgentClient, look_event,
        look_request::Kind,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::agent::answer;

/// What a look says after it has begun.
pub type LookSaid = look_event::Kind;

/// A look that is under way. Dropping it ends it, without its last words.
#[derive(Debug)]
pub struct Look {
    /// What the agent said first.
    pub started: LookStarted,
    requests: mpsc::Sender<LookRequest>,
    events: Streaming<LookEvent>,
}

impl Look {
    pub(crate) async fn start(
        mut service: AgentClient<Channel>,
        request: StartLook,
    ) -> Result<Look, Failure> {
        let (requests, outgoing) = mpsc::channel(2);
        // The channel is new and has room.
        let _ = requests.send(LookRequest { kind: Some(Kind::Start(request)) }).await;
        let mut events = answer(service.look(ReceiverStream::new(outgoing)).await)?;
        match message(&mut events).await? {
            Some(LookSaid::Started(started)) => Ok(Look { started, requests, events }),
            other => Err(Failure::new(Code::StreamBroken, "the look did not begin as expected")
                .because(format!("{other:?}"))),
        }
    }

    /// The next batch, or the end, which is said once; nothing follows it.
    ///
    /// # Errors
    /// [`Code::StreamBroken`]; what has come so far is still good.
    pub async fn next(&mut self) -> Result<Option<LookSaid>, Failure> {
        message(&mut self.events).await
    }

    /// Asks for the end: what is under way and [`LookSaid::Ended`] still come.
    pub fn stop(&self) {
        // Full means that it was asked before.
        let _ = self.requests.try_send(LookRequest { kind: Some(Kind::Stop(StopLook {})) });
    }
}

async fn message(events: &mut Streaming<LookEvent>) -> Result<Option<LookSaid>, Failure> {
    let event = events.message().await.map_err(|status| Failure::from_status(&status))?;
    Ok(event.and_then(|event| event.kind))
}
