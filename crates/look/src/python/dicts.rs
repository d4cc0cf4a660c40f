//! Dictionaries with names as keys, and the names that `threading` gives its threads.

use std::collections::HashMap;

use super::{
    memory::{Memory, Part},
    offsets::{Frames, Offsets, fixed},
    text,
};

/// The most entries of a dictionary that are looked at: to find one, and to show some.
const MOST: u64 = 1 << 16;
pub(super) const SOME: u64 = 256;
/// The longest name.
const LONGEST: usize = 200;
/// `DICT_KEYS_GENERAL`: entries with hashes. The other kinds have names alone as keys, and no hashes.
const GENERAL: u8 = 0;
/// Pointer-sized attributes kept in the object itself (`Py_TPFLAGS_INLINE_VALUES`, 3.13 on) or before it
/// (`Py_TPFLAGS_MANAGED_DICT`, 3.11 on).
const INLINE_VALUES: u64 = 1 << 2;
const MANAGED_DICT: u64 = 1 << 4;

/// Reads objects.
pub(crate) struct Objects<'a, M> {
    pub(crate) memory: &'a M,
    pub(crate) offsets: &'a Offsets,
    pub(crate) minor: u32,
}

impl<M: Memory> Objects<'_, M> {
    pub(super) fn word(&self, address: u64, field: u64) -> Option<u64> {
        self.memory.word(address.checked_add(field)?)
    }

    pub(super) fn words(&self, address: u64, count: u64) -> Option<Vec<u64>> {
        let bytes = self.memory.bytes(address, usize::try_from(count).ok()?.checked_mul(8)?)?;
        Some(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect())
    }

    fn text(&self, address: u64) -> Option<String> {
        text::read(self.memory, self.offsets, address, LONGEST)
    }

    /// Pairs of addresses, keys and values, of the first entries.
    pub(crate) fn entries(&self, dict: u64, most: u64) -> Option<Vec<(u64, u64)>> {
        let values = match self.word(dict, fixed::DICT_VALUES)? {
            0 => 0,
            values => self.first_value(values)?,
        };
        self.pairs(self.word(dict, fixed::DICT_KEYS)?, values, most)
    }

    /// From 3.13 on values have a head of eight bytes.
    fn first_value(&self, values: u64) -> Option<u64> {
        if self.minor >= 13 { values.checked_add(8) } else { Some(values) }
    }

    /// The entries of a table of keys; `values` is where they are when the table is shared, else 0.
    fn pairs(&self, keys: u64, values: u64, most: u64) -> Option<Vec<(u64, u64)>> {
        let (start, count, hashed) = self.table(keys)?;
        let (count, size) = (count.min(most), if hashed { 3 } else { 2 });
        let words = self.words(start, count * size)?;
        let own = words.chunks_exact(size as usize).map(|entry| match entry {
            [_, key, value] | [key, value] => (*key, *value),
            _ => (0, 0),
        });
        let pairs: Vec<(u64, u64)> = match values {
            0 => own.collect(),
            values => {
                let shared = self.words(values, count)?;
                own.zip(shared).map(|((key, _), value)| (key, value)).collect()
            }
        };
        Some(pairs.into_iter().filter(|(key, value)| *key != 0 && *value != 0).collect())
    }

    /// Where the entries of a table begin, how many there are, and whether they have hashes (`PyDictKeysObject`).
    fn table(&self, keys: u64) -> Option<(u64, u64, bool)> {
        if self.offsets.frames == Frames::Objects {
            // `dk_size` indexes of the smallest width that holds them.
            let (size, count) = (self.word(keys, 8)?, self.word(keys, 32)?);
            let width = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => 8,
            };
            return Some((keys.checked_add(40)?.checked_add(size.checked_mul(width)?)?, count, true));
        }
        let head = self.word(keys, 8)?.to_ne_bytes();
        let indexes = 1_u64.checked_shl(head[1].into()).filter(|size| *size <= MOST * 16)?;
        let start = keys.checked_add(32)?.checked_add(indexes)?;
        Some((start, self.word(keys, 24)?, head[2] == GENERAL))
    }

    /// The value of a key that is text.
    fn get(&self, dict: u64, key: &str) -> Option<u64> {
        self.named(self.entries(dict, MOST)?, key)
    }

    /// The value whose key is this text. The lengths of all keys are read at once, and only what is as long is read.
    fn named(&self, entries: Vec<(u64, u64)>, key: &str) -> Option<u64> {
        let length = |name: u64| Part::new(name.wrapping_add(fixed::SIZE), 8);
        let mut lengths: Vec<Part> = entries.iter().map(|(name, _)| length(*name)).collect();
        let all_read = self.memory.fill(&mut lengths);
        let may_be = |part: &Part| !all_read || part.word(part.address) == Some(key.len() as u64);
        let mut candidates = entries.into_iter().zip(&lengths).filter(|(_, part)| may_be(part));
        candidates
            .find(|((name, _), _)| self.text(*name).as_deref() == Some(key))
            .map(|((_, value), _)| value)
    }

    /// An attribute of an object that its class does not keep in slots.
    fn attribute(&self, object: u64, name: &str) -> Option<u64> {
        let kind = self.word(object, fixed::TYPE)?;
        let flags = self.word(kind, fixed::TYPE_FLAGS)?;
        let pairs = if self.offsets.frames == Frames::Objects || flags & MANAGED_DICT == 0 {
            let offset = self.word(kind, fixed::TYPE_DICT_OFFSET)?;
            self.entries(self.word(object, offset)?, SOME)?
        } else {
            self.managed(object, kind, flags)?
        };
        self.named(pairs, name)
    }

    /// Attributes of an object with a managed dictionary: values alone, for keys that its class has, or a dictionary.
    fn managed(&self, object: u64, kind: u64, flags: u64) -> Option<Vec<(u64, u64)>> {
        let before = |bytes: u64| self.memory.word(object.checked_sub(bytes)?);
        // `ht_cached_keys` of the type.
        let keys = self.word(kind, CACHED_KEYS.iter().find(|(minor, _)| *minor == self.minor)?.1)?;
        match self.minor {
            11 => match before(32)? {
                0 => self.entries(before(24)?, SOME),
                values => self.pairs(keys, values, SOME),
            },
            12 => match before(24)? {
                tagged if tagged & 1 == 1 => self.pairs(keys, tagged.checked_add(1)?, SOME),
                dict => self.entries(dict, SOME),
            },
            _ => match before(24)? {
                0 if flags & INLINE_VALUES != 0 => {
                    let values = object.checked_add(self.word(kind, BASIC_SIZE)?)?;
                    self.pairs(keys, self.first_value(values)?, SOME)
                }
                dict => self.entries(dict, SOME),
            },
        }
    }

    /// What `threading` calls its threads, by `pthread_self()`.
    pub(crate) fn thread_names(&self, interpreter: u64) -> Option<HashMap<u64, String>> {
        let modules = self.word(interpreter, self.offsets.interpreter.modules)?;
        let module = self.get(modules, "threading")?;
        let active = self.get(self.word(module, fixed::MODULE_DICT)?, "_active")?;
        let threads = self.entries(active, MOST)?.into_iter().filter_map(|(ident, thread)| {
            let ident = self.integer(ident)?;
            let name = self.text(self.attribute(thread, "_name")?)?;
            Some((u64::try_from(ident).ok()?, name))
        });
        Some(threads.collect())
    }
}

/// `tp_basicsize`.
const BASIC_SIZE: u64 = 32;
/// `ht_cached_keys` in `PyHeapTypeObject`, by minor version.
const CACHED_KEYS: &[(u32, u64)] = &[(11, 872), (12, 880), (13, 880), (14, 880)];
