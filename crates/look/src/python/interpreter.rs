//! An opened interpreter: its threads, their chains of frames, where each frame is.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
};

use pepo_process::{Process, runtime::python::PythonFacts};

use super::{
    agree::Pairs,
    code::{Codes, Spot},
    dicts::Objects,
    frames::{Chain, Copier, Entry, Seen, Shape},
    memory::{Bounded, Memory as _, Target},
    offsets::{self, Offsets},
    threads::{self, PythonThread, Threads},
    values::Variable,
};

/// Bytes that are read for the names of all threads; and for all variables, as long as it is open.
const NAMES: u64 = 64 << 20;
const VARIABLES: u64 = 128 << 20;

/// Why no frames of Python can be read, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) String);

/// CPython in a process.
pub(crate) struct Interpreter {
    memory: Target,
    offsets: Offsets,
    minor: u32,
    runtime: u64,
    threads: Threads,
    codes: Codes,
    pairs: Pairs,
    /// Bytes that may yet be read for variables.
    for_variables: Cell<u64>,
}

/// A frame as it is shown, and where it is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) spot: Spot,
    pub(crate) entry: Entry,
    pub(crate) address: u64,
    pub(crate) code: u64,
}

impl Interpreter {
    /// # Errors
    /// When this version's frames are not known, or its memory may not be read.
    pub(crate) fn open(process: &Process, facts: &PythonFacts) -> Result<Interpreter, Unreadable> {
        let version = format!("Python {}", facts.version);
        if facts.free_threaded {
            return Err(Unreadable(format!("the frames of {version} without its global lock are not known")));
        }
        let memory = Target::open(process).map_err(|error| Unreadable(error.to_string()))?;
        let offsets = match facts.minor {
            minor @ 8..=12 => Offsets::known(minor),
            minor => memory
                .bytes(facts.runtime_address, offsets::PUBLISHED_SIZE)
                .and_then(|bytes| offsets::published(&bytes, minor)),
        };
        let offsets = offsets.filter(|_| facts.major == 3 && cfg!(target_pointer_width = "64"));
        let offsets = offsets.ok_or_else(|| Unreadable(format!("the frames of {version} are not known")))?;
        Ok(Interpreter {
            memory,
            offsets,
            minor: facts.minor,
            runtime: facts.runtime_address,
            threads: Threads::default(),
            codes: Codes::default(),
            pairs: Pairs::default(),
            for_variables: Cell::new(VARIABLES),
        })
    }

    /// Its threads; nothing while it starts or ends, or when its memory is another program's.
    pub(crate) fn threads(&mut self) -> Option<Vec<PythonThread>> {
        self.threads.read(&self.memory, &self.offsets, self.runtime)
    }

    /// Finds out the kernel's numbers of threads that the interpreter does not know; `tids` are all, as the container numbers them.
    pub(crate) fn number(&self, threads: &mut [PythonThread], tids: &HashSet<u32>) {
        threads::number(&self.memory, threads, tids);
    }

    /// What `threading` calls its threads, by `pthread_self()`; what it does not know is missing.
    pub(crate) fn names(&self, threads: &[PythonThread]) -> HashMap<u64, String> {
        let mut interpreters: Vec<u64> = threads.iter().map(|thread| thread.interpreter).collect();
        interpreters.sort_unstable();
        interpreters.dedup();
        let left = Cell::new(NAMES);
        let memory = Bounded { memory: &self.memory, left: &left };
        let objects = Objects { memory: &memory, offsets: &self.offsets, minor: self.minor };
        let named = interpreters.into_iter().filter_map(|one| objects.thread_names(one));
        named.flatten().collect()
    }

    /// The frames of a thread at one moment, innermost first, and whether there are more; nothing when that could not be had. For so
    /// many attempts the innermost calls are tried to be seen too, however short they are.
    pub(crate) fn frames(
        &mut self,
        thread: &PythonThread,
        shape: &mut Shape,
        most: usize,
        whole: usize,
    ) -> Option<(Vec<Placed>, bool)> {
        let copier = Copier { memory: &self.memory, offsets: &self.offsets, most, whole };
        let Seen { chain, codes } = copier.copy(thread, shape, &mut self.pairs)?;
        let Chain { frames, is_cut } = chain;
        let mut placed = Vec::with_capacity(frames.len());
        for frame in frames {
            let index = codes.binary_search_by_key(&frame.code, |part| part.address).ok()?;
            let spot = self.codes.spot(&self.memory, &self.offsets, &codes[index], frame.instruction)?;
            let (entry, address, code) = (frame.entry, frame.address, frame.code);
            placed.push(Placed { spot, entry, address, code });
        }
        Some((placed, is_cut))
    }

    /// The variables of a frame, as they are by now.
    pub(crate) fn variables(&self, frame: &Placed) -> Vec<Variable> {
        let memory = Bounded { memory: &self.memory, left: &self.for_variables };
        let objects = Objects { memory: &memory, offsets: &self.offsets, minor: self.minor };
        objects.variables(frame.address, frame.code).unwrap_or_default()
    }
}
