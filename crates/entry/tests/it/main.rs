//! The built `pepo-entry`, in PID namespaces and in containers; what makes it an init, beside `tini` and `dumb-init`
//! as the control.

#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

/// Archives made by hand.
mod archive;
/// A small root file system.
mod root;
/// A server that does as a test says.
mod server;
/// An init with its program, in a PID namespace of its own.
mod support;

/// What an init does, on all three.
mod init;

/// Where words come from, and what the program sees of them.
mod words;

/// Archives in the file system.
mod fstree;

/// Several archives, one after the other.
mod chain;

/// Many files at once, in new folders.
mod trees;

/// What is told of a program, and traced shells.
mod verbose;

/// What is kept: the program at its first instruction, the container after its fault.
mod hold;

/// The small tools of `pepo-entry sh`.
mod tools;

/// In containers of real engines.
mod engines;
