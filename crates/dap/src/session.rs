//! A DAP client that drives one adapter: the handshake, requests with their limits, events in their order, and what each
//! adapter does differently.
//!
//! It has no task of its own: whoever holds it asks it for an answer or for the next event, and messages that belong to the
//! other are kept meanwhile, within bounds.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use pepo_wire::{
    agent::{BudgetSpent, Closed, Opened, PauseReport},
    dap::{Message, MessageKind},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    error::DapError,
    link::{Link, LinkEvent, Outgoing},
    views::{Capabilities, Stopped, needed_for, view},
};

/// How long an adapter may take for an answer.
pub const ANSWER: Duration = Duration::from_secs(15);
/// How long it may take for `attach`: reading symbols is part of it.
pub const ATTACH: Duration = Duration::from_secs(90);
/// How long the session may take to end after it was asked to.
const CLOSING: Duration = Duration::from_secs(20);
/// How long the stop that comes of attaching may take to be told.
const ATTACH_STOP: Duration = Duration::from_secs(5);
/// How long the stop that ends the call of a function may take to be told, once the call was answered.
const CALLED: Duration = Duration::from_secs(5);
/// The most events kept while an answer is waited for; past that the oldest `output` events go.
const MAX_EVENTS: usize = 4096;

/// How gdb tells the stop at the end of a function that it called for an expression.
const CALL: &str = "function call";

/// How gdb refuses what needs a target that stands still.
pub(crate) const NOT_STOPPED: &str = "notStopped";

/// Is this how a stop is told that was only asked for?
pub(crate) fn is_pause(reason: &str) -> bool {
    matches!(reason, "pause" | "signal" | "interrupt")
}

/// What a client does differently with an adapter, by the names the agent sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// gdb stops the target once more when it attaches, with the reason `attach`: go on from there.
    pub continue_after_attach: bool,
    /// gdb answers `setBreakpoints` with `verified: false` and tells the truth in a later event.
    pub breakpoints_verify_late: bool,
    /// Paths of breakpoints are compared from their end, so that a part of one is enough (gdb, lldb).
    pub paths_by_suffix: bool,
    /// pydevd takes any function's name without looking for it.
    pub any_function: bool,
    /// The target was held at its first instruction: it goes on for the first time when the client says so.
    pub held: bool,
}

impl Quirks {
    /// As the agent announced them; names of a newer agent's are ignored.
    #[must_use]
    pub fn of(opened: &Opened) -> Quirks {
        let has = |name: &str| opened.quirks.iter().any(|quirk| quirk == name);
        Quirks {
            continue_after_attach: has("continue-after-attach"),
            breakpoints_verify_late: has("breakpoints-verify-late"),
            any_function: has("any-function"),
            held: has("held"),
            paths_by_suffix: has("paths-by-suffix") || matches!(opened.debugger.as_str(), "gdb" | "lldb"),
        }
    }
}

/// What happened in a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// An event of the adapter's.
    Event(Message),
    /// The target begins or ends to stand still, and each second between.
    Pause(PauseReport),
    /// The budget is spent: all breakpoints are cleared and the target runs.
    BudgetSpent(BudgetSpent),
    /// Words for the user.
    Notice(String),
    /// The last one.
    Closed(Closed),
}

/// One adapter, driven.
pub struct Debuggee {
    /// As the user named it, for what goes wrong.
    target: String,
    link: Box<dyn Link>,
    outgoing: Arc<dyn Outgoing>,
    seq: i64,
    /// Unanswered requests.
    pending: BTreeMap<i64, String>,
    /// Answers nobody has asked for yet.
    answers: BTreeMap<i64, Message>,
    happenings: VecDeque<Happening>,
    capabilities: Capabilities,
    initialized: bool,
    stopped: Option<Stopped>,
    closed: Option<Closed>,
    /// `disconnect` was sent: what an adapter still writes (lldb-dap 19 may crash at its exit) is no word of the target's.
    leaving: bool,
}

