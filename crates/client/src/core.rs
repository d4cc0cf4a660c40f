//! A core file as it comes, in pieces.

use pepo_wire::{
    Code, Failure,
    agent::{
        AcceptCore, CoreEvent, CorePlan, CoreRequest, StartCore, agent_client::AgentClient, core_event,
        core_request::Kind,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::agent::answer;

/// What comes after the plan.
pub type CoreSaid = core_event::Kind;

/// A core that is planned, or under way. Dropping it lets the target go.
#[derive(Debug)]
pub struct Core {
    /// How much it will be.
    pub plan: CorePlan,
    requests: mpsc::Sender<CoreRequest>,
    events: Streaming<CoreEvent>,
}

impl Core {
    pub(crate) async fn plan(mut service: AgentClient<Channel>, request: StartCore) -> Result<Core, Failure> {
        let (requests, outgoing) = mpsc::channel(2);
        // The channel is new and has room.
        let _ = requests.send(CoreRequest { kind: Some(Kind::Start(request)) }).await;
        let mut events = answer(service.core(ReceiverStream::new(outgoing)).await)?;
        match message(&mut events).await? {
            Some(CoreSaid::Plan(plan)) => Ok(Core { plan, requests, events }),
            other => Err(Failure::new(Code::StreamBroken, "the core did not begin as expected")
                .because(format!("{other:?}"))),
        }
    }

    /// Accepts the plan: now the target is stopped and read.
    pub fn accept(&self) {
        // There is room for it behind the start.
        let _ = self.requests.try_send(CoreRequest { kind: Some(Kind::Accept(AcceptCore {})) });
    }

    /// The next piece, or the end, which is said once.
    ///
    /// # Errors
    /// The agent's own failure, or [`Code::StreamBroken`]: what has come is no whole core.
    pub async fn next(&mut self) -> Result<CoreSaid, Failure> {
        message(&mut self.events)
            .await?
            .ok_or_else(|| Failure::new(Code::StreamBroken, "the core ended before its end was said"))
    }
}

async fn message(events: &mut Streaming<CoreEvent>) -> Result<Option<CoreSaid>, Failure> {
    let event = events.message().await.map_err(|status| Failure::from_status(&status))?;
    Ok(event.and_then(|event| event.kind))
}
