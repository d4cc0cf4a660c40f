//! The guard: a process of its own that stands between a debug adapter and its target, and outlives both the adapter and the
//! agent.
//!
//! An adapter that owns ptrace takes the target with it when it dies: its breakpoints stay in the text, and nobody is there to
//! catch them. So the guard owns the stub instead (`lldb-server`, `gdbserver`), offers the adapter a private socket, and
//! relays gdb's remote serial protocol. It knows every breakpoint. When the adapter, its stream, the agent or the lease ends it
//! interrupts the target, removes the breakpoints, detaches, and looks that the target runs as before.
//!
//! ```text
//!  agent ──control (JSON lines)──▶ keeper ─┬─▶ relay ──▶ stub ──ptrace──▶ target
//!    └────────DAP────────────────────────────▶ adapter ─socket─▶ relay
//! ```
//!
//! Two processes, so that even the guard's own death is covered:
//! - the **keeper** waits for its child and does nothing else; it holds a second end of the stub's stream and hears of every
//!   breakpoint before the stub does. If the relay dies it takes over and lets go.
//! - the **relay** waits on the control stream, the adapter's connection, the stub's, and the ends of both processes.
//!
//! For adapters that own ptrace themselves there is no stream to stand in; there the child is the **watch**: it notes the text
//! before, and puts it back when the adapter has died (best effort; see [`crate::text`]).
//!
//! No async runtime here: the guard is small, and forks.

/// As little privilege as an adapter can do with.
mod cage;
/// Starting adapters and stubs.
mod child;
/// What the guard is told to do and what it reports.
pub mod control;
/// What delve starts instead of `lldb-server`.
pub mod door;
/// What was changed in the target, and putting it back.
mod facts;
/// The target's files, opened for an adapter.
pub mod files;
/// The agent's side: starts a guard and talks to it.
pub mod handle;
/// Waits for the relay's death.
mod keeper;
/// Cutting and writing packets.
pub mod packet;
/// Between adapter and stub.
mod relay;
/// What a debugger asks, as far as the guard must know it.
pub mod request;
/// The stub's stream: ask, interrupt, let go.
mod stub;
/// Beside an adapter that owns ptrace.
mod watch;

use std::process::ExitCode;

/// Runs the guard: the hidden verb `guard` of the command. `args` are those after the verb.
///
/// Without arguments it reads its [`control::Order`] as one JSON line from its standard input, which is the control stream, and
/// gives the adapter its standard output as DAP stream. With the path of a program called `lldb-server` as first argument it
/// is the [`door`].
pub fn main<I, S>(args: I) -> ExitCode
where
    I: IntoIterator<Item = S>,
    S: Into<std::ffi::OsString>,
{
    let args: Vec<std::ffi::OsString> = args.into_iter().map(Into::into).collect();
    let stands_for = args.first().map(std::path::Path::new).and_then(|path| path.file_name());
    let done = match stands_for {
        Some(name) if name == door::NAME => door::run(args.get(1..).unwrap_or_default()),
        Some(_) => return ExitCode::from(2),
        None => keeper::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::warn!(%error, "the guard failed");
            ExitCode::FAILURE
        }
    }
}

/// A program to start, with nothing set: whoever starts it sets session, streams and environment.
#[expect(clippy::disallowed_methods, reason = "this is the helper of this room")]
pub(crate) fn command(program: &std::path::Path) -> std::process::Command {
    std::process::Command::new(program)
}

/// Waits for a child's end without collecting it; `false` when it did not come in time.
pub(crate) fn ends_within(child: &std::process::Child, within: std::time::Duration) -> bool {
    let pid = rustix::process::Pid::from_child(child);
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(pidfd) => stub::readable(&pidfd, within).unwrap_or(false),
        // Without pidfd (kernels before 5.3) we trust it.
        Err(_) => true,
    }
}
