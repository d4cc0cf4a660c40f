//! Calls made in one stopped thread, from the stop to the exact restoration.
//!
//! Whatever happens here, the thread goes on as it was: while we are there its registers are put back by ptrace; if we are
//! not, the frames that [`super::x86_64`] laid out bring it back without us. So nothing is ever aborted: what takes too long
//! is left to finish by itself.

use std::{
    io,
    time::{Duration, Instant},
};

use pepo_process::{AgentTid, Memory};

use super::{
    error::InjectError,
    fault::{Fault, Point},
    ptrace::{Stop, Tracee},
    x86_64::{Call, Chain, RT_SIGRETURN, Register, Registers, Saved, uses_tiles},
};

/// Longest wait for a thread to stop. Until it does it runs, so the wait costs it nothing.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// A thread that stands still, and what it was.
pub(super) struct Held<'a> {
    tracee: Tracee,
    memory: &'a Memory,
    saved: Saved,
    since: Instant,
    fault: &'a Fault,
    /// Calls were left to finish by themselves: the thread runs, on frames that lie where the next ones would.
    runs: bool,
}

/// How a chain of calls ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// All calls returned; the thread is as it was.
    Done,
    /// They go on by themselves.
    GoesOn,
}

impl<'a> Held<'a> {
    /// Stops a thread.
    ///
    /// # Errors
    /// [`InjectError::Ptrace`].
    pub(super) fn stop(
        tid: AgentTid,
        memory: &'a Memory,
        return_stub: u64,
        fault: &'a Fault,
    ) -> Result<Held<'a>, InjectError> {
        let mut tracee = Tracee::seize(tid).map_err(InjectError::ptrace("seizing a thread"))?;
        let since = Instant::now();
        tracee.interrupt(STOP_LIMIT).map_err(InjectError::ptrace("stopping a thread"))?;
        let mut held = Held::standing(tracee, memory, return_stub, fault)?;
        held.since = since;
        Ok(held)
    }

    /// Takes a thread that stands still already, in no system call.
    ///
    /// # Errors
    /// [`InjectError::Ptrace`].
    pub(super) fn standing(
        tracee: Tracee,
        memory: &'a Memory,
        return_stub: u64,
        fault: &'a Fault,
    ) -> Result<Held<'a>, InjectError> {
        let saved =
            save(&tracee, return_stub).map_err(InjectError::ptrace("reading a thread's registers"))?;
        fault.reach(Point::Stopped);
        Ok(Held { tracee, memory, saved, since: Instant::now(), fault, runs: false })
    }

    /// The thread as it stands, for whoever goes on with it.
    pub(super) fn into_tracee(self) -> Tracee {
        self.tracee
    }

    /// The registers at the stop.
    pub(super) fn registers(&self) -> &Registers {
        &self.saved.registers
    }

    /// Is it 64-bit code whose whole state fits a signal frame?
    pub(super) fn is_ordinary(&self) -> bool {
        const USER_CODE_64: u64 = 0x33;
        self.saved.registers.get(Register::Cs) == USER_CODE_64 && !uses_tiles(&self.saved.extended)
    }

    /// Where data given to [`Held::run`] will lie.
    pub(super) fn data_address(&self, length: usize) -> u64 {
        self.saved.data_address(length)
    }

    /// Runs the calls one after the other; none of them when earlier ones still go on.
    ///
    /// # Errors
    /// [`InjectError::Ptrace`], [`InjectError::Process`] when the stack can't be written: nothing was changed then.
    pub(super) fn run(&mut self, data: &[u8], calls: &[Call], limit: Duration) -> Result<Ran, InjectError> {
        if self.runs {
            return Ok(Ran::GoesOn);
        }
        let chain = self.saved.chain(data, calls);
        self.memory.write_at(chain.bottom, &chain.image)?;
        self.fault.reach(Point::Written);
        let ran = self.follow(&chain, Instant::now() + limit);
        self.runs = !matches!(ran, Ok(Ran::Done));
        ran.map_err(InjectError::ptrace("a call in a stopped thread"))
    }

    /// Starts the first call; each frame starts the next, and the last one brings the thread back. rt_sigreturn(2) is always
    /// left to the kernel: a seccomp filter runs after the tracer at a system call's entry, and one that finds the number -1
    /// there answers for the thread or kills it (seccomp(2), "Seccomp-aware tracers").
    fn follow(&mut self, chain: &Chain, end: Instant) -> io::Result<Ran> {
        if let Some(first) = chain.entries.first() {
            self.tracee.set_registers(first)?;
        }
        for &back in &chain.returns {
            self.fault.reach(Point::CallBegun);
            if !self.wait_return(back, end)? {
                return Ok(Ran::GoesOn);
            }
            self.fault.reach(Point::CallReturned);
        }
        if !self.wait_back(end)? {
            return Ok(Ran::GoesOn);
        }
        // The frame has brought everything back; ptrace's own copy is the same, and exact for what a frame leaves out.
        if !self.saved.extended.is_empty() {
            self.tracee.set_extended_state(&self.saved.extended)?;
        }
        self.tracee.set_registers(&self.saved.registers.as_resumed())?;
        self.fault.reach(Point::Restored);
        Ok(Ran::Done)
    }

    /// Waits until the last rt_sigreturn(2) is over: the kernel then says that the thread is in no system call.
    fn wait_back(&mut self, end: Instant) -> io::Result<bool> {
        loop {
            self.tracee.resume()?;
            match self.tracee.wait(end.saturating_duration_since(Instant::now()))? {
                Stop::Syscall if self.tracee.registers()?.get(Register::OriginalAx) != RT_SIGRETURN => {
                    return Ok(true);
                }
                Stop::Syscall | Stop::Signal(_) | Stop::Interrupted => {}
                Stop::Late | Stop::Group => return Ok(false),
                Stop::Gone => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
        }
    }

    /// Waits until the function returns, seen by its entry into rt_sigreturn(2) with the right stack pointer.
    fn wait_return(&mut self, back: u64, end: Instant) -> io::Result<bool> {
        loop {
            self.tracee.resume()?;
            match self.tracee.wait(end.saturating_duration_since(Instant::now()))? {
                Stop::Syscall => {
                    let now = self.tracee.registers()?;
                    if now.get(Register::OriginalAx) == RT_SIGRETURN && now.get(Register::Sp) == back {
                        return Ok(true);
                    }
                }
                Stop::Signal(_) | Stop::Interrupted => {}
                Stop::Late | Stop::Group => return Ok(false),
                Stop::Gone => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
        }
    }

    /// Lets it go; how long it stood still.
    pub(super) fn release(self) -> Duration {
        self.tracee.detach();
        self.since.elapsed()
    }
}

fn save(tracee: &Tracee, return_stub: u64) -> io::Result<Saved> {
    Ok(Saved {
        registers: tracee.registers()?,
        extended: tracee.extended_state()?,
        mask: tracee.signal_mask()?,
        return_stub,
    })
}
