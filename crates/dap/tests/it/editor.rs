//! An editor as a test drives it, and a server with real adapters behind.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use pepo_dap::{
    Link as _, LinkEvent, StreamLink,
    server::{AttachArguments, OpenedTarget, Opener},
};
use pepo_testkit::Fixture;
use pepo_wire::{Code, Failure, dap::Message};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{adapters::Adapter, schema};

/// How long an editor waits for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// Opens bare adapters by the names of their targets.
#[derive(Default)]
pub(crate) struct Bare {
    pub(crate) targets: HashMap<String, (Adapter, Fixture, u32)>,
}

#[async_trait]
impl Opener for Bare {
    async fn open(&self, arguments: &AttachArguments) -> Result<OpenedTarget, Failure> {
        let name = arguments.target.as_deref().unwrap_or_default();
        let (adapter, fixture, pid) = self
            .targets
            .get(name)
            .ok_or_else(|| Failure::new(Code::TargetNotFound, format!("no target answers to `{name}`")))?;
        let (link, opened) = adapter.open(fixture, *pid).await;
        Ok(OpenedTarget { opened, link, files: None })
    }
}

impl Bare {
    pub(crate) fn one(name: &str, adapter: Adapter, fixture: &Fixture, pid: u32) -> Bare {
        Bare::default().and(name, adapter, fixture, pid)
    }

    pub(crate) fn and(mut self, name: &str, adapter: Adapter, fixture: &Fixture, pid: u32) -> Bare {
        self.targets.insert(name.to_owned(), (adapter, fixture.clone(), pid));
        self
    }

    pub(crate) fn shared(self) -> Arc<dyn Opener> {
        Arc::new(self)
    }
}

/// An editor. Every message it gets is checked against the protocol's schema.
pub(crate) struct Editor {
    link: StreamLink,
    seq: i64,
    /// Everything that came and was not taken yet.
    pub(crate) inbox: Vec<Value>,
    pub(crate) log: Vec<String>,
    /// What comes is nonsense on purpose.
    pub(crate) unchecked: bool,
}

impl Editor {
    pub(crate) fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Editor {
        Editor {
            link: StreamLink::over(stream),
            seq: 0,
            inbox: Vec::new(),
            log: Vec::new(),
            unchecked: false,
        }
    }

    /// A server of its own on a stream, as on stdio.
    pub(crate) fn of(opener: Arc<dyn Opener>) -> Editor {
        let (editor, server) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(server);
        tokio::spawn(pepo_dap::server::serve(reader, writer, opener, Default::default()));
        Editor::new(editor)
    }

    pub(crate) async fn send(&mut self, command: &str, arguments: Value) -> i64 {
        self.seq += 1;
        let message = Message::request(self.seq, command, arguments);
        self.log.push(format!("-> {}", String::from_utf8_lossy(&message.to_bytes())));
        self.link.outgoing().send(message.to_bytes()).await.expect("the server reads");
        self.seq
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.link.outgoing().send(message.to_bytes()).await.expect("the server reads");
    }

    /// The first message for which `wanted` holds, taken out.
    pub(crate) async fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.inbox.iter().position(&wanted) {
                return self.inbox.remove(at);
            }
            let came = tokio::time::timeout_at(end, self.link.next()).await;
            let Ok(Some(LinkEvent::Dap(bytes))) = came else {
                panic!("no {what} but {came:?}; so far:\n{}", self.log.join("\n"));
            };
            self.take(&bytes);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let message: Value = serde_json::from_slice(bytes).expect("JSON");
        self.log.push(format!("<- {}", String::from_utf8_lossy(bytes)));
        let complaints = schema::complaints(&message).filter(|_| !self.unchecked).unwrap_or_default();
        assert_eq!(complaints, Vec::<String>::new(), "{message}");
        self.inbox.push(message);
    }

    /// The answer to a request.
    pub(crate) async fn answer(&mut self, seq: i64) -> Value {
        let what = format!("answer to {seq}");
        self.wait(&what, |one| one["type"] == "response" && one["request_seq"] == seq).await
    }

    /// The body of an answer that must say yes.
    pub(crate) async fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let seq = self.send(command, arguments).await;
        let answer = self.answer(seq).await;
        assert_eq!(answer["success"], true, "{command}: {answer}\n{}", self.log.join("\n"));
        answer["body"].clone()
    }

    /// The body of an event.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        let event =
            self.wait(&format!("event {name}"), |one| one["type"] == "event" && one["event"] == name).await;
        event["body"].clone()
    }

    /// Greets, attaches, sets breakpoints and starts: as editors do.
    pub(crate) async fn attach(
        &mut self,
        client: Value,
        arguments: Value,
        points: &[(&str, u32)],
    ) -> Vec<Value> {
        let mut initialize = json!({"adapterID": "pepo", "linesStartAt1": true, "columnsStartAt1": true, "pathFormat": "path"});
        pepo_dap::session::lay_over(&mut initialize, &client);
        self.ask("initialize", initialize).await;
        let attach = self.send("attach", arguments).await;
        self.event("initialized").await;
        let mut set = Vec::new();
        for (path, line) in points {
            set.push(self.set_breakpoint(path, *line).await);
        }
        self.ask("configurationDone", Value::Null).await;
        let answer = self.answer(attach).await;
        assert_eq!(answer["success"], true, "{answer}");
        set
    }

    pub(crate) async fn set_breakpoint(&mut self, path: &str, line: u32) -> Value {
        let arguments = json!({"source": {"path": path}, "breakpoints": [{"line": line}], "lines": [line]});
        self.ask("setBreakpoints", arguments).await["breakpoints"][0].clone()
    }

    /// The innermost frame of a thread.
    pub(crate) async fn top(&mut self, thread: &Value) -> Value {
        self.ask("stackTrace", json!({"threadId": thread, "startFrame": 0, "levels": 5})).await["stackFrames"]
            [0]
        .clone()
    }

    /// A local variable of a frame: what holds it, and itself.
    pub(crate) async fn local(&mut self, frame: &Value, name: &str) -> (Value, Value) {
        for scope in
            self.ask("scopes", json!({"frameId": frame["id"]})).await["scopes"].as_array().expect("scopes")
        {
            let reference = scope["variablesReference"].clone();
            let body = self.ask("variables", json!({"variablesReference": reference})).await;
            let list = body["variables"].as_array().cloned().unwrap_or_default();
            if let Some(found) = list.into_iter().find(|one| one["name"] == name) {
                return (reference, found);
            }
        }
        panic!("no local {name}: {}", self.log.join("\n"));
    }
}
