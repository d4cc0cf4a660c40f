//! Where the runtime's list of goroutines and its words for waiting are: by their symbols, else by what they look like.

use std::{ops::Range, path::Path};

use pepo_process::{Memory, Process, runtime::Module};

use super::layout::{Layout, SIZE};

const LIST: &str = "runtime.allgs";
const REASONS: &str = "runtime.waitReasonStrings";
/// The first of the words after none at all, in every version.
const FIRST_REASON: &[u8] = b"GC assist marking";
/// Most words there can be, and how long one may be.
const MOST_REASONS: usize = 64;
const LONGEST_REASON: u64 = 64;
/// The most bytes of variables that are searched, and how often what looks right may be looked into.
const MOST_SEARCHED: u64 = 64 << 20;
const MOST_TRIES: usize = 1 << 20;
/// Bytes searched at a time, and by how much the parts overlap: as long as what is looked for.
const PART: u64 = 1 << 20;
const OVERLAP: u64 = 24;

pub(super) struct Found {
    pub(super) list: u64,
    pub(super) reasons: Vec<String>,
}

/// Only a list that begins with the first goroutine is one; words that are not found are done without.
pub(super) fn find(process: &Process, memory: &Memory, layout: &Layout, executable: &Path) -> Option<Found> {
    let maps = process.maps().ok()?;
    let module = Module::find(process, &maps, |path| path == executable)?;
    let named = module.addresses(process, &[LIST, REASONS]);
    let mut seeker =
        Seeker { memory, layout, list: None, reasons: None, bytes: MOST_SEARCHED, tries: MOST_TRIES };
    let list = named.get(LIST).copied();
    seeker.list = list.filter(|at| seeker.is_list(memory.read_u64s(*at).ok()));
    seeker.reasons = named.get(REASONS).copied();
    if seeker.list.is_none() || seeker.reasons.is_none() {
        let elf = module.open(process)?;
        let writable = elf.loads().filter(|segment| segment.flags & 2 != 0);
        for segment in writable {
            let start = segment.address.wrapping_add(module.bias);
            let size = segment.memory_size.min(seeker.bytes);
            seeker.bytes -= size;
            seeker.search(start..start.saturating_add(size));
        }
    }
    Some(Found {
        list: seeker.list?,
        reasons: seeker.reasons.map(|at| read_reasons(memory, at)).unwrap_or_default(),
    })
}

struct Seeker<'a> {
    memory: &'a Memory,
    layout: &'a Layout,
    list: Option<u64>,
    reasons: Option<u64>,
    /// How many bytes may yet be searched.
    bytes: u64,
    /// How often more may be read.
    tries: usize,
}

impl Seeker<'_> {
    fn search(&mut self, range: Range<u64>) {
        let mut at = range.start & !7;
        while at < range.end && (self.list.is_none() || self.reasons.is_none()) {
            let length = (range.end - at).min(PART + OVERLAP);
            let Ok(bytes) = self.memory.read_up_to(at, length as usize) else { return };
            let words: Vec<u64> =
                bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
            for (index, &[first, second, third]) in words.array_windows::<3>().enumerate() {
                let here = at + index as u64 * 8;
                if self.list.is_none() && self.is_list(Some([first, second, third])) {
                    self.list = Some(here);
                }
                // The length of no words, then the first words.
                if self.reasons.is_none() && first == 0 && self.is_first_reason(second, third) {
                    self.reasons = Some(here - 8);
                }
            }
            at += PART;
        }
    }

    /// Address, length and room of a list whose first entry is the goroutine of `main`.
    fn is_list(&mut self, header: Option<[u64; 3]>) -> bool {
        let Some([first, count, room]) = header else { return false };
        if first == 0 || first % 8 != 0 || count == 0 || count > room || room > 1 << 32 {
            return false;
        }
        if !self.may_try() {
            return false;
        }
        let mut bytes = [0; SIZE];
        let main = self.memory.read_u64(first).ok().filter(|main| *main != 0 && main % 8 == 0);
        main.is_some_and(|main| {
            self.memory.read_at(main, &mut bytes[..self.layout.size()]).is_ok()
                && self.layout.goroutine(main, &bytes).is_some_and(|one| one.id == 1)
        })
    }

    fn may_try(&mut self) -> bool {
        let left = self.tries.checked_sub(1);
        self.tries = left.unwrap_or(0);
        left.is_some()
    }

    fn is_first_reason(&mut self, address: u64, length: u64) -> bool {
        let mut text = [0; FIRST_REASON.len()];
        length == FIRST_REASON.len() as u64
            && self.may_try()
            && self.memory.read_at(address, &mut text).is_ok()
            && text == FIRST_REASON
    }
}

fn read_reasons(memory: &Memory, at: u64) -> Vec<String> {
    let table = memory.read_up_to(at, MOST_REASONS * 16).unwrap_or_default();
    let pairs = table.as_chunks::<16>().0.iter().map(|pair| {
        let [address, length] =
            [&pair[..8], &pair[8..]].map(|word| word.try_into().map(u64::from_ne_bytes).unwrap_or_default());
        (address, length)
    });
    let readable = |(address, length): (u64, u64)| {
        if length > LONGEST_REASON {
            return None;
        }
        let bytes =
            if length == 0 { Vec::new() } else { memory.read_up_to(address, length as usize).ok()? };
        bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ').then_some(bytes)
    };
    pairs.map_while(readable).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}
