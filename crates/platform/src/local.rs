//! The agent in this very process: what it sees of a container, and whether that suffices.

use std::sync::Arc;

use pepo_client::Agent;
use pepo_wire::{
    Failure,
    agent::{ContainerTarget, Process, ProcessTarget, Target, Verdict, target},
    failure::Exit,
};

use crate::{HostPid, How, LocalAgent, Located, Need, PlatformError, Proven, Reached, helper::Leave};

/// The local agent, where there is one, and what it must be allowed to do.
#[derive(Clone)]
pub(crate) struct Local {
    agent: Option<Arc<dyn LocalAgent>>,
    need: Need,
}

/// May a target be reached in process?
#[derive(Debug)]
pub(crate) enum InProcess {
    /// The agent sees the container and the rights suffice.
    Allowed(Proven),
    /// The agent sees it and says which right is missing.
    Denied(Proven, Failure),
    /// The agent does not see it, for this reason.
    Unseen(String),
}

impl Local {
    pub(crate) fn new(agent: Option<Arc<dyn LocalAgent>>, need: Need) -> Local {
        Local { agent, need }
    }

    /// The processes of a target; of the whole machine without one.
    pub(crate) async fn list(&self, target: Option<Target>) -> Result<Vec<Process>, Failure> {
        Agent::connect(self.agent()?.connect().await?).await?.list(target).await
    }

    pub(crate) fn exists(&self) -> bool {
        self.agent.is_some()
    }

    /// Asks the agent for the processes of the container. What it lists under the container's id is proven: it has read that id from
    /// the process itself.
    pub(crate) async fn judge(&self, located: &Located) -> Result<InProcess, Failure> {
        if !self.exists() {
            return Ok(InProcess::Unseen("there is no agent in process on this system".to_owned()));
        }
        let processes = match self.list(Some(wire_target(located, located.pid))).await {
            Ok(processes) => processes,
            Err(failure) if failure.code().exit() == Exit::Target => {
                return Ok(InProcess::Unseen(failure.to_string()));
            }
            Err(failure) => return Err(failure),
        };
        Ok(judge(located, self.need, &processes))
    }

    /// A stream to the agent for a target it has proven.
    pub(crate) async fn reach(&self, located: &Located, proof: Proven) -> Result<Reached, Failure> {
        let io = self.agent()?.connect().await?;
        let target = wire_target(located, Some(proof.pid));
        Ok(Reached {
            io,
            target,
            how: How::InProcess,
            proof: Some(proof),
            leave: Leave::nothing(),
            notes: Vec::new(),
        })
    }

    /// In process or not at all: for platforms that know no helper.
    pub(crate) async fn reach_only(&self, located: &Located) -> Result<Reached, Failure> {
        match self.judge(located).await? {
            // The agent itself refuses what is not allowed, and says so best.
            InProcess::Allowed(proof) | InProcess::Denied(proof, _) => self.reach(located, proof).await,
            InProcess::Unseen(why) => {
                Err(PlatformError::NotProven { name: located.name.clone(), why }.into())
            }
        }
    }

    fn agent(&self) -> Result<&Arc<dyn LocalAgent>, Failure> {
        self.agent.as_ref().ok_or_else(|| {
            Failure::new(pepo_wire::Code::NotReachable, "this machine's own processes cannot be looked at")
                .because("the agent runs on Linux only")
        })
    }
}

/// What the target is called on the wire.
pub(crate) fn wire_target(located: &Located, hint: Option<HostPid>) -> Target {
    let pid = hint.map_or(0, HostPid::get);
    let kind = if located.container_id.is_empty() {
        target::Kind::Process(ProcessTarget {
            agent_pid: pid,
            start_time: located.start_time,
            pid_namespace: 0,
        })
    } else {
        target::Kind::Container(ContainerTarget {
            id: located.container_id.clone(),
            name: located.name.to_string(),
            pid_hint: pid,
        })
    };
    Target { kind: Some(kind), selector: None }
}

