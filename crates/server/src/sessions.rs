//! The debugger sessions of one stream, each written down as an attachment: what was wished, what the node's agent says of it, and how
//! it ended.
//!
//! Whether a debugger is attached is what the agent beside the target says, never what its client says. A client that announces its
//! session has an attachment from its first wish on; one that does not has it from the agent's first word on.

use std::{collections::HashMap, sync::Arc};

use pepo_wire::{
    Failure,
    agent::Closed,
    resource::{AttachmentSpec, AttachmentStatus, DebugAttachment, Reason, State, Time, Why},
    server::SessionReport,
};
use tokio::sync::watch;

use crate::{
    attachments::{Attachments, Ender, LEASE, new_name},
    relay::End,
};

/// The sessions of one stream. Dropped without [`Sessions::finish`], it writes down that its client is gone.
#[derive(Debug)]
pub(crate) struct Sessions {
    attachments: Arc<Attachments>,
    spec: AttachmentSpec,
    ender: Ender,
    /// Its attachment's name, until a session is open.
    announced: Option<String>,
    /// By the agent's ids: the attachments of those that are open.
    open: HashMap<String, String>,
    /// Who or what is ending the stream.
    end: Option<End>,
}

impl Sessions {
    pub(crate) fn new(attachments: &Arc<Attachments>, spec: AttachmentSpec) -> Sessions {
        let attachments = Arc::clone(attachments);
        Sessions {
            attachments,
            spec,
            ender: Arc::default(),
            announced: None,
            open: HashMap::new(),
            end: None,
        }
    }

    /// Writes down that a session is wished.
    ///
    /// # Errors
    /// Those of the store: what cannot be written down is not done.
    pub(crate) async fn announce(&mut self) -> Result<(), Failure> {
        let (who, container) = (&self.spec.who, &self.spec.container_id);
        if let Some(name) = self.attachments.claim(who, container, &self.ender).await? {
            self.announced = Some(name);
            return Ok(());
        }
        let why = self.by(who, Reason::Asked, "");
        let name = new_name()?;
        let wished = DebugAttachment::requested(&name, self.spec.clone(), why, Time::now(), LEASE);
        self.attachments.begin(wished, &self.ender).await?;
        self.announced = Some(name);
        Ok(())
    }

    /// The node was told, or has answered: the next state of what was announced.
    pub(crate) async fn announced(&self, state: State) -> Result<(), Failure> {
        let Some(name) = &self.announced else { return Ok(()) };
        let why = match state {
            State::Scheduled => self.by("server", Reason::NodeOrdered, ""),
            _ => self.by(&self.node(), Reason::AgentReady, ""),
        };
        self.attachments.advance(name, state, &why, |_| {}).await.map(drop)
    }

    /// There will be no stream.
    pub(crate) async fn refused(&mut self, failure: &Failure) {
        if let Some(name) = self.announced.take() {
            let why = self.by(&self.node(), Reason::NodeRefused, &failure.to_string());
            self.write(&name, State::Failed, &why, |_| {}).await;
        }
    }

