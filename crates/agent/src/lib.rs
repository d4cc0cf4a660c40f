//! The agent: one gRPC service beside the target, over one byte stream.
//!
//! A crate of its own because it is what runs in every place: inside the command on this machine, in a helper container, on a node.
//! **Invariant:** knows no control plane and no container API; what it holds ends with its stream or its heartbeat.

/// What the client of one stream may do.
mod bounds;
/// The rules of `check`.
pub mod check;
/// Core files that are under way.
mod cores;
/// Reads a file as the target sees it.
mod files;
/// Looks that are under way.
mod looking;
/// Lets go, whoever holds, and repairs what the dead left.
mod release;
/// The calls, each a few lines over process, look and debug.
mod service;
/// Sessions of this agent: from the stream to the engine and back.
mod sessions;
/// Debug files from the user's side.
mod symbols;
/// Trees of files, out of a target and into it.
mod trees;

pub use bounds::Bounds;
pub use service::{AgentConfig, serve, serve_in_process};
pub use sessions::Report;
