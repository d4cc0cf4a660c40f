//! The test tools themselves, tested.

mod fixtures;
mod targets;