impl Debuggee {
    /// Takes a session whose adapter waits for `initialize`.
    #[must_use]
    pub fn new(link: Box<dyn Link>) -> Debuggee {
        Debuggee {
            target: String::new(),
            outgoing: link.outgoing(),
            link,
            seq: 0,
            pending: BTreeMap::new(),
            answers: BTreeMap::new(),
            happenings: VecDeque::new(),
            capabilities: Capabilities::default(),
            initialized: false,
            stopped: None,
            closed: None,
            leaving: false,
        }
    }

    /// The session's target, as the user named it.
    #[must_use]
    pub fn on(self, target: &str) -> Debuggee {
        Debuggee { target: target.to_owned(), ..self }
    }

    /// What the adapter says it can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Where it stands still, if it does.
    #[must_use]
    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// The agent's last word, once it came.
    #[must_use]
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// May this request be sent at all? One that an adapter does not know can end its session.
    #[must_use]
    pub fn offers(&self, command: &str) -> bool {
        needed_for(command).is_none_or(|ability| self.capabilities.has(ability))
    }

    /// Sends `initialize`: what we are, what a client behind us says of itself, then what the adapter wants to be told.
    ///
    /// # Errors
    /// As [`Debuggee::request`].
    pub async fn initialize(&mut self, client: &Value, wanted: &Value) -> Result<(), DapError> {
        let mut arguments = json!({
            "clientID": "pepo",
            "clientName": "Pepo",
            "adapterID": "pepo",
            "linesStartAt1": true,
            "columnsStartAt1": true,
            "pathFormat": "path",
            "supportsVariableType": true,
            "supportsMemoryReferences": true,
        });
        lay_over(&mut arguments, client);
        lay_over(
            &mut arguments,
            &json!({
                // What an adapter asks of its client would run on the user's machine.
                "supportsRunInTerminalRequest": false,
                "supportsArgsCanBeInterpretedByShell": false,
                "supportsStartDebuggingRequest": false,
            }),
        );
        lay_over(&mut arguments, wanted);
        let body = self.request_within("initialize", arguments, ATTACH).await?;
        self.capabilities.merge(&body);
        Ok(())
    }

