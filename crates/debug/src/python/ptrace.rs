//! The few ptrace(2) requests the injector needs, on one thread of a target. Kept apart because every call here is `unsafe`.
//!
//! A tracee belongs to the operating-system thread that seized it: one [`Tracee`] lives and dies on one thread of ours.
//! When that thread or the whole agent dies, the kernel detaches and the tracee runs on (ptrace(2), "Attaching and
//! detaching"); `PTRACE_O_EXITKILL` is never set.
#![allow(unsafe_code)] // ptrace and waitpid on threads have no safe wrapper.

use std::{
    io,
    time::{Duration, Instant},
};

use pepo_process::AgentTid;

use super::x86_64::Registers;

// include/uapi/linux/ptrace.h and linux/elf.h; the libc crate lacks some of them on musl.
const PTRACE_SYSCALL: i32 = 24;
const PTRACE_DETACH: i32 = 17;
const PTRACE_GETREGSET: i32 = 0x4204;
const PTRACE_SETREGSET: i32 = 0x4205;
const PTRACE_SEIZE: i32 = 0x4206;
const PTRACE_INTERRUPT: i32 = 0x4207;
const PTRACE_GETSIGMASK: i32 = 0x420a;
const PTRACE_O_TRACESYSGOOD: usize = 1;
const PTRACE_EVENT_STOP: i32 = 128;
const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;
/// Larger than any extended state of today's processors (AMX included, 11 KiB).
const LARGEST_XSTATE: usize = 16 << 10;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the entry or the exit of a system call (`PTRACE_SYSCALL`).
    Syscall,
    /// A signal is about to be delivered; it must be handed on.
    Signal(i32),
    /// The interruption that was asked for.
    Interrupted,
    /// The whole process was stopped by a signal (SIGSTOP and the like).
    Group,
    /// It has ended.
    Gone,
    /// Nothing happened within the limit.
    Late,
}

/// One seized thread. Dropping it detaches; if it is not stopped then, it is interrupted first.
#[derive(Debug)]
pub(super) struct Tracee {
    tid: i32,
    stopped: bool,
    gone: bool,
    /// A signal that was to be delivered at the last stop.
    pending: i32,
}

impl Tracee {
    /// Seizes the thread without stopping it.
    ///
    /// # Errors
    /// EPERM (not permitted, or already traced), ESRCH.
    pub(super) fn seize(tid: AgentTid) -> io::Result<Tracee> {
        let tid = tid.as_raw();
        request(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD)?;
        Ok(Tracee { tid, stopped: false, gone: false, pending: 0 })
    }

    /// Stops it as soon as it is out of the kernel; the stop disturbs nothing but interruptible system calls, which the
    /// kernel restarts.
    ///
    /// # Errors
    /// ESRCH; [`io::ErrorKind::TimedOut`] when it stays in an uninterruptible sleep; [`io::ErrorKind::Interrupted`] when
    /// a group stop is on.
    pub(super) fn interrupt(&mut self, limit: Duration) -> io::Result<()> {
        let end = Instant::now() + limit;
        loop {
            request(PTRACE_INTERRUPT, self.tid, 0, 0)?;
            match self.wait(end.saturating_duration_since(Instant::now()))? {
                Stop::Interrupted => return Ok(()),
                // Any other stop takes the interruption with it (kernel/signal.c, ptrace_stop): it is asked for again.
                Stop::Signal(_) | Stop::Syscall => self.resume()?,
                Stop::Group => return Err(io::ErrorKind::Interrupted.into()),
                Stop::Gone => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
                Stop::Late => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Lets it run to the next entry or exit of a system call, with the signal that is due.
    ///
    /// # Errors
    /// ESRCH when it was killed.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        let signal = std::mem::take(&mut self.pending);
        self.stopped = false;
        request(PTRACE_SYSCALL, self.tid, 0, usize::try_from(signal).unwrap_or(0))
    }

    /// Lets it go, with the signal that is due.
    pub(super) fn detach(mut self) {
        self.let_go();
    }

    fn let_go(&mut self) {
        if self.gone {
            return;
        }
        if !self.stopped && request(PTRACE_INTERRUPT, self.tid, 0, 0).is_ok() {
            // Whichever stop comes first will do.
            let _ = self.wait(Duration::from_millis(500));
        }
        if !self.stopped {
            // What cannot be stopped is detached by the kernel when this thread of ours ends.
            return;
        }
        let signal = usize::try_from(self.pending).unwrap_or(0);
        // ESRCH: killed meanwhile.
        let _ = request(PTRACE_DETACH, self.tid, 0, signal);
        self.gone = true;
    }

    /// Waits until it stops.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub(super) fn wait(&mut self, limit: Duration) -> io::Result<Stop> {
        let end = Instant::now() + limit;
        let mut looks = 0u32;
        loop {
            let mut status = 0;
            // SAFETY: `status` is a live i32.
            let found = unsafe { libc::waitpid(self.tid, &mut status, libc::__WALL | libc::WNOHANG) };
            match found {
                0 if Instant::now() >= end => return Ok(Stop::Late),
                0 => breathe(&mut looks),
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return Err(io::Error::last_os_error()),
                _ => return Ok(self.note(status)),
            }
        }
    }

    /// Reads a wait status as waitpid(2) and ptrace(2) give it.
    fn note(&mut self, status: i32) -> Stop {
        if !libc::WIFSTOPPED(status) {
            self.gone = true;
            return Stop::Gone;
        }
        self.stopped = true;
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        match (event, signal) {
            (PTRACE_EVENT_STOP, libc::SIGTRAP) => Stop::Interrupted,
            (PTRACE_EVENT_STOP, _) => Stop::Group,
            (0, signal) if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
            (0, signal) => {
                self.pending = signal;
                Stop::Signal(signal)
            }
            _ => Stop::Syscall,
        }
    }

    /// General registers.
    ///
    /// # Errors
    /// ESRCH when it was killed.
    pub(super) fn registers(&self) -> io::Result<Registers> {
        let mut words = [0u64; Registers::WORDS];
        self.regset(PTRACE_GETREGSET, NT_PRSTATUS, words.as_mut_ptr().cast(), size_of_val(&words))?;
        Ok(Registers::from_words(words))
    }

    /// Sets all general registers at once: the one step by which a call begins or ends.
    ///
    /// # Errors
    /// ESRCH when it was killed.
    pub(super) fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        let mut words = registers.words();
        self.regset(PTRACE_SETREGSET, NT_PRSTATUS, words.as_mut_ptr().cast(), size_of_val(&words)).map(drop)
    }

