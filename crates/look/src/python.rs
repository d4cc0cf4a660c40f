//! Python's own frames, read from the memory of a process that runs on.
//!
//! CPython keeps, for each thread, a chain of frames; each names its code object and where in it the thread is. From 3.13 on the
//! interpreter publishes where it keeps what; for 3.8 to 3.12 the tables stand in `offsets.rs`. All of it is read while the
//! process changes it, so nothing is believed that was not seen twice (`frames.rs`), and every length, count and address is taken
//! for hostile.
//!
//! Open `frames.rs` first: how a chain is copied that held at one moment. `threads.rs` finds the threads, `code.rs` and `lines.rs`
//! say which function and line a frame is at.

/// How far two copies agree.
mod agree;
/// Code objects: function, file and line.
mod code;
/// Dictionaries and modules, as far as names of threads need them.
mod dicts;
/// Chains of frames that held at one moment.
mod frames;
/// Memory that lies.
#[cfg(test)]
mod hostile;
/// An opened interpreter.
mod interpreter;
/// Stacks of Python and of native code in one.
mod join;
/// Tables of lines.
mod lines;
/// Reading many places at nearly one moment.
mod memory;
/// Where the interpreter keeps what.
mod offsets;
/// Text of `str` objects.
mod text;
/// Threads, and which holds the lock.
mod threads;
/// Values of variables, as they are shown.
mod values;

#[cfg(test)]
pub(crate) use self::hostile::Liar;
pub(crate) use self::{
    code::Spot,
    frames::{Entry, Shape},
    interpreter::{Interpreter, Placed, Unreadable},
    join::{Either, eval_loop, join},
    memory::{Memory, Part, Target},
    threads::{PythonThread, number},
    values::Variable,
};
