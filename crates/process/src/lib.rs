//! Linux facts of a process: what it is, what it runs, where it belongs, and what we may do with it.
//!
//! Open `process.rs` first (a proven handle on one process), then `runtime.rs` (what kind of program it is) and
//! `permits.rs` (may we look, may we stop it). A crate of its own because debuggers, samplers and `check` all read the
//! same facts and none of them should read `/proc` by itself.
//!
//! **Invariant:** synchronous, and knows no container engine's API, no debugger and no rendering. All input is hostile:
//! sizes are bounded before memory is taken, and nothing here panics because of what a process shows.

/// Numbers of processes and threads, typed by who counts.
pub mod ids;

/// What can go wrong, with its facts.
pub mod error;

/// A proven handle on one process.
pub mod process;

/// `/proc/PID/stat`.
pub mod stat;

/// `/proc/PID/status`.
pub mod status;

/// `/proc/PID/maps`.
pub mod maps;

/// The threads of a process.
pub mod threads;

/// Namespaces of a process.
pub mod namespaces;

/// Control groups of a process, and the container they name.
pub mod cgroup;

/// Memory that is left in a control group.
pub mod headroom;

/// The memory of a process.
pub mod memory;

/// Programs that are held at their first instruction.
pub mod held;

/// Files of a process, through its own root.
pub mod root;

/// Trees of files, read from the target's root and put there.
pub mod tree;

/// Readers of ELF files.
pub mod elf;

/// What kind of program a process runs.
pub mod runtime;

/// May we look at a process, may we stop it.
pub mod permits;

/// From what names a target to the process.
pub mod find;

/// All processes, as they are shown.
pub mod list;

/// Secrets hidden in everything that is shown.
pub mod redact;

pub use error::ProcessError;
pub use ids::{AgentPid, AgentTid, ContainerPid};
pub use memory::Memory;
pub use process::Process;
