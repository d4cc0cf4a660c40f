//! The extended registers of x86-64 (XSAVE's standard layout; Intel's manual, volume 1, chapter 13) without parts that a thread has not used.
//!
//! On a processor with AMX the kernel's set has room for tiles, 8 KiB a thread, which hardly any program uses. Debuggers of today know
//! the sizes without them and call the larger one unexpected; so the set ends, as in gdb's own `gcore`, where the last part ends that
//! they know, and its mask names no more than is there.

/// Where the mask of all parts is (`XCR0`): among the bytes that XSAVE leaves to software, which Linux fills so.
const ALL: usize = 464;
/// Where the mask of the parts in use is.
const IN_USE: usize = 512;
/// The first of the parts that have a place of their own.
const FIRST: u32 = 2;
/// The last that debuggers know: protection keys. Those after it are the supervisor's, or tiles.
const LAST: u32 = 9;
const KNOWN: u64 = (1 << (LAST + 1)) - 1;

/// The set as debuggers know it; as it is, where a thread uses more.
pub(super) fn as_known(set: Vec<u8>) -> Vec<u8> {
    without_unused(set, |part| {
        let part = std::arch::x86_64::__cpuid_count(0xd, part);
        (part.ebx as usize, part.eax as usize)
    })
}

/// `place` tells where a part is, and how long it is.
fn without_unused(mut set: Vec<u8>, place: impl Fn(u32) -> (usize, usize)) -> Vec<u8> {
    let (Some(all), Some(in_use)) = (word(&set, ALL), word(&set, IN_USE)) else { return set };
    if all & !KNOWN == 0 || in_use & !KNOWN != 0 {
        return set;
    }
    let parts = (FIRST..=LAST).filter(|part| all & (1 << part) != 0);
    let Some(end) = parts.map(place).map(|(offset, length)| offset + length).max() else { return set };
    if end <= IN_USE + size_of::<u64>() || end > set.len() {
        return set;
    }
    set.truncate(end);
    if let Some(mask) = set.get_mut(ALL..ALL + size_of::<u64>()) {
        mask.copy_from_slice(&(all & KNOWN).to_ne_bytes());
    }
    set
}

fn word(set: &[u8], at: usize) -> Option<u64> {
    set.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As on a processor with AVX-512, protection keys and AMX.
    fn place(part: u32) -> (usize, usize) {
        match part {
            2 => (576, 256),
            9 => (2688, 8),
            17 => (2752, 64),
            18 => (2816, 8192),
            _ => (1088, 64),
        }
    }

    fn set(all: u64, in_use: u64, length: usize) -> Vec<u8> {
        let mut set = vec![7; length];
        set[ALL..ALL + 8].copy_from_slice(&all.to_ne_bytes());
        set[IN_USE..IN_USE + 8].copy_from_slice(&in_use.to_ne_bytes());
        set
    }

    #[test]
    fn tiles_that_are_not_used_are_left_out_and_their_bits_too() {
        let cut = without_unused(set(0x602e7, 0x207, 11_008), place);
        assert!(cut == set(0x2e7, 0x207, 2696));
    }

    #[test]
    fn a_set_that_is_used_or_known_or_makes_no_sense_stays_as_it_is() {
        let whole = [
            set(0x602e7, 0x40207, 11_008),
            set(0x2e7, 0x207, 2696),
            set(0x602e7, 7, 2000),
            set(0x60003, 7, 11_008),
            vec![9; 100],
        ];
        for whole in whole {
            assert!(without_unused(whole.clone(), place) == whole, "{}", whole.len());
        }
    }
}