    /// Comes to an end when somebody ends one of the attachments.
    pub(crate) fn deleted(&self) -> impl Future<Output = End> + 'static {
        let mut ender: watch::Receiver<Option<String>> = self.ender.subscribe();
        async move {
            let who = ender.wait_for(Option::is_some).await.ok().and_then(|who| who.clone());
            match who {
                Some(who) => End::Deleted(who),
                None => std::future::pending().await,
            }
        }
    }

    /// The stream is ending for this reason; the agent's last words follow.
    pub(crate) fn ends(&mut self, end: &End) {
        self.end = Some(end.clone());
    }

    /// What the node's agent says.
    pub(crate) async fn report(&mut self, report: SessionReport) {
        let SessionReport { session, debugger, closed, ready_follows, ready } = report;
        match closed {
            None if ready => self.ready(&session, Reason::DebuggerReady).await,
            None => {
                self.opened(session.clone(), &debugger).await;
                if !ready_follows {
                    self.ready(&session, Reason::ReadyUnknown).await;
                }
            }
            Some(closed) => self.closed(&session, &closed).await,
        }
    }

    /// The debugger is ready, as far as its agent can say.
    async fn ready(&self, session: &str, reason: Reason) {
        let Some(name) = self.open.get(session) else { return };
        if let Err(failure) = self.attachments.ready(name, reason).await {
            tracing::error!(%failure, "that a debugger is ready was not written down");
        }
    }

    async fn opened(&mut self, session: String, debugger: &str) {
        if !self.is_at_hand().await {
            return;
        }
        // Whenever this is given up, each name is in one place, and finish() finds it.
        let Some(name) = self.announced.take() else { return };
        self.open.insert(session, name.clone());
        let why = self.by(&self.node(), Reason::SessionOpened, "");
        let named = |status: &mut AttachmentStatus| status.debugger = Some(debugger.to_owned());
        self.write(&name, State::Attached, &why, named).await;
    }

    async fn closed(&mut self, session: &str, closed: &Closed) {
        if closed.reason == "client gone" && self.end.is_none() {
            // The agent sees its stream end, and not why. That is known in a moment, and what is open then is told by it.
            return;
        }
        let was_attached = self.open.contains_key(session);
        if !was_attached && !self.is_at_hand().await {
            return;
        }
        let Some(name) = self.open.get(session).or(self.announced.as_ref()).cloned() else { return };
        let (state, why) = self.judged(closed, was_attached);
        let still = Some(closed.stood_still_millis);
        self.write(&name, state, &why, |status| status.stood_still_millis = still).await;
        if self.open.remove(session).is_none() {
            self.announced = None;
        }
    }

    /// Is there an attachment that was announced? Else a new one is made, which is as far.
    async fn is_at_hand(&mut self) -> bool {
        if self.announced.is_none()
            && let Err(failure) = self.catch_up().await
        {
            tracing::error!(%failure, "a session was not written down");
        }
        self.announced.is_some()
    }

    async fn catch_up(&mut self) -> Result<(), Failure> {
        self.announce().await?;
        self.announced(State::Scheduled).await?;
        self.announced(State::Attaching).await
    }

    /// The stream is over: so are its sessions.
    pub(crate) async fn finish(mut self, end: &End, has_let_go: bool) {
        for name in std::mem::take(&mut self.open).into_values() {
            let (state, why) = self.by_end(end, true, has_let_go);
            self.write(&name, state, &why, |_| {}).await;
        }
        if let Some(name) = self.announced.take() {
            let (state, why) = self.by_end(end, false, has_let_go);
            self.write(&name, state, &why, |_| {}).await;
        }
    }

    /// The state that the agent's last word on a session means.
    fn judged(&self, closed: &Closed, was_attached: bool) -> (State, Why) {
        let message = closed.failure.as_ref().map(Failure::to_string).unwrap_or_default();
        let (state, reason) = match closed.reason.as_str() {
            "detached" => {
                return (State::Detached, self.by(&self.spec.who, Reason::ClientDetached, &message));
            }
            "released" => (State::Detached, Reason::Released),
            "target exited" => (State::Detached, Reason::TargetExited),
            "lease lost" => (State::Expired, Reason::LeaseLost),
            "failed" => (State::Failed, Reason::AttachFailed),
            "client gone" => {
                return self.by_end(self.end.as_ref().unwrap_or(&End::ClientEnded), was_attached, true);
            }
            _ => (State::Failed, Reason::DebuggerDied),
        };
        (state, self.by(&self.node(), reason, &message))
    }

    /// The state that the end of the stream means, for a session that the agent said nothing more of.
    fn by_end(&self, end: &End, was_attached: bool, has_let_go: bool) -> (State, Why) {
        let who = &self.spec.who;
        let (state, who, reason) = match end {
            End::Deleted(who) => (State::Detached, who.as_str(), Reason::Deleted),
            End::ClientEnded if was_attached => (State::Detached, who.as_str(), Reason::ClientDetached),
            End::ClientEnded => (State::Failed, who.as_str(), Reason::NeverAttached),
            End::ClientLost => (State::Failed, "server", Reason::ClientLost),
            End::NodeEnded | End::NodeLost => (State::Failed, "server", Reason::NodeLost),
            End::RightsTakenBack => (State::Failed, "server", Reason::RightsTakenBack),
            End::TimeOver => (State::Expired, "server", Reason::TimeOver),
            End::ServerEnds => (State::Failed, "server", Reason::ServerEnded),
        };
        // What never was attached can't be detached.
        let state = if state == State::Detached && !was_attached { State::Failed } else { state };
        let message = match has_let_go {
            true => end.to_string(),
            false => format!("{end}, and the node did not say that it let go"),
        };
        (state, self.by(who, reason, &message))
    }

    fn by(&self, who: &str, reason: Reason, message: &str) -> Why {
        Why { who: who.to_owned(), reason, message: message.to_owned() }
    }

    fn node(&self) -> String {
        format!("node {}", self.spec.node)
    }

    async fn write(
        &self,
        name: &str,
        state: State,
        why: &Why,
        more: impl FnMut(&mut AttachmentStatus) + Send,
    ) {
        if let Err(failure) = self.attachments.advance(name, state, why, more).await {
            tracing::error!(%failure, "what became of a session was not written down");
        }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if self.announced.is_none() && self.open.is_empty() {
            return;
        }
        // The call was given up before its stream was tied. Without a runtime the server ends, and its next start says so.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let left = Sessions {
            attachments: Arc::clone(&self.attachments),
            spec: std::mem::take(&mut self.spec),
            ender: Arc::clone(&self.ender),
            announced: self.announced.take(),
            open: std::mem::take(&mut self.open),
            end: None,
        };
        runtime.spawn(left.finish(&End::ClientLost, true));
    }
}
