//! Ruby's own frames, read from the memory of a process that runs on.
//!
//! CRuby keeps the control frames of a thread (of its current fiber) as one array, at the end of the stack of its virtual machine. So
//! one read has all of them, and two by one system call say what was the same in between (`frames.rs`). Where fields are differs from
//! version to version: `layout.rs`. Nothing of it is exported but, up to 3.2, the address of the virtual machine, which is found by
//! what it looks like otherwise (`find.rs`). Every length, count and address is taken for hostile.

/// Methods and lines of instruction sequences.
mod code;
/// Where the virtual machine is, and the table of symbols.
mod find;
/// Chains of frames that held at one moment.
mod frames;
/// Memory that lies.
#[cfg(test)]
mod hostile;
/// Where versions keep what.
mod layout;
/// Texts, arrays and names of symbols.
mod objects;

use std::collections::{HashMap, HashSet};

use pepo_process::{
    Process,
    runtime::{Language, RuntimeFacts},
};

use self::{code::Codes, frames::Chain, layout::Layout, objects::Symbols};
use crate::python::{Entry, Memory as _, Placed, PythonThread, Spot, Target, Unreadable, number};

/// CRuby in a process.
pub(crate) struct Ruby {
    memory: Target,
    layout: Layout,
    version: String,
    /// `rb_vm_t`, and its first thread.
    machine: u64,
    codes: Codes,
    symbols: Symbols,
}

impl Ruby {
    /// # Errors
    /// When it runs no Ruby, or one whose frames are not known, or its memory may not be read.
    pub(crate) fn open(process: &Process, facts: &RuntimeFacts) -> Result<Ruby, Unreadable> {
        if facts.language != Language::Ruby || cfg!(not(target_pointer_width = "64")) {
            return Err(Unreadable("it runs no Ruby".to_owned()));
        }
        let memory = Target::open(process).map_err(|error| Unreadable(error.to_string()))?;
        let place = find::Place::of(process, facts)
            .ok_or_else(|| Unreadable("the interpreter of Ruby is not found".to_owned()))?;
        let version = place.version(&memory).unwrap_or_default();
        let layout = Layout::of(&version)
            .ok_or_else(|| Unreadable(format!("the frames of Ruby {version} are not known")))?;
        let machine = place.machine(&memory, &layout).ok_or_else(|| {
            Unreadable(format!("Ruby {version} has not begun, or keeps its threads where they are not known"))
        })?;
        let symbols = Symbols::new(place.symbols(&memory));
        Ok(Ruby { memory, layout, version, machine, codes: Codes::default(), symbols })
    }

    /// Its version, as it says itself.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Its threads; nothing while it starts or ends. Those of other Ractors than the first are not seen.
    pub(crate) fn threads(&self) -> Option<Vec<PythonThread>> {
        find::threads(&self.memory, &self.layout, self.machine)
    }

    /// Finds out the kernel's numbers of threads.
    pub(crate) fn number(&self, threads: &mut [PythonThread], tids: &HashSet<u32>) {
        number(&self.memory, threads, tids);
    }

    /// What the program calls its threads, by `pthread_self()`.
    pub(crate) fn names(&self, threads: &[PythonThread]) -> HashMap<u64, String> {
        let name = |thread: &PythonThread| {
            let text = self.memory.word(thread.address.checked_add(self.layout.name)?)?;
            Some((thread.ident, objects::text(&self.memory, &self.layout, text)?))
        };
        threads.iter().filter_map(name).collect()
    }

    /// The frames of a thread at one moment, innermost first, and whether there are more; nothing when that could not be had.
    pub(crate) fn frames(
        &mut self,
        thread: &PythonThread,
        most: usize,
        whole: usize,
    ) -> Option<(Vec<Placed>, bool)> {
        let Chain { frames, is_cut } = frames::copy(&self.memory, &self.layout, thread.address, most, whole)?;
        let mut placed = Vec::with_capacity(frames.len());
        for frame in frames {
            let spot = if frame.code == 0 {
                let Some(name) = self.symbols.method(&self.memory, &self.layout, frame.method) else {
                    continue;
                };
                Spot { function: name, file: "[C]".into(), line: 0, column: 0 }
            } else if frame.instruction == 0 {
                // A block that is a function of C: it has no name.
                continue;
            } else {
                self.codes.spot(&self.memory, &self.layout, frame.code, frame.instruction)?
            };
            placed.push(Placed { spot, entry: Entry::No, address: frame.address, code: frame.code });
        }
        Some((placed, is_cut))
    }
}
