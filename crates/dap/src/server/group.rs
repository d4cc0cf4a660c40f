//! One editor, one or several adapters: the state of their session, and the loop that carries messages between them.
//!
//! With one adapter messages pass as they are, but for their `seq` and the paths of sources. With several, numbers are
//! translated, breakpoints go to all, and answers are merged; each thread's name begins with its target's.

/// What adapters answer.
mod answers;
/// What adapters and agents tell.
mod events;
/// What the editor asks.
mod requests;
/// Paths and contents of sources.
mod sources;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::future::join_all;
use pepo_wire::dap::{Message, MessageKind};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::sources::References;
use super::{
    arguments::AttachArguments,
    children::Child,
    connection::{Connection, output, words},
    ids::Ids,
    member::{Member, Pending},
    queue::Gone,
};
use crate::{console::output::Output, link::LinkEvent, views::Capabilities};

/// Events of the adapters' that wait to be taken.
const WAITING: usize = 64;
/// How long an editor waits for the answer to its `disconnect`: VS Code does for two seconds.
const DISCONNECT: Duration = Duration::from_millis(1500);
/// How long sessions may take to end after that.
const CLOSING: Duration = Duration::from_secs(20);
/// How long a target that should stand still at the beginning has to do so by itself.
const ENTRY: Duration = Duration::from_secs(1);

/// Does the session go on?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// It does.
    On,
    /// It is over, and the editor knows.
    End,
}

/// A request that went to several adapters.
struct Fan {
    request: Message,
    /// By member.
    answers: Vec<(usize, Message)>,
    waiting: usize,
}

/// What tasks of our own bring back.
enum Done {
    /// The content of a source, for a request of the editor's.
    Source(Message, Result<Vec<u8>, pepo_wire::Failure>),
    /// A member should stand still by now.
    Entry(usize),
}

/// Both ends of a queue.
type Ends<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// One editor and its adapters.
pub(super) struct Group<'a> {
    connection: &'a mut Connection,
    members: Vec<Member>,
    ids: Ids,
    references: References,
    fans: HashMap<u64, Fan>,
    last_fan: u64,
    /// The editor's `attach`, until it is answered.
    attach: Option<Message>,
    /// Requests of adapters' that were passed on: our number, whose, his number.
    reverse: HashMap<i64, (usize, i64)>,
    stop_on_entry: bool,
    /// The first member that stops is kept, the others are let go then.
    first: bool,
    child: Option<Child>,
    /// The editor has said all before the target goes on.
    configured: bool,
    /// The editor's `disconnect`, until it is answered.
    leaving: Option<Message>,
    initialized: bool,
    terminated: bool,
    /// The member that stopped last.
    focus: usize,
    /// Breakpoints of several members: is it in place, by our number and member.
    verified: HashMap<i64, HashSet<usize>>,
    parent: CancellationToken,
    pumps: CancellationToken,
    done: Ends<Done>,
    /// By member.
    events: Ends<(usize, LinkEvent)>,
}

