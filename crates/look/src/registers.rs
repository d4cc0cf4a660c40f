//! Where a thread stands: instruction, stack and frame pointer.
//!
//! A thread that waits in the kernel shows both pointers in `/proc/PID/task/TID/syscall` and is not touched: even a short stop
//! would make some of its system calls fail with EINTR (signal(7)). A thread that runs shows nothing; it is held by
//! PTRACE_SEIZE and PTRACE_INTERRUPT (ptrace(2)) for as long as it takes to copy its registers and the top of its stack. If
//! this process dies meanwhile the kernel lets the thread go: no byte of it was changed.
#![allow(unsafe_code)] // ptrace(2) has no safe wrapper that knows PTRACE_SEIZE.

use std::{
    io,
    time::{Duration, Instant},
};

use pepo_process::{AgentTid, Memory};

/// How long a thread may take to stop: it may be asleep where signals don't reach.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);
/// Most stop within this time, and are waited for without giving the processor away.
const SOON: Duration = Duration::from_micros(60);
/// How often the others are looked for. Sleeping, not yielding: on a busy machine who yields comes last.
const LOOK: Duration = Duration::from_micros(20);
/// Bytes of stack that are copied while the thread is held.
const STACK: usize = 64 << 10;

/// What unwinding begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) instruction: u64,
    pub(crate) stack: u64,
    /// `None` where only the kernel's short account of a waiting thread is known.
    pub(crate) frame: Option<u64>,
    /// The link register of aarch64; 0 elsewhere.
    pub(crate) link: u64,
}

/// A copy made while the thread was held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) registers: Registers,
    /// Bytes from the stack pointer upwards.
    pub(crate) stack: Vec<u8>,
    /// It had begun to wait in the kernel before it stopped.
    pub(crate) waited: bool,
    /// How long the thread stood still.
    pub(crate) pause: Duration,
}

/// Holds a running thread for one sample; what else is wanted of it is done `meanwhile`. Call it from a thread that ends soon after:
/// its end lets go of everything.
pub(crate) fn sample(tid: AgentTid, memory: &Memory, meanwhile: &mut dyn FnMut()) -> io::Result<Held> {
    seize(tid)?;
    let started = Instant::now();
    let held = interrupt(tid).and_then(|()| wait_until_stopped(tid, PATIENCE)).and_then(|signal| {
        let words = read_registers(tid);
        let stack = words.as_ref().ok().map(of_words).map(|registers| registers.stack);
        let stack = stack.and_then(|stack| memory.read_up_to(stack, STACK).ok());
        meanwhile();
        // A signal that came just then goes on to the thread.
        detach(tid, signal)?;
        Ok((words?, stack.unwrap_or_default()))
    });
    let pause = started.elapsed();
    held.map(|(words, stack)| Held { registers: of_words(&words), stack, waited: waited(&words), pause })
}

/// Takes hold of a thread, which runs on.
pub(crate) fn seize(tid: AgentTid) -> io::Result<()> {
    ptrace(libc::PTRACE_SEIZE as i64, tid, 0, 0)
}

/// Tells a thread that was seized to stop.
pub(crate) fn interrupt(tid: AgentTid) -> io::Result<()> {
    ptrace(libc::PTRACE_INTERRUPT as i64, tid, 0, 0)
}

/// Lets a thread that stands go, with the signal it had been about to get.
pub(crate) fn detach(tid: AgentTid, signal: i64) -> io::Result<()> {
    ptrace(libc::PTRACE_DETACH as i64, tid, 0, signal)
}

