//! Docker and Podman, by the Engine API which both answer.

/// The parts of answers that are read.
pub(crate) mod api;
/// A container's input and output as one byte stream.
mod attach;
/// Requests over connections that are kept alive.
pub(crate) mod client;
/// From an address to a byte stream.
mod dial;
/// Engines on other machines.
mod ssh;
/// Engines behind TLS.
mod tls;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use pepo_wire::{
    Failure,
    name::{Kind, TargetName},
};

use self::client::Client;
use crate::{
    Endpoint, Listed, Located, Platform, PlatformError, ReachPolicy, Reached, State,
    helper::{self, AgentBinary},
    local::{InProcess, Local},
    names::{Known, Meant, find},
};

/// Lists ask for so many containers' details at once; through ssh one after the other, since each more would log in anew, and
/// sshd drops those who do so by the dozen (sshd_config(5), MaxStartups).
const AT_ONCE: usize = 16;
/// And no longer than this: what was not told by then stays unknown.
const DETAILS: Duration = Duration::from_millis(1200);

/// What an engine said of a container beyond what all platforms say; a helper is made from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) image_id: String,
    pub(crate) pid_mode: String,
    pub(crate) userns_mode: String,
    pub(crate) runtime: String,
    pub(crate) cgroup_parent: String,
    pub(crate) process_label: String,
}

/// One engine of Docker's or Podman's kind.
pub(crate) struct Engine {
    kind: Kind,
    client: Arc<Client>,
    local: Local,
    policy: ReachPolicy,
    binary: AgentBinary,
}

impl Engine {
    /// Dials nothing yet.
    pub(crate) fn new(
        kind: Kind,
        endpoint: Endpoint,
        local: Local,
        policy: ReachPolicy,
        binary: AgentBinary,
    ) -> Engine {
        Engine { kind, client: Arc::new(Client::new(kind.prefix(), endpoint)), local, policy, binary }
    }

    /// May the engine's process ids mean something here? Only when it was dialled by a socket of this machine and runs on this
    /// very kernel. It is a first sieve: the agent proves each id before anything is done with it.
    async fn shares_kernel(&self) -> Result<bool, PlatformError> {
        let theirs = &self.client.met().await?.about.kernel_version;
        Ok(self.client.endpoint.is_here() && own_kernel().is_some_and(|own| own == *theirs))
    }

    async fn summaries(&self) -> Result<Vec<api::Summary>, PlatformError> {
        let all: Vec<api::Summary> = self.client.get("list its containers", "/containers/json?all=1").await?;
        Ok(all.into_iter().filter(|one| !helper::is_helper(&one.labels)).collect())
    }

    async fn inspect(&self, name: &str) -> Result<api::Inspect, PlatformError> {
        self.client.get("inspect a container", &format!("/containers/{name}/json")).await
    }

    /// The container a name means. The engine is asked by name at once; only if it knows none is the list searched for what came close.
    async fn find(&self, name: &TargetName) -> Result<api::Inspect, PlatformError> {
        if is_plain(&name.name) {
            match self.inspect(&name.name).await {
                Err(PlatformError::Refused { .. }) => {}
                answer => return answer,
            }
        }
        let known: Vec<Known> = self
            .summaries()
            .await?
            .into_iter()
            .map(|one| Known { name: one.name().to_owned(), aliases: Vec::new(), id: one.id })
            .collect();
        let typed = |name: &String| TargetName { kind: Some(self.kind), name: name.clone() }.to_string();
        match find(&name.name, &known) {
            Meant::One(at) => self.inspect(&known[at].id).await,
            Meant::Many(names) => Err(PlatformError::Ambiguous {
                name: name.clone(),
                candidates: names.iter().map(typed).collect(),
            }),
            Meant::None(near) => Err(PlatformError::NotFound {
                name: name.clone(),
                near: near.iter().map(typed).collect(),
                searched: vec![self.client.endpoint.to_string()],
                elsewhere: Vec::new(),
            }),
        }
    }

    fn listed(&self, summary: api::Summary, details: Option<&api::Inspect>, shares_kernel: bool) -> Listed {
        Listed {
            name: TargetName { kind: Some(self.kind), name: summary.name().to_owned() },
            state: State::read(&summary.state),
            health: details.and_then(api::Inspect::health),
            pid: details.and_then(api::Inspect::pid).filter(|_| shares_kernel),
            created: summary.created(),
            container_id: summary.id,
            image: summary.image,
            labels: summary.labels,
        }
    }
}

