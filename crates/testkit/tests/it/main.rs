//! The test tools themselves, tested.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod engines;
mod fixtures;
mod kubernetes;
mod targets;
