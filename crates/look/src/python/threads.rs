//! Threads of an interpreter, and which of them holds the lock.

use std::collections::{HashMap, HashSet};

use super::{
    memory::{Memory, Part},
    offsets::{Gil, Offsets},
};

/// The most interpreters of a process, and the most threads of all of them.
const MOST_INTERPRETERS: usize = 64;
const MOST_THREADS: usize = 20_000;
/// Bytes of the C library's account of a thread in which its number is looked for.
const ACCOUNT: usize = 1024;

/// A thread that runs Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PythonThread {
    /// Of its `PyThreadState`.
    pub(crate) address: u64,
    /// `pthread_self()`.
    pub(crate) ident: u64,
    /// As the container numbers it; 0 when the interpreter does not know.
    pub(crate) native_id: u32,
    pub(crate) interpreter: u64,
    pub(crate) holds_gil: bool,
}

/// All threads, where they were the time before.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    known: Vec<u64>,
}

impl Threads {
    /// The threads, in the order of the interpreter's list; nothing when the runtime cannot be read.
    pub(crate) fn read(
        &mut self,
        memory: &impl Memory,
        offsets: &Offsets,
        runtime: u64,
    ) -> Option<Vec<PythonThread>> {
        let mut threads = self.all(memory, offsets, runtime)?;
        let interpreters: HashSet<u64> = threads.iter().map(|thread| thread.interpreter).collect();
        let holders: HashSet<u64> =
            interpreters.iter().filter_map(|one| holder(memory, offsets, runtime, *one)).collect();
        for thread in &mut threads {
            thread.holds_gil = holders.contains(&thread.address);
        }
        self.known = threads.iter().map(|thread| thread.address).collect();
        Some(threads)
    }

    /// Those that were there are read at once; what is new, or where the list is another, is walked to.
    fn all(&self, memory: &impl Memory, offsets: &Offsets, runtime: u64) -> Option<Vec<PythonThread>> {
        let size = offsets.thread_size();
        let mut parts: Vec<Part> = self.known.iter().map(|address| Part::new(*address, size)).collect();
        let read: HashMap<u64, Part> = if memory.fill(&mut parts) {
            parts.into_iter().map(|part| (part.address, part)).collect()
        } else {
            HashMap::new()
        };
        let mut threads = Vec::new();
        let mut interpreter = memory.word(runtime.checked_add(offsets.interpreters)?)?;
        for _ in 0..MOST_INTERPRETERS {
            if interpreter == 0 {
                break;
            }
            let mut address = memory.word(interpreter.checked_add(offsets.interpreter.threads)?)?;
            while address != 0 && threads.len() < MOST_THREADS {
                let part = match read.get(&address) {
                    Some(part) => part.clone(),
                    None => Part { address, bytes: memory.bytes(address, size as usize)? },
                };
                let word = |field: u64| part.word(address.checked_add(field)?);
                // What does not belong to this interpreter is being made or freed.
                if word(offsets.thread.interpreter)? != interpreter {
                    return None;
                }
                threads.push(PythonThread {
                    address,
                    ident: word(offsets.thread.ident)?,
                    native_id: offsets.thread.native_id.map_or(Some(0), word)? as u32,
                    interpreter,
                    holds_gil: false,
                });
                address = word(offsets.thread.next)?;
            }
            interpreter = memory.word(interpreter.checked_add(offsets.interpreter.next)?)?;
        }
        Some(threads)
    }
}

/// The thread that holds the lock now.
fn holder(memory: &impl Memory, offsets: &Offsets, runtime: u64, interpreter: u64) -> Option<u64> {
    let (gil, locked, holder) = match offsets.gil {
        Gil::InRuntime { locked, holder } => (runtime, locked, holder),
        Gil::OfInterpreter { pointer, locked, holder } => {
            (memory.word(interpreter.checked_add(pointer)?)?, locked, holder)
        }
    };
    let mut parts = [Part::new(gil.checked_add(locked)?, 8), Part::new(gil.checked_add(holder)?, 8)];
    let filled = memory.fill(&mut parts);
    let [locked, holder] = parts.map(|part| part.word(part.address));
    // An `int`: -1 before it is first taken.
    (filled && locked? as u32 == 1).then_some(holder?)
}

/// Numbers for threads whose interpreter does not know them (up to 3.10): the C library keeps a thread's number at some place of its
/// account of it, whose address is `pthread_self()`; that place is where all of them have numbers of threads of this process, each
/// another.
pub(crate) fn number(memory: &impl Memory, threads: &mut [PythonThread], tids: &HashSet<u32>) {
    let unknown = |thread: &PythonThread| !tids.contains(&thread.native_id);
    if !threads.iter().any(unknown) {
        return;
    }
    let accounts: Vec<Option<Vec<u8>>> =
        threads.iter().map(|thread| memory.bytes(thread.ident, ACCOUNT)).collect();
    let at = |place: usize| -> Option<Vec<u32>> {
        let words = accounts.iter().flatten().map(|account| {
            account.get(place..place + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes)
        });
        let words: Vec<u32> = words.collect::<Option<_>>()?;
        let different: HashSet<&u32> = words.iter().collect();
        (different.len() == words.len() && words.iter().all(|word| tids.contains(word))).then_some(words)
    };
    let Some(numbers) = (0..ACCOUNT).step_by(4).find_map(at) else { return };
    let mut numbers = numbers.into_iter();
    for (thread, account) in threads.iter_mut().zip(&accounts) {
        let number = account.as_ref().and_then(|_| numbers.next());
        if let Some(number) = number.filter(|_| !tids.contains(&thread.native_id)) {
            thread.native_id = number;
        }
    }
}
