//! Programs that are held at their first instruction: stopped by a signal after exec(2), before any code of their own ran.

use crate::{Memory, Process, threads::SyscallNow};

/// Entries of the auxiliary vector (include/uapi/linux/auxvec.h): where the loader lies, and where the program begins.
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
/// Where an ELF header says where its code begins (System V ABI, chapter 4).
const E_ENTRY: u64 = 24;

/// Is the process stopped, untraced, at its very first instruction?
#[must_use]
pub fn at_first_instruction(process: &Process) -> bool {
    let waits = process.status().is_ok_and(|status| status.state.is_stopped() && status.tracer == 0);
    waits
        && program_counter(process)
            .is_some_and(|now| process.memory().is_ok_and(|memory| first(process, &memory) == Some(now)))
}

/// Where the only thread stands.
fn program_counter(process: &Process) -> Option<u64> {
    let text = process.read("syscall", 1024).ok()?;
    match SyscallNow::parse(&String::from_utf8_lossy(&text))? {
        SyscallNow::Running => None,
        SyscallNow::Blocked { program_counter, .. } | SyscallNow::Call { program_counter, .. } => {
            Some(program_counter)
        }
    }
}

/// The first instruction: the loader's, or the program's where it has none.
fn first(process: &Process, memory: &Memory) -> Option<u64> {
    let vector = process.read("auxv", 4096).ok()?;
    let entry = |key: u64| {
        let pairs = vector.as_chunks::<16>().0.iter().map(|pair| pair.as_chunks::<8>().0);
        let mut numbers = pairs.map(|pair| [u64::from_ne_bytes(pair[0]), u64::from_ne_bytes(pair[1])]);
        numbers.find(|[name, _]| *name == key).map(|[_, value]| value)
    };
    match entry(AT_BASE) {
        None | Some(0) => entry(AT_ENTRY),
        Some(base) => base.checked_add(memory.read_u64(base.checked_add(E_ENTRY)?).ok()?),
    }
}
