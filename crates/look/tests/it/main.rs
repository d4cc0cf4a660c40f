//! Looking at real processes whose truth is known.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Programs of Go.
mod go;
/// JVMs.
mod java;
/// Recordings of JVMs by their own recorder.
mod java_flights;
/// Recordings of JVMs.
mod java_profiles;
/// JavaScript programs.
mod node;
/// Python programs.
mod python;
/// Recordings of programs with known shares.
mod recording;
/// Ruby programs.
mod ruby;
/// Recordings of Python programs.
mod sampling;
/// Threads that wait.
mod waits;