impl<'a> Group<'a> {
    /// A session of these members, for the editor's `attach` with these arguments; one that is a `child` ends with its parent.
    pub(super) fn new(
        connection: &'a mut Connection,
        members: Vec<Member>,
        attach: Message,
        arguments: &AttachArguments,
        child: Option<Child>,
    ) -> Group<'a> {
        Group {
            connection,
            ids: Ids::new(members.len() == 1),
            references: References::default(),
            members,
            fans: HashMap::new(),
            last_fan: 0,
            attach: Some(attach),
            reverse: HashMap::new(),
            stop_on_entry: arguments.stop_on_entry,
            first: arguments.first,
            configured: false,
            leaving: None,
            initialized: false,
            terminated: false,
            focus: 0,
            verified: HashMap::new(),
            parent: child.as_ref().map(|child| child.stop.clone()).unwrap_or_default(),
            child,
            pumps: CancellationToken::new(),
            done: mpsc::channel(WAITING),
            events: mpsc::channel(WAITING),
        }
    }

    /// Carries messages until the editor goes or all adapters are gone. Whatever ends it, every target was let go.
    pub(super) async fn run(mut self) {
        let ended = async {
            self.begin().await?;
            while self.turn().await? == Go::On {}
            Ok::<(), Gone>(())
        };
        let _ = ended.await;
        self.end().await;
        self.pumps.cancel();
    }

    /// Tells the editor what it has before it, and asks each adapter to attach.
    async fn begin(&mut self) -> Result<(), Gone> {
        let capabilities = self.capabilities();
        self.event("capabilities", json!({"capabilities": capabilities})).await?;
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            let greeting = Output::Attached(crate::console::attached(&member.opened, member.name.clone()));
            member.start(index, self.events.0.clone(), self.pumps.clone());
            let arguments = crate::session::attach_arguments(&member.opened, self.stop_on_entry);
            let asked = member.send("attach", arguments, Pending::Attach).is_ok();
            debug_assert!(asked, "a fresh queue has room");
            let early = std::mem::take(&mut member.early);
            self.connection.say(&crate::console::plain(&greeting)).await?;
            for happening in early {
                self.on_happening(index, happening).await?;
            }
        }
        Ok(())
    }

    /// One message from either side.
    async fn turn(&mut self) -> Result<Go, Gone> {
        tokio::select! {
            message = self.connection.requests.recv() => match message {
                Some(message) if message.kind() == Some(MessageKind::Request) => self.on_request(message).await,
                Some(message) => self.on_reverse_answer(message).map(|()| Go::On),
                None => Err(Gone),
            },
            Some((member, event)) = self.events.1.recv() => self.on_link(member, event).await,
            Some(done) = self.done.1.recv() => self.on_done(done).await.map(|()| Go::On),
            () = self.connection.shared.stop.cancelled() => Err(Gone),
            () = self.parent.cancelled() => {
                self.terminate().await?;
                Ok(Go::End)
            }
        }
    }

    async fn on_done(&mut self, done: Done) -> Result<(), Gone> {
        match done {
            Done::Source(request, Ok(content)) => {
                let content = String::from_utf8_lossy(&content).into_owned();
                self.respond(&request, json!({"content": content})).await
            }
            Done::Source(request, Err(failure)) => self.connection.refuse(&request, &words(&failure)).await,
            Done::Entry(index) => {
                let member = &mut self.members[index];
                if member.stopped.is_none() && !member.over {
                    // If it cannot be asked it is over, which is told anyway.
                    let _ = member.send("pause", json!({"threadId": 1}), Pending::Own);
                }
                Ok(())
            }
        }
    }

    /// The editor hears that it is over.
    async fn terminate(&mut self) -> Result<(), Gone> {
        if !std::mem::replace(&mut self.terminated, true) {
            self.event("terminated", Value::Null).await?;
        }
        Ok(())
    }

    /// Lets every target go and waits for the agents' last words; answers the editor's `disconnect` in time.
    async fn end(&mut self) {
        let mut open: HashSet<usize> =
            (0..self.members.len()).filter(|index| !self.members[*index].over).collect();
        let mut last_words = Vec::new();
        let (queue, events) = (&mut self.connection.queue, &mut self.events.1);
        let leave = async { drop(join_all(self.members.iter_mut().map(Member::let_go)).await) };
        tokio::pin!(leave);
        let (mut left, start) = (false, Instant::now());
        while !left || !open.is_empty() {
            tokio::select! {
                () = &mut leave, if !left => left = true,
                // Emptied meanwhile, or nobody could let go.
                Some((member, event)) = events.recv() => {
                    if let LinkEvent::Closed(closed) = event {
                        open.remove(&member);
                        last_words.push(closed);
                    }
                }
                () = tokio::time::sleep_until(start + DISCONNECT), if self.leaving.is_some() => {
                    if let Some(request) = self.leaving.take() {
                        queue.send_last(Message::response(0, &request, Value::Null)).await;
                    }
                }
                () = tokio::time::sleep_until(start + CLOSING) => break,
            }
        }
        for closed in last_words {
            queue.send_last(output(&crate::console::plain(&crate::console::closed(&closed)))).await;
        }
        if let Some(request) = self.leaving.take() {
            queue.send_last(Message::response(0, &request, Value::Null)).await;
        }
    }

    /// What all members can do; with one, what it can. Never the ways to end or restart a target.
    fn capabilities(&self) -> Value {
        let mut all = self.members[0].capabilities.clone();
        for member in &self.members[1..] {
            all.0.retain(|name, value| !value.is_boolean() || member.capabilities.has(name));
        }
        if self.members.len() > 1 {
            all.0.insert("supportsSingleThreadExecutionRequests".into(), true.into());
        }
        tame(&mut all);
        Value::Object(all.0)
    }

    async fn event(&mut self, name: &str, body: Value) -> Result<(), Gone> {
        self.connection.queue.send(Message::event(0, name, body)).await.map(drop)
    }

    async fn respond(&mut self, request: &Message, body: Value) -> Result<(), Gone> {
        self.connection.queue.send(Message::response(0, request, body)).await.map(drop)
    }

    fn single(&self) -> bool {
        self.members.len() == 1
    }
}

/// A target is only ever let go: what ends or restarts it is not offered.
fn tame(capabilities: &mut Capabilities) {
    for name in [
        "supportTerminateDebuggee",
        "supportSuspendDebuggee",
        "supportsTerminateRequest",
        "supportsRestartRequest",
    ] {
        capabilities.0.insert(name.into(), false.into());
    }
    // Both are answered on this side where the adapter cannot.
    capabilities.0.insert("supportsConfigurationDoneRequest".into(), true.into());
}
