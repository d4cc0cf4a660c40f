//! A debugger that waits for the next container of an image or a service, and is bound to exactly one.

use super::{Condition, DebugRequest, Kind, Time, schema::described, set};

described! {
    /// What is waited for, and by whom.
    pub struct RequestSpec {
        /// The image of the container, as `pepo ps` prints it; a `*` stands for any text.
        pub image: Option<String>,
        /// The service that the container belongs to, as its engine labels it; a `*` stands for any text.
        pub service: Option<String>,
        /// What is waited for; without it, the next start.
        pub next: Option<Next>,
        /// The person who waits. The server sets it.
        pub who: String,
        /// How long it waits, in seconds; without it, an hour.
        pub lasts_seconds: Option<u64>,
    }
    /// What became of it.
    pub struct RequestStatus {
        /// How far it is.
        pub state: RequestState,
        /// It waits no longer than this.
        pub waits_until: Time,
        /// The target that it was bound to.
        pub target: Option<String>,
        /// The attachment that was made for it.
        pub attachment: Option<String>,
        /// `Bound`.
        pub conditions: Vec<Condition>,
    }
}

described! {
    "lowercase"
    /// Which moment of a container a debug request waits for.
    pub enum Next {
        /// It starts.
        Start,
        /// Its proxy holds a call for it, until the debugger is there.
        Call,
    }
}

described! {
    "lowercase"
    /// How far a debug request is.
    pub enum RequestState {
        /// No container has fitted yet.
        Waiting,
        /// It has its container; the attachment tells the rest.
        Bound,
        /// None came in time.
        Expired,
    }
}

impl Kind for RequestSpec {
    type Status = RequestStatus;
    const KIND: &'static str = "DebugRequest";
    const PLURAL: &'static str = "debugrequests";
    const SHORT: &'static str = "requests";
}

impl DebugRequest {
    /// Binds it to a target, unless it is bound or has expired: then nothing changes, and the answer is no.
    pub fn bind(&mut self, target: &str, attachment: &str, now: Time) -> bool {
        if self.status.state != RequestState::Waiting {
            return false;
        }
        self.status.state = RequestState::Bound;
        self.status.target = Some(target.to_owned());
        self.status.attachment = Some(attachment.to_owned());
        set(&mut self.status.conditions, "Bound", true, now, ("ContainerFits", target));
        true
    }

    /// Ends the waiting, as [`DebugRequest::bind`] does, without a target.
    pub fn expire(&mut self, now: Time) -> bool {
        if self.status.state != RequestState::Waiting {
            return false;
        }
        self.status.state = RequestState::Expired;
        set(&mut self.status.conditions, "Bound", false, now, ("TimeOver", "no container came in time"));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_bound_once() {
        let mut request = DebugRequest::new("x", RequestSpec::default(), Time::now());
        assert!(request.bind("docker/shop@a", "y", Time::now()));
        assert!(!request.bind("docker/shop@b", "z", Time::now()));
        assert!(!request.expire(Time::now()));
        assert_eq!(request.status.target.as_deref(), Some("docker/shop@a"));
        let mut other = DebugRequest::new("x", RequestSpec::default(), Time::now());
        assert!(other.expire(Time::now()));
        assert!(!other.bind("docker/shop@a", "y", Time::now()));
    }
}
