//! One adapter behind an editor: its session, its numbers, its paths, and what is known of its state.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use pepo_wire::{Failure, FailureExt as _, agent::Opened, dap::Message};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Shared, arguments::AttachArguments};
use crate::{
    console::Files,
    link::{Link, LinkEvent, Outgoing},
    session::{Debuggee, Happening, Quirks, json_object},
    source_map::SourceMap,
    views::{Capabilities, needed_for},
};

/// Messages under way to an adapter.
const WINDOW: usize = 256;
/// The most requests an adapter may owe an answer to.
const MAX_PENDING: usize = 4096;
/// How long an adapter may take to let go.
const LET_GO: Duration = Duration::from_secs(10);

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Pending {
    /// The editor, for this request of its own.
    Editor(Message),
    /// A request that went to several members.
    Fan(u64),
    /// This side, for its `attach`.
    Attach,
    /// Nobody.
    Own,
}

/// Breakpoints as they were sent last by one request.
#[derive(Debug, Clone)]
pub(crate) struct Armed {
    pub(crate) command: String,
    /// As the adapter was sent them.
    pub(crate) arguments: Value,
    /// The adapter's numbers for them.
    pub(crate) ids: Vec<i64>,
}

/// One adapter behind an editor.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) opened: Opened,
    pub(crate) capabilities: Capabilities,
    pub(crate) quirks: Quirks,
    pub(crate) map: SourceMap,
    pub(crate) files: Option<Arc<dyn Files>>,
    pub(crate) early: Vec<Happening>,
    pub(crate) pending: HashMap<i64, Pending>,
    pub(crate) armed: BTreeMap<String, Armed>,
    /// The budget was spent and the breakpoints are not set again yet.
    pub(crate) cleared: bool,
    pub(crate) initialized: bool,
    /// `attach` was answered.
    pub(crate) attached: bool,
    /// The thread of the stop that comes of attaching, until the target is sent on from there.
    pub(crate) attach_stop: Option<i64>,
    /// The thread that stopped, while it stands still.
    pub(crate) stopped: Option<i64>,
    /// Breakpoints it takes only while the target stands still: sent when it does.
    pub(crate) held: Vec<(String, Value, Pending)>,
    pub(crate) pause_told: u64,
    pub(crate) over: bool,
    /// Another one is kept: what this one still tells is of no use to the editor.
    pub(crate) leaving: bool,
    link: Option<Box<dyn Link>>,
    outgoing: Arc<dyn Outgoing>,
    to_adapter: Option<mpsc::Sender<Vec<u8>>>,
    seq: i64,
}

impl Member {
    /// Opens a session on the one target of `arguments`, up to the answer to `initialize`.
    pub(crate) async fn open(
        shared: &Shared,
        arguments: &AttachArguments,
        client: &Value,
    ) -> Result<Member, Failure> {
        let target = shared.opener.open(arguments).await?;
        let name = arguments.target.clone().unwrap_or_default();
        let mut debuggee = Debuggee::new(crate::paced::paced(target.link, &target.opened)).on(&name);
        if let Err(error) =
            debuggee.initialize(client, &json_object(&target.opened.initialize_arguments)).await
        {
            // The first reason is the one to tell.
            let _ = debuggee.detach().await;
            return Err(error.failure());
        }
        let (link, seq, early, capabilities) = debuggee.into_parts();
        let mut map = SourceMap::new(arguments.rules(), Some(&arguments.folder()));
        map.know(target.opened.sources.iter().map(String::as_str));
        Ok(Member {
            name,
            quirks: Quirks::of(&target.opened),
            opened: target.opened,
            capabilities,
            map,
            files: target.files,
            early,
            pending: HashMap::new(),
            armed: BTreeMap::new(),
            cleared: false,
            initialized: false,
            attached: false,
            attach_stop: None,
            stopped: None,
            held: Vec::new(),
            pause_told: 0,
            over: false,
            leaving: false,
            outgoing: link.outgoing(),
            link: Some(link),
            to_adapter: None,
            seq,
        })
    }

