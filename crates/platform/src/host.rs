//! This machine's processes and the containers they are in, seen through procfs and cgroups alone.
//!
//! Works without any engine's consent: the agent reads a container's id from each process's cgroup, whatever engine made it. Names
//! and images are the engines' knowledge, so a container is called by its id here.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use pepo_wire::{
    Failure,
    agent::{Process, ProcessTarget, Target, target},
    name::{Kind, TargetName},
};

use crate::{
    HostPid, Listed, Located, Platform, PlatformError, Reached, State,
    local::{Local, main_process},
    names::{Known, Meant, find, short},
};

/// The host platform.
pub(crate) struct Host {
    local: Local,
}

impl Host {
    pub(crate) fn new(local: Local) -> Host {
        Host { local }
    }

    /// The containers' processes, by container.
    async fn containers(&self) -> Result<Vec<(String, Vec<Process>)>, Failure> {
        let mut containers: HashMap<String, Vec<Process>> = HashMap::new();
        for process in self.local.list(None).await? {
            if !process.container_id.is_empty() {
                containers.entry(process.container_id.clone()).or_default().push(process);
            }
        }
        let mut containers: Vec<_> = containers.into_iter().collect();
        containers.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(containers)
    }

    async fn process(&self, name: &TargetName) -> Result<Located, Failure> {
        let not_found = || PlatformError::NotFound {
            name: name.clone(),
            near: Vec::new(),
            searched: vec!["this machine's processes".to_owned()],
            elsewhere: Vec::new(),
        };
        let pid = name.name.parse().ok().and_then(HostPid::new).ok_or_else(not_found)?;
        let target = ProcessTarget { agent_pid: pid.get(), start_time: 0, pid_namespace: 0 };
        let processes = self
            .local
            .list(Some(Target { kind: Some(target::Kind::Process(target)), selector: None }))
            .await?;
        let process =
            processes.iter().find(|process| process.agent_pid == pid.get()).ok_or_else(not_found)?;
        Ok(located(TargetName { kind: Some(Kind::Pid), name: pid.to_string() }, process, String::new()))
    }

    async fn container(&self, name: &TargetName) -> Result<Located, Failure> {
        let containers = self.containers().await?;
        let known: Vec<Known> = containers
            .iter()
            .map(|(id, _)| Known { name: short(id).to_owned(), aliases: Vec::new(), id: id.clone() })
            .collect();
        let typed = |name: &String| format!("host/{name}");
        match find(&name.name, &known) {
            Meant::One(at) => {
                let (id, processes) = &containers[at];
                let full = TargetName { kind: Some(Kind::Host), name: short(id).to_owned() };
                let gone = || PlatformError::NotRunning { name: full.clone(), state: "exited".to_owned() };
                let main = main_process(processes, None).ok_or_else(gone)?;
                Ok(located(full.clone(), main, id.clone()))
            }
            Meant::Many(names) => Err(PlatformError::Ambiguous {
                name: name.clone(),
                candidates: names.iter().map(typed).collect(),
            }
            .into()),
            Meant::None(near) => Err(PlatformError::NotFound {
                name: name.clone(),
                near: near.iter().map(typed).collect(),
                searched: vec![self.address()],
                elsewhere: Vec::new(),
            }
            .into()),
        }
    }
}

#[async_trait]
impl Platform for Host {
    fn kind(&self) -> Kind {
        Kind::Host
    }

    fn address(&self) -> String {
        "this machine's cgroups".to_owned()
    }

    fn is_here(&self) -> bool {
        true
    }

    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        Ok(self
            .containers()
            .await?
            .into_iter()
            .filter_map(|(id, processes)| {
                let main = main_process(&processes, None)?;
                Some(Listed {
                    name: TargetName { kind: Some(Kind::Host), name: short(&id).to_owned() },
                    image: String::new(),
                    state: State::Running,
                    health: None,
                    pid: HostPid::new(main.agent_pid),
                    labels: BTreeMap::new(),
                    created: started(main),
                    container_id: id,
                })
            })
            .collect())
    }

    async fn locate(&self, name: &TargetName) -> Result<Located, Failure> {
        if name.kind == Some(Kind::Pid) { self.process(name).await } else { self.container(name).await }
    }

    async fn reach(&self, located: &Located) -> Result<Reached, Failure> {
        self.local.reach_only(located).await
    }
}

fn located(name: TargetName, main: &Process, container_id: String) -> Located {
    Located {
        name,
        image: String::new(),
        state: State::Running,
        health: None,
        container_id,
        pid: HostPid::new(main.agent_pid),
        labels: BTreeMap::new(),
        start_time: main.start_time,
        facts: Default::default(),
        in_pod: None,
        production: None,
        notes: Vec::new(),
    }
}

fn started(process: &Process) -> Option<SystemTime> {
    let uptime = Duration::try_from_secs_f64(process.uptime_seconds).ok()?;
    SystemTime::now().checked_sub(uptime)
}
