//! The loop that carries messages between client and adapter, keeps lease and budget, and ends the session.
//!
//! Tasks: the loop itself, and one that writes to the adapter so that a stuck adapter can't hold up lease and budget. Both
//! end with the session. Whatever ends it (the client's word or silence, the adapter's death, the budget, a release), the way
//! out is the same: `disconnect`, close the adapter's stream, let go, look whether anything was left behind.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pepo_process::Process;
use pepo_wire::{
    Code, Failure,
    agent::{
        BudgetSpent, Closed, Notice, PauseReport, session_event::Kind as Event,
        session_request::Kind as Request,
    },
    dap::{FrameDecoder, Message, MessageKind, encode_frame},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Notify, mpsc, oneshot},
};

use super::{
    aftermath,
    armed::Armed,
    clock::StillClock,
    policy::{Decision, Rights, judge},
    readiness::Readiness,
};
use crate::debugger::{AdapterIo, DebuggerFacts, Hold, Stands};

/// Requests of the agent's own carry numbers from here on; a client's stay below.
const OWN: i64 = 1 << 30;
/// How often it is looked whether the target stands still.
const SAMPLE: Duration = Duration::from_millis(20);
/// How often a long pause is reported.
const REPORT: Duration = Duration::from_secs(1);
/// How long an adapter may take to answer `disconnect`.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long a debugger may take to let go before it is reported as stuck.
const LETTING_GO: Duration = Duration::from_secs(15);
/// How long the target may still stand after all breakpoints were cleared and it was told to go on.
const RESUME: Duration = Duration::from_secs(2);
/// Messages kept for a client that does not read; beyond it the adapter is not read either.
const BACKLOG: usize = 256;
/// Messages kept for an adapter that does not read; beyond it the adapter counts as stuck.
const ADAPTER_BACKLOG: usize = 1024;

/// Asks a running engine to let go.
pub type Release = Arc<Notify>;

/// How long a session's target stood still so far, for whoever looks from outside.
#[derive(Clone, Debug, Default)]
pub struct StoodStill(Arc<AtomicU64>);

impl StoodStill {
    /// In all, in milliseconds.
    #[must_use]
    pub fn millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn is(&self, duration: Duration) {
        self.0.store(millis(duration), Ordering::Relaxed);
    }
}

/// A session's engine, ready to run.
pub struct Engine {
    pub(super) process: Process,
    pub(super) facts: &'static DebuggerFacts,
    pub(super) io: Box<dyn AdapterIo>,
    pub(super) hold: Box<dyn Hold>,
    pub(super) attach_arguments: Value,
    pub(super) rights: Rights,
    pub(super) lease: Duration,
    pub(super) clock: StillClock,
    pub(super) still: StoodStill,
    pub(super) ready: Readiness,
    /// The target is stopped by a signal at its first instruction, until its debugger lets it go on.
    pub(super) held: bool,
}

/// Why a session ends.
struct End {
    reason: &'static str,
    failure: Option<Failure>,
    /// The client's `disconnect`, to be answered when the target is free.
    asked_by: Option<Message>,
}

impl End {
    fn because(reason: &'static str) -> End {
        End { reason, failure: None, asked_by: None }
    }

    fn failed(reason: &'static str, failure: Failure) -> End {
        End { reason, failure: Some(failure), asked_by: None }
    }
}

impl Engine {
    /// How long the target stood still, also while the engine runs.
    #[must_use]
    pub fn stood_still(&self) -> StoodStill {
        self.still.clone()
    }

    /// Is told once, when the debugger is ready; comes to nothing when the session ends before.
    #[must_use]
    pub fn ready(&mut self) -> oneshot::Receiver<()> {
        self.ready.told()
    }