#[async_trait]
impl Platform for Engine {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn address(&self) -> String {
        self.client.endpoint.to_string()
    }

    fn is_here(&self) -> bool {
        self.client.endpoint.is_here()
    }

    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let shares_kernel = self.shares_kernel().await?;
        let summaries = self.summaries().await?;
        let running: Vec<String> = summaries
            .iter()
            .filter(|one| State::read(&one.state).has_process())
            .map(|one| one.id.clone())
            .collect();
        let at_once = if matches!(self.client.endpoint, Endpoint::Ssh { .. }) { 1 } else { AT_ONCE };
        let late = tokio::time::sleep(DETAILS);
        let details: Vec<api::Inspect> = futures::stream::iter(running)
            .map(|id| async move { self.inspect(&id).await })
            .buffer_unordered(at_once)
            .take_until(late)
            .filter_map(|answer| async { answer.ok() })
            .collect()
            .await;
        let of = |id: &str| details.iter().find(|one| one.id == id);
        Ok(summaries
            .into_iter()
            .map(|one| {
                let details = of(&one.id);
                self.listed(one, details, shares_kernel)
            })
            .collect())
    }

    async fn locate(&self, name: &TargetName) -> Result<Located, Failure> {
        let shares_kernel = self.shares_kernel().await?;
        let found = self.find(name).await?;
        let full = TargetName { kind: Some(self.kind), name: found.name().to_owned() };
        if helper::is_helper(&found.config.labels) {
            return Err(PlatformError::OwnHelper { name: full }.into());
        }
        let state = State::read(&found.state.status);
        if !state.has_process() {
            return Err(PlatformError::NotRunning { name: full, state: state.to_string() }.into());
        }
        Ok(Located {
            name: full,
            state,
            health: found.health(),
            pid: found.pid().filter(|_| shares_kernel),
            start_time: 0,
            facts: Facts {
                image_id: found.image,
                pid_mode: found.host_config.pid_mode,
                userns_mode: found.host_config.userns_mode,
                runtime: found.host_config.runtime,
                cgroup_parent: found.host_config.cgroup_parent,
                process_label: found.process_label,
            },
            in_pod: None,
            production: None,
            notes: Vec::new(),
            container_id: found.id,
            image: found.config.image,
            labels: found.config.labels,
        })
    }

    async fn reach(&self, located: &Located) -> Result<Reached, Failure> {
        let helper = || helper::reach(&self.client, &self.binary, located);
        if self.policy == ReachPolicy::Helper {
            return Ok(helper().await?);
        }
        // Only an engine on this kernel is worth asking the local agent about.
        let here = match located.pid {
            Some(_) => self.local.judge(located).await?,
            None if self.is_here() => {
                InProcess::Unseen(format!("{} does not run on this kernel", self.address()))
            }
            None => InProcess::Unseen(format!("{} is not on this machine", self.address())),
        };
        match here {
            InProcess::Allowed(proof) => self.local.reach(located, proof).await,
            InProcess::Denied(proof, _) if self.policy == ReachPolicy::InProcess => {
                self.local.reach(located, proof).await
            }
            InProcess::Unseen(why) if self.policy == ReachPolicy::InProcess => {
                Err(PlatformError::NotProven { name: located.name.clone(), why }.into())
            }
            InProcess::Unseen(why) => helper().await.map_err(|error| Failure::from(error).because(why)),
            // Without a helper what remains to be told is the right that is missing here.
            InProcess::Denied(_, denied) => helper().await.map_err(|error| {
                let error = Failure::from(error);
                tracing::debug!(%error, "no helper either");
                denied.because(format!("and {error}"))
            }),
        }
    }
}

/// Docker's own rule for names of containers; anything else would not survive as a part of a path.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// The release of this machine's kernel (uname(2)); `None` where no Linux runs.
fn own_kernel() -> Option<String> {
    #[cfg(target_os = "linux")]
    return std::fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned());
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_a_path_are_not_plain() {
        for (name, plain) in [
            ("shop.1-a_b", true),
            ("..", false),
            ("a/b", false),
            ("a?b", false),
            ("a%2e", false),
            ("", false),
            ("ü", false),
        ] {
            assert_eq!(is_plain(name), plain, "{name}");
        }
    }
}
