//! Who compiled a file, and how: DW_AT_producer of its first units (DWARF 5, section 3.1.1).
//!
//! Only the beginning of each section is read, with the unit's length set to what was read: enough for the first entry.

use std::io::Read as _;

use gimli::{
    AttributeValue, DebugAbbrev, DebugInfo, EndianSlice, RunTimeEndian, UnitHeader, constants as dw,
};

use super::{Elf, SHF_COMPRESSED, SHT_NOBITS, Section, Source, c_string};

/// Units that are looked at: the first ones may be the assembler's or the standard library's.
const UNITS: usize = 24;
/// Bytes of a unit that are read: its first entry, and enough variables to judge by.
const UNIT: u64 = 128 << 10;
/// Most entries of a unit that are looked at.
const ENTRIES: usize = 16 << 10;
/// Most bytes of the abbreviations of one unit.
const ABBREVIATIONS: u64 = 64 << 10;
/// Most bytes of a section that are decompressed: what the first units name stands near the beginning.
const DECOMPRESSED: u64 = 1 << 20;

/// How the first unit of interest was compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The compiler's own words, with its flags where it writes them.
    pub text: String,
    /// Were variables and lines moved about or lost? `None` when it cannot be told.
    pub optimised: Option<bool>,
    /// DW_AT_language; 0 when it is not given.
    pub language: u16,
    /// Name of the source file, as the compiler was given it.
    pub source: String,
}

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

impl<S: Source> Elf<S> {
    /// How the program's own code was compiled; `None` without debug information.
    #[must_use]
    pub fn producer(&self) -> Option<Producer> {
        let sections = Sections::open(self)?;
        let mut offset = 0;
        let mut best = None;
        for _ in 0..UNITS {
            let Some((producer, next)) = sections.unit(offset) else { break };
            offset = next;
            match producer {
                Some(found) if found.is_own() => return Some(found),
                found => best = best.or(found),
            }
        }
        best
    }
}

impl Producer {
    /// Not the assembler, nor a library that came with the compiler or the C library.
    fn is_own(&self) -> bool {
        // DW_LANG_Mips_Assembler, which every assembler uses.
        let is_assembler = self.language == 0x8001 || self.text.starts_with("GNU AS");
        !is_assembler && !FOREIGN.iter().any(|part| self.source.contains(part))
    }

    fn new(text: String, source: String, language: u16, places: Places) -> Producer {
        let optimised = if text.starts_with("GNU ") {
            // GCC writes its flags: the last -O counts, none means -O0.
            let level = text.split(' ').rfind(|word| word.starts_with("-O"));
            Some(!matches!(level, None | Some("-O0" | "-Og")))
        } else if text.starts_with("Go cmd/compile") {
            Some(!text.contains("-N"))
        } else {
            places.tell_optimised()
        };
        Producer { text, optimised, language, source }
    }
}

/// Parts of the names of sources that others have compiled.
const FOREIGN: &[&str] = &["/rustc/", "/rust/deps/", "/crt/", "csu/", "sysdeps/"];

/// Where a unit's variables are. LLVM does not write its flags; but without optimisation every variable has one place in its
/// function's frame, and with it hardly any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Places {
    /// In the frame, all the time.
    in_frame: usize,
    /// In registers, or now here and now there.
    elsewhere: usize,
}

impl Places {
    fn count(&mut self, entry: &gimli::DebuggingInformationEntry<Slice<'_>>) {
        if ![dw::DW_TAG_variable, dw::DW_TAG_formal_parameter].contains(&entry.tag()) {
            return;
        }
        match entry.attr_value(dw::DW_AT_location) {
            Some(AttributeValue::Exprloc(place)) => {
                match place.0.first().map(|&operation| dw::DwOp(operation)) {
                    Some(dw::DW_OP_fbreg) => self.in_frame += 1,
                    // What is global has one place in any case.
                    None | Some(dw::DW_OP_addr | dw::DW_OP_addrx) => {}
                    Some(_) => self.elsewhere += 1,
                }
            }
            Some(_) => self.elsewhere += 1,
            None => {}
        }
    }

    fn tell_optimised(self) -> Option<bool> {
        (self != Places::default()).then_some(self.elsewhere > self.in_frame)
    }
}

