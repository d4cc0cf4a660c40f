//! Tests with real adapters, without an agent between: the same scripts serve as a control for those that run through one.

#![cfg(target_os = "linux")]

mod adapters;
mod debuggers;
mod editor;
mod schema;
