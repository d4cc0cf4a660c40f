//! Of which events of a recording there are samples, and which of their fields say what.

use super::types::{Types, Value};

/// What the fields of an event are called.
pub(super) struct Event {
    name: &'static str,
    thread: &'static str,
    /// The class of what was allocated or waited for.
    class: &'static str,
    pub(super) weight: Weight,
}

impl Event {
    /// Is there a sample of it? Threads park for many reasons: only locks are told.
    pub(super) fn is_of(&self, class: Option<&str>) -> bool {
        self.name != PARKED || class.is_some_and(|class| LOCKS.iter().any(|lock| class.starts_with(lock)))
    }
}

/// What an event weighs.
#[derive(Clone, Copy)]
pub(super) enum Weight {
    /// As much as any other.
    Alike,
    /// So many bytes as this field says.
    Bytes(&'static str),
    /// For as long as it took.
    Time,
}

/// The events of which there are samples: a thread that ran Java; a part of what is allocated, which stands for all; waits for monitors and
/// for other locks.
pub(super) const EVENTS: &[Event] = &[
    Event { name: "jdk.ExecutionSample", thread: "sampledThread", class: "", weight: Weight::Alike },
    Event {
        name: "jdk.ObjectAllocationSample",
        thread: "eventThread",
        class: "objectClass",
        weight: Weight::Bytes("weight"),
    },
    waited("jdk.JavaMonitorEnter", "monitorClass"),
    waited(PARKED, "parkedClass"),
];
/// A thread that parked.
const PARKED: &str = "jdk.ThreadPark";
/// What it parked for when that was a lock, by how the class begins.
const LOCKS: [&str; 3] = [
    "java.util.concurrent.locks.ReentrantLock",
    "java.util.concurrent.locks.ReentrantReadWriteLock",
    "java.util.concurrent.Semaphore",
];

const fn waited(name: &'static str, class: &'static str) -> Event {
    Event { name, thread: "eventThread", class, weight: Weight::Time }
}

/// A sample as it stands in a chunk: thread, stack and class by their numbers, times in ticks.
pub(super) struct Named {
    pub(super) at: u64,
    pub(super) thread: u64,
    pub(super) stack: u64,
    pub(super) class: u64,
    pub(super) weight: u64,
}

/// An event of this chunk's: which of its fields say what.
pub(super) struct Wanted {
    pub(super) event: &'static Event,
    time: Option<usize>,
    thread: Option<usize>,
    stack: Option<usize>,
    class: Option<usize>,
    weight: Option<usize>,
}

impl Wanted {
    /// By the number of its type, where there is one.
    pub(super) fn of(types: &Types, event: &'static Event) -> Option<(u64, Wanted)> {
        let kind = types.named(event.name)?;
        let field = |name| types.field(kind, name);
        let weight = match event.weight {
            Weight::Alike => None,
            Weight::Bytes(name) => field(name),
            Weight::Time => field("duration"),
        };
        let [time, thread, stack] = ["startTime", event.thread, "stackTrace"].map(field);
        Some((kind, Wanted { event, time, thread, stack, class: field(event.class), weight }))
    }

    pub(super) fn read(&self, value: &Value) -> Option<Named> {
        let number = |field: Option<usize>| value.at(field?)?.number();
        Some(Named {
            at: number(self.time)?,
            thread: number(self.thread)?,
            stack: number(self.stack)?,
            class: number(self.class).unwrap_or(0),
            weight: number(self.weight).unwrap_or(0),
        })
    }
}
