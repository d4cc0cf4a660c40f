//! The built `pepo-entry`, in PID namespaces and in containers; what makes it an init, beside `tini` and `dumb-init`
//! as the control.

#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

/// An init with its program, in a PID namespace of its own.
mod support;

/// What an init does, on all three.
mod init;

/// Where words come from, and what the program sees of them.
mod words;