/// The sections of debug information, opened but not read.
struct Sections<'a, S> {
    elf: &'a Elf<S>,
    info: Part<'a>,
    abbreviations: Part<'a>,
    strings: Option<Part<'a>>,
    line_strings: Option<Part<'a>>,
    string_offsets: Option<Part<'a>>,
}

/// A section: as it is in the file, or decompressed as far as the bound goes.
enum Part<'a> {
    Plain(&'a Section),
    Decompressed(Vec<u8>),
}

impl<'a, S: Source> Sections<'a, S> {
    fn open(elf: &'a Elf<S>) -> Option<Sections<'a, S>> {
        Some(Sections {
            elf,
            info: open(elf, ".debug_info")?,
            abbreviations: open(elf, ".debug_abbrev")?,
            strings: open(elf, ".debug_str"),
            line_strings: open(elf, ".debug_line_str"),
            string_offsets: open(elf, ".debug_str_offsets"),
        })
    }

    /// The producer of the unit at this offset, and the offset of the next; `None` after the last.
    fn unit(&self, offset: u64) -> Option<(Option<Producer>, u64)> {
        let mut bytes = self.bytes(&self.info, offset, UNIT)?;
        let fields = self.elf.fields(&bytes);
        let (length, head) = match fields.u32(0)? {
            0xffff_ffff => (fields.u64(4)?, 12),
            length => (u64::from(length), 4),
        };
        let next = offset.checked_add(head)?.checked_add(length)?;
        bytes.truncate(usize::try_from(length.checked_add(head)?).ok()?.min(bytes.len()));
        let here = (bytes.len() as u64).checked_sub(head)?;
        self.set_length(&mut bytes, here, head == 12)?;
        Some((self.producer(&bytes), next))
    }

    /// Makes the unit end where our bytes do.
    fn set_length(&self, bytes: &mut [u8], length: u64, is_64: bool) -> Option<()> {
        let little = self.elf.little_endian;
        if is_64 {
            let value = if little { length.to_le_bytes() } else { length.to_be_bytes() };
            bytes.get_mut(4..12)?.copy_from_slice(&value);
        } else {
            let length = u32::try_from(length).ok()?;
            let value = if little { length.to_le_bytes() } else { length.to_be_bytes() };
            bytes.get_mut(..4)?.copy_from_slice(&value);
        }
        Some(())
    }

    fn producer(&self, unit: &[u8]) -> Option<Producer> {
        let endian = if self.elf.little_endian { RunTimeEndian::Little } else { RunTimeEndian::Big };
        let header: UnitHeader<Slice<'_>> = DebugInfo::new(unit, endian).units().next().ok()??;
        let at = header.debug_abbrev_offset().0 as u64;
        let abbreviations = self.bytes(&self.abbreviations, at, ABBREVIATIONS)?;
        let abbreviations =
            DebugAbbrev::new(&abbreviations, endian).abbreviations(gimli::DebugAbbrevOffset(0)).ok()?;
        let mut entries = header.entries(&abbreviations);
        let entry = entries.next_dfs().ok()??;
        let text = self.text(&header, entry.attr_value(dw::DW_AT_producer)?, entry)?;
        let language = match entry.attr_value(dw::DW_AT_language) {
            Some(AttributeValue::Language(language)) => language.0,
            _ => 0,
        };
        let source = entry.attr_value(dw::DW_AT_name).and_then(|name| self.text(&header, name, entry));
        let mut places = Places::default();
        for _ in 0..ENTRIES {
            // A unit that was cut ends in the middle of an entry.
            let Ok(Some(entry)) = entries.next_dfs() else { break };
            places.count(entry);
        }
        Some(Producer::new(text, source.unwrap_or_default(), language, places))
    }

    /// A string attribute, wherever it stands.
    fn text(
        &self,
        header: &UnitHeader<Slice<'_>>,
        value: AttributeValue<Slice<'_>>,
        entry: &gimli::DebuggingInformationEntry<Slice<'_>>,
    ) -> Option<String> {
        match value {
            AttributeValue::String(text) => Some(text.to_string_lossy().into_owned()),
            AttributeValue::DebugStrRef(at) => self.string(self.strings.as_ref()?, at.0 as u64),
            AttributeValue::DebugLineStrRef(at) => self.string(self.line_strings.as_ref()?, at.0 as u64),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let word = u64::from(header.encoding().format.word_size());
                let base = match entry.attr_value(dw::DW_AT_str_offsets_base) {
                    Some(AttributeValue::DebugStrOffsetsBase(base)) => base.0 as u64,
                    _ => 2 * word,
                };
                let at = base.checked_add(word.checked_mul(index.0 as u64)?)?;
                let bytes = self.bytes(self.string_offsets.as_ref()?, at, word)?;
                let fields = self.elf.fields(&bytes);
                let at = if word == 8 { fields.u64(0)? } else { u64::from(fields.u32(0)?) };
                self.string(self.strings.as_ref()?, at)
            }
            _ => None,
        }
    }

