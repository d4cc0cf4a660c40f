//! The whole way from client to target, with real debuggers: the same bodies for every one of them.

mod debuggers;
mod safety;
