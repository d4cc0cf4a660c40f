//! One client of the agent service over any byte stream: handshake, heartbeat, session handles.
//!
//! A crate of its own so that every user of an agent (command, editor, server) speaks to it in the same way, wherever it stands.
//! **Invariant:** knows no platform and renders nothing.

/// The connection and its calls.
mod agent;
/// A core file as it comes.
mod core;
/// Debug files of servers.
mod debuginfod;
/// Samples as they come.
mod look;
/// A debugger session, kept alive by its heartbeat.
mod session;
/// Debug files on this side.
mod symbols;
/// Trees of files.
mod tree;

pub use self::core::{Core, CoreSaid};
pub use agent::Agent;
pub use debuginfod::{Debuginfod, Limits};
pub use look::{Look, LookSaid};
pub use session::{Event, Session, SessionSender};
pub use symbols::SymbolPaths;
pub use tree::Tree;
