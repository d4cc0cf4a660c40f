//! The command from outside: the real binary, its exit status, stdout and stderr.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and starts programs"
)]

/// Pictures and pages in a real browser.
#[cfg(target_os = "linux")]
mod browser;
/// What shells offer for the last word.
#[cfg(target_os = "linux")]
mod completed;
/// Files out of targets and into them.
#[cfg(target_os = "linux")]
mod copies;
/// Core files read back.
#[cfg(target_os = "linux")]
mod core_files;
/// Sessions on processes of this machine, with real debuggers.
#[cfg(target_os = "linux")]
mod debuggers;
/// Debug files from servers, and those that are at hand.
#[cfg(target_os = "linux")]
mod debuginfod;
/// The page on editors.
mod documented;
/// `pepo dap` from outside.
#[cfg(target_os = "linux")]
mod editor;
/// The same in containers of real engines.
#[cfg(target_os = "linux")]
mod engines;
/// Generated pages are as committed.
mod generated;
/// A session that is held while other commands are run.
#[cfg(target_os = "linux")]
mod held;
/// Every help text.
mod help;
/// Targets as bad as they can be.
#[cfg(target_os = "linux")]
mod hostile;
/// Pods of a real cluster.
#[cfg(target_os = "linux")]
mod kubernetes;
/// The live table of `pepo top`, on a terminal.
#[cfg(target_os = "linux")]
mod live;
/// Looking at processes of this machine.
#[cfg(target_os = "linux")]
mod looking;
/// Manifests of Kubernetes with the entry in them.
mod manifests;
/// Several targets at once.
#[cfg(target_os = "linux")]
mod many;
/// Shapes, colours, closed pipes.
mod output;
/// Profiles of processes of this machine.
#[cfg(target_os = "linux")]
mod profiles;
/// One session from its first line to its last, wherever the target is.
#[cfg(target_os = "linux")]
mod session;
/// Sources that fail, names that mean nothing.
#[cfg(target_os = "linux")]
mod sources;
/// Runs the binary in surroundings of its own.
mod support;
/// A terminal for the command.
#[cfg(target_os = "linux")]
mod terminal;
/// What is not understood, one clear error each.
mod usage;
