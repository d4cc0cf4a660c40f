//! Chains of frames that held at one moment, copied while the thread runs on.
//!
//! All frames of a thread are read at once, from the places where they were the time before, there and back by one system call. The
//! thread's pointer to the current frame is read before, between and after. Frames that are the same in both copies were so in
//! between.
//!
//! Being the same is not enough: what a loop calls again and again is at the same place each time, so a frame that has ended and is
//! only left in memory may be taken for the current one twice. But each frame says itself whether it runs, waits, or has ended, and
//! a chain is possible only when those who call wait and the innermost does not.
//!
//! A thread whose innermost calls are shorter than the time between the two copies is not given up, or what is short would never be
//! seen: the frames that are the same in both are true, and the innermost of them counts for what it called (`agree.rs`). A thread of
//! which nothing is the same is given up after some attempts, and the sample counts as lost.

use std::time::Instant;

use super::{
    agree::{Agreed, Pairs},
    memory::{Memory, Part},
    offsets::{Alive, Frames, Offsets, fixed},
    threads::PythonThread,
};

/// How often a chain is copied before it is given up.
const ATTEMPTS: usize = 24;
/// Places that are read besides those where frames were the last time, at most; bytes of all of them; and for how many samples.
const MORE: usize = 8;
const MORE_BYTES: u64 = 16 << 10;
const OLD: u32 = 200;
/// So many pairs of copies that are the same in everything show a thread that stands still.
const STILL: usize = 3;
/// Frames that are nearer to each other than this are read as one piece.
const GAP: u64 = 1024;
/// What is read beyond the frames that were seen, since the next call's frame is there; never into another page.
const BEYOND: u64 = 1024;
const PAGE: u64 = 4096;
/// Who owns a frame: its thread, its generator; from here on, the interpreter, and it is no function's.
const OF_THREAD: u8 = 0;
const OF_GENERATOR: u8 = 1;
const NO_FUNCTION: u8 = 3;

/// One frame of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) address: u64,
    /// Its code object.
    pub(crate) code: u64,
    /// An address, or up to 3.10 an index.
    pub(crate) instruction: u64,
    /// Was it called from C?
    pub(crate) entry: Entry,
}

/// Was a frame called from C? Then the native stack has one loop of the interpreter for it and those that it called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// No: another frame's loop runs it.
    No,
    /// Yes.
    Yes,
    /// Yes, by the loop in whose part of the stack this address is.
    At(u64),
}

/// Frames, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) frames: Vec<RawFrame>,
    /// Are there more, further out?
    pub(crate) is_cut: bool,
}

/// Where a thread's frames were the last times: what is read at once the next time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    /// The address of the pointer to the current frame.
    slot: u64,
    /// Sorted, apart from each other.
    ranges: Vec<(u64, u64)>,
    /// How often it was extended since it was as small as can be.
    age: u32,
    /// About how long two copies take when nothing comes in between, in nanoseconds.
    usual: u64,
}

impl Shape {
    /// Did copying take no longer than it does? What was interrupted in the middle shows two moments. Slowly it may take longer.
    fn was_swift(&mut self, took: u64) -> bool {
        let usual = self.usual;
        self.usual = if usual == 0 { took } else { took.min(usual + usual / 16 + 1) };
        usual == 0 || took <= usual.saturating_mul(2)
    }
}

/// A chain, and the code objects of its frames, read right after.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) chain: Chain,
    /// Sorted by address.
    pub(crate) codes: Vec<Part>,
}

/// What a copy tells.
enum Told {
    Chain(Copied),
    /// A frame lies where nothing was read.
    Missing(u64),
    /// The thread moved meanwhile, or what was read is nonsense.
    Moved,
}

/// A possible chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) chain: Chain,
    /// Addresses of all frames on the way, also those that are no function's.
    pub(super) visited: Vec<u64>,
    /// Does the innermost say that it runs?
    pub(super) runs: bool,
}

/// Two copies of the same places, and the pointer to the current frame before, between and after.
pub(super) struct Twice {
    parts: Vec<Part>,
    /// How many parts a copy has.
    count: usize,
}

impl Twice {
    pub(super) fn copy(&self, second: bool) -> &[Part] {
        let start = if second { 3 + self.count } else { 2 };
        &self.parts[start..start + self.count]
    }