    /// Floating point, vector and other extended state, in the layout of XSAVE.
    ///
    /// # Errors
    /// ESRCH when it was killed, ENODEV without XSAVE.
    pub(super) fn extended_state(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0u8; LARGEST_XSTATE];
        let length = self.regset(PTRACE_GETREGSET, NT_X86_XSTATE, bytes.as_mut_ptr(), LARGEST_XSTATE)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Puts the extended state back.
    ///
    /// # Errors
    /// ESRCH when it was killed.
    pub(super) fn set_extended_state(&self, state: &[u8]) -> io::Result<()> {
        let mut copy = state.to_vec();
        self.regset(PTRACE_SETREGSET, NT_X86_XSTATE, copy.as_mut_ptr(), copy.len()).map(drop)
    }

    /// Blocked signals.
    ///
    /// # Errors
    /// ESRCH when it was killed.
    pub(super) fn signal_mask(&self) -> io::Result<u64> {
        let mut mask = 0u64;
        request(PTRACE_GETSIGMASK, self.tid, size_of::<u64>(), (&raw mut mask) as usize)?;
        Ok(mask)
    }

    fn regset(&self, what: i32, note: usize, base: *mut u8, length: usize) -> io::Result<usize> {
        let mut vector = libc::iovec { iov_base: base.cast(), iov_len: length };
        request(what, self.tid, note, (&raw mut vector) as usize)?;
        Ok(vector.iov_len)
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A short wait that does not burn the processor for long: stops come within microseconds or not soon.
fn breathe(looks: &mut u32) {
    *looks = looks.saturating_add(1);
    if *looks < 50 {
        std::thread::yield_now();
    } else {
        std::thread::sleep(Duration::from_micros(if *looks < 500 { 20 } else { 500 }));
    }
}

fn request(what: i32, tid: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: of the requests used here only those with an iovec or a mask write to our memory; their pointers are live
    // for the call and of the right size.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, i64::from(what), i64::from(tid), address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Stdio, sync::mpsc, thread};

    use super::*;

    /// Seizes, stops, lets go; gives what is wrong afterwards.
    fn visit(pid: u32) -> Result<(), String> {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut tracee = Tracee::seize(AgentTid::new(pid).expect("a thread")).expect("it is ours");
            for _ in 0..2 {
                tracee.interrupt(Duration::from_secs(10)).expect("it stops");
                tracee.resume().expect("it goes on to its next call");
            }
            drop(tracee);
            let _ = tell.send(());
        });
        told.recv_timeout(Duration::from_secs(30)).map_err(|_| "still traced".to_owned())?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        if status.contains("TracerPid:\t0\n") { Ok(()) } else { Err(status) }
    }

    /// Each system call is a stop, and each stop takes an interruption that is due with it.
    #[test]
    fn a_thread_that_calls_the_kernel_without_a_pause_is_stopped_and_let_go() {
        let mut busy = pepo_testkit::command("cat")
            .arg("/dev/zero")
            .stdout(Stdio::null())
            .spawn()
            .expect("cat is on every machine");
        let visits = (0..200).try_for_each(|_| visit(busy.id()));
        busy.kill().expect("it is ours");
        busy.wait().expect("it was started");
        assert_eq!(visits, Ok(()));
    }
}
