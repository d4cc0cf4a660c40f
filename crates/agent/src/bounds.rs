//! What the client of one stream may do, whatever it asks for.

use pepo_wire::{
    Code, Failure,
    agent::{
        CheckRequest, Grant, Guard, ListProcessesRequest, OpenSession, ReleaseRequest, Right, SessionInfo,
        StartCore, StartWriteTree, Target, target::Kind,
    },
};

/// Set by whoever gives the stream away (a node agent, on a server's order), and held here, beside the target, where neither the
/// client nor the server can lift it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The person, for the journal and for audit lines; goes before what the client says of itself.
    pub who: String,
    /// Id of the one container that may be touched.
    pub container: String,
    /// What may be done with it beyond a look.
    pub rights: Vec<Right>,
    /// Longest lease, in seconds.
    pub lease_seconds: u32,
    /// Longest pause budget, in milliseconds. Never unlimited.
    pub pause_budget_millis: u64,
}

/// A request, or its part, held to the bounds of its stream.
pub(crate) trait Bound: Sized {
    /// The request as it may be done.
    ///
    /// # Errors
    /// [`Code::NotGranted`], which names what is missing.
    fn within(self, bounds: &Bounds) -> Result<Self, Failure>;
}

/// As [`Bound::within`], where there are bounds at all.
pub(crate) fn held<T: Bound>(request: T, bounds: Option<&Bounds>) -> Result<T, Failure> {
    match bounds {
        Some(bounds) => request.within(bounds),
        None => Ok(request),
    }
}

impl Bounds {
    /// Is this session on the container that was granted?
    pub(crate) fn shows(&self, session: &SessionInfo) -> bool {
        session.process.as_ref().is_some_and(|process| process.container_id == self.container)
    }

    /// What is asked for, as far as it was granted.
    fn held(&self, mut grant: Grant) -> Grant {
        grant.who.clone_from(&self.who);
        grant.rights.retain(|right| self.rights.iter().any(|granted| *granted as i32 == *right));
        // Zero means the agent's default, which may be longer.
        let asked = Some(grant.lease_seconds).filter(|&seconds| seconds > 0);
        grant.lease_seconds = asked.map_or(self.lease_seconds, |asked| asked.min(self.lease_seconds));
        // Zero means unlimited.
        let asked = grant.pause_budget_millis.filter(|&millis| millis > 0);
        let longest = self.pause_budget_millis;
        grant.pause_budget_millis = Some(asked.map_or(longest, |asked| asked.min(longest)));
        grant
    }

    fn need(&self, right: Right, what: &str) -> Result<(), Failure> {
        if self.rights.contains(&right) {
            return Ok(());
        }
        Err(Failure::new(Code::NotGranted, format!("{} may not {what}", self.who))
            .because("the server granted this stream no such right on the container"))
    }
}

impl Bound for Option<Target> {
    fn within(self, bounds: &Bounds) -> Result<Self, Failure> {
        match self.as_ref().and_then(|target| target.kind.as_ref()) {
            Some(Kind::Container(container)) if container.id == bounds.container => Ok(self),
            _ => Err(Failure::new(Code::NotGranted, "this stream leads to one container alone")
                .because(format!("the server granted {} the container {}", bounds.who, bounds.container))),
        }
    }
}

impl Bound for ListProcessesRequest {
    fn within(self, bounds: &Bounds) -> Result<Self, Failure> {
        Ok(ListProcessesRequest { target: self.target.within(bounds)? })
    }
}

impl Bound for CheckRequest {
    fn within(self, bounds: &Bounds) -> Result<Self, Failure> {
        Ok(CheckRequest { target: self.target.within(bounds)?, ..self })
    }
}

impl Bound for ReleaseRequest {
    fn within(self, bounds: &Bounds) -> Result<Self, Failure> {
        bounds.need(Right::Stop, "end sessions")?;
        Ok(ReleaseRequest { all: false, target: self.target.within(bounds)? })
    }
}

impl Bound for StartCore {
    fn within(self, bounds: &Bounds) -> Result<Self, Failure> {
        // It brings every secret in the memory home: more than a look, also where nothing is stopped.
        bounds.need(Right::Stop, "bring its memory home")?;
        let grant = bounds.held(self.grant.unwrap_or_default());
        Ok(StartCore { target: self.target.within(bounds)?, grant: Some(grant), ..self })
    }
}

impl Bound for StartWriteTree {
    fn within(self, bounds: &Bounds) -> Result<Self, Failure> {
        bounds.need(Right::Modify, "change its files")?;
        let grant = bounds.held(self.grant.unwrap_or_default());
        Ok(StartWriteTree { target: self.target.within(bounds)?, grant: Some(grant), ..self })
    }
}

