//! Objects of Ruby, as far as names need them: texts, arrays, symbols.

use std::{collections::HashMap, sync::Arc};

use super::{
    frames::Method,
    layout::{Layout, fixed},
};
use crate::python::Memory;

/// Names of a block of the table of symbols, and what stands for each there.
pub(super) const ID_BLOCK: u64 = 512;
const ID_WORDS: u64 = 2;
/// Ids up to here are operators' own numbers; those above have their kind in the lowest bits.
const OPERATORS: u64 = 1024;
const ID_KIND: u32 = 4;
/// `ruby_value_type`, in the flags of each object; and where the first flag of a type's own is.
const TYPE: u64 = 0x1f;
const STRING: u64 = 5;
const ARRAY: u64 = 7;
const INTERNAL: u64 = 0x1a;
const OWN: u32 = 12;
/// A text elsewhere; an array within its object.
const FLAG: u64 = 1 << (OWN + 1);
/// `imemo_type` of what a method's frame says of it, and its mask.
const ENTRY: u64 = 6;
const KIND: u64 = 0xf;
/// A frame of a function of C: `VM_FRAME_MAGIC_CFUNC` and its mask.
const MAGIC: u64 = 0x7fff_0001;
const OF_C: u64 = 0x5555_0001;
/// The longest text, in bytes; the largest array; the most names that are known at a time.
const LONGEST: u64 = 1024;
const LARGEST: u64 = 1 << 20;
const MOST: usize = 50_000;

fn words<const N: usize>(memory: &impl Memory, address: u64) -> Option<[u64; N]> {
    let is_object = address.is_multiple_of(8) && address > 1 << 12;
    let bytes = is_object.then(|| memory.bytes(address, N * 8))??;
    let mut out = [0; N];
    for (word, bytes) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Some(out)
}

/// A text; long ones by their beginning.
pub(super) fn text(memory: &impl Memory, layout: &Layout, address: u64) -> Option<String> {
    let [flags, _, length, pointer] = words(memory, address)?;
    if flags & TYPE != STRING {
        return None;
    }
    let (start, length) = match (flags & FLAG != 0, layout.has_long_texts) {
        (true, _) => (pointer, length),
        (false, true) => (address.checked_add(24)?, length),
        (false, false) => (address.checked_add(16)?, flags >> (OWN + 2) & 0x1f),
    };
    if length == 0 {
        return Some(String::new());
    }
    let bytes = memory.bytes(start, length.min(LONGEST) as usize)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where the items of an array are, and how many.
pub(super) fn array(memory: &impl Memory, address: u64) -> Option<(u64, u64)> {
    let [flags, _, length, _, pointer] = words(memory, address)?;
    let found = match flags & FLAG != 0 {
        true => (address.checked_add(16)?, flags >> (OWN + 3) & 0x7f),
        false => (pointer, length),
    };
    (flags & TYPE == ARRAY && found.1 <= LARGEST).then_some(found)
}

/// An item of an array.
pub(super) fn item(memory: &impl Memory, address: u64, index: u64) -> Option<u64> {
    let (start, length) = array(memory, address)?;
    (index < length).then(|| memory.word(start.checked_add(index * 8)?))?
}

/// Names of methods that are functions of C.
#[derive(Debug)]
pub(super) struct Symbols {
    /// `ruby_global_symbols`, if it was found.
    table: Option<u64>,
    known: HashMap<u64, Arc<str>>,
}

impl Symbols {
    pub(super) fn new(table: Option<u64>) -> Symbols {
        Symbols { table, known: HashMap::new() }
    }

    /// What a method is called that a frame of C says it runs; nothing for what is no such frame, or no more.
    pub(super) fn method(
        &mut self,
        memory: &impl Memory,
        layout: &Layout,
        method: Method,
    ) -> Option<Arc<str>> {
        if method.mark & MAGIC != OF_C {
            return None;
        }
        let [flags] = words(memory, method.entry)?;
        if flags & TYPE != INTERNAL || flags >> OWN & KIND != ENTRY {
            return None;
        }
        let id = memory.word(method.entry.checked_add(fixed::CALLED)?)?;
        Some(self.name(memory, layout, id).unwrap_or_else(|| "[function of C]".into()))
    }

    fn name(&mut self, memory: &impl Memory, layout: &Layout, id: u64) -> Option<Arc<str>> {
        if let Some(known) = self.known.get(&id) {
            return Some(Arc::clone(known));
        }
        let serial = if id < OPERATORS { id } else { id >> ID_KIND };
        let blocks = memory.word(self.table?.checked_add(16)?)?;
        let block = item(memory, blocks, serial / ID_BLOCK)?;
        let name: Arc<str> = text(memory, layout, item(memory, block, serial % ID_BLOCK * ID_WORDS)?)?.into();
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(id, Arc::clone(&name));
        Some(name)
    }
}
