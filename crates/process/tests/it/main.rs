//! Facts of real processes, under conditions that are made for the purpose.

#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

/// Processes with the users, capabilities and filters a test asks for.
mod helper;

/// Verdicts, against what the kernel really says.
mod permits;

/// A handle on one process.
mod process;

/// From names to processes.
mod find;

/// Lists of many processes.
mod list;

/// Containers of real engines.
mod engines;