    /// Runs until the session ends; the last event sent is [`Event::Closed`], which is also returned.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<Event>,
        release: Release,
    ) -> Closed {
        let (reader, writer) = tokio::io::split(self.io);
        let (to_adapter, frames) = mpsc::channel(ADAPTER_BACKLOG);
        let writing = tokio::spawn(write_all(writer, frames));
        let mut state = State {
            process: self.process,
            facts: self.facts,
            rights: self.rights,
            attach_arguments: self.attach_arguments,
            lease: self.lease,
            clock: self.clock,
            still: self.still,
            ready: self.ready,
            held: self.held,
            stays: false,
            to_adapter,
            backlog: VecDeque::new(),
            armed: Armed::default(),
            next_own: OWN,
            event_standing: false,
            stopped_thread: None,
            heard: Instant::now(),
            reported: None,
            resume_by: None,
        };
        let mut adapter = Adapter { reader, decoder: FrameDecoder::default(), buffer: vec![0; 64 << 10] };
        let end = state.carry(&mut adapter, &mut requests, &events, &release).await;
        let answer =
            end.asked_by.as_ref().map(|request| Message::response(0, request, Value::Null).to_bytes());
        self.hold.disarm().await;
        state.farewell(&mut adapter).await;
        // Closing both halves is what ends the adapter.
        drop(adapter);
        drop(state.to_adapter);
        writing.abort();
        let _ = writing.await;
        let closed = let_go(self.hold, &state.process, end, state.clock.total(), state.held).await;
        let last =
            state.backlog.into_iter().chain(answer.map(Event::Dap)).chain([Event::Closed(closed.clone())]);
        let flush = async {
            for event in last {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        };
        // A client that does not read loses its last words, nothing else.
        let _ = tokio::time::timeout(FAREWELL, flush).await;
        closed
    }
}

/// The reading half of the adapter's stream.
struct Adapter {
    reader: ReadHalf<Box<dyn AdapterIo>>,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
}

impl Adapter {
    /// Reads once and cuts what came into messages; `None` at the end of the stream. Cancel safe.
    async fn read(&mut self) -> Result<Option<Vec<Message>>, Failure> {
        let count = match self.reader.read(&mut self.buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(count) => count,
        };
        self.decoder.feed(self.buffer.get(..count).unwrap_or_default());
        let mut messages = Vec::new();
        let confused = |error: &dyn std::error::Error| {
            Failure::new(Code::ToolConfused, "the debugger's messages can't be understood").because_of(error)
        };
        while let Some(frame) = self.decoder.next_frame().map_err(|error| confused(&error))? {
            messages.push(Message::parse(&frame).map_err(|error| confused(&error))?);
        }
        Ok(Some(messages))
    }
}

/// Everything the loop knows.
struct State {
    process: Process,
    facts: &'static DebuggerFacts,
    rights: Rights,
    attach_arguments: Value,
    lease: Duration,
    clock: StillClock,
    still: StoodStill,
    ready: Readiness,
    /// Held at its first instruction.
    held: bool,
    /// The client wants it to stay there when all is configured.
    stays: bool,
    to_adapter: mpsc::Sender<Vec<u8>>,
    /// Events the client has not taken yet.
    backlog: VecDeque<Event>,
    armed: Armed,
    next_own: i64,
    /// What the adapter's events say.
    event_standing: bool,
    stopped_thread: Option<i64>,
    /// When the client was last heard.
    heard: Instant,
    /// When a pause was last reported; `None` while the target runs.
    reported: Option<Instant>,
    /// Set when the budget is spent: until then the target must run.
    resume_by: Option<Instant>,
}

