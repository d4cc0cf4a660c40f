//! Samplers: what a process is doing now, without stopping it for longer than one sample.
//!
//! A crate of its own because looking must never share code with what holds a process.
//! **Invariant:** knows no DAP and no gRPC transport; a thread that waits is never touched, one that runs is held for the time
//! it takes to read its registers and stack; for a core file, all are held while memory is read. A JVM is asked, and holds its own
//! threads for as long as it takes to tell of them.

/// Core files.
mod core;
/// A fork that hears how we end.
mod forked;
/// Goroutines.
mod go;
/// Interpreters whose frames are read from memory.
mod interpreter;
/// What a JVM says of its threads.
mod jvm;
/// The modules mapped into a process: unwind tables and names.
mod modules;
/// JavaScript's own frames.
mod node;
/// Python's own frames.
mod python;
/// Samples over a time.
mod record;
/// Where a thread stands: instruction, stack and frame pointer.
mod registers;
/// Ruby's own frames.
mod ruby;
/// All threads of a process and where each is.
mod stack;
/// Call chains of native code.
mod unwind;
/// What threads wait for.
mod waits;

pub use self::core::core;
pub use interpreter::readable;
pub use jvm::{answers, read_dump, read_recording, read_stacks, samples};
pub use record::{HIGHEST_RATE, Mode, Timer, USUAL_RATE, record, timer};
pub use stack::stack;
