//! Names to addresses, from the dynamic and the full symbol table (elf(5), "String and symbol tables").
//!
//! Tables of big programs take tens of megabytes. So both the strings and the entries are scanned in portions: first the
//! places where a wanted name stands in the strings, then the entries that point there.

use std::collections::HashMap;

use regex::bytes::Regex;

use super::{CHUNK, Elf, Fields, SHT_DYNSYM, SHT_SYMTAB, Section, Source};

/// Most bytes of a string or symbol table that are scanned.
const MOST: u64 = 512 << 20;
/// Largest full symbol table that is scanned for a list, in bytes.
const SMALL: u64 = 2 << 20;
/// Longest name that can be looked up.
const LONGEST: usize = 512;

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Linked address; see [`Elf::bias`].
    pub address: u64,
    /// Bytes; 0 when unknown.
    pub size: u64,
    /// Is it code?
    pub is_function: bool,
}

impl<S: Source> Elf<S> {
    /// The symbol of this name, from the dynamic table, else from the full one.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols(&[name]).remove(name)
    }

    /// The symbols of these names, as far as they are defined here.
    #[must_use]
    pub fn symbols<'a>(&self, names: &[&'a str]) -> HashMap<&'a str, Symbol> {
        let mut found = HashMap::new();
        for kind in [SHT_DYNSYM, SHT_SYMTAB] {
            let missing: Vec<&str> = names.iter().copied().filter(|name| !found.contains_key(name)).collect();
            let table = self.sections.iter().find(|section| section.kind == kind);
            if let Some(table) = table.filter(|_| !missing.is_empty()) {
                self.scan_table(table, &missing, &mut found);
            }
        }
        found
    }

    /// As [`Elf::symbols`], but only what the file exports; cheap, since that table is small. A small file without such a table
    /// is looked at as a whole.
    #[must_use]
    pub fn exported<'a>(&self, names: &[&'a str]) -> HashMap<&'a str, Symbol> {
        let table = |kind| self.sections.iter().find(|section| section.kind == kind);
        let small = |table: &&Section| table.size <= SMALL;
        let mut found = HashMap::new();
        if let Some(table) = table(SHT_DYNSYM).or_else(|| table(SHT_SYMTAB).filter(small)) {
            self.scan_table(table, names, &mut found);
        }
        found
    }

    fn scan_table<'a>(&self, table: &Section, names: &[&'a str], found: &mut HashMap<&'a str, Symbol>) {
        let size = if self.is_64 { 24 } else { 16 };
        let Some(strings) = self.sections.get(table.link as usize) else { return };
        let places = self.places_of(strings, names);
        if places.is_empty() || table.entry_size != size {
            return;
        }
        for start in (0..table.size.min(MOST)).step_by((CHUNK / size * size) as usize) {
            let Some(bytes) = self.range_of(table, start, CHUNK / size * size) else { return };
            for entry in bytes.chunks_exact(size as usize) {
                let symbol = self.fields(entry).u32(0).and_then(|place| Some((*places.get(&place)?, entry)));
                if let Some((name, symbol)) =
                    symbol.and_then(|(name, entry)| Some((name, self.entry(&self.fields(entry))?)))
                {
                    found.entry(name).or_insert(symbol);
                }
            }
        }
    }

    /// Where in a string table the names stand. Linkers let a name share the end of a longer one.
    fn places_of<'a>(&self, strings: &Section, names: &[&'a str]) -> HashMap<u32, &'a str> {
        let mut places = HashMap::new();
        let Some(pattern) = any_of(names) else { return places };
        let overlap = LONGEST as u64;
        for start in (0..strings.size.min(MOST)).step_by(CHUNK as usize) {
            let Some(bytes) = self.range_of(strings, start, CHUNK + overlap) else { break };
            for hit in pattern.find_iter(&bytes) {
                let text = &bytes[hit.start()..hit.end() - 1];
                for name in names.iter().filter(|name| text.ends_with(name.as_bytes())) {
                    let place = start + (hit.end() - 1 - name.len()) as u64;
                    places.extend(u32::try_from(place).ok().map(|place| (place, *name)));
                }
            }
        }
        places
    }

    /// A part of a section, cut at its end.
    fn range_of(&self, section: &Section, start: u64, size: u64) -> Option<Vec<u8>> {
        let left = section.size.checked_sub(start)?;
        self.range(section.offset.checked_add(start)?, size.min(left))
    }

    /// A symbol that is defined in this file and has an address.
    fn entry(&self, fields: &Fields<'_>) -> Option<Symbol> {
        let (info, section, value, size) = if self.is_64 {
            (fields.bytes.get(4)?, fields.u16(6)?, fields.u64(8)?, fields.u64(16)?)
        } else {
            (fields.bytes.get(12)?, fields.u16(14)?, u64::from(fields.u32(4)?), u64::from(fields.u32(8)?))
        };
        let kind = info & 0xf;
        // 0 untyped, 1 object, 2 function, 10 indirect function.
        let usable = section != 0 && value != 0 && matches!(kind, 0 | 1 | 2 | 10);
        usable.then_some(Symbol { address: value, size, is_function: matches!(kind, 2 | 10) })
    }
}

/// A pattern for any of the names followed by NUL.
fn any_of(names: &[&str]) -> Option<Regex> {
    let mut names: Vec<&str> =
        names.iter().copied().filter(|name| !name.is_empty() && name.len() < LONGEST).collect();
    // The longest first, since a shorter one may be its end.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let names: Vec<String> = names.into_iter().map(regex::escape).collect();
    if names.is_empty() { None } else { Regex::new(&format!(r"(?-u)(?:{})\x00", names.join("|"))).ok() }
}
