//! The engine with an adapter played by the test, because the faults must be forced.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use pepo_process::Process;
use pepo_wire::{
    Code,
    agent::{
        CloseSession, Closed, Heartbeat, session_event::Kind as Event, session_request::Kind as Request,
    },
    dap::{FrameDecoder, Message, encode_frame},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::{
    PauseBudget, Rights, StillClock,
    engine::{Engine, Release},
};
use crate::debugger::{DebuggerFacts, GuardChoice, Hold, LetGo, Stands};

const LIMIT: Duration = Duration::from_secs(10);

static FACTS: DebuggerFacts = DebuggerFacts {
    name: "played",
    summary: "",
    languages: &[],
    tool: None,
    memory: 0,
    guard: GuardChoice::Off,
    repl_is_raw: false,
    ends_at_unknown: false,
    raw_words: &[],
    stands: Stands::ByEvents,
};

/// Notes that it was asked to let go.
struct Noting(Arc<AtomicBool>);

#[async_trait]
impl Hold for Noting {
    async fn let_go(self: Box<Self>) -> LetGo {
        self.0.store(true, Ordering::SeqCst);
        LetGo::default()
    }
}

/// A running engine with both of its ends in the test's hands.
struct Stage {
    adapter: DuplexStream,
    decoder: FrameDecoder,
    client: mpsc::Sender<Request>,
    events: mpsc::Receiver<Event>,
    release: Release,
    let_go: Arc<AtomicBool>,
    running: JoinHandle<Closed>,
}

impl Stage {
    fn set(budget: Option<Duration>, lease: Duration) -> Stage {
        let (ours, adapter) = tokio::io::duplex(4096);
        let (client, requests) = mpsc::channel(8);
        let (events_in, events) = mpsc::channel(8);
        let let_go = Arc::new(AtomicBool::new(false));
        let release: Release = Arc::new(Notify::new());
        let engine = Engine {
            process: Process::own().unwrap(),
            facts: &FACTS,
            io: Box::new(ours),
            hold: Box::new(Noting(Arc::clone(&let_go))),
            attach_arguments: json!({"processId": 42}),
            rights: Rights { stop: true, modify: true, raw: false },
            lease,
            clock: StillClock::new(budget.map(|limit| PauseBudget { limit }), Instant::now(), Duration::ZERO),
            still: super::engine::StoodStill::default(),
            ready: super::Readiness::new(false),
            held: false,
        };
        let running = tokio::spawn(engine.run(requests, events_in, Arc::clone(&release)));
        Stage { adapter, decoder: FrameDecoder::default(), client, events, release, let_go, running }
    }

    async fn ask(&self, seq: i64, command: &str, arguments: Value) {
        let bytes = Message::request(seq, command, arguments).to_bytes();
        self.client.send(Request::Dap(bytes)).await.unwrap();
    }

    /// What the adapter hears next.
    async fn heard(&mut self) -> Message {
        let read = async {
            loop {
                if let Some(frame) = self.decoder.next_frame().unwrap() {
                    return Message::parse(&frame).unwrap();
                }
                let mut buffer = [0; 1024];
                let count = self.adapter.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the adapter's stream was closed");
                self.decoder.feed(&buffer[..count]);
            }
        };
        tokio::time::timeout(LIMIT, read).await.expect("a message for the adapter")
    }

    async fn say(&mut self, message: &Message) {
        self.adapter.write_all(&encode_frame(&message.to_bytes())).await.unwrap();
    }

    async fn event(&mut self, name: &str, body: Value) {
        self.say(&Message::event(1, name, body)).await;
    }

    /// What the client sees next, but for reports of pauses.
    async fn seen(&mut self) -> Event {
        let next = async {
            loop {
                match self.events.recv().await.expect("an event before the end") {
                    Event::Pause(_) => {}
                    other => return other,
                }
            }
        };
        tokio::time::timeout(LIMIT, next).await.expect("an event for the client")
    }

    async fn seen_dap(&mut self) -> Message {
        match self.seen().await {
            Event::Dap(bytes) => Message::parse(&bytes).unwrap(),
            other => panic!("no DAP message but {other:?}"),
        }
    }

    /// Waits for the end; whatever happened, the debugger was asked to let go.
    async fn closed(mut self) -> Closed {
        // The played adapter answers nothing more.
        drop(self.adapter);
        let drain = async { while self.events.recv().await.is_some() {} };
        tokio::time::timeout(LIMIT, drain).await.expect("the engine ends");
        let closed = self.running.await.unwrap();
        assert!(self.let_go.load(Ordering::SeqCst), "the debugger was asked to let go");
        assert_eq!(closed.left_behind, Vec::<String>::new());
        closed
    }
}

fn code(closed: &Closed) -> Option<Code> {
    closed.failure.as_ref().map(pepo_wire::Failure::code)
}

#[tokio::test]
async fn messages_pass_both_ways_and_the_agent_names_the_process() {
    let mut stage = Stage::set(None, LIMIT);
    stage.ask(1, "initialize", json!({"x": 1})).await;
    assert_eq!(stage.heard().await.arguments()["x"], 1);
    stage.ask(2, "attach", json!({"processId": 1, "initCommands": ["shell id"]})).await;
    assert_eq!(stage.heard().await.arguments(), &json!({"processId": 42}));
    stage.event("custom/unknown", json!({"kept": [1, 2]})).await;
    assert_eq!(stage.seen_dap().await.body(), &json!({"kept": [1, 2]}));
    stage.client.send(Request::Close(CloseSession {})).await.unwrap();
    assert_eq!(stage.heard().await.arguments()["terminateDebuggee"], false);
    assert_eq!(stage.closed().await.reason, "detached");
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_never_reaches_the_adapter() {
    let mut stage = Stage::set(None, LIMIT);
    stage.ask(7, "launch", json!({"program": "/bin/sh"})).await;
    let refusal = stage.seen_dap().await;
    assert_eq!((refusal.request_seq(), refusal.success()), (7, false));
    stage.ask(8, "threads", Value::Null).await;
    assert_eq!(stage.heard().await.command(), Some("threads"));
    stage.closed().await;
}

#[tokio::test]
async fn a_clients_disconnect_ends_the_session_without_ending_the_program() {
    let mut stage = Stage::set(None, LIMIT);
    stage.ask(3, "disconnect", json!({"terminateDebuggee": true})).await;
    let heard = stage.heard().await;
    assert_eq!(
        (heard.command(), &heard.arguments()["terminateDebuggee"]),
        (Some("disconnect"), &json!(false))
    );
    stage.say(&Message::response(1, &heard, Value::Null)).await;
    let answer = stage.seen_dap().await;
    assert_eq!((answer.request_seq(), answer.success()), (3, true));
    assert_eq!(stage.closed().await.reason, "detached");
}

#[tokio::test]
async fn an_adapters_own_requests_are_declined() {
    let mut stage = Stage::set(None, LIMIT);
    stage.say(&Message::request(9, "runInTerminal", json!({"args": ["sh"]}))).await;
    let answer = stage.heard().await;
    assert_eq!((answer.request_seq(), answer.success()), (9, false));
    stage.closed().await;
}

#[tokio::test]
async fn a_spent_budget_clears_all_breakpoints_and_the_session_goes_on() {
    let mut stage = Stage::set(Some(Duration::from_millis(150)), LIMIT);
    stage
        .ask(
            1,
            "setBreakpoints",
            json!({"source": {"path": "a.c"}, "breakpoints": [{"line": 1}, {"line": 2}]}),
        )
        .await;
    stage.heard().await;
    stage.event("stopped", json!({"threadId": 5})).await;
    assert_eq!(stage.seen_dap().await.event_name(), Some("stopped"));
    let cleared = stage.heard().await;
    assert_eq!(
        (cleared.command(), &cleared.arguments()["breakpoints"]),
        (Some("setBreakpoints"), &json!([]))
    );
    let goes_on = stage.heard().await;
    assert_eq!((goes_on.command(), &goes_on.arguments()["threadId"]), (Some("continue"), &json!(5)));
    stage.say(&Message::response(1, &goes_on, Value::Null)).await;
    let Event::BudgetSpent(spent) = stage.seen().await else { panic!("no word of the budget") };
    assert_eq!(spent.breakpoints_cleared, 2);
    assert!(spent.stood_still_millis >= 150);
    stage.ask(2, "threads", Value::Null).await;
    assert_eq!(
        stage.heard().await.command(),
        Some("threads"),
        "the session goes on, the agent's own answers are not passed on"
    );
    stage.closed().await;
}

#[tokio::test]
async fn without_a_sign_of_life_the_lease_ends() {
    let stage = Stage::set(None, Duration::from_millis(100));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        stage.client.send(Request::Heartbeat(Heartbeat {})).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!stage.running.is_finished(), "the heart kept it alive");
    // The client's end stays open, it only says nothing more.
    let client = stage.client.clone();
    let closed = stage.closed().await;
    assert!(client.is_closed());
    // The played adapter is gone too; whichever was noticed first, the target was let go.
    assert!(matches!(code(&closed), Some(Code::LeaseLost | Code::ToolDied)), "{closed:?}");
}

#[tokio::test]
async fn a_silent_client_loses_its_lease_while_the_adapter_lives() {
    let mut stage = Stage::set(None, Duration::from_millis(100));
    assert_eq!(stage.heard().await.command(), Some("disconnect"));
    assert_eq!(code(&stage.closed().await), Some(Code::LeaseLost));
}

#[tokio::test]
async fn a_client_that_goes_away_lets_the_target_go() {
    let mut stage = Stage::set(None, LIMIT);
    let (client, _) = mpsc::channel(1);
    drop(std::mem::replace(&mut stage.client, client));
    assert_eq!(stage.heard().await.command(), Some("disconnect"));
    assert_eq!(stage.closed().await.reason, "client gone");
}

#[tokio::test]
async fn an_adapter_that_dies_is_told_and_let_go() {
    let stage = Stage::set(None, LIMIT);
    assert_eq!(code(&stage.closed().await), Some(Code::ToolDied));
}

#[tokio::test]
async fn an_adapter_that_talks_nonsense_is_let_go() {
    let mut stage = Stage::set(None, LIMIT);
    stage.adapter.write_all(b"Content-Length: 99999999999\r\n\r\n").await.unwrap();
    stage.heard().await;
    assert_eq!(code(&stage.closed().await), Some(Code::ToolConfused));
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_adapter_and_not_the_engine() {
    let mut stage = Stage::set(None, LIMIT);
    let output = encode_frame(&Message::event(1, "output", json!({"output": "x".repeat(1000)})).to_bytes());
    let mut written = 0;
    // Far more than all bounded queues can hold: at some point nothing more is taken.
    while tokio::time::timeout(Duration::from_millis(500), stage.adapter.write_all(&output)).await.is_ok() {
        written += 1;
        assert!(written < 2000, "the engine keeps what the client does not read");
    }
    stage.release.notify_one();
    assert_eq!(stage.closed().await.reason, "released");
}

#[tokio::test]
async fn an_adapter_that_does_not_read_is_let_go() {
    let stage = Stage::set(None, LIMIT);
    let many = async {
        for seq in 1..3000 {
            let bytes = Message::request(seq, "threads", json!({"pad": "x".repeat(100)})).to_bytes();
            if stage.client.send(Request::Dap(bytes)).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, many).await.expect("the engine never hangs");
    assert_eq!(code(&stage.closed().await), Some(Code::ToolDied));
}
