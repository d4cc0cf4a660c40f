//! Real processes, containers and engines for tests, the demo and the benchmarks.
//!
//! Start with [`fixtures`] (programs to look at), [`Running`] (one of them on this machine), [`engine`]
//! (one of them in a container), [`kubernetes`] (one of them in a pod) and [`clean`] (nothing may be left behind). What is wrong with the machine
//! is told by a panic with the whole story: this crate serves tests alone.

/// Independent work of one test, a few at once.
mod at_once;
/// The built `pepo` program.
mod binary;
/// What a session must not leave behind in its target.
pub mod clean;
/// Compiles fixture programs once for each content.
mod compile;
/// Ports that lead elsewhere.
mod door;
/// Container engines started by hand, which end with the test process.
pub mod engine;
/// The small target programs: `fixtures::c(Variant::debug())` and so on.
pub mod fixtures;
/// Container images without a registry.
pub mod image;
/// Targets in namespaces of their own, without any engine.
mod isolated;
/// The JVMs of this machine.
mod java;
/// A whole Kubernetes.
pub mod kubernetes;
/// What a fixture says of itself, read from outside.
mod life;
/// Networks of other processes.
mod network;
/// Programs of Node.
pub mod node;
/// Command lines of other programs.
mod programs;
/// The Python interpreters of this machine.
mod python;
/// The Ruby interpreters of this machine.
mod ruby;
/// Fixture programs on this machine.
mod running;
/// A client beside a `shop`.
mod shop;
/// Skips that are counted.
mod skip;
/// A server for ssh.
mod sshd;
/// Waiting for a condition, with a limit.
pub mod wait;

pub use at_once::at_once;
pub use binary::pepo;

pub use door::Door;
pub use engine::{Container, Engine, HealthCheck, Kind, Network, Podman, RunOptions};
pub use fixtures::{Fixture, Language, Symbols, Variant};
pub use image::Image;
pub use isolated::{Isolation, spawn_isolated, waiting_program};
pub use java::{Java, hot_classes, javas};
pub use life::{Beat, Life};
pub use network::in_network_of;
pub use programs::{command, tools};
pub use python::{Python, pythons};
pub use ruby::{Ruby, rubies};
pub use running::{Running, children, only_child, spawn, spawn_command};
pub use shop::http_get;
pub use skip::{expected as expected_skips, skip};
pub use sshd::Sshd;
