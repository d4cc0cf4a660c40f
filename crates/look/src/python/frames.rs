//! Chains of frames that held at one moment, copied while the thread runs on.
//!
//! All frames of a thread are read at once, from the places where they were the time before; the thread's pointer to the current
//! frame is read before and after them. That is done twice. A frame that is the same in both was so at the moment between, when
//! the second copy's current frame was read; so the copies are accepted when they agree in all frames but that one. A thread that
//! moves faster than it can be copied is given up after some attempts, and the sample counts as lost.

use super::{
    memory::{Memory, Part},
    offsets::{Alive, Frames, Offsets},
    threads::PythonThread,
};

/// How often a chain is copied before it is given up.
const ATTEMPTS: usize = 24;
/// So many copies that are the same in everything show a thread that stands still.
const STILL: usize = 5;
/// Frames that are nearer to each other than this are read as one piece.
const GAP: u64 = 1024;
/// What is read beyond the frames that were seen, since the next call's frame is there; never into another page.
const BEYOND: u64 = 1024;
const PAGE: u64 = 4096;
/// From here on, a frame belongs to the interpreter and not to a function.
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

/// Where a thread's frames were the last time: what is read at once the next time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    /// The address of the pointer to the current frame.
    slot: u64,
    /// Sorted, apart from each other.
    ranges: Vec<(u64, u64)>,
}

/// A chain, and the code objects of its frames as they were at that moment.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) chain: Chain,
    /// Sorted by address.
    pub(crate) codes: Vec<Part>,
    /// Addresses of all frames that were read, also those that are no function's.
    visited: Vec<u64>,
    /// Does the innermost frame say that it runs?
    runs: bool,
}

/// What a copy tells.
enum Told {
    /// The chain, every frame on the way, and whether the innermost says that it runs.
    Chain(Chain, Vec<u64>, bool),
    /// A frame lies where nothing was read.
    Missing(u64),
    /// The thread moved meanwhile, or what was read is nonsense.
    Moved,
}

/// Copies chains of up to so many frames.
pub(crate) struct Copier<'a, M> {
    pub(crate) memory: &'a M,
    pub(crate) offsets: &'a Offsets,
    pub(crate) most: usize,
}

