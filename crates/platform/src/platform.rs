//! What every platform offers, and the facts that pass between its acts.
//!
//! Three acts, each with one question. They answer those of Squash's three interfaces:
//!
//! | Squash | asks | here |
//! |---|---|---|
//! | `ContainerLocator` | which container does this name mean? | [`Platform::locate`] → [`Located`] |
//! | `Container2Pid` | which process is that container? | [`Located::pid`], a claim, and [`Reached::proof`], the [evidence](Proven) |
//! | `Debugger` | attach to that process | `Debugger` in `pepo_debug`, beside the target |
//!
//! What Squash had no word for is [`Platform::reach`]: the byte stream to an agent that stands beside the process.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use pepo_wire::{
    Failure,
    agent::{Finding, Target},
    name::{Kind, TargetName},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{HostPid, PlatformError, Proven, Start, Started, cluster::InPod, engine::Facts, helper::Leave};

/// A byte stream to an agent.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> Io for T {}

/// An agent in this very process. On Linux the command supplies one; elsewhere there is none.
#[async_trait]
pub trait LocalAgent: Send + Sync {
    /// A new byte stream to the agent; each is a connection of its own.
    ///
    /// # Errors
    /// [`pepo_wire::Code::AgentNotStarted`].
    async fn connect(&self) -> Result<Box<dyn Io>, Failure>;
}

/// A place where targets live: this host, a container engine, a CRI runtime.
#[async_trait]
pub trait Platform: Send + Sync {
    /// What stands before the slash in the names of its targets.
    fn kind(&self) -> Kind;

    /// Its address, for messages: `unix:///run/docker.sock`, `this machine`.
    fn address(&self) -> String;

    /// Does a bare name mean its targets too? True for what is dialled without leaving this machine.
    fn is_here(&self) -> bool;

    /// All its targets, running or not.
    ///
    /// # Errors
    /// [`pepo_wire::Code::SocketDenied`], [`pepo_wire::Code::EngineUnreachable`], [`pepo_wire::Code::EngineRefused`].
    async fn list(&self) -> Result<Vec<Listed>, Failure>;

    /// The one running target a name means (Squash's `ContainerLocator`). Names, ids and unique beginnings of ids are understood.
    ///
    /// # Errors
    /// As [`Platform::list`]; and [`pepo_wire::Code::TargetNotFound`], [`pepo_wire::Code::TargetAmbiguous`], [`pepo_wire::Code::NotRunning`].
    async fn locate(&self, name: &TargetName) -> Result<Located, Failure>;

    /// All running targets that a name means: of a workload, every replica that is ready.
    ///
    /// # Errors
    /// As [`Platform::locate`].
    async fn locate_all(&self, name: &TargetName) -> Result<Vec<Located>, Failure> {
        Ok(vec![self.locate(name).await?])
    }

    /// What can be told of the way to the target before it is taken, as rows of `pepo check`.
    async fn foresee(&self, _located: &Located) -> Vec<Finding> {
        Vec::new()
    }

    /// A byte stream to an agent beside the target.
    ///
    /// # Errors
    /// [`pepo_wire::Code::AgentNotStarted`] with the step that failed (everything made for it has been removed),
    /// [`pepo_wire::Code::PidNotProven`], [`pepo_wire::Code::NotReachable`].
    async fn reach(&self, located: &Located) -> Result<Reached, Failure>;

    /// Starts a program for a person, in the target's container or in the helper beside it.
    ///
    /// # Errors
    /// [`pepo_wire::Code::NotReachable`] where the platform has no such way; [`pepo_wire::Code::ClusterDenied`].
    async fn start(&self, located: &Located, _what: &Start) -> Result<Started, Failure> {
        let name = located.name.clone();
        Err(PlatformError::NotReachable { name, why: "its platform starts no program in it".to_owned() }
            .into())
    }
}

/// How far a container has come, in one word for all engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Has a process.
    Running,
    /// Has a process, which the engine froze (cgroup freezer).
    Paused,
    /// Ended.
    Exited,
    /// The engine's own word for anything else.
    Other(String),
}

impl State {
    /// Reads an engine's word.
    #[must_use]
    pub fn read(word: &str) -> State {
        match word.to_ascii_lowercase().as_str() {
            "created" | "configured" | "initialized" => State::Created,
            "running" | "stopping" => State::Running,
            "paused" => State::Paused,
            "exited" | "stopped" | "dead" => State::Exited,
            other => State::Other(other.to_owned()),
        }
    }

    /// Is there a process to look at?
    #[must_use]
    pub fn has_process(&self) -> bool {
        matches!(self, State::Running | State::Paused)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Created => "created",
            State::Running => "running",
            State::Paused => "paused",
            State::Exited => "exited",
            State::Other(word) => word,
        })
    }
}

/// A container's own check of its health, which kills or replaces it when it stands still for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Time between two checks.
    pub interval: Duration,
    /// After this time a check counts as failed.
    pub timeout: Duration,
    /// As many failures in a row make it unhealthy.
    pub retries: u32,
}

impl HealthCheck {
    /// How long the container may stand still with the check still content: `(retries − 1) × interval + timeout`,
    /// less a margin of a tenth (at least half a second, at most 3 s). Never zero, which would mean "unlimited".
    #[must_use]
    pub fn pause_budget(&self) -> Duration {
        let limit = self.interval.saturating_mul(self.retries.saturating_sub(1)).saturating_add(self.timeout);
        let margin = (limit / 10).clamp(Duration::from_millis(500), Duration::from_secs(3));
        limit.saturating_sub(margin).max(Duration::from_millis(100))
    }
}

