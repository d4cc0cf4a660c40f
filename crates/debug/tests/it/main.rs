//! Debuggers on real processes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test tells by its panic, and its figures on stderr"
)]

/// A small DAP client.
mod dap;
/// A debugger put on a fixture.
mod rig;

/// Each adapter on its own.
mod adapters;
/// What an adapter can't do.
mod cage;
/// Whoever dies, the target goes on.
mod guard;
/// Python.
mod python;
/// The relay, spoken to in gdb's own protocol.
mod relay;