/// Waits for the stop; returns the signal to hand on when detaching.
pub(crate) fn wait_until_stopped(tid: AgentTid, patience: Duration) -> io::Result<i64> {
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: `status` is a live int; the call has no other effect on memory.
        let waited = unsafe { libc::waitpid(tid.as_raw(), &raw mut status, libc::__WALL | libc::WNOHANG) };
        match waited {
            -1 => return Err(io::Error::last_os_error()),
            0 if begun.elapsed() < SOON => std::hint::spin_loop(),
            0 if begun.elapsed() < patience => std::thread::sleep(LOOK),
            0 => return Err(io::ErrorKind::TimedOut.into()),
            _ if libc::WIFSTOPPED(status) => {
                let group_or_interrupt = status >> 16 == libc::PTRACE_EVENT_STOP;
                return Ok(if group_or_interrupt { 0 } else { i64::from(libc::WSTOPSIG(status)) });
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn ptrace(request: i64, tid: AgentTid, address: usize, data: i64) -> io::Result<()> {
    // SAFETY: the requests used here (SEIZE, INTERRUPT, DETACH) neither read nor write memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, i64::from(tid.as_raw()), address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A set of registers, by the type of its note in core files (include/uapi/linux/elf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    General,
    Floating,
    #[cfg(target_arch = "x86_64")]
    Extended,
    #[cfg(target_arch = "aarch64")]
    Tls,
}

impl Set {
    /// All but the general ones.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const OTHERS: &'static [Set] = &[Set::Floating, Set::Extended];
    #[cfg(target_arch = "aarch64")]
    pub(crate) const OTHERS: &'static [Set] = &[Set::Floating, Set::Tls];

    /// The note's type.
    pub(crate) fn note(self) -> u32 {
        match self {
            Set::General => 1,
            Set::Floating => 2,
            #[cfg(target_arch = "x86_64")]
            Set::Extended => 0x202,
            #[cfg(target_arch = "aarch64")]
            Set::Tls => 0x401,
        }
    }
}

/// The general registers of a thread that stands.
fn read_registers(tid: AgentTid) -> io::Result<[u64; 64]> {
    let mut words = [0_u64; 64];
    let length = get_set(tid, Set::General, words.as_mut_slice())?;
    // Those of a thread that runs code of 32 bits are another set.
    if length < set_of(0, 0).len() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "32-bit code has no stacks here"));
    }
    Ok(words)
}

/// A set of registers of a thread that stands, as the kernel writes it.
pub(crate) fn read_set(tid: AgentTid, set: Set) -> io::Result<Vec<u8>> {
    // The extended ones of x86-64 with AMX have 11 KiB.
    let mut words = vec![0_u64; 4096];
    let length = get_set(tid, set, &mut words)?;
    Ok(words.iter().flat_map(|word| word.to_ne_bytes()).take(length).collect())
}

/// PTRACE_GETREGSET; returns the length in bytes.
fn get_set(tid: AgentTid, set: Set, words: &mut [u64]) -> io::Result<usize> {
    let mut part = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words) };
    // SAFETY: the kernel writes at most `iov_len` bytes to `words`, which outlives the call, and the new length to `part`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            libc::PTRACE_GETREGSET as i64,
            i64::from(tid.as_raw()),
            set.note() as usize,
            &raw mut part,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(part.iov_len) }
}

/// A general set of which only these two are known.
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_of(instruction: u64, stack: u64) -> Vec<u8> {
    let mut words = [0_u64; 27];
    (words[16], words[19]) = (instruction, stack);
    words.map(u64::to_ne_bytes).as_flattened().to_vec()
}

/// A general set of which only these two are known.
#[cfg(target_arch = "aarch64")]
pub(crate) fn set_of(instruction: u64, stack: u64) -> Vec<u8> {
    let mut words = [0_u64; 34];
    (words[32], words[31]) = (instruction, stack);
    words.map(u64::to_ne_bytes).as_flattened().to_vec()
}

/// What a system call that was cut short returns: EINTR, and what the kernel restarts (ERESTARTSYS and its kin).
const CUT_SHORT: [i64; 5] = [-4, -512, -513, -514, -516];

/// Was it stopped in a system call that waits? `orig_rax` tells of the call, `rax` what became of it.
#[cfg(target_arch = "x86_64")]
fn waited(words: &[u64; 64]) -> bool {
    words[15].cast_signed() >= 0 && CUT_SHORT.contains(&words[10].cast_signed())
}

/// Was it stopped in a system call that waits? `x0` tells what became of it.
#[cfg(target_arch = "aarch64")]
fn waited(words: &[u64; 64]) -> bool {
    CUT_SHORT.contains(&words[0].cast_signed())
}

/// `struct user_regs_struct` of x86-64 (sys/user.h).
#[cfg(target_arch = "x86_64")]
fn of_words(words: &[u64; 64]) -> Registers {
    Registers { frame: Some(words[4]), instruction: words[16], stack: words[19], link: 0 }
}

/// `struct user_pt_regs` of arm64 (asm/ptrace.h).
#[cfg(target_arch = "aarch64")]
fn of_words(words: &[u64; 64]) -> Registers {
    Registers { frame: Some(words[29]), link: words[30], stack: words[31], instruction: words[32] }
}
