//! What all sides say to each other: the services of agent and server, ids, error codes and hints as data, the DAP frame.
//!
//! A crate of its own because every other crate needs it and it needs none of them.
//! **Invariant:** knows no socket, no runtime and no domain logic; parsers here are sans-IO.

/// The agent's service, generated from `proto/pepo/agent/v1/agent.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod agent {
    tonic::include_proto!("pepo.agent.v1");
}

/// What people and node agents say to a server, generated from `proto/pepo/server/v1/server.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod server {
    include!(concat!(env!("OUT_DIR"), "/server/pepo.server.v1.rs"));
}

/// What Envoy asks who holds calls, generated from `proto/envoy/ext_authz.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod envoy {
    tonic::include_proto!("envoy.service.auth.v3");
}

/// Stable error codes, exit statuses, and failures with hints.
pub mod failure;

/// Versions of the protocol and how two of them meet.
pub mod version;

/// DAP messages on a byte stream: the base protocol's framing, and the envelope read leniently.
pub mod dap;

/// What the user may type to name a target; shared by every verb.
pub mod name;

/// Trees of files on their way between a target and its user.
pub mod tree;

/// The control plane's resources: attachments and debug requests.
pub mod resource;

pub use failure::{Code, Failure, FailureExt, Hint};

/// The compiled descriptor of the services (a `FileDescriptorSet`).
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
