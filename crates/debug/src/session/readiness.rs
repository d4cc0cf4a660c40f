//! When a debugger is ready for what its client waits for: a call that is held somewhere would pass it before.
//!
//! An editor sets its breakpoints and then says `configurationDone`: it is ready when that is answered, no request that sets
//! breakpoints is unanswered, and each breakpoint is verified or refused. A person at a terminal says breakpoints one by one, long
//! after that: such a client says by itself when it has what it wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use pepo_wire::dap::Message;
use serde_json::Value;
use tokio::sync::oneshot;

/// How long a breakpoint that was answered as not verified may take to become so; after that it counts as refused. Adapters that
/// verify late (gdb, delve for a library) do it within.
const LATE: Duration = Duration::from_millis(1500);
/// Requests and breakpoints that are kept at most: a client that asks for more is not waited for.
const MOST: usize = 4096;

/// What is still missing.
#[derive(Debug, Default)]
pub struct Readiness {
    tell: Option<oneshot::Sender<()>>,
    /// The client has still to say it.
    client: bool,
    configured: bool,
    /// The adapter takes no `configurationDone`: its answer to `attach` is as much.
    attach_is_enough: bool,
    /// Unanswered requests, by number.
    asked: BTreeMap<i64, Asked>,
    /// Breakpoints, by the adapter's numbers, that are neither verified nor refused, and until when that is waited for.
    pending: BTreeSet<i64>,
    pending_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Initialize,
    Attach,
    Configured,
    Breakpoints,
}

impl Readiness {
    /// `client_says`: the client says by itself when it is ready.
    #[must_use]
    pub fn new(client_says: bool) -> Readiness {
        Readiness { client: client_says, ..Readiness::default() }
    }

    /// Whoever wants to know.
    pub(super) fn told(&mut self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.tell = Some(tell);
        told
    }

    /// A request goes to the adapter.
    pub(super) fn asked(&mut self, request: &Message) {
        let asked = match request.command().unwrap_or_default() {
            "initialize" => Asked::Initialize,
            "attach" => Asked::Attach,
            "configurationDone" => Asked::Configured,
            command if command.starts_with("set") && command.ends_with("Breakpoints") => Asked::Breakpoints,
            _ => return,
        };
        if self.tell.is_some() && self.asked.len() < MOST {
            self.asked.insert(request.seq(), asked);
        }
    }

    /// The adapter answered, whatever it said.
    pub(super) fn answered(&mut self, response: &Message, now: Instant) {
        let body = response.body();
        match self.asked.remove(&response.request_seq()) {
            Some(Asked::Initialize) => {
                self.attach_is_enough = !is_true(body.get("supportsConfigurationDoneRequest"));
            }
            Some(Asked::Attach) => self.configured |= self.attach_is_enough,
            Some(Asked::Configured) => self.configured = true,
            Some(Asked::Breakpoints) => {
                let list = body.get("breakpoints").and_then(Value::as_array).map(Vec::as_slice);
                for breakpoint in list.unwrap_or_default() {
                    self.stands(breakpoint, now);
                }
            }
            None => {}
        }
    }

    /// What an event says of a breakpoint.
    pub(super) fn changed(&mut self, event: &Message) {
        let breakpoint = event.body().get("breakpoint").unwrap_or(&Value::Null);
        if let Some(id) = breakpoint.get("id").and_then(Value::as_i64)
            && is_decided(breakpoint)
        {
            self.pending.remove(&id);
        }
    }

    fn stands(&mut self, breakpoint: &Value, now: Instant) {
        let Some(id) = breakpoint.get("id").and_then(Value::as_i64) else { return };
        if is_decided(breakpoint) {
            self.pending.remove(&id);
        } else if self.pending.len() < MOST {
            self.pending.insert(id);
            self.pending_until = Some(now + LATE);
        }
    }

    /// The client has what it wants.
    pub(super) fn said(&mut self) {
        self.client = false;
    }

    /// Tells it, once, when nothing is missing.
    pub(super) fn look(&mut self, now: Instant) {
        let is_decided = self.pending.is_empty() || self.pending_until.is_none_or(|until| until <= now);
        let answered = self.asked.values().all(|asked| *asked != Asked::Breakpoints);
        if self.configured
            && !self.client
            && answered
            && is_decided
            && let Some(tell) = self.tell.take()
        {
            self.asked.clear();
            // Perhaps nobody wants to know any more.
            let _ = tell.send(());
        }
    }
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool).unwrap_or_default()
}