impl State {
    /// Carries messages until something ends the session.
    async fn carry(
        &mut self,
        adapter: &mut Adapter,
        requests: &mut mpsc::Receiver<Request>,
        events: &mpsc::Sender<Event>,
        release: &Notify,
    ) -> End {
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ended = tokio::select! {
                biased;
                () = release.notified() => Some(End::because("released")),
                _ = ticks.tick() => self.tick(),
                permit = events.reserve(), if !self.backlog.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.backlog.pop_front() {
                            permit.send(event);
                        }
                        None
                    }
                    Err(_) => Some(End::because("client gone")),
                },
                request = requests.recv() => match request {
                    Some(request) => self.hear_client(request),
                    None => Some(End::because("client gone")),
                },
                messages = adapter.read(), if self.backlog.len() < BACKLOG => match messages {
                    Ok(Some(messages)) => { messages.into_iter().for_each(|message| self.hear_adapter(message)); None }
                    Ok(None) => Some(self.adapter_ended()),
                    Err(failure) => Some(End::failed("adapter confused", failure)),
                },
            };
            if let Some(end) = ended {
                return end;
            }
            self.ready.look(Instant::now());
        }
    }

    fn hear_client(&mut self, request: Request) -> Option<End> {
        self.heard = Instant::now();
        match request {
            Request::Dap(bytes) => match Message::parse(&bytes) {
                Ok(message) => self.dap_from_client(message),
                Err(error) => {
                    self.notice(format!("a message was dropped: {error}"));
                    None
                }
            },
            Request::Close(_) => Some(End::because("detached")),
            Request::Ready(_) => {
                self.ready.said();
                None
            }
            Request::Heartbeat(_) | Request::Open(_) | Request::Symbols(_) => None,
        }
    }

    fn dap_from_client(&mut self, mut message: Message) -> Option<End> {
        if message.seq() >= OWN {
            self.refuse(&message, "sequence numbers end at 2^30");
            return None;
        }
        match judge(&message, self.rights, self.facts) {
            Decision::Refuse(why) => {
                self.refuse(&message, &why);
                return None;
            }
            Decision::Disconnect => {
                return Some(End { reason: "detached", failure: None, asked_by: Some(message) });
            }
            Decision::Attach => {
                let mut arguments = self.attach_arguments.clone();
                if let Some(stays) = message.arguments().get("stopOnEntry").and_then(Value::as_bool) {
                    arguments["stopOnEntry"] = stays.into();
                    self.stays = stays;
                }
                message.fields.insert("arguments".into(), arguments);
            }
            Decision::Pass => {}
        }
        if !self.armed.note(&message) {
            self.refuse(&message, "breakpoints in too many sources");
            return None;
        }
        self.ready.asked(&message);
        self.send(&message)
    }

    /// Puts a message on the way to the adapter; a full queue means that it is stuck.
    fn send(&mut self, message: &Message) -> Option<End> {
        self.end_hold(message);
        match self.to_adapter.try_send(encode_frame(&message.to_bytes())) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Closed(_)) => Some(self.adapter_ended()),
            Err(mpsc::error::TrySendError::Full(_)) => Some(End::failed(
                "adapter stuck",
                Failure::new(Code::ToolDied, format!("{} takes no more messages", self.facts.name)),
            )),
        }
    }

    /// A target that is held goes on when its debugger does: the signal that stopped it is taken back, which must wait until a
    /// tracer holds it.
    fn end_hold(&mut self, message: &Message) {
        let goes_on = match message.command().unwrap_or_default() {
            "configurationDone" => !self.stays,
            "continue" | "next" | "stepIn" | "stepOut" => true,
            _ => false,
        };
        if self.held && goes_on && self.process.status().is_ok_and(|status| status.tracer != 0) {
            // It may have ended.
            let _ = self.process.resume();
            self.held = false;
        }
    }

    fn hear_adapter(&mut self, message: Message) {
        match message.kind() {
            Some(MessageKind::Response) if message.request_seq() >= OWN => return,
            Some(MessageKind::Request) => {
                // Reverse requests ask to start programs or sessions; an attached process needs neither.
                let refusal = Message::refusal(self.own_seq(), &message, "not offered");
                let _ = self.send(&refusal);
                return;
            }
            Some(MessageKind::Response) => self.ready.answered(&message, Instant::now()),
            Some(MessageKind::Event) => self.note_event(&message),
            None => {}
        }
        self.backlog.push_back(Event::Dap(message.to_bytes()));
    }

    fn note_event(&mut self, event: &Message) {
        match event.event_name() {
            Some("stopped") => {
                self.event_standing = true;
                self.stopped_thread =
                    event.body().get("threadId").and_then(Value::as_i64).or(self.stopped_thread);
            }
            Some("continued" | "exited" | "terminated") => self.event_standing = false,
            Some("breakpoint") => self.ready.changed(event),
            _ => {}
        }
    }

    /// Lease, clock and budget, every [`SAMPLE`].
    fn tick(&mut self) -> Option<End> {
        let now = Instant::now();
        if now.saturating_duration_since(self.heard) > self.lease {
            let failure = Failure::new(
                Code::LeaseLost,
                format!("no sign of life from the client for {:?}", self.lease),
            );
            return Some(End::failed("lease lost", failure));
        }
        let standing = self.standing();
        self.clock.sample(now, standing);
        self.still.is(self.clock.total());
        self.report(now, standing);
        match self.resume_by {
            Some(_) if !standing => {
                self.resume_by = None;
                self.clock.renew();
                None
            }
            Some(by) if now > by => {
                let failure = Failure::new(
                    Code::BudgetSpent,
                    "the pause budget is spent and the debugger did not let the target run",
                );
                Some(End::failed(
                    "budget spent",
                    failure.hint("open the session with a longer `--pause-budget`"),
                ))
            }
            None if self.clock.spent() => self.spend(now),
            _ => None,
        }
    }

    /// Does it stand still because of us?
    fn standing(&self) -> bool {
        !self.held
            && match self.facts.stands {
                Stands::ByEvents => self.event_standing,
                Stands::ByThreadState => self.process.stat().is_ok_and(|stat| stat.state.is_traced()),
            }
    }

    /// Tells the client when a pause begins, each second, and when it ends.
    fn report(&mut self, now: Instant, standing: bool) {
        let due = match (standing, self.reported) {
            (true, None) => true,
            (true, Some(last)) => now.saturating_duration_since(last) >= REPORT,
            (false, reported) => reported.is_some(),
        };
        if due && self.backlog.len() < BACKLOG {
            self.reported = standing.then_some(now);
            self.backlog.push_back(Event::Pause(PauseReport {
                standing,
                this_pause_millis: millis(self.clock.this_pause().unwrap_or_default()),
                window_millis: millis(self.clock.in_window()),
                budget_millis: self.clock.limit().map_or(0, millis),
            }));
        }
    }

    /// Clears all breakpoints, then lets the target go on: with one still armed it would stop again at once.
    fn spend(&mut self, now: Instant) -> Option<End> {
        self.resume_by = Some(now + RESUME);
        let (requests, count) = self.armed.clear();
        for (command, arguments) in requests {
            let request = Message::request(self.own_seq(), command, arguments);
            if let Some(end) = self.send(&request) {
                return Some(end);
            }
        }
        if let Some(thread) = self.stopped_thread {
            let request = Message::request(
                self.own_seq(),
                "continue",
                json!({"threadId": thread, "singleThread": false}),
            );
            if let Some(end) = self.send(&request) {
                return Some(end);
            }
        }
        self.event_standing = false;
        self.backlog.push_back(Event::BudgetSpent(BudgetSpent {
            stood_still_millis: millis(self.clock.in_window()),
            breakpoints_cleared: u32::try_from(count).unwrap_or(u32::MAX),
        }));
        None
    }

    fn adapter_ended(&self) -> End {
        if !self.process.alive() {
            return End::because("target exited");
        }
        let failure = Failure::new(Code::ToolDied, format!("{} ended by itself", self.facts.name));
        End::failed("adapter died", failure)
    }

    /// Sends `disconnect` and waits a short while for its answer or the stream's end.
    async fn farewell(&mut self, adapter: &mut Adapter) {
        let seq = self.own_seq();
        let request =
            Message::request(seq, "disconnect", json!({"terminateDebuggee": false, "restart": false}));
        if self.send(&request).is_some() {
            return;
        }
        let answered = async {
            while let Ok(Some(messages)) = adapter.read().await {
                for message in messages {
                    if message.kind() == Some(MessageKind::Response) && message.request_seq() == seq {
                        return;
                    }
                    if self.backlog.len() < BACKLOG {
                        self.hear_adapter(message);
                    }
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL, answered).await;
    }

    fn refuse(&mut self, request: &Message, why: &str) {
        let refusal = Message::refusal(0, request, why);
        self.backlog.push_back(Event::Dap(refusal.to_bytes()));
    }

    fn notice(&mut self, text: String) {
        self.backlog.push_back(Event::Notice(Notice { text }));
    }

    fn own_seq(&mut self) -> i64 {
        self.next_own += 1;
        self.next_own
    }
}

async fn write_all(mut writer: WriteHalf<Box<dyn AdapterIo>>, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

/// Lets go, also of what was found `held`, and looks whether anything was left behind.
async fn let_go(
    hold: Box<dyn Hold>,
    process: &Process,
    end: End,
    stood_still: Duration,
    held: bool,
) -> Closed {
    let mut failure = end.failure;
    let mut left_behind = match tokio::time::timeout(LETTING_GO, hold.let_go()).await {
        Ok(gone) => gone.left_behind,
        Err(_) => {
            failure.get_or_insert_with(|| {
                Failure::new(Code::TimedOut, format!("the debugger did not let go within {LETTING_GO:?}"))
            });
            vec!["a debugger that does not end".to_owned()]
        }
    };
    if held {
        // It may have ended.
        let _ = process.resume();
    }
    failure = failure.map(|failure| aftermath::of_session(failure, process, held));
    if let Ok(status) = process.status()
        && status.tracer != 0
    {
        left_behind.push(format!("a tracer (process {})", status.tracer));
    }
    let reason = if process.alive() { end.reason } else { "target exited" };
    Closed { reason: reason.to_owned(), failure, stood_still_millis: millis(stood_still), left_behind }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