    fn string(&self, part: &Part<'_>, at: u64) -> Option<String> {
        c_string(&self.bytes(part, at, 8 << 10)?, 0)
    }

    /// As many bytes from `at` on as there are, at most `limit`, at least one.
    fn bytes(&self, part: &Part<'_>, at: u64, limit: u64) -> Option<Vec<u8>> {
        let bytes = match part {
            Part::Plain(section) => {
                let left = section.size.checked_sub(at)?;
                self.elf.up_to(section.offset.checked_add(at)?, limit.min(left))?
            }
            Part::Decompressed(bytes) => {
                let rest = bytes.get(usize::try_from(at).ok()?..)?;
                rest.get(..rest.len().min(limit as usize))?.to_vec()
            }
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

fn open<'a, S: Source>(elf: &'a Elf<S>, name: &str) -> Option<Part<'a>> {
    if let Some(section) = elf.section_named(name).filter(|section| section.kind != SHT_NOBITS) {
        if section.flags & SHF_COMPRESSED == 0 {
            return Some(Part::Plain(section));
        }
        // Elf64_Chdr: type, reserved, size, alignment. Type 1 is zlib.
        let bytes = elf.section_bytes(section, DECOMPRESSED)?;
        let is_zlib = elf.fields(&bytes).u32(0)? == 1;
        return is_zlib.then(|| inflate(bytes.get(if elf.is_64 { 24 } else { 12 }..)?))?;
    }
    // The older way of compressing: "ZLIB" and the size before the stream.
    let old = elf.section_named(&name.replace(".debug", ".zdebug"))?;
    let bytes = elf.section_bytes(old, DECOMPRESSED)?;
    bytes.starts_with(b"ZLIB").then(|| inflate(bytes.get(12..)?))?
}

fn inflate(bytes: &[u8]) -> Option<Part<'static>> {
    let mut out = Vec::new();
    // A stream that is cut short by our own bound still gives its beginning.
    let _ = flate2::read::ZlibDecoder::new(bytes).take(DECOMPRESSED).read_to_end(&mut out);
    (!out.is_empty()).then_some(Part::Decompressed(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_words_tell_whether_it_optimised() {
        let places = |in_frame, elsewhere| Places { in_frame, elsewhere };
        for (text, places, expected) in [
            ("GNU C17 12.2.0 -mtune=generic -march=x86-64 -g -O2 -fPIE", places(9, 0), Some(true)),
            ("GNU C17 12.2.0 -mtune=generic -g", places(0, 9), Some(false)),
            ("GNU C++17 12.2.0 -O2 -g -O0", places(0, 0), Some(false)),
            ("GNU C17 12.2.0 -Og -g", places(0, 0), Some(false)),
            ("Go cmd/compile go1.26.8; -N -l; regabi", places(0, 0), Some(false)),
            ("Go cmd/compile go1.26.8; regabi", places(0, 0), Some(true)),
            ("clang LLVM (rustc version 1.95.0)", places(20, 3), Some(false)),
            ("clang LLVM (rustc version 1.95.0)", places(3, 20), Some(true)),
            ("Debian clang version 14.0.6", places(0, 0), None),
        ] {
            let producer = Producer::new(text.into(), String::new(), 0, places);
            assert_eq!(producer.optimised, expected, "{text}");
        }
    }
}