/// Verified, or refused for good.
fn is_decided(breakpoint: &Value) -> bool {
    is_true(breakpoint.get("verified")) || breakpoint.get("reason").and_then(Value::as_str) == Some("failed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Stage {
        readiness: Readiness,
        told: oneshot::Receiver<()>,
        now: Instant,
    }

    impl Stage {
        fn set(client_says: bool) -> Stage {
            let mut readiness = Readiness::new(client_says);
            let told = readiness.told();
            Stage { readiness, told, now: Instant::now() }
        }

        fn asks(&mut self, seq: i64, command: &str) -> Message {
            let request = Message::request(seq, command, Value::Null);
            self.readiness.asked(&request);
            request
        }

        fn answers(&mut self, request: &Message, body: Value) {
            self.readiness.answered(&Message::response(1, request, body), self.now);
        }

        /// Asks and is answered.
        fn does(&mut self, seq: i64, command: &str, body: Value) {
            let request = self.asks(seq, command);
            self.answers(&request, body);
        }

        fn is_ready(&mut self) -> bool {
            self.readiness.look(self.now);
            self.told.try_recv().is_ok()
        }
    }

    fn done() -> Value {
        json!({"supportsConfigurationDoneRequest": true})
    }

    #[test]
    fn an_editor_is_ready_when_its_configuration_and_its_breakpoints_are_answered() {
        let mut stage = Stage::set(false);
        stage.does(1, "initialize", done());
        stage.does(2, "attach", Value::Null);
        assert!(!stage.is_ready());
        let points = stage.asks(3, "setBreakpoints");
        stage.does(4, "configurationDone", Value::Null);
        assert!(!stage.is_ready(), "a request that sets breakpoints is unanswered");
        stage.answers(&points, json!({"breakpoints": [{"id": 1, "verified": true}]}));
        assert!(stage.is_ready());
        stage.does(5, "setBreakpoints", json!({"breakpoints": [{"id": 1, "verified": false}]}));
        assert!(!stage.is_ready(), "it is told once");
    }

    #[test]
    fn a_refused_breakpoint_and_a_refused_request_are_answers_too() {
        let mut stage = Stage::set(false);
        stage.does(1, "initialize", done());
        stage.does(
            2,
            "setFunctionBreakpoints",
            json!({"breakpoints": [{"id": 1, "verified": false, "reason": "failed"}, {"verified": false}]}),
        );
        let points = stage.asks(3, "setBreakpoints");
        stage.readiness.answered(&Message::refusal(1, &points, "no"), stage.now);
        stage.does(4, "configurationDone", Value::Null);
        assert!(stage.is_ready());
    }

    #[test]
    fn a_breakpoint_that_is_verified_late_is_waited_for_but_not_for_ever() {
        let pending = json!({"breakpoints": [{"id": 7, "verified": false}]});
        let mut stage = Stage::set(false);
        stage.does(1, "initialize", done());
        stage.does(2, "setBreakpoints", pending.clone());
        stage.does(3, "configurationDone", Value::Null);
        assert!(!stage.is_ready());
        let event = json!({"reason": "changed", "breakpoint": {"id": 7, "verified": true}});
        stage.readiness.changed(&Message::event(1, "breakpoint", event));
        assert!(stage.is_ready());

        let mut stage = Stage::set(false);
        stage.does(1, "initialize", done());
        stage.does(2, "setBreakpoints", pending);
        stage.does(3, "configurationDone", Value::Null);
        assert!(!stage.is_ready());
        stage.now += LATE;
        assert!(stage.is_ready());
    }

    #[test]
    fn an_adapter_that_takes_no_configuration_is_ready_with_its_attach() {
        let mut stage = Stage::set(false);
        stage.does(1, "initialize", json!({}));
        assert!(!stage.is_ready());
        stage.does(2, "attach", Value::Null);
        assert!(stage.is_ready());
    }

    #[test]
    fn a_client_that_says_it_by_itself_is_waited_for() {
        let mut stage = Stage::set(true);
        stage.does(1, "initialize", done());
        stage.does(2, "configurationDone", Value::Null);
        assert!(!stage.is_ready());
        let points = stage.asks(3, "setBreakpoints");
        stage.readiness.said();
        assert!(!stage.is_ready());
        stage.answers(&points, json!({"breakpoints": [{"id": 1, "verified": true}]}));
        assert!(stage.is_ready());
    }
}
