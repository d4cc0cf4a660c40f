//! Instruction sequences: method, file and line. Kept by address; what they begin with says whether it still is the same.

use std::{collections::HashMap, sync::Arc};

use super::{
    layout::{Layout, fixed},
    objects,
};
use crate::python::{Memory, Spot};

/// The most that are known at a time, and the most bytes of their tables.
const MOST: usize = 50_000;
const MOST_BYTES: usize = 32 << 20;
/// The largest table of lines in entries, and the most instructions.
const LARGEST: u64 = 1 << 18;
/// Positions of the first instructions are kept in words of nine, those after in blocks of 512 bits (`succ_index_table`).
const FIRST: u64 = 54;
const IN_WORD: u64 = 9;
const BLOCK: u64 = 512;
/// Bytes of the first part, and of a block: a rank, ranks of eighths, bits.
const FIRST_BYTES: usize = 48;
const BLOCK_BYTES: usize = 16 + 64;

/// What is known of one.
#[derive(Debug)]
struct Known {
    body: u64,
    /// Where its instructions are, its path and its name: set when it is made, and never again.
    identity: [u64; 3],
    function: Arc<str>,
    file: Arc<str>,
    lines: Lines,
}

/// Lines of instructions.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<u32>,
    /// By position, which of the lines: sorted positions, or the table of their ranks.
    positions: Vec<u32>,
    ranks: Vec<u8>,
}

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct Codes {
    known: HashMap<u64, Known>,
    bytes: usize,
}

impl Codes {
    /// Where the instruction before this address is.
    pub(super) fn spot(
        &mut self,
        memory: &impl Memory,
        layout: &Layout,
        code: u64,
        instruction: u64,
    ) -> Option<Spot> {
        let body = memory.word(code.checked_add(fixed::BODY)?)?;
        let head = memory.bytes(body, layout.lines as usize + 32)?;
        let word = |at: usize| Some(u64::from_ne_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let identity = [word(fixed::ENCODED)?, word(fixed::PATH)?, word(fixed::LABEL)?];
        let same = |known: &Known| (known.body, known.identity) == (body, identity);
        if !self.known.get(&code).is_some_and(same) {
            let at = layout.lines as usize;
            let size = (word(fixed::SIZE)? & 0xffff_ffff).min(LARGEST);
            let info = [word(at)?, word(at + 8)?, word(at + 16)?, word(at + 24)?];
            let lines = Lines::read(memory, layout, info, size);
            let file = |address| objects::text(memory, layout, address);
            // A path alone, or with where it really is.
            let path = file(identity[1])
                .or_else(|| file(objects::item(memory, identity[1], 1)?))
                .or_else(|| file(objects::item(memory, identity[1], 0)?))?;
            let known = Known {
                body,
                identity,
                function: objects::text(memory, layout, identity[2])?.into(),
                file: path.into(),
                lines: lines.unwrap_or_default(),
            };
            self.bytes += known.lines.bytes();
            if self.known.len() >= MOST || self.bytes > MOST_BYTES {
                self.known.clear();
                self.bytes = known.lines.bytes();
            }
            self.known.insert(code, known);
        }
        let known = self.known.get(&code)?;
        // It is at the next one already, but for the very first.
        let position = (instruction.checked_sub(identity[0])? / 8).saturating_sub(1);
        let (function, file) = (Arc::clone(&known.function), Arc::clone(&known.file));
        Some(Spot { function, file, line: known.lines.line(position).unwrap_or(0), column: 0 })
    }
}

impl Lines {
    /// From `insns_info`: its table, positions, number of entries, ranks; `size` instructions.
    fn read(memory: &impl Memory, layout: &Layout, info: [u64; 4], size: u64) -> Option<Lines> {
        let [table, positions, count, ranks] = info;
        let count = Some(count & 0xffff_ffff).filter(|count| *count <= LARGEST)?;
        let step = layout.line as usize;
        let bytes = memory.bytes(table, usize::try_from(count).ok()? * step)?;
        let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?));
        let lines = bytes.chunks_exact(step).filter_map(number).collect();
        let mut out = Lines { lines, ..Lines::default() };
        if count > 1 && positions != 0 {
            let bytes = memory.bytes(positions, usize::try_from(count).ok()? * 4)?;
            out.positions = bytes.as_chunks::<4>().0.iter().map(|four| u32::from_ne_bytes(*four)).collect();
        } else if count > 1 {
            let blocks = usize::try_from(size.saturating_sub(FIRST).div_ceil(BLOCK)).ok()?;
            out.ranks = memory.bytes(ranks, FIRST_BYTES + blocks * BLOCK_BYTES)?;
        }
        Some(out)
    }

    fn bytes(&self) -> usize {
        self.lines.len() * 4 + self.positions.len() * 4 + self.ranks.len() + 256
    }

    fn line(&self, position: u64) -> Option<u32> {
        let index = if !self.positions.is_empty() {
            self.positions.partition_point(|one| u64::from(*one) <= position)
        } else if !self.ranks.is_empty() {
            self.rank(position)?
        } else {
            1
        };
        self.lines.get(index.checked_sub(1)?).copied()
    }

    /// How many entries begin at or before a position.
    fn rank(&self, position: u64) -> Option<usize> {
        let word = |at: usize| Some(u64::from_ne_bytes(self.ranks.get(at..at + 8)?.try_into().ok()?));
        let Some(beyond) = position.checked_sub(FIRST) else {
            let (index, place) = (position / IN_WORD, position % IN_WORD);
            return Some((word(index as usize * 8)? >> (place * 7) & 0x7f) as usize);
        };
        let block = FIRST_BYTES + usize::try_from(beyond / BLOCK).ok()? * BLOCK_BYTES;
        let bit = beyond % BLOCK;
        let (eighth, bit) = (bit / 64, bit % 64);
        let before = match eighth {
            0 => 0,
            eighth => word(block + 8)? >> ((eighth - 1) * 9) & 0x1ff,
        };
        let bits = word(block + 16 + eighth as usize * 8)? << (63 - bit);
        let first = word(block)? & 0xffff_ffff;
        Some(usize::try_from(first + before).ok()? + bits.count_ones() as usize)
    }
}