    /// The whole way from a fresh session to a target that can be debugged: it runs, or stands still when `stop` is asked for.
    ///
    /// # Errors
    /// The adapter's own words, or what broke.
    pub async fn begin(&mut self, opened: &Opened, stop: bool) -> Result<(), DapError> {
        self.initialize(&Value::Null, &json_object(&opened.initialize_arguments)).await?;
        let attach = self.send("attach", attach_arguments(opened, stop)).await?;
        self.wait_initialized(attach).await?;
        let filters: Vec<String> = self
            .capabilities
            .exception_filters()
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| name)
            .collect();
        if !filters.is_empty() {
            // An adapter that announces filters may wait for them; one that refuses them goes on without.
            let _ = self.request("setExceptionBreakpoints", json!({"filters": filters})).await;
        }
        if self.offers("configurationDone") {
            self.request_within("configurationDone", Value::Null, ATTACH).await?;
        }
        self.answer("attach", attach, ATTACH).await?;
        self.settle(Quirks::of(opened), stop).await
    }

    /// Waits for the `initialized` event, or for the answer to `attach` if that says no.
    async fn wait_initialized(&mut self, attach: i64) -> Result<(), DapError> {
        let end = Instant::now() + ATTACH;
        while !self.initialized {
            if self.answers.get(&attach).is_some_and(|answer| !answer.success()) {
                return self.answer("attach", attach, ATTACH).await.map(drop);
            }
            self.pump_until(end, "attach", ATTACH).await?;
        }
        self.happenings.retain(
            |one| !matches!(one, Happening::Event(event) if event.event_name() == Some("initialized")),
        );
        Ok(())
    }

    /// Brings the target into the state that was asked for, whatever attaching left it in.
    async fn settle(&mut self, quirks: Quirks, stop: bool) -> Result<(), DapError> {
        let told = match quirks {
            Quirks { continue_after_attach: true, .. } => self.wait_stop(ATTACH_STOP).await?,
            Quirks { held: true, .. } if stop => self.wait_stop(ANSWER).await?,
            _ => self.stopped.is_some(),
        };
        match (stop, told) {
            (false, true) if quirks.continue_after_attach => {
                let thread = self.stopped.as_ref().and_then(|stopped| stopped.thread_id);
                self.forget_stop();
                self.resume("continue", thread.unwrap_or(1)).await?;
            }
            (true, false) => {
                self.pause().await?;
                self.wait_stop(ANSWER).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Did the target stop within `limit`? The event stays among the happenings. A session that ends meanwhile is an error.
    async fn wait_stop(&mut self, limit: Duration) -> Result<bool, DapError> {
        let end = Instant::now() + limit;
        while self.stopped.is_none() {
            // A link that is over answers at once, for ever.
            if self.closed.is_some() {
                return Err(self.ended("pause"));
            }
            match tokio::time::timeout_at(end, self.pump()).await {
                Ok(more) => more?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Drops the stop that was told last, as if it had not been.
    fn forget_stop(&mut self) {
        self.stopped = None;
        self.happenings
            .retain(|one| !matches!(one, Happening::Event(event) if event.event_name() == Some("stopped")));
    }

    /// Says that calls may come: what they are to meet is set.
    ///
    /// # Errors
    /// What broke.
    pub async fn ready(&mut self) -> Result<(), DapError> {
        self.outgoing.ready().await.map_err(DapError::Session)
    }

    /// Lets the target go on: `continue`, `next`, `stepIn` or `stepOut`.
    ///
    /// # Errors
    /// As [`Debuggee::request`].
    pub async fn resume(&mut self, command: &str, thread: i64) -> Result<(), DapError> {
        // Some adapters tell the next stop before they answer.
        let before = self.stopped.take();
        let answer = self.request(command, json!({"threadId": thread})).await;
        if answer.is_err() && self.stopped.is_none() {
            self.stopped = before;
        }
        answer.map(drop)
    }

    /// As [`Debuggee::request`], for breakpoints: an adapter that takes them only while the target stands still (gdb's
    /// functions) gets it to stand still for as long as that takes. A stop for a reason of its own is kept.
    ///
    /// # Errors
    /// As [`Debuggee::request`].
    pub async fn request_standing(&mut self, command: &str, arguments: Value) -> Result<Value, DapError> {
        let first = self.request(command, arguments.clone()).await;
        let running = matches!(&first, Err(DapError::Refused { words, .. }) if words == NOT_STOPPED);
        if !running || self.stopped.is_some() {
            return first;
        }
        self.pause().await?;
        if !self.wait_stop(ANSWER).await? {
            return first;
        }
        let again = self.request(command, arguments).await;
        if let Some(Stopped { thread_id, reason, .. }) = self.stopped.clone()
            && is_pause(&reason)
        {
            self.forget_stop();
            self.resume("continue", thread_id.unwrap_or(1)).await?;
        }
        again
    }

    /// As [`Debuggee::request`], for what may call a function of the target's: gdb tells that as if the target had gone on and stopped.
    /// Where it stood still before, it does so afterwards, and nothing of it is told; but a stop for a reason of its own is.
    ///
    /// # Errors
    /// As [`Debuggee::request`].
    pub async fn request_calling(&mut self, command: &str, arguments: Value) -> Result<Value, DapError> {
        let (stood, before) = (self.stopped.clone(), self.happenings.len());
        let answer = self.request(command, arguments).await;
        let Some(stood) = stood.filter(|_| !matches!(answer, Err(DapError::TimedOut { .. }))) else {
            return answer;
        };
        self.wait_stop(CALLED).await?;
        if self.stopped.as_ref().is_some_and(|stopped| stopped.reason == CALL) {
            self.stopped = Some(stood);
            let mut count = 0;
            self.happenings.retain(|one| {
                count += 1;
                let name = if let Happening::Event(event) = one { event.event_name() } else { None };
                count <= before || !matches!(name, Some("continued" | "stopped"))
            });
        }
        answer
    }

    /// Asks the target to stop where it is.
    ///
    /// # Errors
    /// As [`Debuggee::request`].
    pub async fn pause(&mut self) -> Result<(), DapError> {
        let threads = self.request("threads", Value::Null).await.unwrap_or(Value::Null);
        let first = threads.pointer("/threads/0/id").and_then(Value::as_i64).unwrap_or(1);
        self.request("pause", json!({"threadId": first})).await.map(drop)
    }

    /// Asks and waits for the answer's body.
    ///
    /// # Errors
    /// [`DapError::NotOffered`] without asking when the adapter does not announce it; [`DapError::Refused`];
    /// [`DapError::TimedOut`]; what broke.
    pub async fn request(&mut self, command: &str, arguments: Value) -> Result<Value, DapError> {
        self.request_within(command, arguments, ANSWER).await
    }

    /// As [`Debuggee::request`], with another limit.
    ///
    /// # Errors
    /// As [`Debuggee::request`].
    pub async fn request_within(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, DapError> {
        if !self.offers(command) {
            return Err(DapError::not_offered(format!("`{command}`")));
        }
        let seq = self.send(command, arguments).await?;
        self.answer(command, seq, limit).await
    }

    /// Sends a request and returns its number.
    async fn send(&mut self, command: &str, arguments: Value) -> Result<i64, DapError> {
        if let Some(closed) = &self.closed {
            return Err(DapError::Over { reason: closed.reason.clone() });
        }
        self.seq += 1;
        self.pending.insert(self.seq, command.to_owned());
        self.outgoing.send(Message::request(self.seq, command, arguments).to_bytes()).await?;
        Ok(self.seq)
    }

    /// Waits for the answer to the request with this number.
    async fn answer(&mut self, command: &str, seq: i64, limit: Duration) -> Result<Value, DapError> {
        let end = Instant::now() + limit;
        loop {
            if let Some(mut answer) = self.answers.remove(&seq) {
                let body = answer.fields.remove("body").unwrap_or(Value::Null);
                if answer.success() {
                    return Ok(body);
                }
                answer.fields.insert("body".into(), body);
                return Err(DapError::Refused { command: command.to_owned(), words: answer.error_text() });
            }
            self.pump_until(end, command, limit).await?;
        }
    }

    async fn pump_until(&mut self, end: Instant, command: &str, limit: Duration) -> Result<(), DapError> {
        if self.closed.is_some() {
            return Err(self.ended(command));
        }
        match tokio::time::timeout_at(end, self.pump()).await {
            Ok(result) => result,
            Err(_) => {
                let target = self.target.clone();
                Err(DapError::TimedOut { command: command.to_owned(), limit, target })
            }
        }
    }

    fn ended(&self, command: &str) -> DapError {
        match &self.closed {
            Some(Closed { failure: Some(failure), .. }) => DapError::Session(failure.clone()),
            _ => DapError::Ended { command: command.to_owned() },
        }
    }

    /// What happened next; `None` after [`Happening::Closed`]. Loses nothing when dropped half-way.
    pub async fn next(&mut self) -> Option<Happening> {
        loop {
            if let Some(happening) = self.happenings.pop_front() {
                return Some(happening);
            }
            if self.closed.is_some() || self.pump().await.is_err() {
                return self.happenings.pop_front();
            }
        }
    }

    /// Something that happened already, without waiting.
    pub fn take_happening(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    /// Takes one event off the link and puts it where it belongs.
    async fn pump(&mut self) -> Result<(), DapError> {
        match self.link.next().await {
            Some(LinkEvent::Dap(bytes)) => self.take_message(&bytes).await?,
            Some(LinkEvent::Pause(report)) => self.keep(Happening::Pause(report)),
            Some(LinkEvent::BudgetSpent(spent)) => {
                self.stopped = None;
                self.keep(Happening::BudgetSpent(spent));
            }
            Some(LinkEvent::Notice(text)) => self.keep(Happening::Notice(text)),
            Some(LinkEvent::Closed(closed)) => self.take_closed(closed),
            None => self.take_closed(Closed { reason: "the stream ended".into(), ..Closed::default() }),
        }
        Ok(())
    }

    fn take_closed(&mut self, closed: Closed) {
        self.stopped = None;
        if self.closed.is_none() {
            self.closed = Some(closed.clone());
            self.keep(Happening::Closed(closed));
        }
    }

    async fn take_message(&mut self, bytes: &[u8]) -> Result<(), DapError> {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "the adapter sent something that is not a message");
                return Ok(());
            }
        };
        match message.kind() {
            Some(MessageKind::Response) => {
                let seq = message.request_seq();
                if self.pending.remove(&seq).is_some() {
                    self.answers.insert(seq, message);
                }
                // Answers that came too late for their askers are not kept for ever.
                while self.answers.len() > 64 {
                    self.answers.pop_first();
                }
            }
            Some(MessageKind::Event) => self.take_event(message),
            Some(MessageKind::Request) => {
                self.seq += 1;
                let no = Message::refusal(self.seq, &message, "not offered by this client");
                self.outgoing.send(no.to_bytes()).await?;
            }
            None => {}
        }
        Ok(())
    }

    fn take_event(&mut self, event: Message) {
        match event.event_name() {
            Some("initialized") => self.initialized = true,
            Some("capabilities") => {
                self.capabilities.merge(event.body().get("capabilities").unwrap_or(&Value::Null));
            }
            Some("stopped") => self.stopped = Some(view(event.body())),
            Some("continued" | "terminated" | "exited") => self.stopped = None,
            Some("output") if self.leaving => return,
            _ => {}
        }
        self.keep(Happening::Event(event));
    }

    fn keep(&mut self, happening: Happening) {
        if self.happenings.len() >= MAX_EVENTS {
            let output = |one: &Happening| matches!(one, Happening::Event(event) if event.event_name() == Some("output"));
            let oldest = self.happenings.iter().position(output).unwrap_or(0);
            self.happenings.remove(oldest);
        }
        self.happenings.push_back(happening);
    }

    /// Detaches, never ending the target, and waits for the last word.
    ///
    /// # Errors
    /// When the last word does not come in time.
    pub async fn detach(&mut self) -> Result<Closed, DapError> {
        if self.closed.is_none() {
            // Whether the adapter answers or not, the agent is asked to let go.
            let _ = self.request("disconnect", json!({"terminateDebuggee": false})).await;
            self.leaving = true;
            let _ = self.outgoing.close().await;
        }
        let end = Instant::now() + CLOSING;
        while self.closed.is_none() {
            self.pump_until(end, "disconnect", CLOSING).await?;
        }
        Ok(self.closed.clone().unwrap_or_default())
    }

    /// For whoever passes the adapter's messages on by himself from now on: the link, the last number used, and what happened
    /// meanwhile.
    #[must_use]
    pub fn into_parts(self) -> (Box<dyn Link>, i64, Vec<Happening>, Capabilities) {
        (self.link, self.seq, self.happenings.into(), self.capabilities)
    }
}

/// What the adapter is told with `attach`. One that is held may stay where it is; any other is stopped, if that is wished for.
pub(crate) fn attach_arguments(opened: &Opened, stop: bool) -> Value {
    let mut arguments = json_object(&opened.attach_arguments);
    if Quirks::of(opened).held {
        lay_over(&mut arguments, &json!({"stopOnEntry": stop}));
    }
    arguments
}

/// The words of an object that came as text; an empty one when it is none.
#[must_use]
pub fn json_object(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => value,
        _ => json!({}),
    }
}

/// Puts the fields of `over` over those of `base`.
pub fn lay_over(base: &mut Value, over: &Value) {
    if let (Some(base), Some(over)) = (base.as_object_mut(), over.as_object()) {
        base.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}
