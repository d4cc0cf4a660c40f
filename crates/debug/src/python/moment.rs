//! Is this a safe moment for a call in a thread that stands still?
//!
//! Two kinds of calls are made. `Py_AddPendingCall` takes no lock that the interrupted thread could hold for longer than a few
//! instructions and allocates nothing: CPython itself calls it from its signal handlers (Modules/signalmodule.c,
//! `trip_signal`), so it may interrupt anything. `PyGILState_Ensure` and Python code allocate and wait for the GIL: they are
//! run only in a thread that is parked in a blocking system call with the GIL released, which is where a callback from C would
//! run them too. Neither is made inside a signal handler.

use pepo_process::{Memory, maps::Map};

use super::{
    image::Symbols,
    x86_64::{Register, Registers},
};

/// What may be done in a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// In a blocking system call outside malloc: Python code may run here if the GIL is released.
    Parked,
    /// Anywhere else: only what a signal handler may do.
    Running,
    /// Nothing now.
    Unsafe(&'static str),
}

/// Stack that Python code may need below the stack pointer.
const STACK_FOR_PYTHON: u64 = 192 << 10;
/// Stack that a chain of frames and a C function need.
const STACK_FOR_CALL: u64 = 24 << 10;
/// How far up a signal frame is looked for: a handler's own frames are small.
const NEAR: usize = 8 << 10;
/// How far up the interpreter's frames are looked for.
const FAR: usize = 64 << 10;

/// System calls in which a Python thread waits with the GIL released (numbers of x86-64, arch/x86/entry/syscalls). Those that
/// malloc makes (brk, mmap, munmap, mremap, madvise, mprotect) are not among them; futex is looked at apart.
const BLOCKING: [u64; 24] = [
    0,   // read
    1,   // write
    7,   // poll
    23,  // select
    34,  // pause
    35,  // nanosleep
    42,  // connect
    43,  // accept
    44,  // sendto
    45,  // recvfrom
    46,  // sendmsg
    47,  // recvmsg
    61,  // wait4
    73,  // flock
    128, // rt_sigtimedwait
    230, // clock_nanosleep
    232, // epoll_wait
    247, // waitid
    270, // pselect6
    271, // ppoll
    281, // epoll_pwait
    288, // accept4
    299, // recvmmsg
    441, // epoll_pwait2
];
const FUTEX: u64 = 202;
/// FUTEX_WAIT_BITSET without its flags (include/uapi/linux/futex.h).
const FUTEX_WAIT_BITSET: u64 = 9;

/// Could this system call be a safe place? Asked before anything is stopped.
pub(super) fn may_park(number: u64) -> bool {
    number == FUTEX || BLOCKING.contains(&number)
}

/// Looks at a thread that stands still.
pub(super) fn judge(registers: &Registers, memory: &Memory, maps: &[Map], symbols: &Symbols) -> Moment {
    let stack = registers.get(Register::Sp);
    let Some(map) = maps.iter().find(|map| map.contains(stack) && map.write) else {
        return Moment::Unsafe("its stack is unknown");
    };
    if !has_room(map, stack, STACK_FOR_CALL) {
        return Moment::Unsafe("its stack is almost full");
    }
    let words = stack_words(memory, stack, map.end);
    if words.iter().take(NEAR / 8).any(|&word| word == symbols.return_stub) {
        return Moment::Unsafe("it is in a signal handler");
    }
    let blocked = match registers.interrupted_call() {
        Some(FUTEX) => waits_for_python_lock(registers, &words, symbols),
        Some(number) => BLOCKING.contains(&number),
        None => false,
    };
    if blocked && has_room(map, stack, STACK_FOR_PYTHON) && !words.contains(&symbols.return_stub) {
        Moment::Parked
    } else {
        Moment::Running
    }
}

/// The main thread's stack grows by itself; others have what is mapped.
fn has_room(map: &Map, stack: u64, room: u64) -> bool {
    map.path.as_deref().is_some_and(|path| path.as_os_str() == "[stack]") || stack - map.start >= room
}

fn stack_words(memory: &Memory, stack: u64, end: u64) -> Vec<u64> {
    let start = (stack + 7) & !7;
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or(FAR).min(FAR);
    let bytes = memory.read_up_to(start, length).unwrap_or_default();
    bytes.chunks_exact(8).filter_map(|chunk| Some(u64::from_ne_bytes(chunk.try_into().ok()?))).collect()
}

/// Is it a wait for a lock of Python's, or a condition, rather than for the GIL or for malloc's lock?
///
/// glibc waits for semaphores and conditions with FUTEX_WAIT_BITSET, and for its own low-level locks, malloc's among them, with
/// FUTEX_WAIT (nptl/futex-internal.c, nptl/lowlevellock.c). The GIL's condition lies inside `_PyRuntime` (from 3.12 in the
/// main interpreter, which is part of it). Where that does not decide, the function that waits must be one of Python's locks.
fn waits_for_python_lock(registers: &Registers, words: &[u64], symbols: &Symbols) -> bool {
    let (address, operation) = (registers.get(Register::Di), registers.get(Register::Si) & 0x7f);
    let in_runtime = symbols
        .runtime
        .is_some_and(|runtime| address >= runtime.address && address - runtime.address < runtime.size);
    if in_runtime {
        return false;
    }
    if operation == FUTEX_WAIT_BITSET && symbols.runtime.is_some() && !symbols.musl {
        return true;
    }
    let caller = words.iter().find(|&&word| symbols.python.has_code_at(word));
    caller.is_some_and(|&caller| {
        symbols.lock_waits.iter().any(|lock| caller > lock.address && caller - lock.address <= lock.size)
    })
}
