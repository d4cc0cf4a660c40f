//! Where targets are and how an agent beside one is reached: this host, Docker, Podman, CRI runtimes, Kubernetes, a server.
//!
//! A crate of its own because it is the only one that speaks to container engines, and because it must build for Linux, macOS and Windows.
//! **Invariant:** knows no debugger and no profiler, and acts on no process: an engine's process id is only ever
//! a hint to an agent, which proves it where it stands.
//!
//! Start at [`Platforms`] (all together) and [`Platform`] (one); `engine` and `helper` are the largest rooms.

/// Pods.
mod cluster;
/// Docker's contexts.
mod context;
/// containerd and CRI-O.
mod cri;
/// Addresses of engines.
mod endpoint;
/// Docker and Podman.
mod engine;
/// What the surroundings say, read once.
mod environment;
/// What can go wrong.
mod error;
/// An agent in a container of its own.
mod helper;
/// This machine's processes.
mod host;
/// The agent in this process.
mod local;
/// The entry in Kubernetes' manifests.
mod manifest;
/// From a typed name to one container.
mod names;
/// Process ids of engines, and when one may be believed.
mod pid;
/// What every platform offers, and the facts that pass between its acts.
mod platform;
/// A server, and the nodes that are joined to it.
mod server;
/// All platforms together.
mod sources;
/// How an engine is told to start a container.
mod start;
#[cfg(test)]
mod testing;

pub use cluster::{
    Apply, Begun, COPY_LIVES, Catch, Changed, ClusterOptions, Ended, HELPER_IMAGE, Held, Names, PodCopy,
    Profile, Sizes, Start, Started, Streams, Within, Workload,
};
pub use cri::sockets::USUAL as CRI_SOCKETS;
pub use endpoint::Endpoint;
pub use environment::{Environment, VARIABLES};
pub use error::PlatformError;
pub use helper::{AgentBinary, LABEL as HELPER_LABEL, Leave, is_orphan, labels as helper_labels, settled};
pub use manifest::{Injected, Injection, LARGEST as LARGEST_MANIFEST, Wanted, inject};
pub use pid::{HostPid, Proven};
pub use platform::{
    HealthCheck, How, Io, Listed, LocalAgent, Located, Need, Platform, ReachPolicy, Reached, State,
};
pub use server::{Certificate, ResourceChange, Resources, ServerAddress, carry};
pub use sources::{Found, Listing, Options, Platforms};
pub use start::{Before, ImageProgram, RunLine, no_program};
