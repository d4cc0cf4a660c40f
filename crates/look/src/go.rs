//! Goroutines, read from the memory of a program of Go that runs on.
//!
//! Go's runtime keeps every goroutine in one list (`runtime.allgs`). Where that list is, the symbol table says; programs without
//! one are searched for it (`find.rs`). What a goroutine waits for is a number, and the program's own table of words is
//! read as well, so that no version's words stand here. All of it is read while the program changes it, and every address, count
//! and number is taken for hostile.

/// Where the list and the words are.
mod find;
/// Memory that lies.
#[cfg(test)]
mod hostile;
/// What lies where in a goroutine.
mod layout;

use std::time::Duration;

use pepo_process::{Memory, Process, runtime::RuntimeFacts};

use self::layout::Layout;
pub(crate) use self::layout::{Goroutine, Start, Status};
use crate::record::monotonic;

/// The most goroutines that are read.
pub(crate) const MOST: usize = 100_000;
/// How often the list is read until it holds still.
const TRIES: usize = 5;

/// Why goroutines cannot be read, in words for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) String);

/// An opened runtime of Go.
pub(crate) struct Go<'a> {
    memory: &'a Memory,
    layout: Layout,
    /// The address of `runtime.allgs`.
    list: u64,
    /// What goroutines wait for, by number.
    reasons: Vec<String>,
}

impl<'a> Go<'a> {
    /// # Errors
    /// When this program's goroutines cannot be read.
    pub(crate) fn open(
        process: &Process,
        memory: &'a Memory,
        facts: &RuntimeFacts,
    ) -> Result<Go<'a>, Unreadable> {
        let release = facts.go.as_ref().and_then(pepo_process::elf::go::GoBuild::release);
        let layout = Layout::of(release).map_err(Unreadable)?;
        let found = find::find(process, memory, &layout, &facts.executable);
        let found = found.ok_or_else(|| {
            Unreadable("the list of goroutines was not found: the program has only begun, or keeps it in another way".into())
        })?;
        Ok(Go { memory, layout, list: found.list, reasons: found.reasons })
    }

    /// Addresses of all goroutines, dead ones too, and how many there are beyond [`MOST`].
    pub(crate) fn addresses(&self) -> (Vec<u64>, usize) {
        let header = || self.memory.read_u64s::<3>(self.list).ok();
        let mut last = header();
        for _ in 0..TRIES {
            let now = header();
            if now == last {
                break;
            }
            last = now;
        }
        let [first, count, _] = last.unwrap_or_default();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let bytes = self.memory.read_up_to(first, count.min(MOST) * 8).unwrap_or_default();
        let addresses = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        (addresses, count.saturating_sub(MOST))
    }

    /// A goroutine as it is now; nothing for what is none, or is dead.
    pub(crate) fn goroutine(&self, address: u64) -> Option<Goroutine> {
        let mut bytes = [0; layout::SIZE];
        self.memory.read_at(address, &mut bytes[..self.layout.size()]).ok()?;
        self.layout.goroutine(address, &bytes).filter(|one| one.status != Status::Dead)
    }

    /// The thread that runs it, as in the container.
    pub(crate) fn thread(&self, goroutine: &Goroutine) -> Option<u32> {
        let at = goroutine.machine.checked_add(self.layout.thread_number())?;
        self.memory.read_u64(at).ok()?.try_into().ok()
    }

    /// In the words of the program's own dump.
    pub(crate) fn words(&self, goroutine: &Goroutine) -> String {
        let reason = self.reasons.get(usize::from(goroutine.reason)).filter(|words| !words.is_empty());
        match (goroutine.status, reason) {
            (Status::Waiting, Some(words)) => words.clone(),
            (Status::Leaked, Some(words)) => format!("{words} (leaked)"),
            (status, _) => status.name().to_owned(),
        }
    }
}

/// For how long something has lasted that began at this time of the machine's clock, in nanoseconds.
pub(crate) fn since(nanos: i64) -> Option<Duration> {
    let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0)?;
    monotonic().checked_sub(nanos).map(Duration::from_nanos)
}