    /// Starts the two tasks that carry its messages; both end with the session, or when `stop` is cancelled.
    pub(crate) fn start(
        &mut self,
        index: usize,
        events: mpsc::Sender<(usize, LinkEvent)>,
        stop: CancellationToken,
    ) {
        if let Some(mut link) = self.link.take() {
            tokio::spawn(async move {
                loop {
                    let event = tokio::select! {
                        event = link.next() => event,
                        () = stop.cancelled() => return,
                    };
                    let Some(event) = event else { return };
                    if events.send((index, event)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let (to_adapter, mut waiting) = mpsc::channel::<Vec<u8>>(WINDOW);
        self.to_adapter = Some(to_adapter);
        let outgoing = self.outgoing.clone();
        tokio::spawn(async move {
            while let Some(message) = waiting.recv().await {
                if outgoing.send(message).await.is_err() {
                    return;
                }
            }
        });
    }

    /// May this request be sent to it? One that an adapter does not know can end its session.
    pub(crate) fn offers(&self, command: &str) -> bool {
        needed_for(command).is_none_or(|ability| self.capabilities.has(ability))
    }

    /// Sends a request and notes who waits for its answer. Never waits: an adapter that takes nothing any more is refused.
    pub(crate) fn send(&mut self, command: &str, arguments: Value, pending: Pending) -> Result<i64, Pending> {
        let Some(room) = self.to_adapter.as_ref().and_then(|queue| queue.try_reserve().ok()) else {
            return Err(pending);
        };
        if self.over || self.pending.len() >= MAX_PENDING {
            return Err(pending);
        }
        self.seq += 1;
        room.send(Message::request(self.seq, command, arguments).to_bytes());
        self.pending.insert(self.seq, pending);
        Ok(self.seq)
    }

    /// Sends an answer to a request of the adapter's own.
    pub(crate) fn answer(&mut self, mut message: Message) {
        self.seq += 1;
        message.set_seq(self.seq);
        if let Some(queue) = &self.to_adapter
            && queue.try_send(message.to_bytes()).is_err()
        {
            tracing::debug!("an answer to the adapter was dropped: it takes nothing any more");
        }
    }

    /// Detaches without waiting; the agent's last word comes as any other.
    pub(crate) fn begin_letting_go(&mut self) {
        // One that cannot be asked is let go by the end of its stream.
        let _ = self.send("disconnect", json!({"terminateDebuggee": false}), Pending::Own);
        (self.over, self.leaving) = (true, true);
        let (queue, outgoing) = (self.to_adapter.take(), self.outgoing.clone());
        tokio::spawn(async move {
            let asked = async {
                if let Some(queue) = queue {
                    // What was sent before goes first: the queue is empty when all of it is free again.
                    let _ = queue.reserve_many(WINDOW).await.map(drop);
                }
                outgoing.close().await
            };
            let _ = tokio::time::timeout(LET_GO, asked).await;
        });
    }

    /// Detaches, never ending the target. The agent lets go even if the adapter does not answer.
    pub(crate) async fn let_go(&mut self) {
        if self.over {
            return;
        }
        let asked = async {
            if self.to_adapter.is_none()
                || self.send("disconnect", json!({"terminateDebuggee": false}), Pending::Own).is_err()
            {
                self.seq += 1;
                let message = Message::request(self.seq, "disconnect", json!({"terminateDebuggee": false}));
                self.outgoing.send(message.to_bytes()).await?;
            }
            if let Some(queue) = &self.to_adapter {
                // What was sent before goes first: the queue is empty when all of it is free again.
                let _ = queue.reserve_many(WINDOW).await.map(drop);
            }
            self.outgoing.close().await
        };
        // A session that is broken ends by itself.
        let _ = tokio::time::timeout(LET_GO, asked).await;
        if let Some(mut link) = self.link.take() {
            let last = async { while link.next().await.is_some() {} };
            let _ = tokio::time::timeout(LET_GO, last).await;
        }
    }
}
