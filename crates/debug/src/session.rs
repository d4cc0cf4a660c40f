//! One debugger on one process: rights, lease, pause budget, and the way out.
//!
//! The engine stands between the client's stream and the adapter's. It is the only place that decides what a client may say
//! to an adapter, and the place where a session ends for whatever reason: the target runs afterwards.

/// How a target is after something went wrong.
mod aftermath;
/// What the client has armed, so that it can be cleared.
mod armed;
/// How long the target stood still.
mod clock;
/// The loop that carries messages and ends the session.
mod engine;
#[cfg(test)]
mod engine_tests;
/// From a target's name to a debugger in place.
mod open;
/// What a client may say to an adapter.
mod policy;
/// Runtimes that wait for a debugger of their own at a port.
mod ports;
/// When a debugger is ready for what its client waits for.
mod readiness;
/// Debug files that the user's side brings.
mod symbols;

pub use clock::{PauseBudget, StillClock};
pub use engine::{Engine, Release, StoodStill};
pub use open::{Found, OpenEnv, find};
pub use policy::{Decision, Rights, judge};
pub use readiness::Readiness;
pub use symbols::Symbols;
