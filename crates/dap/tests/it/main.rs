//! Tests with real adapters, without an agent between: the same scripts serve as a control for those that run through one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "bare adapters and nothing else are started, in one room")]

mod adapters;
mod debuggers;
mod editor;
mod fake;
mod faults;
mod random;
mod schema;
