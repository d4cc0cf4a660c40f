//! A DAP client for tests: one adapter, everything bounded in time.

use std::time::Duration;

use pepo_debug::debugger::AdapterIo;
use pepo_wire::dap::{FrameDecoder, Message, MessageKind, encode_frame};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};

/// How long an adapter may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// One adapter's stream.
pub(crate) struct Client {
    io: Box<dyn AdapterIo>,
    decoder: FrameDecoder,
    seq: i64,
    /// Events and responses that nobody has asked for yet.
    kept: Vec<Message>,
    /// All that came, shortly, for messages.
    pub(crate) heard: Vec<String>,
}

impl Client {
    pub(crate) fn new(io: Box<dyn AdapterIo>) -> Client {
        Client { io, decoder: FrameDecoder::default(), seq: 0, kept: Vec::new(), heard: Vec::new() }
    }

    /// Sends a request and gives its number.
    pub(crate) async fn send(&mut self, command: &str, arguments: Value) -> Result<i64, String> {
        self.seq += 1;
        let message = Message::request(self.seq, command, arguments);
        self.io.write_all(&encode_frame(&message.to_bytes())).await.map_err(|error| error.to_string())?;
        self.io.flush().await.map_err(|error| error.to_string())?;
        Ok(self.seq)
    }

