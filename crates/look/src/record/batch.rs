//! What was seen in a short span, as it travels. Modules and threads are numbered once a recording; all else is forgotten with
//! its span, so that a long recording needs no more memory than a short one.

use std::{collections::HashMap, time::Instant};

use pepo_process::{AgentPid, Process, threads};
use pepo_wire::agent::{LookBatch, LookLocation, LookModule, LookSample, LookStack, LookThread};

use super::Spent;
use crate::python::Spot;

/// The most threads that are told apart by name; those beyond are told by their process's.
const MAX_THREADS: usize = 100_000;

/// Samples of one message, and frames of its stacks: with these it stays within 32 MiB.
const FULL: usize = 200_000;
const FULL_FRAMES: usize = 4_000_000;
/// The same for the text of a message, in bytes.
const FULL_TEXT: usize = 8 << 20;

/// A place in a call chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// In a module, as its file counts.
    Module {
        /// Number of the module.
        module: u32,
        /// The address.
        address: u64,
    },
    /// In memory that no file stands for.
    Memory(u64),
    /// A frame of a runtime's own, named by it.
    Named(Spot),
    /// No place but a remark.
    Remark(&'static str),
}

/// How many samples stand for one, and what they weigh: 0 for one, and for what the rate says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) count: u64,
    pub(super) weight: u64,
}

/// What has been seen since it was last taken.
pub(super) struct Batch {
    started: Instant,
    /// As the kernel counts (CLOCK_MONOTONIC).
    started_nanos: u64,
    seen: LookBatch,
    locations: HashMap<Place, u32>,
    stacks: HashMap<Vec<u32>, u32>,
    modules: HashMap<(String, String), u32>,
    threads: HashMap<(u32, u32), u32>,
    processes: HashMap<u32, (u32, String)>,
    /// What programs call their threads, by process and thread.
    given: HashMap<(u32, u32), String>,
    /// Bytes of names in what has been seen, and frames of its stacks.
    text: usize,
    frames: usize,
    samples: u64,
    lost: u64,
    notes: Vec<String>,
}

impl Batch {
    pub(super) fn new(process: &Process) -> Batch {
        let mut batch = Batch {
            started: Instant::now(),
            started_nanos: monotonic(),
            seen: LookBatch::default(),
            locations: HashMap::new(),
            stacks: HashMap::new(),
            modules: HashMap::new(),
            threads: HashMap::new(),
            processes: HashMap::new(),
            given: HashMap::new(),
            text: 0,
            frames: 0,
            samples: 0,
            lost: 0,
            notes: Vec::new(),
        };
        batch.process(process.pid().get());
        batch
    }

    /// Nanoseconds since the beginning.
    pub(super) fn elapsed(&self) -> u64 {
        super::nanos(self.started.elapsed())
    }

