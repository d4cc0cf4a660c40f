//! How far two copies of a thread's frames agree, and so what of a chain is true.

use std::collections::HashSet;

use super::{
    frames::{Copied, Copier, RawFrame, Read, Twice, range_of},
    memory::Memory,
    offsets::Alive,
};

/// The most pairs that are known.
const MOST: usize = 100_000;

/// Who has been seen to call whom from where, in chains of which both copies were the same.
#[derive(Debug, Default)]
pub(crate) struct Pairs(HashSet<(u64, u64)>);

impl Pairs {
    fn note(&mut self, frames: &[RawFrame]) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.extend(pairs(frames));
    }

    fn know(&self, frames: &[RawFrame]) -> bool {
        pairs(frames).all(|pair| self.0.contains(&pair))
    }
}

/// The instruction of each caller, and the code of what it calls.
fn pairs(frames: &[RawFrame]) -> impl Iterator<Item = (u64, u64)> + '_ {
    frames.windows(2).map(|pair| (pair[1].instruction, pair[0].code))
}

/// What of a chain is true.
pub(super) enum Agreed {
    /// All of it.
    Whole(Copied),
    /// It went on from the innermost of these frames.
    Part(Copied),
    Nothing,
}

impl<M: Memory> Copier<'_, M> {
    /// Compares the chain of one copy with the other copy.
    pub(super) fn agree(&self, twice: &Twice, second: bool, copied: Copied, pairs: &mut Pairs) -> Agreed {
        let (own, other) = (twice.copy(second), twice.copy(!second));
        let top = copied.visited.first().copied();
        let same = |address: u64, moves: bool| match (self.frame(own, address), self.frame(other, address)) {
            (Some(one), Some(two)) => what(one, moves) == what(two, moves),
            _ => false,
        };
        // From the outermost inwards; the innermost moves on, but in the same function.
        let true_from = copied.visited.iter().rposition(|address| !same(*address, Some(*address) == top));
        let is_still = self.says_itself()
            || twice.current(usize::from(second)) == twice.current(usize::from(second) + 1);
        let Some(differs) = true_from else {
            if is_still {
                pairs.note(&copied.chain.frames);
                return Agreed::Whole(copied);
            }
            return Agreed::Nothing;
        };
        // What lies side by side with the innermost frame was copied within nanoseconds of it, which is enough where each call in it
        // has been seen before.
        let side_by_side = self.side_by_side(twice, second, top);
        let is_beside = copied.visited[..=differs].iter().all(|address| side_by_side.contains(address));
        if is_beside && is_still && pairs.know(inner(&copied, differs)) {
            return Agreed::Whole(copied);
        }
        // The first that differs may only have moved on.
        let first = if same(copied.visited[differs], true) { differs } else { differs + 1 };
        part(copied, first)
    }

    /// Does an innermost frame say of itself that it runs?
    fn says_itself(&self) -> bool {
        matches!(self.offsets.frame.alive, Alive::Depth(_))
    }

    fn side_by_side(&self, twice: &Twice, second: bool, top: Option<u64>) -> std::ops::Range<u64> {
        let own = twice.copy(second);
        let range = top.and_then(|top| range_of(own, top));
        // Frames of generators lie elsewhere.
        let of_generator = top.and_then(|top| self.frame(own, top)).is_some_and(|read| read.of_generator);
        match (self.offsets.frame.alive, range) {
            (Alive::Depth(_) | Alive::Pointer(_), Some(range)) if !of_generator => range.address..range.end(),
            _ => 0..0,
        }
    }
}

/// What must be the same in both copies.
fn what(read: Read, moves: bool) -> (Option<RawFrame>, u64) {
    let frame = read.frame.map(|frame| if moves { RawFrame { instruction: 0, ..frame } } else { frame });
    (frame, read.back)
}

/// The functions down to the one that called the frame at this place, which is the outermost that differs.
fn inner(copied: &Copied, differs: usize) -> &[RawFrame] {
    let inside: HashSet<u64> = copied.visited[..=differs].iter().copied().collect();
    let frames = &copied.chain.frames;
    let count = frames.iter().take_while(|frame| inside.contains(&frame.address)).count();
    &frames[..frames.len().min(count + 1)]
}

/// The chain from this place on.
fn part(copied: Copied, first: usize) -> Agreed {
    let Copied { mut chain, mut visited, runs } = copied;
    visited.drain(..first.min(visited.len()));
    let kept: HashSet<u64> = visited.iter().copied().collect();
    chain.frames.retain(|frame| kept.contains(&frame.address));
    if chain.frames.is_empty() { Agreed::Nothing } else { Agreed::Part(Copied { chain, visited, runs }) }
}
