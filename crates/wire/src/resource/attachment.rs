//! A session through a server, from the first wish to its end: what it is on, who wished it, and the one place that says how its
//! state may change.

use std::time::Duration;

use super::{Condition, DebugAttachment, Kind, Time, schema::described, set};

described! {
    /// On what, and by whom.
    pub struct AttachmentSpec {
        /// The target as people name it: docker/shop@node-a.
        pub target: String,
        /// The node that has it.
        pub node: String,
        /// The id its runtime gave it.
        pub container_id: String,
        /// The image that it runs.
        pub image: String,
        /// The person who wished it.
        pub who: String,
        /// What was granted: look, stop, modify.
        pub rights: Vec<String>,
        /// The debug request that it was made for.
        pub request: Option<String>,
        /// The container whose proxy holds a call until the debugger is there.
        pub holds: Option<PodContainer>,
    }
    /// A container of a pod, as Kubernetes names it.
    pub struct PodContainer {
        /// The pod's namespace.
        pub namespace: String,
        /// The pod.
        pub pod: String,
        /// Its container; empty where none was named.
        pub container: String,
    }
    /// What became of it.
    pub struct AttachmentStatus {
        /// How far it is.
        pub state: State,
        /// Why it is so, in one word for programs.
        pub reason: Option<Reason>,
        /// Why it is so, for people.
        pub message: Option<String>,
        /// The server that carries it.
        pub holder: Option<String>,
        /// Whoever finds it alive after this may say that it has expired: its holder is gone.
        pub lease_until: Time,
        /// Which debugger is attached.
        pub debugger: Option<String>,
        /// How long the target stood still in all, in milliseconds; known at the end.
        pub stood_still_millis: Option<u64>,
        /// `Attached`, `Ended`, and `Ready`: the debugger is configured, and each breakpoint that was set is verified or refused.
        pub conditions: Vec<Condition>,
        /// Every state it has been in, the first first.
        pub transitions: Vec<Transition>,
    }
    /// A change of state.
    pub struct Transition {
        /// The state that it came to.
        pub state: State,
        /// When.
        pub time: Time,
        /// Who brought it about: a person, `node NAME`, or `server`.
        pub who: String,
        /// Why, in one word for programs.
        pub reason: Reason,
        /// Why, for people.
        pub message: Option<String>,
    }
}

described! {
    "lowercase"
    /// How far an attachment is. It only ever goes on, by [`State::may_become`].
    pub enum State {
        /// Somebody wished it.
        Requested,
        /// The target's node was told.
        Scheduled,
        /// The agent beside the target is there; the debugger is being put in place.
        Attaching,
        /// A debugger is on the target.
        Attached,
        /// It ended as somebody wished; the target runs.
        Detached,
        /// It ended for another reason, which is told.
        Failed,
        /// Its time or its lease was over.
        Expired,
    }
}

described! {
    "PascalCase"
    /// Why an attachment is in its state.
    pub enum Reason {
        /// A person asked for it.
        Asked,
        /// A debug request was bound to the target.
        RequestBound,
        /// A debug request was bound to the target, whose proxy holds a call.
        CallHeld,
        /// The node was told to open the stream.
        NodeOrdered,
        /// The agent beside the target answered.
        AgentReady,
        /// A debugger session is open.
        SessionOpened,
        /// Its debugger is configured, and each breakpoint that was set is verified or refused.
        DebuggerReady,
        /// The agent beside the target is older and does not say when its debugger is ready.
        ReadyUnknown,
        /// Its client detached.
        ClientDetached,
        /// Somebody released the target.
        Released,
        /// Somebody ended the attachment at the server.
        Deleted,
        /// The target itself ended.
        TargetExited,
        /// The client ended before a debugger was attached.
        NeverAttached,
        /// The client went away without a word.
        ClientLost,
        /// The node was not there, or refused.
        NodeRefused,
        /// The node went away.
        NodeLost,
        /// The server that carried it ended.
        ServerEnded,
        /// No debugger could be attached.
        AttachFailed,
        /// The debugger ended by itself.
        DebuggerDied,
        /// The person may not do this any more.
        RightsTakenBack,
        /// No sign of life came from the client.
        LeaseLost,
        /// It lasted as long as any may.
        TimeOver,
        /// Nobody held it any more.
        HolderGone,
        /// Nobody came for it.
        NotClaimed,
    }
}

/// A proxy's call is held for at most so long, whatever becomes of its debugger.
pub const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// The condition that calls are held for.
const READY: &str = "Ready";

/// Why a state changes, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// A person, `node NAME`, or `server`.
    pub who: String,
    /// In one word.
    pub reason: Reason,
    /// For people; may be empty.
    pub message: String,
}

/// A change of state that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an attachment that is {from} cannot become {to}")]
pub struct Impossible {
    /// What it is.
    pub from: State,
    /// What it was to become.
    pub to: State,
}

impl State {
    /// Is it over? What is over never changes again.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, State::Detached | State::Failed | State::Expired)
    }

    /// The only changes there are: on by one step, from attached to detached, and from whatever is alive to failed or expired.
    #[must_use]
    pub fn may_become(self, next: State) -> bool {
        use State::*;
        match (self, next) {
            (Requested, Scheduled)
            | (Scheduled, Attaching)
            | (Attaching, Attached)
            | (Attached, Detached) => true,
            (from, Failed | Expired) => !from.is_over(),
            _ => false,
        }
    }
}