impl Bound for OpenSession {
    fn within(self, bounds: &Bounds) -> Result<Self, Failure> {
        bounds.need(Right::Stop, "stop it")?;
        Ok(OpenSession {
            target: self.target.within(bounds)?,
            grant: Some(bounds.held(self.grant.unwrap_or_default())),
            // The target's life before the client's wishes, and no file of the node's is anybody's business.
            guard: Guard::Unspecified.into(),
            symbol_folders: Vec::new(),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::agent::{ContainerTarget, Process, ProcessTarget};

    use super::*;

    fn bounds(rights: &[Right]) -> Bounds {
        Bounds {
            who: "ann".to_owned(),
            container: "c0ffee".to_owned(),
            rights: rights.to_vec(),
            lease_seconds: 30,
            pause_budget_millis: 10_000,
        }
    }

    fn container(id: &str) -> Option<Target> {
        let kind = Kind::Container(ContainerTarget { id: id.to_owned(), ..ContainerTarget::default() });
        Some(Target { kind: Some(kind), selector: None })
    }

    fn open(target: Option<Target>, grant: Grant) -> OpenSession {
        OpenSession {
            target,
            grant: Some(grant),
            guard: Guard::Off.into(),
            symbol_folders: vec!["/etc".to_owned()],
            ..OpenSession::default()
        }
    }

    #[test]
    fn only_the_granted_container_is_a_target() {
        let bounds = bounds(&[Right::Stop, Right::Modify]);
        assert!(container("c0ffee").within(&bounds).is_ok());
        let process = Kind::Process(ProcessTarget { agent_pid: 1, ..ProcessTarget::default() });
        let process = Some(Target { kind: Some(process), selector: None });
        for other in [None, container("c0ffe"), container(""), process, Some(Target::default())] {
            assert_eq!(other.clone().within(&bounds).unwrap_err().code(), Code::NotGranted, "{other:?}");
            let list = ListProcessesRequest { target: other.clone() };
            assert_eq!(list.within(&bounds).unwrap_err().code(), Code::NotGranted);
            let check = CheckRequest { target: other.clone(), ..CheckRequest::default() };
            assert_eq!(check.within(&bounds).unwrap_err().code(), Code::NotGranted);
            let release = ReleaseRequest { all: true, target: other.clone() };
            assert_eq!(release.within(&bounds).unwrap_err().code(), Code::NotGranted);
            let core = StartCore { target: other.clone(), ..StartCore::default() };
            assert_eq!(core.within(&bounds).unwrap_err().code(), Code::NotGranted);
            let write = StartWriteTree { target: other.clone(), ..StartWriteTree::default() };
            assert_eq!(write.within(&bounds).unwrap_err().code(), Code::NotGranted);
            let open = open(other, Grant::default());
            assert_eq!(open.within(&bounds).unwrap_err().code(), Code::NotGranted);
        }
    }

    #[test]
    fn who_looks_neither_stops_nor_ends_sessions_nor_takes_the_memory() {
        let bounds = bounds(&[]);
        let rights = vec![Right::Stop.into(), Right::Modify.into()];
        let open = open(container("c0ffee"), Grant { rights, ..Grant::default() });
        assert_eq!(open.within(&bounds).unwrap_err().code(), Code::NotGranted);
        let release = ReleaseRequest { all: false, target: container("c0ffee") };
        assert_eq!(release.within(&bounds).unwrap_err().code(), Code::NotGranted);
        let core = StartCore { target: container("c0ffee"), no_stop: true, ..StartCore::default() };
        assert_eq!(core.within(&bounds).unwrap_err().code(), Code::NotGranted);
    }

    #[test]
    fn files_are_written_with_the_right_to_modify_alone() {
        let rights = vec![Right::Modify.into(), Right::Raw.into()];
        let write = |bounds: &Bounds| {
            let grant = Some(Grant { who: "root".to_owned(), rights: rights.clone(), ..Grant::default() });
            let target = container("c0ffee");
            StartWriteTree { target, grant, ..StartWriteTree::default() }.within(bounds)
        };
        for given in [&[][..], &[Right::Stop]] {
            assert_eq!(write(&bounds(given)).unwrap_err().code(), Code::NotGranted);
        }
        let grant = write(&bounds(&[Right::Modify])).unwrap().grant.unwrap();
        assert_eq!((grant.who.as_str(), grant.rights), ("ann", vec![Right::Modify as i32]));
    }

    #[test]
    fn a_session_gets_no_more_than_was_granted_whatever_it_asks_for() {
        let bounds = bounds(&[Right::Stop]);
        for (lease, budget, got) in [
            (0, None, (30, 10_000)),
            (0, Some(0), (30, 10_000)),
            (31, Some(10_001), (30, 10_000)),
            (u32::MAX, Some(u64::MAX), (30, 10_000)),
            (5, Some(2_000), (5, 2_000)),
        ] {
            let asked = Grant {
                who: "root".to_owned(),
                rights: vec![Right::Stop.into(), Right::Modify.into(), Right::Raw.into(), 99],
                lease_seconds: lease,
                pause_budget_millis: budget,
            };
            let open = open(container("c0ffee"), asked).within(&bounds).unwrap();
            assert_eq!((open.guard(), open.symbol_folders), (Guard::Unspecified, Vec::new()));
            let grant = open.grant.unwrap();
            assert_eq!((grant.who.as_str(), grant.rights), ("ann", vec![Right::Stop as i32]));
            assert_eq!((grant.lease_seconds, grant.pause_budget_millis), (got.0, Some(got.1)));
        }
    }

    #[test]
    fn sessions_on_other_containers_are_not_shown() {
        let on = |id: &str| SessionInfo {
            process: Some(Process { container_id: id.to_owned(), ..Process::default() }),
            ..SessionInfo::default()
        };
        let bounds = bounds(&[]);
        assert!(bounds.shows(&on("c0ffee")));
        assert!(
            !bounds.shows(&on("")) && !bounds.shows(&on("beef")) && !bounds.shows(&SessionInfo::default())
        );
    }
}
