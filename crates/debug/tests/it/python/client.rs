//! A DAP client just large enough for these tests, blocking, with a limit on every wait.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pepo_debug::{
    debugger::{AdapterIo, Hold},
    python::{Fault, Placed, place},
};
use pepo_wire::dap::{FrameDecoder, Message, encode_frame};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
};

use super::target::Target;

const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Client {
    runtime: Runtime,
    io: Box<dyn AdapterIo>,
    hold: Box<dyn Hold>,
    decoder: FrameDecoder,
    seen: Vec<Message>,
    seq: i64,
    attach: i64,
    thread: i64,
    stops: usize,
}

impl Client {
    pub(super) fn attach(target: &Target) -> Client {
        let began = Instant::now();
        let placed = place(target.process(), &Fault::default(), None)
            .unwrap_or_else(|error| panic!("{}: {}", target.name(), pepo_wire::FailureExt::failure(&error)));
        let (route, stood, ready) = (placed.route, placed.stood_still, began.elapsed());
        let client = Client::over(placed);
        let initialized = began.elapsed();
        eprintln!(
            "{}: {route}, stood still {stood:.1?}, loaded {ready:.0?}, ready {initialized:.0?}",
            target.name()
        );
        client
    }

    pub(super) fn over(placed: Placed) -> Client {
        let mut client = Client::begun(placed, false);
        client.configured();
        client
    }

    /// Up to where breakpoints may be set, before anything goes on.
    pub(super) fn begun(placed: Placed, stop_on_entry: bool) -> Client {
        let runtime = Runtime::new().expect("a runtime starts");
        let (io, hold) = {
            let _inside = runtime.enter();
            placed.into_parts().expect("the stream is usable")
        };
        let decoder = FrameDecoder::default();
        let seen = Vec::new();
        let mut client = Client { runtime, io, hold, decoder, seen, seq: 0, attach: 0, thread: 0, stops: 0 };
        client
            .request("initialize", json!({"adapterID": "test", "linesStartAt1": true, "pathFormat": "path"}));
        let arguments = json!({"justMyCode": false, "redirectOutput": false, "stopOnEntry": stop_on_entry});
        client.attach = client.send("attach", arguments);
        client.wait("initialized", |message| message.event_name() == Some("initialized"));
        client
    }

    /// All was said that the program must know before it goes on.
    pub(super) fn configured(&mut self) {
        self.request("configurationDone", json!({}));
        let attach = self.attach;
        self.wait("the answer to attach", |message| {
            message.request_seq() == attach && message.command().is_some()
        });
    }

    fn send(&mut self, command: &str, arguments: Value) -> i64 {
        self.seq += 1;
        let frame = encode_frame(&Message::request(self.seq, command, arguments).to_bytes());
        self.runtime.block_on(self.io.write_all(&frame)).expect("the stream is open");
        self.seq
    }

    fn request(&mut self, command: &str, arguments: Value) -> Message {
        let seq = self.send(command, arguments);
        let answer =
            self.wait(command, |message| message.request_seq() == seq && message.command().is_some());
        assert!(answer.success(), "{command}: {}", answer.error_text());
        answer
    }