    /// 0, 1, 2: before, between, after.
    pub(super) fn current(&self, index: usize) -> u64 {
        let part = &self.parts[1 + index * (self.count + 1)];
        part.word(part.address).unwrap_or(0)
    }

    fn heads(&self) -> [u64; 2] {
        [&self.parts[0], &self.parts[self.parts.len() - 1]].map(|part| part.word(part.address).unwrap_or(0))
    }
}

/// A frame as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    /// Itself, if it is a function's.
    pub(super) frame: Option<RawFrame>,
    /// The one that called it.
    pub(super) back: u64,
    /// What it says of itself.
    pub(super) state: u64,
    pub(super) of_generator: bool,
}

/// Copies chains of up to so many frames.
pub(crate) struct Copier<'a, M> {
    pub(crate) memory: &'a M,
    pub(crate) offsets: &'a Offsets,
    pub(crate) most: usize,
    /// After so many attempts, a part of the chain is good enough.
    pub(crate) whole: usize,
}

impl<M: Memory> Copier<'_, M> {
    /// A chain that held at one moment; nothing when the thread moves too fast, or has ended.
    pub(crate) fn copy(&self, thread: &PythonThread, shape: &mut Shape, pairs: &mut Pairs) -> Option<Seen> {
        let mut part = None;
        for attempt in 0..ATTEMPTS {
            let Some(twice) = self.twice(thread, shape)? else { continue };
            for second in [true, false] {
                let current = twice.current(usize::from(second));
                match self.follow(twice.copy(second), current) {
                    Told::Chain(copied) if copied.runs => match self.agree(&twice, second, copied, pairs) {
                        Agreed::Whole(copied) => {
                            self.remember(shape, &copied.visited);
                            return self.with_codes(copied.chain);
                        }
                        Agreed::Part(copied) => part = part.or(Some(copied)),
                        Agreed::Nothing => {}
                    },
                    Told::Missing(address) if second => self.find(address, shape),
                    _ => {}
                }
            }
            if let Some(copied) = part.take_if(|_| attempt >= self.whole) {
                self.remember(shape, &copied.visited);
                return self.with_codes(copied.chain);
            }
        }
        self.still(thread, shape)
    }

    /// A chain whose innermost frame says that it does not run: it is in a function of C that traces it, and stands still.
    fn still(&self, thread: &PythonThread, shape: &mut Shape) -> Option<Seen> {
        let mut same: Option<Copied> = None;
        for _ in 0..STILL {
            let twice = self.twice(thread, shape)??;
            for second in [false, true] {
                let told = self.follow(twice.copy(second), twice.current(usize::from(second)));
                let Told::Chain(copied) = told else { return None };
                if *same.get_or_insert_with(|| copied.clone()) != copied {
                    return None;
                }
            }
        }
        self.with_codes(same?.chain)
    }

    /// Two copies. Nothing inside when it has to be tried again; nothing at all when the thread's state cannot be read.
    fn twice(&self, thread: &PythonThread, shape: &mut Shape) -> Option<Option<Twice>> {
        let head = thread.address.checked_add(self.offsets.thread.frame)?;
        if shape.slot == 0 {
            shape.slot = self.slot(head)?;
        }
        let slot = Part::new(shape.slot, 8);
        let frames: Vec<Part> =
            shape.ranges.iter().map(|(start, end)| Part::new(*start, end - start)).collect();
        let mut parts = vec![Part::new(head, 8), slot.clone()];
        parts.extend(frames.iter().cloned());
        parts.push(slot.clone());
        // The other way round: a loop that takes as long as a copy would show each place at its own moment, twice the same.
        parts.extend(frames.iter().rev().cloned());
        parts.push(slot.clone());
        parts.push(Part::new(head, 8));
        let begun = Instant::now();
        if !self.memory.fill(&mut parts) {
            *shape = Shape { slot: self.slot(head)?, ..Shape::default() };
            return Some(None);
        }
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let was_swift = shape.was_swift(took);
        let second = 3 + frames.len();
        parts[second..second + frames.len()].reverse();
        let twice = Twice { parts, count: frames.len() };
        let slot_of = |head: u64| match self.offsets.frames {
            Frames::Objects | Frames::Direct => shape.slot,
            Frames::Marked | Frames::Shimmed => head.wrapping_add(self.offsets.thread.of_c_frame),
        };
        let [before, after] = twice.heads();
        let same = was_swift && before == after && slot_of(before) == shape.slot;
        shape.slot = slot_of(after);
        Some(same.then_some(twice))
    }

    /// Adds the code objects; nothing when a frame is not in its code, which is then another's by now.
    fn with_codes(&self, chain: Chain) -> Option<Seen> {
        let mut addresses: Vec<u64> = chain.frames.iter().map(|frame| frame.code).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let size = self.offsets.code_size();
        let mut codes: Vec<Part> = addresses.into_iter().map(|address| Part::new(address, size)).collect();
        if !self.memory.fill(&mut codes) {
            return None;
        }
        let inside = |frame: &RawFrame| {
            let code = codes.binary_search_by_key(&frame.code, |part| part.address).ok().map(|at| &codes[at]);
            self.offsets.frames == Frames::Objects || code.is_some_and(|code| self.is_inside(frame, code))
        };
        chain.frames.iter().all(inside).then_some(())?;
        Some(Seen { chain, codes })
    }

    fn is_inside(&self, frame: &RawFrame, code: &Part) -> bool {
        let units = code.word(frame.code.wrapping_add(fixed::SIZE)).unwrap_or(0);
        let start = frame.code.wrapping_add(self.offsets.code.bytecode);
        // Before its first instruction it points to what is before.
        let place = frame.instruction.wrapping_add(2).wrapping_sub(start);
        place <= units.saturating_mul(2).saturating_add(2)
    }

    /// Where the pointer to the current frame is.
    fn slot(&self, head: u64) -> Option<u64> {
        match self.offsets.frames {
            Frames::Objects | Frames::Direct => Some(head),
            Frames::Marked | Frames::Shimmed => {
                self.memory.word(head)?.checked_add(self.offsets.thread.of_c_frame)
            }
        }
    }

    /// The chain in what was read.
    fn follow(&self, ranges: &[Part], current: u64) -> Told {
        let (mut chain, mut visited, mut runs) = (Chain::default(), Vec::new(), true);
        let mut address = current;
        // Frames that are no function's are not counted, but there is at most one of them for each that is.
        for _ in 0..self.most.saturating_mul(2) {
            chain.is_cut = chain.frames.len() == self.most;
            if address == 0 || chain.is_cut {
                return Told::Chain(Copied { chain, visited, runs });
            }
            let Some(Read { frame, back, state, of_generator }) = self.frame(ranges, address) else {
                return Told::Missing(address);
            };
            // A generator is always run by another frame.
            if of_generator && back == 0 {
                return Told::Moved;
            }
            match frame {
                Some(frame) if frame.code == 0 || !self.may_be(state, chain.frames.last()) => {
                    return Told::Moved;
                }
                Some(frame) => {
                    runs &= !chain.frames.is_empty() || self.may_run(address, state);
                    chain.frames.push(frame);
                }
                None => {
                    if let Some(last) = chain.frames.last_mut() {
                        last.entry = Entry::At(address);
                    }
                }
            }
            visited.push(address);
            address = back;
        }
        Told::Moved
    }

    /// Does an innermost frame that says this of itself run?
    fn may_run(&self, frame: u64, state: u64) -> bool {
        match self.offsets.frame.alive {
            Alive::Byte(..) => true,
            Alive::Depth(_) => (state as u32).cast_signed() < 0,
            // Nothing is left on the stack of one that has ended.
            Alive::Pointer(_) => state != frame.wrapping_add(self.offsets.frame.locals),
        }
    }

    /// Can a frame that says this of itself have called this one, or be the innermost?
    fn may_be(&self, state: u64, called: Option<&RawFrame>) -> bool {
        match (self.offsets.frame.alive, called) {
            (Alive::Byte(_, alive), _) => state as u8 == alive,
            // Those that call C do not say that they wait.
            (Alive::Depth(_), Some(called)) => called.entry != Entry::No || (state as u32).cast_signed() >= 0,
            (Alive::Depth(_) | Alive::Pointer(_), None) => true,
            (Alive::Pointer(_), Some(_)) => state != 0,
        }
    }

    /// The frame at an address; nothing when it was not read.
    pub(super) fn frame(&self, ranges: &[Part], address: u64) -> Option<Read> {
        let range = range_of(ranges, address)?;
        let at = &self.offsets.frame;
        let word = |field: u64| range.word(address.checked_add(field)?);
        let (code, back, instruction) = (word(at.code)?, word(at.back)?, word(at.instruction)?);
        let byte = |field: u64| {
            let offset = usize::try_from(address.checked_add(field)?.checked_sub(range.address)?).ok()?;
            range.bytes.get(offset).copied()
        };
        let owner = at.owner.map_or(Some(OF_THREAD), byte)?;
        // Up to 3.10 each frame has a loop of its own.
        let is_entry = match at.is_entry {
            Some(field) => byte(field)? != 0,
            None => self.offsets.frames == Frames::Objects,
        };
        let is_function = owner < NO_FUNCTION;
        let entry = if is_entry { Entry::Yes } else { Entry::No };
        let instruction = match self.offsets.frames {
            // An `int`.
            Frames::Objects => u64::from(instruction as u32),
            _ => instruction,
        };
        // From 3.14 on the lowest bits of a reference say how it is counted.
        let frame = RawFrame { address, code: code & !7, instruction, entry };
        Some(Read {
            frame: is_function.then_some(frame),
            back,
            state: word(at.alive.at())?,
            of_generator: owner == OF_GENERATOR,
        })
    }

    /// Walks from a frame that was not read to one that was, or to the outermost, and reads those too from now on.
    fn find(&self, from: u64, shape: &mut Shape) {
        let size = self.offsets.frame_size();
        let mut found = Vec::new();
        let mut address = from;
        let known = |address: u64| shape.ranges.iter().any(|(start, end)| (*start..*end).contains(&address));
        while address != 0 && found.len() < self.most.saturating_mul(2) && !known(address) {
            let Some(bytes) = self.memory.bytes(address, size as usize) else { break };
            found.push(address);
            let back = Part { address, bytes }.word(address.saturating_add(self.offsets.frame.back));
            address = back.unwrap_or(0);
        }
        let old = shape.ranges.iter().copied();
        let new = found.iter().filter_map(|address| Some((*address, address.checked_add(size)?)));
        shape.ranges = merged(old.chain(new).collect());
        shape.age += 1;
        shape.usual = 0;
    }

    /// What has been seen is read the next time; and while it is not too much, also where frames were before.
    fn remember(&self, shape: &mut Shape, visited: &[u64]) {
        let now = self.ranges(visited);
        let all = merged(shape.ranges.iter().copied().chain(now.iter().copied()).collect());
        let bytes: u64 = all.iter().map(|(start, end)| end - start).sum();
        let is_small = all.len() <= now.len() + MORE && bytes <= MORE_BYTES && shape.age < OLD;
        if all.len() != shape.ranges.len() {
            shape.usual = 0;
        }
        if is_small {
            shape.ranges = all;
            shape.age += 1;
        } else {
            (shape.ranges, shape.age, shape.usual) = (now, 0, 0);
        }
    }

    /// The places of the frames, and of the next call.
    fn ranges(&self, visited: &[u64]) -> Vec<(u64, u64)> {
        let size = self.offsets.frame_size();
        let all = visited.iter().enumerate().map(|(index, address)| {
            let end = address.saturating_add(size);
            let same_page = (end | (PAGE - 1)).saturating_add(1);
            let beyond = if index == 0 && self.offsets.frames != Frames::Objects { BEYOND } else { 0 };
            (*address, end.saturating_add(beyond).min(same_page))
        });
        merged(all.collect())
    }
}

/// Sorted, with what is near to each other as one.
fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match out.last_mut() {
            Some(last) if start <= last.1.saturating_add(GAP) => last.1 = last.1.max(end),
            _ => out.push((start, end)),
        }
    }
    out
}

pub(super) fn range_of(ranges: &[Part], address: u64) -> Option<&Part> {
    let after = ranges.partition_point(|range| range.address <= address);
    ranges.get(after.checked_sub(1)?)
}