impl Kind for AttachmentSpec {
    type Status = AttachmentStatus;
    const KIND: &'static str = "DebugAttachment";
    const PLURAL: &'static str = "debugattachments";
    const SHORT: &'static str = "attachments";
}

impl DebugAttachment {
    /// A new attachment, requested.
    #[must_use]
    pub fn requested(name: &str, spec: AttachmentSpec, why: Why, now: Time, lease: Duration) -> Self {
        let mut object = DebugAttachment::new(name, spec, now);
        object.status.lease_until = now.after(lease);
        object.note(State::Requested, why, now);
        object
    }

    /// Changes its state, and writes down when, who and why.
    ///
    /// # Errors
    /// [`Impossible`]; then nothing has changed.
    pub fn advance(&mut self, next: State, why: Why, now: Time) -> Result<(), Impossible> {
        let from = self.status.state;
        if !from.may_become(next) {
            return Err(Impossible { from, to: next });
        }
        self.note(next, why, now);
        Ok(())
    }

    /// Writes down that its debugger is ready, as a condition; the state stays. False where no debugger is attached.
    pub fn make_ready(&mut self, reason: Reason, now: Time) -> bool {
        let is_attached = self.status.state == State::Attached;
        if is_attached {
            set(&mut self.status.conditions, READY, true, now, (reason.word().as_str(), ""));
        }
        is_attached
    }

    /// Is its debugger configured, and each breakpoint that was set verified or refused?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|one| one.r#type == READY && one.status == "True")
    }

    fn note(&mut self, state: State, why: Why, now: Time) {
        let status = &mut self.status;
        let message = Some(why.message).filter(|message| !message.is_empty());
        (status.state, status.reason, status.message) = (state, Some(why.reason), message.clone());
        let words = (why.reason.word(), message.clone().unwrap_or_default());
        let words = (words.0.as_str(), words.1.as_str());
        set(&mut status.conditions, "Attached", state == State::Attached, now, words);
        set(&mut status.conditions, "Ended", state.is_over(), now, words);
        // A new state is no readiness: that is told by itself.
        set(&mut status.conditions, READY, false, now, words);
        status.transitions.push(Transition { state, time: now, who: why.who, reason: why.reason, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(who: &str, reason: Reason) -> Why {
        Why { who: who.to_owned(), reason, message: String::new() }
    }

    fn requested() -> DebugAttachment {
        let at = Time::from_millis(1_000);
        let lease = Duration::from_secs(60);
        DebugAttachment::requested("x", AttachmentSpec::default(), why("ann", Reason::Asked), at, lease)
    }

    #[test]
    fn the_changes_that_can_be_are_these_and_no_others() {
        use State::*;
        let can = [
            (Requested, Scheduled),
            (Requested, Failed),
            (Requested, Expired),
            (Scheduled, Attaching),
            (Scheduled, Failed),
            (Scheduled, Expired),
            (Attaching, Attached),
            (Attaching, Failed),
            (Attaching, Expired),
            (Attached, Detached),
            (Attached, Failed),
            (Attached, Expired),
        ];
        for &from in State::ALL {
            for &to in State::ALL {
                assert_eq!(from.may_become(to), can.contains(&(from, to)), "{from} to {to}");
            }
        }
    }

    #[test]
    fn each_change_is_written_down_with_its_time_and_who_and_why() {
        let mut object = requested();
        assert_eq!(object.status.lease_until, Time::from_millis(61_000));
        let steps = [
            (State::Scheduled, "server", Reason::NodeOrdered),
            (State::Attaching, "node a", Reason::AgentReady),
            (State::Attached, "node a", Reason::SessionOpened),
            (State::Detached, "ann", Reason::ClientDetached),
        ];
        for (at, (state, who, reason)) in steps.into_iter().enumerate() {
            object.advance(state, why(who, reason), Time::from_millis(2_000 + at as u64)).unwrap();
            assert!(!object.is_ready());
            let is_attached = object.make_ready(Reason::DebuggerReady, Time::from_millis(2_500));
            assert_eq!((is_attached, object.is_ready()), (state == State::Attached, is_attached));
        }
        let told: Vec<_> = object
            .status
            .transitions
            .iter()
            .map(|one| format!("{} {} {} {}", one.state, one.time.millis(), one.who, one.reason))
            .collect();
        assert_eq!(
            told,
            [
                "requested 1000 ann Asked",
                "scheduled 2000 server NodeOrdered",
                "attaching 2001 node a AgentReady",
                "attached 2002 node a SessionOpened",
                "detached 2003 ann ClientDetached",
            ]
        );
        let conditions: Vec<_> = object
            .status
            .conditions
            .iter()
            .map(|one| format!("{} {} {}", one.r#type, one.status, one.last_transition_time.millis()))
            .collect();
        assert_eq!(conditions, ["Attached False 2003", "Ended True 2003", "Ready False 2003"]);
    }

    #[test]
    fn an_impossible_change_is_an_error_and_changes_nothing() {
        let mut object = requested();
        let before = object.clone();
        let refused = object.advance(State::Attached, why("ann", Reason::SessionOpened), Time::now());
        assert_eq!(refused, Err(Impossible { from: State::Requested, to: State::Attached }));
        assert_eq!(object, before);
        object.advance(State::Failed, why("server", Reason::NodeRefused), Time::now()).unwrap();
        assert!(object.advance(State::Expired, why("server", Reason::TimeOver), Time::now()).is_err());
        assert_eq!(
            Impossible { from: State::Detached, to: State::Attached }.to_string(),
            "an attachment that is detached cannot become attached"
        );
    }
}
