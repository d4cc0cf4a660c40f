//! The test tools themselves, tested.

mod engines;
mod fixtures;
mod targets;
