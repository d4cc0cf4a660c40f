//! Inputs: a piece of the corpus, changed in ways that hurt parsers.

/// A seeded generator (SplitMix64, Steele and others 2014): small, and the same on every machine.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// One that always gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        match bound {
            0 => 0,
            bound => (self.next_u64() % bound as u64) as usize,
        }
    }
}

/// Values that sit on the edges of what integers hold.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// Numbers as texts, for formats that write them so.
const WORDS: [&[u8]; 6] = [b"-1", b"18446744073709551616", b"99999999999", b"\r\n\r\n", b"\0", b"\xff\xfe"];

/// One input: something of the corpus with up to eight changes, now and then noise alone.
pub fn input(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if corpus.is_empty() || random.below(64) == 0 {
        return (0..random.below(256)).map(|_| random.next_u64() as u8).collect();
    }
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..random.below(8) {
        change(&mut bytes, corpus, random);
    }
    bytes
}

/// One change. Half of all places are near the start: headers lie there.
fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let reach = if random.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
    let at = random.below(reach);
    match random.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next_u64() as u8,
        2 => overwrite(bytes, at, &EDGES[random.below(EDGES.len())].to_le_bytes()[..1 << random.below(4)]),
        3 => splice(bytes, at, 0, WORDS[random.below(WORDS.len())]),
        4 => bytes.truncate(at),
        5 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            let until = (from + random.below(64)).min(other.len());
            splice(bytes, at, random.below(64), &other[from..until]);
        }
        _ => splice(bytes, at, random.below(16), &[]),
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (place, value) in bytes.iter_mut().skip(at).zip(with) {
        *place = *value;
    }
}

/// Replaces `length` bytes at `at` (as far as there are any).
fn splice(bytes: &mut Vec<u8>, at: usize, length: usize, with: &[u8]) {
    let at = at.min(bytes.len());
    let until = at.saturating_add(length).min(bytes.len());
    bytes.splice(at..until, with.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let corpus = vec![b"Content-Length: 2\r\n\r\n{}".to_vec()];
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| input(&corpus, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
