//! Runs a Python that is held at its first instruction on to the start of its interpreter, and leaves the code there for the
//! moment before the program's first line.
//!
//! No breakpoint is set, for nobody could take it out if we died: the thread runs from system call to system call
//! (`PTRACE_SYSCALL`), which changes nothing in it. Its job-control stop stays in force all the while, so that it stops again by
//! itself, as it was held before, when we die or let go (`__ptrace_unlink` in kernel/ptrace.c); SIGCONT comes last.
//!
//! The place: when CPython makes `sys.stdin`, it first asks fstat(2) whether descriptor 0 is a folder (`init_sys_streams` in
//! Python/pylifecycle.c, 3.8 to 3.14), with the GIL held and outside malloc, with every option. `__main__` is there, `site`
//! and the program are not. What is left there is an audit hook, which CPython calls right before the program's code with
//! `cpython.run_command`, `…_file`, `…_module` or `…_stdin` (Modules/main.c, since 3.8).

use std::time::{Duration, Instant};

use pepo_process::{AgentTid, Memory, Process};

use super::{
    call::Held,
    error::InjectError,
    fault::{Fault, Point},
    image::Symbols,
    inject::{Injected, Injection, Route},
    payload::Config,
    ptrace::{Stop, Tracee},
    x86_64::{Register, Registers},
};

/// How long a thread may take to say that it is stopped.
const STOPPED: Duration = Duration::from_secs(2);
/// What the kernel has for a result while a system call has not ended.
const NOT_ENDED: i64 = -(libc::ENOSYS as i64);

/// A program that is held, and who may disturb us.
pub(super) struct Start<'a> {
    pub(super) process: &'a Process,
    pub(super) memory: &'a Memory,
    pub(super) fault: &'a Fault,
}

impl Start<'_> {
    /// Runs on to the start of the interpreter, leaves the code there and lets the process go; within `limit`.
    ///
    /// # Errors
    /// [`InjectError::NoMoment`] when no interpreter started, or what made it impossible: the process is held as before.
    pub(super) fn run_on(&self, limit: Duration, config: &Config) -> Result<Injected, InjectError> {
        let end = Instant::now() + limit;
        let mut tracee = self.seize()?;
        loop {
            tracee = self.next_place(tracee, end, limit)?;
            // Other programs ask the same before they become, or load, an interpreter.
            let Ok(symbols) = Symbols::find(self.process, self.memory) else { continue };
            let Start { process, memory, fault } = *self;
            let injection = Injection { process, memory, symbols: &symbols, config, fault };
            let mut held = Held::standing(tracee, self.memory, symbols.return_stub, self.fault)?;
            if injection.at_start(&mut held)? {
                self.process.resume()?;
                held.release();
                return Ok(Injected { route: Route::Entry, stood_still: Duration::ZERO });
            }
            tracee = held.into_tracee();
        }
    }

    fn seize(&self) -> Result<Tracee, InjectError> {
        let tid = AgentTid::new(self.process.pid().get()).ok_or(InjectError::Silent { limit: STOPPED })?;
        let mut tracee = Tracee::seize(tid).map_err(InjectError::ptrace("seizing a held program"))?;
        let stop = tracee.wait(STOPPED).map_err(InjectError::ptrace("waiting for a held program"))?;
        match stop {
            Stop::Group | Stop::Interrupted => Ok(tracee),
            Stop::Gone => Err(gone()),
            _ => Err(InjectError::NoMoment { limit: STOPPED, last: "the program was let go".to_owned() }),
        }
    }

    /// Runs to where a question for descriptor 0 has been answered.
    fn next_place(&self, mut tracee: Tracee, end: Instant, limit: Duration) -> Result<Tracee, InjectError> {
        let failed = InjectError::ptrace("following a held program");
        loop {
            self.fault.reach(Point::Followed);
            tracee.resume().map_err(&failed)?;
            match tracee.wait(end.saturating_duration_since(Instant::now())).map_err(&failed)? {
                Stop::Syscall if asked_for_stdin(&tracee.registers().map_err(&failed)?) => return Ok(tracee),
                Stop::Syscall | Stop::Signal(_) | Stop::Interrupted | Stop::Group => {}
                Stop::Gone => return Err(gone()),
                Stop::Late => {
                    let last = "no interpreter started".to_owned();
                    return Err(InjectError::NoMoment { limit, last });
                }
            }
        }
    }
}

/// At the end of fstat(0), in the forms that the C libraries give it (numbers of x86-64, arch/x86/entry/syscalls).
fn asked_for_stdin(registers: &Registers) -> bool {
    const FSTAT: u64 = 5;
    const NEWFSTATAT: u64 = 262;
    const STATX: u64 = 332;
    matches!(registers.get(Register::OriginalAx), FSTAT | NEWFSTATAT | STATX)
        && registers.get(Register::Di) == 0
        && registers.get(Register::Ax).cast_signed() != NOT_ENDED
}

fn gone() -> InjectError {
    InjectError::ptrace("following a held program")(std::io::Error::from_raw_os_error(libc::ESRCH))
}
