//! Tests with real engines; they run where engines do.

#![cfg(target_os = "linux")]

/// Every platform against its real engine, by the same bodies.
mod engines;
/// Engines that answer oddly.
mod odd_engines;
