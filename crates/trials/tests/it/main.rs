//! The whole way from client to target, with real debuggers: the same bodies for every one of them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod debuggers;
mod safety;
