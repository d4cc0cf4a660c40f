//! Memory that lies: every pointer leads back into it, every count may be huge, and it is never the same twice.

use std::{
    cell::Cell,
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    agree::Pairs,
    code::Codes,
    dicts::Objects,
    frames::{Copier, Shape},
    memory::{Bounded, Memory, Part},
    offsets::Offsets,
    threads::{self, Threads},
};

/// Pseudo-random words (xorshift), of which most are addresses that can be read.
pub(crate) struct Liar {
    state: Cell<u64>,
    /// What can be read.
    size: u64,
    /// Does it say the same of the same place?
    steady: bool,
    reads: Cell<u64>,
}

impl Liar {
    pub(crate) fn new(seed: u64) -> Liar {
        Liar {
            state: Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            size: if seed.is_multiple_of(3) { 1 << 12 } else { 1 << 20 },
            steady: seed.is_multiple_of(2),
            reads: Cell::new(0),
        }
    }

    /// How often it was read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.get()
    }

    fn word(&self, address: u64) -> u64 {
        let mut x = self.state.get();
        if self.steady {
            x ^= address.wrapping_mul(0xD6E8_FEB8_6659_FD93) | 1;
        }
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if !self.steady {
            self.state.set(x);
        }
        match x % 16 {
            0 => x,
            1 => 0,
            2 => x % 7,
            3 => x << 40,
            _ => 8 + x % (self.size / 8) * 8,
        }
    }
}

impl Memory for Liar {
    fn fill(&self, parts: &mut [Part]) -> bool {
        for part in parts {
            self.reads.set(self.reads.get() + 1);
            assert!(part.bytes.len() <= 8 << 20, "{} bytes at once", part.bytes.len());
            if part.address > self.size * 2 {
                return false;
            }
            for (index, chunk) in part.bytes.chunks_mut(8).enumerate() {
                let word = self.word(part.address + index as u64 * 8).to_ne_bytes();
                chunk.copy_from_slice(&word[..chunk.len()]);
            }
        }
        true
    }
}

fn read_all(memory: &Liar, minor: u32, offsets: &Offsets) {
    let found = Threads::default().read(memory, offsets, 0x1000).unwrap_or_default();
    let mut found = found;
    threads::number(memory, &mut found, &HashSet::from([1, 2, 3]));
    let left = Cell::new(4 << 20);
    let bounded = Bounded { memory, left: &left };
    let objects = Objects { memory: &bounded, offsets, minor };
    let _ = objects.thread_names(0x800);
    let mut codes = Codes::default();
    found.truncate(20);
    for thread in &found {
        let copier = Copier { memory, offsets, most: 50, whole: 3 };
        let Some(seen) = copier.copy(thread, &mut Shape::default(), &mut Pairs::default()) else { continue };
        assert!(seen.chain.frames.len() <= 50);
        for frame in &seen.chain.frames {
            if let Ok(index) = seen.codes.binary_search_by_key(&frame.code, |part| part.address) {
                let _ = codes.spot(memory, offsets, &seen.codes[index], frame.instruction);
            }
            let _ = objects.variables(frame.address, frame.code);
        }
    }
}

#[test]
fn hostile_memory_ends_every_read_within_bounds() {
    let begun = Instant::now();
    for seed in 1..=60 {
        for minor in 8..=12 {
            let memory = Liar::new(seed);
            read_all(&memory, minor, &Offsets::known(minor).unwrap());
            assert!(memory.reads.get() < 20_000_000, "seed {seed}, 3.{minor}: {} reads", memory.reads.get());
        }
    }
    // Generous: it takes a second or two.
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
}