/// The main process among those of a container: the one the engine claims if it is there, else the one whose parent is outside.
pub(crate) fn main_process(processes: &[Process], claimed: Option<HostPid>) -> Option<&Process> {
    let claimed = claimed.and_then(|pid| processes.iter().find(|process| process.agent_pid == pid.get()));
    claimed.or_else(|| {
        let outside = |process: &&Process| !processes.iter().any(|other| other.agent_pid == process.parent);
        processes.iter().filter(outside).min_by_key(|process| (process.container_pid, process.start_time))
    })
}

fn judge(located: &Located, need: Need, processes: &[Process]) -> InProcess {
    let own: Vec<Process> = processes
        .iter()
        .filter(|process| located.container_id.is_empty() || process.container_id == located.container_id)
        .cloned()
        .collect();
    let Some(main) = main_process(&own, located.pid) else {
        return InProcess::Unseen(format!(
            "no process here has the container's id {} in its cgroup or mounts",
            crate::names::short(&located.container_id)
        ));
    };
    let Some(pid) = HostPid::new(main.agent_pid) else {
        return InProcess::Unseen("the agent answered without a process id".to_owned());
    };
    let proof = Proven {
        pid,
        container_id: main.container_id.clone(),
        start_time: main.start_time,
        pid_namespace: main.pid_namespace,
    };
    let verdict = match need {
        Need::Look | Need::Write => &main.look,
        Need::Stop | Need::Debug => &main.stop,
    };
    match verdict {
        Some(Verdict { yes: false, why }) => {
            let unknown = || {
                Failure::new(
                    pepo_wire::Code::NeedsCapability,
                    format!("{} cannot be looked at from here", located.name),
                )
            };
            InProcess::Denied(proof, why.clone().unwrap_or_else(unknown))
        }
        _ => InProcess::Allowed(proof),
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::Code;

    use super::*;

    fn located(id: &str, pid: u32) -> Located {
        Located { pid: HostPid::new(pid), ..crate::testing::located("docker/shop", id) }
    }

    fn process(pid: u32, parent: u32, id: &str) -> Process {
        let yes = Some(Verdict { yes: true, why: None });
        Process {
            agent_pid: pid,
            parent,
            container_id: id.to_owned(),
            start_time: 7,
            pid_namespace: 9,
            look: yes.clone(),
            stop: yes,
            ..Process::default()
        }
    }

    #[test]
    fn a_claimed_number_that_belongs_to_another_container_is_never_taken() {
        let judged = judge(&located("aaa", 100), Need::Look, &[process(100, 1, "bbb"), process(7, 1, "")]);
        assert!(matches!(judged, InProcess::Unseen(_)), "{judged:?}");
    }

    #[test]
    fn the_containers_id_proves_a_process_even_when_the_number_is_another() {
        let judged = judge(
            &located("aaa", 1),
            Need::Look,
            &[process(1, 0, ""), process(501, 500, "aaa"), process(500, 1, "aaa")],
        );
        let InProcess::Allowed(proof) = judged else { panic!("{judged:?}") };
        assert_eq!(
            (proof.pid.get(), proof.container_id.as_str(), proof.start_time, proof.pid_namespace),
            (500, "aaa", 7, 9)
        );
    }

    #[test]
    fn a_missing_right_is_handed_on_with_its_reason() {
        let mut one = process(5, 1, "aaa");
        one.stop = Some(Verdict { yes: false, why: Some(Failure::new(Code::Yama, "no")) });
        assert!(matches!(judge(&located("aaa", 5), Need::Look, &[one.clone()]), InProcess::Allowed(_)));
        let InProcess::Denied(_, why) = judge(&located("aaa", 5), Need::Stop, &[one]) else {
            panic!("allowed")
        };
        assert_eq!(why.code(), Code::Yama);
    }

    #[test]
    fn bare_processes_go_by_number_and_start_time() {
        let mut one = located("", 4711);
        one.start_time = 55;
        let Some(target::Kind::Process(target)) = wire_target(&one, one.pid).kind else {
            panic!("no process")
        };
        assert_eq!((target.agent_pid, target.start_time), (4711, 55));
    }
}