    fn wait(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(found) = self.seen.iter().find(|message| fits(message)) {
                return found.clone();
            }
            let mut bytes = [0; 64 << 10];
            let left = end.saturating_duration_since(Instant::now());
            let read =
                self.runtime.block_on(async { tokio::time::timeout(left, self.io.read(&mut bytes)).await });
            let last =
                self.seen.last().map(|message| String::from_utf8_lossy(&message.to_bytes()).into_owned());
            match read {
                Ok(Ok(count @ 1..)) => self.decoder.feed(&bytes[..count]),
                other => panic!("waiting for {what}: {other:?}; last seen: {last:?}"),
            }
            while let Some(frame) = self.decoder.next_frame().expect("frames") {
                self.seen.push(Message::parse(&frame).expect("a message"));
            }
        }
    }

    pub(super) fn break_at(&mut self, path: &str, line: u32, condition: Option<&str>) {
        let mut breakpoint = json!({ "line": line });
        if let Some(condition) = condition {
            breakpoint["condition"] = condition.into();
        }
        let arguments = json!({"source": {"path": path}, "breakpoints": [breakpoint]});
        let answer = self.request("setBreakpoints", arguments);
        assert_eq!(answer.body()["breakpoints"][0]["verified"], true, "{}", answer.body());
    }

    pub(super) fn clear_breakpoints(&mut self, path: &str) {
        self.request("setBreakpoints", json!({"source": {"path": path}, "breakpoints": []}));
    }

    /// Waits for the next stop; its reason, file and line.
    pub(super) fn stopped_at(&mut self) -> (String, String, i64) {
        self.stopped();
        let stop = self.seen.iter().rfind(|message| message.event_name() == Some("stopped"));
        let reason = stop.expect("it stopped").body()["reason"].as_str().unwrap_or_default().to_owned();
        let stack = self.request("stackTrace", json!({"threadId": self.thread}));
        let top = &stack.body()["stackFrames"][0];
        let path = top["source"]["path"].as_str().unwrap_or_default().to_owned();
        (reason, path, top["line"].as_i64().unwrap_or_default())
    }

    /// Waits for the next stop; the frame at its top.
    pub(super) fn stopped(&mut self) -> i64 {
        let stops = self.stops;
        let began = Instant::now();
        let is_stop = |message: &Message| message.event_name() == Some("stopped");
        while self.seen.iter().filter(|message| is_stop(message)).count() <= stops {
            let known = self.seen.len();
            self.wait_for_more(known, "a stop");
        }
        self.stops += 1;
        let stop = self.seen.iter().filter(|message| is_stop(message)).nth(stops).expect("counted").clone();
        self.thread = stop.body()["threadId"].as_i64().expect("a thread");
        let stack = self.request("stackTrace", json!({"threadId": self.thread}));
        if stops == 0 {
            eprintln!("   first stop after {:.0?}", began.elapsed());
        }
        stack.body()["stackFrames"][0]["id"].as_i64().unwrap_or_else(|| panic!("{}", stack.body()))
    }

    fn wait_for_more(&mut self, known: usize, what: &str) {
        let end = Instant::now() + LIMIT;
        while self.seen.len() == known {
            let mut bytes = [0; 64 << 10];
            let left = end.saturating_duration_since(Instant::now());
            let read =
                self.runtime.block_on(async { tokio::time::timeout(left, self.io.read(&mut bytes)).await });
            match read {
                Ok(Ok(count @ 1..)) => self.decoder.feed(&bytes[..count]),
                other => {
                    let last: Vec<_> = self
                        .seen
                        .iter()
                        .rev()
                        .take(4)
                        .map(|m| String::from_utf8_lossy(&m.to_bytes()).into_owned())
                        .collect();
                    panic!("waiting for {what}: {other:?}; last seen: {last:#?}")
                }
            }
            while let Some(frame) = self.decoder.next_frame().expect("frames") {
                self.seen.push(Message::parse(&frame).expect("a message"));
            }
        }
    }

    pub(super) fn variables(&mut self, frame: i64) -> BTreeMap<String, String> {
        let locals = self.locals(frame);
        let began = Instant::now();
        let answer = self.request("variables", json!({ "variablesReference": locals }));
        eprintln!("   a round trip: {:.2?}", began.elapsed());
        let list = answer.body()["variables"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        list.iter().map(|one| (text(one, "name"), text(one, "value"))).collect()
    }

    fn locals(&mut self, frame: i64) -> i64 {
        let scopes = self.request("scopes", json!({ "frameId": frame }));
        scopes.body()["scopes"][0]["variablesReference"].as_i64().expect("a scope")
    }

    pub(super) fn set_variable(&mut self, frame: i64, name: &str, value: &str) {
        let locals = self.locals(frame);
        self.request("setVariable", json!({"variablesReference": locals, "name": name, "value": value}));
    }

    pub(super) fn go_on(&mut self) {
        let thread = self.thread;
        self.request("continue", json!({ "threadId": thread }));
    }

    /// By `disconnect`; what was left behind.
    pub(super) fn detach(mut self) -> Vec<String> {
        self.request("disconnect", json!({"terminateDebuggee": false}));
        let_go(self)
    }
}

/// By the end of the stream alone; what was left behind.
pub(super) fn let_go(client: Client) -> Vec<String> {
    let Client { runtime, io, hold, .. } = client;
    drop(io);
    let began = Instant::now();
    let left = runtime.block_on(hold.let_go()).left_behind;
    eprintln!("   let go in {:.0?}", began.elapsed());
    left
}
