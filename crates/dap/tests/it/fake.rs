//! A scripted adapter behind a session, for faults that no real one shows on demand.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pepo_dap::{
    Link, LinkEvent, Outgoing,
    console::Files,
    server::{AttachArguments, OpenedTarget, Opener},
};
use pepo_wire::{
    Failure,
    agent::{Closed, Opened},
    dap::Message,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What it answers to a request: messages and other events.
type Script = dyn Fn(&Message) -> Vec<LinkEvent> + Send + Sync;

/// One session with a scripted adapter.
#[derive(Clone)]
pub(crate) struct Fake {
    events: mpsc::Sender<LinkEvent>,
    taken: Arc<Mutex<Option<mpsc::Receiver<LinkEvent>>>>,
    seen: Arc<Mutex<Vec<Value>>>,
    script: Arc<Script>,
    pub(crate) opened: Opened,
    pub(crate) files: Option<Arc<dyn Files>>,
}

impl Fake {
    /// An adapter with these abilities; `script` answers first, what it leaves is answered as any adapter would.
    pub(crate) fn new(
        abilities: Value,
        script: impl Fn(&Message) -> Vec<LinkEvent> + Send + Sync + 'static,
    ) -> Fake {
        let (events, taken) = mpsc::channel(1024);
        let whole = move |request: &Message| {
            let said = script(request);
            if said.is_empty() { usual(request, &abilities) } else { said }
        };
        Fake {
            events,
            taken: Arc::new(Mutex::new(Some(taken))),
            seen: Arc::default(),
            script: Arc::new(whole),
            opened: Opened { debugger: "fake".into(), session: "s1".into(), ..Opened::default() },
            files: None,
        }
    }

    /// One without tricks.
    pub(crate) fn plain() -> Fake {
        Fake::new(json!({"supportsConfigurationDoneRequest": true}), |_| Vec::new())
    }

    /// Says something without being asked.
    pub(crate) async fn say(&self, event: LinkEvent) {
        self.events.send(event).await.expect("somebody listens");
    }

    /// Says something if there is room for it.
    pub(crate) fn try_say(&self, event: LinkEvent) -> bool {
        self.events.try_send(event).is_ok()
    }

    /// All requests of this name that came.
    pub(crate) fn seen(&self, command: &str) -> Vec<Value> {
        let seen = self.seen.lock().expect("no test panics with it");
        seen.iter().filter(|one| one["command"] == command).cloned().collect()
    }
}

/// What any adapter answers.
fn usual(request: &Message, abilities: &Value) -> Vec<LinkEvent> {
    match request.command().unwrap_or_default() {
        "initialize" => vec![yes(request, abilities.clone())],
        "attach" => vec![event("initialized", Value::Null), yes(request, Value::Null)],
        "setBreakpoints" => {
            let count = request.arguments()["breakpoints"].as_array().map_or(0, Vec::len);
            let points: Vec<Value> = (1..=count).map(|id| json!({"id": id, "verified": true})).collect();
            vec![yes(request, json!({"breakpoints": points}))]
        }
        "threads" => vec![yes(request, json!({"threads": [{"id": 1, "name": "main"}]}))],
        "" => Vec::new(),
        _ => vec![yes(request, Value::Null)],
    }
}

/// A response that says yes.
pub(crate) fn yes(request: &Message, body: Value) -> LinkEvent {
    LinkEvent::Dap(Message::response(1, request, body).to_bytes())
}

/// An event.
pub(crate) fn event(name: &str, body: Value) -> LinkEvent {
    LinkEvent::Dap(Message::event(1, name, body).to_bytes())
}

struct FakeLink {
    fake: Fake,
    events: mpsc::Receiver<LinkEvent>,
    over: bool,
}

#[async_trait]
impl Link for FakeLink {
    fn outgoing(&self) -> Arc<dyn Outgoing> {
        Arc::new(self.fake.clone())
    }

    /// After the last word there is nothing to wait for, as on a real stream.
    async fn next(&mut self) -> Option<LinkEvent> {
        if self.over {
            return None;
        }
        let event = self.events.recv().await;
        self.over = matches!(event, Some(LinkEvent::Closed(_)) | None);
        event
    }
}

#[async_trait]
impl Outgoing for Fake {
    async fn send(&self, message: Vec<u8>) -> Result<(), Failure> {
        let message = Message::parse(&message).expect("this side sends JSON");
        self.seen.lock().expect("no test panics with it").push(Value::Object(message.fields.clone()));
        for event in (self.script)(&message) {
            self.say(event).await;
        }
        Ok(())
    }

    async fn ready(&self) -> Result<(), Failure> {
        self.seen.lock().expect("no test panics with it").push(json!({"command": "ready"}));
        Ok(())
    }

    async fn close(&self) -> Result<(), Failure> {
        let last = Closed { reason: "detached".into(), stood_still_millis: 12, ..Closed::default() };
        self.say(LinkEvent::Closed(last)).await;
        Ok(())
    }
}

impl Fake {
    /// The session itself; once.
    pub(crate) fn link(&self) -> Box<dyn Link> {
        let events = self.taken.lock().expect("no test panics with it").take().expect("one session a fake");
        Box::new(FakeLink { fake: self.clone(), events, over: false })
    }

    /// As an opener for a server.
    pub(crate) fn opener(&self) -> Arc<dyn Opener> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl Opener for Fake {
    async fn open(&self, _: &AttachArguments) -> Result<OpenedTarget, Failure> {
        Ok(OpenedTarget { opened: self.opened.clone(), link: self.link(), files: self.files.clone() })
    }
}