impl<M: Memory> Copier<'_, M> {
    /// A chain that held at one moment; nothing when the thread moves too fast, or has ended.
    pub(crate) fn copy(&self, thread: &PythonThread, shape: &mut Shape) -> Option<Seen> {
        for _ in 0..ATTEMPTS {
            let Some(first) = self.attempt(thread, shape, &[])?.filter(|seen| seen.runs) else { continue };
            let codes = codes_of(&first.chain);
            let second = self.attempt(thread, shape, &codes)?.filter(|seen| seen.runs);
            let Some(second) = second else { continue };
            if agree(&first.chain, &second.chain) && all_known(&second) {
                *shape = Shape { slot: shape.slot, ranges: self.ranges(&second.visited) };
                return Some(second);
            }
        }
        self.still(thread, shape)
    }

    /// A chain whose innermost frame says that it does not run: it is in a function of C that traces it, and stands still.
    fn still(&self, thread: &PythonThread, shape: &mut Shape) -> Option<Seen> {
        let first = self.attempt(thread, shape, &[])??;
        let codes = codes_of(&first.chain);
        let mut last = None;
        for _ in 1..STILL {
            let next = self.attempt(thread, shape, &codes)??;
            if next.chain != first.chain || !all_known(&next) {
                return None;
            }
            last = Some(next);
        }
        last
    }

    /// One copy. Nothing inside when it has to be tried again; nothing at all when the thread's state cannot be read.
    fn attempt(&self, thread: &PythonThread, shape: &mut Shape, codes: &[u64]) -> Option<Option<Seen>> {
        let head = thread.address.checked_add(self.offsets.thread.frame)?;
        if shape.slot == 0 {
            shape.slot = self.slot(head)?;
        }
        let mut parts = vec![Part::new(head, 8), Part::new(shape.slot, 8)];
        parts.extend(shape.ranges.iter().map(|(start, end)| Part::new(*start, end - start)));
        parts.extend([Part::new(shape.slot, 8), Part::new(head, 8)]);
        let frames = 2..parts.len() - 2;
        parts.extend(codes.iter().map(|code| Part::new(*code, self.offsets.code_size())));
        if !self.memory.fill(&mut parts) {
            *shape = Shape { slot: self.slot(head)?, ranges: Vec::new() };
            return Some(None);
        }
        let (same, current) = self.current(&parts, frames.end, shape);
        if !same {
            return Some(None);
        }
        match self.follow(&parts[frames.clone()], current) {
            Told::Chain(chain, visited, runs) => {
                Some(Some(Seen { chain, codes: parts.split_off(frames.end + 2), visited, runs }))
            }
            Told::Missing(address) => {
                self.find(address, shape);
                Some(None)
            }
            Told::Moved => Some(None),
        }
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

    /// Was the current frame the same before and after all others were read, and which was it?
    fn current(&self, parts: &[Part], after: usize, shape: &mut Shape) -> (bool, u64) {
        let word =
            |index: usize| parts.get(index).and_then(|part: &Part| part.word(part.address)).unwrap_or(0);
        let slot_of = |head: u64| match self.offsets.frames {
            Frames::Objects | Frames::Direct => shape.slot,
            Frames::Marked | Frames::Shimmed => head.wrapping_add(self.offsets.thread.of_c_frame),
        };
        let (head, head_after) = (word(0), word(after + 1));
        let same = word(1) == word(after) && slot_of(head) == shape.slot && head == head_after;
        if slot_of(head_after) != shape.slot {
            shape.slot = slot_of(head_after);
        }
        (same, word(1))
    }

    /// The chain in what was read.
    fn follow(&self, ranges: &[Part], current: u64) -> Told {
        let (mut chain, mut visited, mut runs) = (Chain::default(), Vec::new(), true);
        let mut address = current;
        // Frames that are no function's are not counted, but there is at most one of them for each that is.
        for _ in 0..self.most.saturating_mul(2) {
            chain.is_cut = chain.frames.len() == self.most;
            if address == 0 || chain.is_cut {
                return Told::Chain(chain, visited, runs);
            }
            let Some((frame, back, state)) = self.frame(ranges, address) else {
                return Told::Missing(address);
            };
            match frame {
                Some(frame) if frame.code == 0 || !self.may_be(state, chain.frames.last()) => {
                    return Told::Moved;
                }
                Some(frame) => {
                    runs &= !chain.frames.is_empty() || self.may_run(state);
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

    /// Can a frame that says this of itself be the innermost?
    fn may_run(&self, state: u64) -> bool {
        !matches!(self.offsets.frame.alive, Alive::Depth(_)) || (state as u32).cast_signed() < 0
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

    /// The frame at an address, if it is a function's, the one that called it, and what it says of itself; nothing when it was not
    /// read.
    fn frame(&self, ranges: &[Part], address: u64) -> Option<(Option<RawFrame>, u64, u64)> {
        let after = ranges.partition_point(|range| range.address <= address);
        let range = ranges.get(after.checked_sub(1)?)?;
        let at = &self.offsets.frame;
        let word = |field: u64| range.word(address.checked_add(field)?);
        let (code, back, instruction) = (word(at.code)?, word(at.back)?, word(at.instruction)?);
        let mark = match at.mark {
            Some(mark) => {
                let offset = usize::try_from(address.checked_add(mark)?.checked_sub(range.address)?).ok()?;
                *range.bytes.get(offset)?
            }
            None => 1,
        };
        let is_function = match self.offsets.frames {
            Frames::Objects | Frames::Marked => true,
            Frames::Shimmed | Frames::Direct => mark < NO_FUNCTION,
        };
        let is_entry = matches!(self.offsets.frames, Frames::Objects | Frames::Marked) && mark != 0;
        let entry = if is_entry { Entry::Yes } else { Entry::No };
        let instruction = match self.offsets.frames {
            // An `int`.
            Frames::Objects => u64::from(instruction as u32),
            _ => instruction,
        };
        // From 3.14 on the lowest bits of a reference say how it is counted.
        let frame = RawFrame { address, code: code & !7, instruction, entry };
        Some((is_function.then_some(frame), back, word(at.alive.at())?))
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

fn codes_of(chain: &Chain) -> Vec<u64> {
    let mut codes: Vec<u64> = chain.frames.iter().map(|frame| frame.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Equal in all frames but the innermost, of which only where it is must be the same.
fn agree(first: &Chain, second: &Chain) -> bool {
    let callers = |chain: &Chain| chain.frames.get(1..).unwrap_or_default().to_vec();
    first.is_cut == second.is_cut
        && first.frames.len() == second.frames.len()
        && callers(first) == callers(second)
        && first.frames.first().map(|top| (top.address, top.code))
            == second.frames.first().map(|top| (top.address, top.code))
}

/// Was the code object of each frame read?
fn all_known(seen: &Seen) -> bool {
    let known = |code: u64| seen.codes.binary_search_by_key(&code, |part| part.address).is_ok();
    seen.chain.frames.iter().all(|frame| known(frame.code))
}
