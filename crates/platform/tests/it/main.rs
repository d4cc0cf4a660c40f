//! Tests with real engines; they run where engines do.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may end so, and says where")]

/// Every platform against its real engine, by the same bodies.
mod engines;
/// Engines that answer oddly.
mod odd_engines;
