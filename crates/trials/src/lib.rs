//! Pepo on trial, beside what a user would pick instead: the safety cells, the benchmarks and the demo.
//!
//! A crate of its own because it drives the whole product and bare debuggers alike, and the test kit should build without either.
//! **Invariant:** no product code depends on it.

/// A debugger's own adapter without Pepo.
pub mod bare;
/// Kills everything around a target and looks whether it lives.
pub mod cells;
/// What becomes of a target.
pub mod fate;
/// From a container's name to its process.
pub mod locate;
/// Times of the same steps with and without Pepo.
pub mod measure;
/// Draws what a terminal showed.
pub mod picture;
/// A stream that can be cut or frozen.
pub mod pipe;
/// An agent in a process of its own.
pub mod piped_agent;
/// The page that is followed on a cluster.
pub mod tutorial;
