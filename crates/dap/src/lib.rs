//! The user's side of a debugger session: a DAP client for the terminal, a DAP server for editors, and the maps between
//! paths here and paths in the target.
//!
//! A crate of its own because it must compile wherever an editor runs (Linux, macOS, Windows).
//! **Invariant:** knows neither ptrace nor HTTP; every session is reached through [`link::Link`], so all of it can be driven
//! without an agent.

/// A debugger session as seen from here, whatever carries it.
pub mod link;

/// gdb is given a moment after it was told to go on.
mod paced;

/// What can go wrong on this side.
pub mod error;

/// Lenient views of the messages that are read here.
pub mod views;

/// A DAP client that drives one adapter.
pub mod session;

/// Paths here and paths in the target.
pub mod source_map;

/// The debugger in the terminal.
pub mod console;

/// The DAP server for editors.
pub mod server;

pub use error::DapError;
pub use link::{AgentLink, Link, LinkEvent, Outgoing, StreamLink};
pub use source_map::SourceMap;
