//! A server that listens, and those who dial it.

#![allow(clippy::unwrap_used, reason = "a test may end so, and says where")]

/// Certificates of nodes.
mod certificates;
/// A server in this process, and who dials it.
mod support;