/// One line of `pepo ps`.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Understood by every verb.
    pub name: TargetName,
    /// The image as it was asked for; empty when unknown.
    pub image: String,
    /// How far it has come.
    pub state: State,
    /// Its health check, if it has one and the platform told.
    pub health: Option<HealthCheck>,
    /// The id its runtime gave it.
    pub container_id: String,
    /// The main process as the engine claims, when engine and Pepo share a kernel.
    pub pid: Option<HostPid>,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: Option<SystemTime>,
}

impl Listed {
    /// The pause budget its health check allows.
    #[must_use]
    pub fn health_pause_budget(&self) -> Option<Duration> {
        self.health.map(|check| check.pause_budget())
    }
}

/// The one running target a name means.
#[derive(Clone, Debug)]
pub struct Located {
    /// What `ps` calls it.
    pub name: TargetName,
    /// The image as it was asked for; empty when unknown.
    pub image: String,
    /// Running or paused.
    pub state: State,
    /// Its health check, if it has one.
    pub health: Option<HealthCheck>,
    /// The id its runtime gave it; empty for a bare process.
    pub container_id: String,
    /// The main process as the engine claims (Squash's `Container2Pid`). `None` when the engine's kernel is not ours: such a
    /// number means nothing here.
    pub pid: Option<HostPid>,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
    /// Clock ticks after boot at which the process started, where the platform read it; excludes a reused number.
    pub(crate) start_time: u64,
    /// What an engine said beyond this; a helper is made from it.
    pub(crate) facts: Facts,
    /// The pod it is in.
    pub(crate) in_pod: Option<Arc<InPod>>,
    /// What says that this is production, where a stop needs a yes: "the context prod-eu".
    pub production: Option<String>,
    /// What was decided for the user on the way, for people.
    pub notes: Vec<String>,
}

impl Located {
    /// The pause budget its health check allows.
    #[must_use]
    pub fn health_pause_budget(&self) -> Option<Duration> {
        self.health.map(|check| check.pause_budget())
    }
}

/// How an agent is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The agent runs in this process.
    InProcess,
    /// The agent runs in a container of its own, in the target's PID namespace.
    Helper {
        /// The helper container's name.
        container: String,
    },
    /// The agent runs in an ephemeral container of the target's pod.
    Ephemeral {
        /// The ephemeral container's name.
        container: String,
    },
    /// The agent of the target's node, through a server.
    Node {
        /// The server's address.
        server: String,
        /// What the server calls the node.
        node: String,
    },
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::InProcess => f.write_str("in process"),
            How::Helper { container } => write!(f, "helper container {container}"),
            How::Ephemeral { container } => write!(f, "ephemeral container {container}"),
            How::Node { server, node } => write!(f, "node {node} by {server}"),
        }
    }
}

/// A byte stream to an agent beside the target.
pub struct Reached {
    /// For `pepo_client::Agent::connect`. Dropping it ends the agent at its other end.
    pub io: Box<dyn Io>,
    /// What to call the target on this stream; its selector is empty.
    pub target: Target,
    /// The way that was taken.
    pub how: How,
    /// The main process, when the agent on this machine has proven it.
    pub proof: Option<Proven>,
    /// Ends what was made for the way. Call [`Leave::leave`] after `io` is dropped.
    pub leave: Leave,
    /// What this way lacks, for people.
    pub notes: Vec<String>,
}

impl fmt::Debug for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reached")
            .field("how", &self.how)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Which way [`Platform::reach`] takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReachPolicy {
    /// In process when the container is proven to be on this machine and the rights suffice, else by a helper.
    #[default]
    Auto,
    /// In process or not at all.
    InProcess,
    /// By a helper, always.
    Helper,
}

/// What the agent must be allowed to do for [`ReachPolicy::Auto`] to choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Need {
    /// Only look.
    #[default]
    Look,
    /// Stop the target.
    Stop,
    /// Stop it with a debugger, which a server writes down as an attachment.
    Debug,
    /// Put files into it. The kernel asks for no more than a look; a server does.
    Write,
}

impl Need {
    /// Is the target to be stopped?
    pub(crate) fn stops(self) -> bool {
        matches!(self, Need::Stop | Need::Debug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_budget_stays_below_what_the_health_check_bears() {
        let check = |interval: u64, timeout: u64, retries| HealthCheck {
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            retries,
        };
        for (check, expected) in [
            (check(10_000, 1_000, 3), 21_000 - 2_100),
            (check(30_000, 30_000, 3), 90_000 - 3_000),
            (check(6_000, 1_000, 1), 500),
            (check(6_000, 200, 1), 100),
            (check(6_000, 200, 0), 100),
        ] {
            assert_eq!(check.pause_budget(), Duration::from_millis(expected), "{check:?}");
        }
        let endless = HealthCheck { interval: Duration::MAX, timeout: Duration::MAX, retries: u32::MAX };
        assert!(endless.pause_budget() > Duration::from_secs(1));
    }

    #[test]
    fn states_of_all_engines_are_read() {
        for (word, has_process) in [
            ("running", true),
            ("Running", true),
            ("paused", true),
            ("stopping", true),
            ("created", false),
            ("configured", false),
            ("exited", false),
            ("stopped", false),
            ("dead", false),
            ("restarting", false),
            ("", false),
            ("removing", false),
        ] {
            assert_eq!(State::read(word).has_process(), has_process, "{word}");
        }
    }
}