    /// Number of samples, and how many were lost.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.samples, self.lost)
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Says something once.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) && self.notes.len() < 50 {
            self.notes.push(note);
        }
    }

    /// What has been seen; from then on nothing has.
    pub(super) fn take(&mut self, spent: Spent) -> LookBatch {
        (self.seen.cpu_nanos, self.seen.rounds) = (spent.cpu_nanos, spent.rounds);
        self.seen.until_nanos = self.elapsed();
        self.locations.clear();
        self.stacks.clear();
        (self.text, self.frames) = (0, 0);
        std::mem::take(&mut self.seen)
    }

    /// The number of a module.
    pub(super) fn module(&mut self, path: &str, build_id: &str) -> u32 {
        let next = self.modules.len() as u32 + 1;
        *self.modules.entry((path.to_owned(), build_id.to_owned())).or_insert_with_key(|(path, build_id)| {
            self.seen.modules.push(LookModule { id: next, path: path.clone(), build_id: build_id.clone() });
            next
        })
    }

    /// Is it time to hand on what was seen, so that no message grows too large?
    pub(super) fn is_full(&self) -> bool {
        self.seen.samples.len() >= FULL || self.frames >= FULL_FRAMES || self.text >= FULL_TEXT
    }

    pub(super) fn lost(&mut self, count: u64) {
        self.lost += count;
        self.seen.lost += count;
    }

    /// A program calls a thread by this name; for those that have not been seen yet.
    pub(super) fn call(&mut self, pid: u32, tid: u32, name: &str) {
        if self.given.len() < MAX_THREADS {
            self.given.insert((pid, tid), name.to_owned());
        }
    }

    /// One sample: where the thread was, innermost first, and when by the kernel's clock.
    pub(super) fn sample(&mut self, pid: u32, tid: u32, at: u64, chain: &[Place]) {
        self.samples(pid, tid, at, chain, Count::default());
    }

    /// Several at once.
    pub(super) fn samples(&mut self, pid: u32, tid: u32, at: u64, chain: &[Place], of: Count) {
        let stack: Vec<u32> = chain.iter().map(|place| self.location(place)).collect();
        let (seen, frames) = (&mut self.seen, &mut self.frames);
        let stack = *self.stacks.entry(stack).or_insert_with_key(|stack| {
            *frames += stack.len();
            seen.stacks.push(LookStack { locations: stack.clone() });
            seen.stacks.len() as u32 - 1
        });
        let thread = self.thread(pid, tid);
        let at_nanos = at.saturating_sub(self.started_nanos);
        let Count { count, weight } = of;
        self.seen.samples.push(LookSample { stack, thread, at_nanos, count, weight });
        self.samples += count.max(1);
    }

    fn location(&mut self, place: &Place) -> u32 {
        if let Some(known) = self.locations.get(place) {
            return *known;
        }
        let index = self.seen.locations.len() as u32;
        if let Place::Named(spot) = place {
            self.text += spot.function.len() + spot.file.len();
        }
        self.seen.locations.push(match place {
            Place::Module { module, address } => {
                LookLocation { module: *module, address: *address, ..LookLocation::default() }
            }
            Place::Memory(address) => LookLocation { address: *address, ..LookLocation::default() },
            Place::Named(spot) => LookLocation {
                function: spot.function.to_string(),
                file: spot.file.to_string(),
                line: spot.line,
                column: spot.column,
                ..LookLocation::default()
            },
            Place::Remark(words) => LookLocation { remark: (*words).to_owned(), ..LookLocation::default() },
        });
        self.locations.insert(place.clone(), index);
        index
    }

    fn thread(&mut self, pid: u32, tid: u32) -> u32 {
        // Beyond what is told apart, every thread counts as its process's first.
        let tid = if self.threads.len() < MAX_THREADS { tid } else { pid };
        if let Some(known) = self.threads.get(&(pid, tid)) {
            return *known;
        }
        let id = self.threads.len() as u32 + 1;
        let (container_pid, process_name) = self.process(pid);
        let directory = format!("/proc/{pid}/task/{tid}");
        let given = self.given.get(&(pid, tid)).cloned();
        let name = given.or_else(|| std::fs::read_to_string(format!("{directory}/comm")).ok());
        let status = std::fs::read(format!("{directory}/status")).ok();
        self.seen.threads.push(LookThread {
            id,
            agent_tid: tid,
            // One that ended at once is told by the number that is left.
            container_tid: status.and_then(|text| threads::innermost(&text)).unwrap_or(tid),
            name: name.map_or_else(|| process_name.clone(), |name| name.trim_end().to_owned()),
            agent_pid: pid,
            container_pid,
            process_name,
        });
        self.threads.insert((pid, tid), id);
        id
    }

    /// Number in the container, and name, as they were when the process was first seen.
    fn process(&mut self, pid: u32) -> (u32, String) {
        let read = || {
            let process = AgentPid::new(pid).and_then(|pid| Process::open(pid).ok());
            let status = process.as_ref().and_then(|process| process.status().ok());
            let name = process.and_then(|process| process.stat().ok()).map(|stat| stat.name);
            (status.map_or(pid, |status| status.container_pid()), name.unwrap_or_default())
        };
        self.processes.entry(pid).or_insert_with(read).clone()
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
