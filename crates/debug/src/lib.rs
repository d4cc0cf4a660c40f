//! Debuggers beside the target: adapters behind one trait, the guard, injection, leases and the pause budget.
//!
//! Linux only. A crate of its own because it alone stops processes.
//! **Invariant:** knows no container API and no HTTP; what it stops, it lets go, whoever dies.

/// What every debugger offers, and the list of them.
pub mod debugger;

/// How much of a program a debugger would see.
pub mod sight;

/// Who is attached to what on this machine.
pub mod journal;

/// The source files a program was made of.
pub mod sources;

/// One debugger on one process: rights, lease, pause budget, the way out.
pub mod session;

/// Debuggers that speak DAP by themselves: delve, gdb, LLDB.
pub mod adapters;

/// Python: pydevd inside the process.
pub mod python;

/// The process between a debugger and its target, which outlives both.
pub mod guard;

/// What a process's instructions were before a debugger came.
pub mod text;

/// Debuggers on this machine.
pub mod tools;
