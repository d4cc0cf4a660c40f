//! The address spaces of the process and its children: from registers and a copy of the stack to a call chain.

use std::{
    cell::Cell,
    collections::HashMap,
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use pepo_process::{AgentPid, Process};

use super::{
    batch::{Batch, Place},
    python::places,
};
use crate::{
    modules::Modules,
    python::{Either, Placed, join},
    registers::Registers,
    unwind::{Cache, Walked, frame_pointer, walk},
};

/// The most frames of one sample.
const MAX_FRAMES: usize = 1024;
/// Maps are read again after a change, but not more often than this: just-in-time compilers change them all the time.
const AGAIN: Duration = Duration::from_millis(100);
/// The most processes that are known at a time.
const MAX_SPACES: usize = 256;

pub(super) const CUT_OFF: Place = Place::Remark("[cut off]");
/// The native frames of a thread whose frames of Python are known.
const NOT_JOINED: Place = Place::Remark("[native frames unknown]");
pub(super) const KERNEL: Place = Place::Remark("[kernel]");

/// All that were seen.
#[derive(Default)]
pub(super) struct Spaces {
    known: HashMap<u32, Space>,
    parents: HashMap<u32, u32>,
}

struct Space {
    modules: Rc<Modules>,
    cache: Cache,
    read: Instant,
    stale: bool,
}

impl Space {
    fn new(modules: Rc<Modules>) -> Space {
        Space { modules, cache: Cache::new(), read: Instant::now(), stale: false }
    }
}

/// What the sampler copied of one thread.
pub(super) struct Copied<'a> {
    pub(super) registers: Registers,
    /// Bytes from the stack pointer upwards.
    pub(super) stack: &'a [u8],
}

/// The frames of Python of the same moment.
pub(super) struct OfPython<'a> {
    pub(super) frames: &'a [Placed],
    pub(super) is_cut: bool,
    pub(super) eval_loop: Option<&'a Range<u64>>,
}

impl Spaces {
    /// A process has a child, which begins with the same memory.
    pub(super) fn forked(&mut self, parent: u32, child: u32) {
        if self.parents.len() < MAX_SPACES * 16 {
            self.parents.insert(child, parent);
        }
    }

    /// The code of a process has changed: a library was loaded, or another program.
    pub(super) fn changed(&mut self, pid: u32) {
        if let Some(space) = self.known.get_mut(&pid) {
            space.stale = true;
        }
        self.parents.remove(&pid);
    }

    /// A process runs another program: nothing of the old one holds.
    pub(super) fn executed(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.parents.remove(&pid);
    }

    /// The call chain, innermost first; empty when nothing is known of the process. Frames of Python take the place of the loops that
    /// run them.
    pub(super) fn chain(
        &mut self,
        pid: u32,
        copied: &Copied<'_>,
        python: Option<&OfPython<'_>>,
        batch: &mut Batch,
    ) -> Vec<Place> {
        let Some(space) = self.space(pid, batch) else { return Vec::new() };
        let (walked, whole) = unwind(space, copied);
        let modules = Rc::clone(&space.modules);
        if let Some(python) = python.filter(|python| !python.frames.is_empty()) {
            return joined(&modules, &walked, whole, python, batch);
        }
        let mut chain: Vec<Place> = walked.iter().map(|one| place(&modules, one.lookup, batch)).collect();
        if !whole {
            chain.push(CUT_OFF);
        }
        chain
    }

    fn space(&mut self, pid: u32, batch: &mut Batch) -> Option<&mut Space> {
        let fresh = self.known.get(&pid).is_some_and(|space| !space.stale || space.read.elapsed() < AGAIN);
        if !fresh {
            if self.known.len() >= MAX_SPACES {
                self.known.clear();
            }
            match (read(pid, batch), self.known.get_mut(&pid)) {
                (Some(modules), _) => drop(self.known.insert(pid, Space::new(Rc::new(modules)))),
                // It has ended: what was known of it, or of its parent, still holds.
                (None, Some(old)) => old.stale = false,
                (None, None) => {
                    let parent = self.known.get(self.parents.get(&pid)?)?;
                    let modules = Rc::clone(&parent.modules);
                    self.known.insert(pid, Space::new(modules));
                }
            }
        }
        self.known.get_mut(&pid)
    }
}

fn joined(
    modules: &Modules,
    walked: &[Walked],
    whole: bool,
    python: &OfPython<'_>,
    batch: &mut Batch,
) -> Vec<Place> {
    let mut of_python = places(python.frames, python.is_cut);
    let Some(both) = join(walked, python.frames, python.eval_loop, whole && !python.is_cut) else {
        of_python.insert(0, NOT_JOINED);
        return of_python;
    };
    let mut chain = Vec::with_capacity(both.len());
    for one in both {
        match one {
            Either::Native(index) => {
                chain.extend(walked.get(index).map(|walked| place(modules, walked.lookup, batch)));
            }
            Either::Python(index) => chain.extend(of_python.get(index).cloned()),
        }
    }
    if !whole || python.is_cut {
        chain.push(CUT_OFF);
    }
    chain
}

fn read(pid: u32, batch: &mut Batch) -> Option<Modules> {
    let process = Process::open(AgentPid::new(pid)?).ok()?;
    let maps = process.maps().ok().filter(|maps| !maps.is_empty())?;
    let mut modules = Modules::read(&process, &maps, false);
    for note in modules.notes.drain(..) {
        batch.note(note);
    }
    Some(modules)
}

fn place(modules: &Modules, address: u64, batch: &mut Batch) -> Place {
    if let Some(place) = modules.place(address) {
        let module = batch.module(place.module, place.build_id);
        return Place::Module { module, address: place.module_address };
    }
    match modules.special(address) {
        Some(name) => Place::Module { module: batch.module(name, ""), address },
        None => Place::Memory(address),
    }
}

/// The frames, and whether the outermost function was reached. Only what was copied is read: the stack of a
/// thread that runs on holds other calls by now.
fn unwind(space: &mut Space, copied: &Copied<'_>) -> (Vec<Walked>, bool) {
    let start = copied.registers;
    let beyond = Cell::new(false);
    let mut read = |address: u64| {
        let offset =
            address.checked_sub(start.stack).and_then(|offset| usize::try_from(offset).ok()).ok_or(())?;
        let bytes = copied.stack.get(offset..offset.saturating_add(8));
        beyond.set(beyond.get() || bytes.is_none());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes).ok_or(())
    };
    let frame = start.frame.or_else(|| frame_pointer(&space.modules, start.stack, copied.stack));
    let from = (start, frame.unwrap_or(0));
    let (walked, _) = walk(&space.modules, &mut space.cache, from, MAX_FRAMES, &mut read);
    let whole = !beyond.get() && walked.len() < MAX_FRAMES;
    (walked, whole)
}