    /// Sends a request and waits for a response that says yes.
    pub(crate) async fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let seq = self.send(command, arguments).await?;
        self.answer(seq).await
    }

    pub(crate) async fn answer(&mut self, seq: i64) -> Result<Value, String> {
        let answer = self
            .find(&format!("the answer to {seq}"), |message| {
                message.kind() == Some(MessageKind::Response) && message.request_seq() == seq
            })
            .await?;
        match answer.success() {
            true => Ok(answer.body().clone()),
            false => Err(format!("{}: {}", answer.command().unwrap_or_default(), answer.error_text())),
        }
    }

    /// Waits for an event.
    pub(crate) async fn event(&mut self, name: &str) -> Result<Value, String> {
        let event =
            self.find(&format!("the event {name}"), |message| message.event_name() == Some(name)).await?;
        Ok(event.body().clone())
    }

    async fn find(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Result<Message, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.kept.iter().position(&wanted) {
                return Ok(self.kept.remove(at));
            }
            match timeout_at(until, self.read()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("{what}: {error}; heard {:#?}", self.heard)),
                Err(_) => return Err(format!("{what}: not within {PATIENCE:?}; heard {:#?}", self.heard)),
            }
        }
    }

    async fn read(&mut self) -> Result<(), String> {
        let mut buffer = [0; 16 << 10];
        let count = self.io.read(&mut buffer).await.map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the stream ended".to_owned());
        }
        self.decoder.feed(&buffer[..count]);
        while let Some(frame) = self.decoder.next_frame().map_err(|error| error.to_string())? {
            let message = Message::parse(&frame).map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&frame).into_owned();
            self.heard.push(text.chars().take(300).collect());
            self.kept.push(message);
        }
        Ok(())
    }

    /// The handshake up to the running target, with breakpoints at these lines.
    pub(crate) async fn begin(&mut self, start: &Start<'_>) -> Result<(), String> {
        let mut initialize = start.initialize.clone();
        initialize["pathFormat"] = json!("path");
        initialize["linesStartAt1"] = json!(true);
        self.ask("initialize", initialize).await?;
        let attach = self.send("attach", start.attach.clone()).await?;
        self.event("initialized").await?;
        let lines: Vec<_> =
            start.lines.iter().map(|line| json!({"line": line, "condition": start.condition})).collect();
        let source = json!({"source": {"path": start.source}, "breakpoints": lines});
        let points = self.send("setBreakpoints", source).await?;
        let done = self.send("configurationDone", Value::Null).await?;
        self.answer(points).await?;
        self.answer(attach).await?;
        self.answer(done).await?;
        if start.continue_after_attach {
            let stopped = self.event("stopped").await?;
            let thread = stopped["threadId"].as_i64().unwrap_or(1);
            self.ask("continue", json!({"threadId": thread})).await?;
        }
        Ok(())
    }

    /// Waits for a stop at a breakpoint and gives its thread; any other stop is an error.
    pub(crate) async fn hit(&mut self) -> Result<i64, String> {
        let stopped = self.event("stopped").await?;
        match stopped["reason"].as_str() {
            Some(reason) if reason.contains("breakpoint") => Ok(stopped["threadId"].as_i64().unwrap_or(1)),
            _ => Err(format!("another stop: {stopped}; {:#?}", self.heard)),
        }
    }

    /// As [`Client::hit`], after whatever other stops.
    pub(crate) async fn hit_at_last(&mut self) -> Result<i64, String> {
        loop {
            let stopped = self.event("stopped").await?;
            if stopped["reason"].as_str().is_some_and(|reason| reason.contains("breakpoint")) {
                return Ok(stopped["threadId"].as_i64().unwrap_or(1));
            }
        }
    }

    pub(crate) async fn go_on(&mut self, thread: i64) -> Result<(), String> {
        self.ask("continue", json!({"threadId": thread})).await.map(drop)
    }

    /// The top frame of a thread: its number, function and line.
    pub(crate) async fn top(&mut self, thread: i64) -> Result<(i64, String, i64), String> {
        let stack = self.ask("stackTrace", json!({"threadId": thread, "levels": 5})).await?;
        let frame = &stack["stackFrames"][0];
        let name = frame["name"].as_str().unwrap_or_default().to_owned();
        Ok((frame["id"].as_i64().unwrap_or(0), name, frame["line"].as_i64().unwrap_or(0)))
    }

    /// The names of all frames of all threads.
    pub(crate) async fn all_frames(&mut self) -> Result<Vec<String>, String> {
        let threads = self.ask("threads", Value::Null).await?;
        let mut names = Vec::new();
        for thread in threads["threads"].as_array().cloned().unwrap_or_default() {
            let stack = self.ask("stackTrace", json!({"threadId": thread["id"], "levels": 20})).await?;
            let frames = stack["stackFrames"].as_array().cloned().unwrap_or_default();
            names.extend(frames.iter().map(|frame| frame["name"].as_str().unwrap_or_default().to_owned()));
        }
        Ok(names)
    }

    /// The variables of a frame's first scope: names and values, and the scope's reference.
    pub(crate) async fn locals(&mut self, frame: i64) -> Result<(i64, Vec<(String, String)>), String> {
        let scopes = self.ask("scopes", json!({"frameId": frame})).await?;
        let scope = scopes["scopes"].as_array().and_then(|scopes| {
            scopes.iter().find(|scope| scope["name"].as_str().is_some_and(|name| name.starts_with("Local")))
        });
        let reference = scope.and_then(|scope| scope["variablesReference"].as_i64()).unwrap_or(0);
        let body = self.ask("variables", json!({"variablesReference": reference})).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let variables = body["variables"].as_array().cloned().unwrap_or_default();
        Ok((reference, variables.iter().map(|one| (text(&one["name"]), text(&one["value"]))).collect()))
    }

    /// The polite way out. lldb-dap 19 now and then ends its stream instead of an answer: what counts is how the target is left.
    pub(crate) async fn disconnect(&mut self) -> Result<(), String> {
        match self.ask("disconnect", json!({"terminateDebuggee": false})).await {
            Err(why) if !why.contains(": the stream ended;") => Err(why),
            _ => Ok(()),
        }
    }
}

/// What a session begins with.
pub(crate) struct Start<'a> {
    pub(crate) initialize: Value,
    pub(crate) attach: Value,
    pub(crate) source: &'a str,
    pub(crate) lines: &'a [u32],
    /// When they are to stop; empty for always.
    pub(crate) condition: &'a str,
    pub(crate) continue_after_attach: bool,
}
