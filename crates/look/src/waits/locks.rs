//! Whom a thread in `futex` waits for. The kernel knows only an address; what stands there is the C library's business:
//!
//! - glibc's `pthread_mutex_t` begins with the word that is waited at (2: taken, and someone waits), a count, the **owner**, and the
//!   number of its users;
//! - a lock with priority inheritance, and musl's and glibc's robust ones, keep the owner in the word itself (futex(2));
//! - `pthread_join` of glibc waits until the kernel clears the number of the thread.
//!
//! Other locks (Rust's, Go's, condition variables) look the same from outside or say nothing, so an owner is only believed when it
//! is a thread of this process.

use pepo_process::Memory;

const FUTEX_WAIT: u64 = 0;
const FUTEX_LOCK_PI: u64 = 6;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_LOCK_PI2: u64 = 13;
/// All but these bits is what is asked for (FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME).
const FLAGS: u64 = 128 | 256;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// glibc: taken, and someone waits.
const CONTENDED: u32 = 2;
/// More users of one lock than this are not believed.
const MOST_USERS: u32 = 1 << 20;

/// Another thread that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitedFor {
    pub(super) thread: u32,
    pub(super) until_end: bool,
}

/// By the arguments of the call and what stands at the address now.
pub(super) fn waited_for(
    memory: &Memory,
    arguments: &[u64; 6],
    is_thread: &dyn Fn(u32) -> bool,
) -> Option<WaitedFor> {
    let [address, operation, expected, ..] = *arguments;
    let word = memory.read_u32(address).ok()?;
    let holder = |thread: u32| is_thread(thread).then_some(WaitedFor { thread, until_end: false });
    let expected = u32::try_from(expected & 0xffff_ffff).ok()?;
    match operation & !FLAGS {
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => holder(word & FUTEX_TID_MASK),
        FUTEX_WAIT | FUTEX_WAIT_BITSET if word != expected => None,
        FUTEX_WAIT if word == CONTENDED => {
            let [owner, users] = [8, 12].map(|at| memory.read_u32(address.checked_add(at)?).ok());
            holder(owner?).filter(|_| users.is_some_and(|users| (1..MOST_USERS).contains(&users)))
        }
        FUTEX_WAIT if word & FUTEX_WAITERS != 0 => holder(word & FUTEX_TID_MASK),
        FUTEX_WAIT_BITSET => is_thread(word).then_some(WaitedFor { thread: word, until_end: true }),
        _ => None,
    }
}
