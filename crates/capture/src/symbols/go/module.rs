//! `runtime.moduledata` (symtab.go): where the code begins, and where lies what is told of functions.

use std::collections::HashMap;

use object::{Object as _, ObjectSection as _};

/// Where it may lie.
const SECTIONS: [&str; 4] = [".go.module", ".noptrdata", ".data", ".data.rel.ro"];
/// Where in it `text` is, and `types`, which its end follows, or since Go 1.27 a length.
const TEXT: u64 = 176;
const TYPES: u64 = 296;
/// Where `gofunc` is, since Go 1.20 and since 1.27.
const FUNCTION_DATA: [u64; 2] = [320, 344];

/// What is of use in it.
pub(super) struct ModuleData {
    pub(super) text: u64,
    /// The address of `go:func.*`.
    pub(super) function_data: u64,
}

impl ModuleData {
    /// It begins with the address of the table of functions and that of the names in it; in programs that may lie anywhere its words
    /// are relocations.
    pub(super) fn find(
        file: &object::File<'_>,
        table: u64,
        names: usize,
        little: bool,
    ) -> Option<ModuleData> {
        let names = table.checked_add(names as u64)?;
        let relocations = file.dynamic_relocations().into_iter().flatten();
        let words: HashMap<u64, u64> =
            relocations.map(|(at, relocation)| (at, relocation.addend().cast_unsigned())).collect();
        let begins =
            |at: u64| words.get(&at) == Some(&table) && words.get(&at.wrapping_add(8)) == Some(&names);
        if let Some(at) = words.keys().find(|at| begins(**at)) {
            return ModuleData::read(|offset| words.get(&at.wrapping_add(offset)).copied());
        }
        SECTIONS.iter().find_map(|name| {
            let section = file.section_by_name(name)?;
            let data = section.data().ok()?;
            let word = |at: usize| word(data, at, little);
            let mut places = (0..data.len()).step_by(8);
            let at = places.find(|at| word(*at) == Some(table) && word(at + 8) == Some(names))?;
            ModuleData::read(|offset| word(at + offset as usize))
        })
    }

    fn read(word: impl Fn(u64) -> Option<u64>) -> Option<ModuleData> {
        let has_end = word(TYPES + 8).is_some_and(|end| Some(end) >= word(TYPES));
        let [before, since] = FUNCTION_DATA;
        let function_data = word(if has_end { before } else { since }).unwrap_or(0);
        Some(ModuleData { text: word(TEXT)?, function_data })
    }
}

/// What the file has from an address on, as far as its section goes.
pub(super) fn bytes_from(file: &object::File<'_>, address: u64) -> Option<Vec<u8>> {
    let section = file.sections().find(|section| {
        address.checked_sub(section.address()).is_some_and(|into| into < section.size())
            && section.address() != 0
    })?;
    let into = usize::try_from(address - section.address()).ok()?;
    Some(section.data().ok()?.get(into..)?.to_vec())
}

/// Four bytes as a number.
pub(super) fn number(bytes: &[u8], at: usize, little: bool) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
}

/// Eight bytes as a number.
pub(super) fn word(bytes: &[u8], at: usize, little: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
    Some(if little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
}
