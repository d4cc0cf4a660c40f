//! Readers of ELF files, bounded in everything: a target's file is hostile, may be huge, and may shrink while it is read.
//!
//! Read by ranges, never mapped (a shrinking file would be SIGBUS), never as a whole. Counts and sizes are capped before
//! memory is taken for them; offsets are added with checks. Sources: elf(5), the System V ABI, and for each part the
//! document named in its module.

/// Build id, ABI tag: notes.
pub mod notes;

/// Names to addresses.
pub mod symbols;

/// What Go's linker writes about a build.
pub mod go;

/// Who compiled it, and how: the first units of the debug information.
pub mod dwarf;

/// Everything of interest at once.
pub mod facts;

use std::{fs::File, io, os::unix::fs::FileExt};

pub use facts::{ElfFacts, Libc};

use crate::maps::Map;

/// Most sections and segments that are looked at.
const MOST_HEADERS: u64 = 8 << 10;
/// Most bytes of a table of section names.
const MOST_NAMES: u64 = 1 << 20;
/// Bytes read at a time where a table is scanned.
pub(crate) const CHUNK: u64 = 256 << 10;

/// What is wrong with a file that should be ELF.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It does not begin as an ELF file does.
    #[error("not an ELF file")]
    NotElf,
    /// Its header contradicts itself.
    #[error("ELF file is broken: {what}")]
    Broken {
        /// Which part.
        what: &'static str,
    },
    /// It could not be read.
    #[error("cannot read an ELF file")]
    Read(#[source] io::Error),
}

/// Where the bytes of a file come from.
pub trait Source {
    /// Length in bytes, as it was when first asked.
    fn length(&self) -> u64;

    /// Fills as much of the buffer as there is from `offset` on.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Source for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl Source for File {
    fn length(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// What the file is for (`e_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Loaded at fixed addresses.
    Executable,
    /// Loaded anywhere: a library or a position-independent executable.
    Shared,
    /// Anything else.
    Other(u16),
}

/// A part of the file that is loaded or tells the loader something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `PT_LOAD` and so on.
    pub kind: u32,
    /// Permissions: 1 execute, 2 write, 4 read.
    pub flags: u32,
    /// Where in the file it begins.
    pub offset: u64,
    /// The address it is linked for.
    pub address: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
}

/// A named part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `.text` and so on; what is no UTF-8 is replaced.
    pub name: String,
    /// `SHT_SYMTAB` and so on.
    pub kind: u32,
    /// `SHF_COMPRESSED` and so on.
    pub flags: u64,
    /// The address it is linked for; 0 when it is not loaded.
    pub address: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Bytes in the file (none for `SHT_NOBITS`).
    pub size: u64,
    /// Index of a related section.
    pub link: u32,
    /// Size of one entry, for tables.
    pub entry_size: u64,
}

pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_DYNAMIC: u32 = 2;
pub(crate) const PT_INTERP: u32 = 3;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_NOTE: u32 = 7;
pub(crate) const SHT_NOBITS: u32 = 8;
pub(crate) const SHT_DYNSYM: u32 = 11;
pub(crate) const SHF_COMPRESSED: u64 = 1 << 11;

/// An opened ELF file: its headers, and its source for the rest.
#[derive(Debug)]
pub struct Elf<S> {
    pub(crate) source: S,
    /// Length of the file when it was opened.
    length: u64,
    /// 64-bit?
    pub is_64: bool,
    /// Least significant byte first?
    pub little_endian: bool,
    /// What it is for.
    pub kind: Kind,
    /// `e_machine`: 62 is x86-64, 183 is AArch64.
    pub machine: u16,
    /// Address of the first instruction.
    pub entry: u64,
    /// Segments, in the file's order.
    pub segments: Vec<Segment>,
    /// Sections, in the file's order; empty when they were cut off.
    pub sections: Vec<Section>,
}

/// Everything of interest in an ELF file that is wholly in memory.
///
/// # Errors
/// [`ElfError`] when it is none; broken parts of one are left out of the facts.
pub fn inspect(bytes: &[u8]) -> Result<ElfFacts, ElfError> {
    Ok(Elf::parse(bytes)?.facts())
}

impl<S: Source> Elf<S> {
    /// Reads the headers. Sections that contradict the file are left out; the loader does not need them either.
    ///
    /// # Errors
    /// [`ElfError`].
    pub fn parse(source: S) -> Result<Elf<S>, ElfError> {
        let length = source.length();
        let mut ident = [0; 64];
        let got = source.read_at(0, &mut ident).map_err(ElfError::Read)?;
        if got < 52 || ident[..4] != *b"\x7fELF" || !matches!(ident[4], 1 | 2) || !matches!(ident[5], 1 | 2) {
            return Err(ElfError::NotElf);
        }
        let fields = Fields { bytes: &ident[..got], is_64: ident[4] == 2, little_endian: ident[5] == 1 };
        let header = Header::read(&fields).ok_or(ElfError::Broken { what: "header" })?;
        let mut elf = Elf {
            source,
            length,
            is_64: fields.is_64,
            little_endian: fields.little_endian,
            kind: header.kind,
            machine: header.machine,
            entry: header.entry,
            segments: Vec::new(),
            sections: Vec::new(),
        };
        elf.segments = elf.read_segments(&header).ok_or(ElfError::Broken { what: "program headers" })?;
        elf.sections = elf.read_sections(&header).unwrap_or_default();
        Ok(elf)
    }

    fn read_segments(&self, header: &Header) -> Option<Vec<Segment>> {
        let entry = if self.is_64 { 56 } else { 32 };
        if header.segment_count == 0 {
            return Some(Vec::new());
        }
        let size = u64::from(header.segment_size);
        let count = u64::from(header.segment_count).min(MOST_HEADERS);
        let bytes = self.range(header.segments, size.checked_mul(count)?)?;
        (size >= entry)
            .then(|| bytes.chunks_exact(size as usize).filter_map(|bytes| self.segment(bytes)).collect())
    }

    fn segment(&self, bytes: &[u8]) -> Option<Segment> {
        let fields = self.fields(bytes);
        let word = |index: usize| fields.word(if self.is_64 { 8 * index } else { 4 * index });
        Some(Segment {
            kind: fields.u32(0)?,
            flags: fields.u32(if self.is_64 { 4 } else { 24 })?,
            offset: word(1)?,
            address: word(2)?,
            file_size: word(4)?,
            memory_size: word(5)?,
        })
    }

    fn read_sections(&self, header: &Header) -> Option<Vec<Section>> {
        let size = u64::from(header.section_size);
        if header.sections == 0 || size < if self.is_64 { 64 } else { 40 } {
            return None;
        }
        // With many sections the first one carries the counts (System V ABI, "Extended section numbering").
        let first = self.section(&self.range(header.sections, size)?)?;
        let count = if header.section_count == 0 { first.size } else { u64::from(header.section_count) };
        let names = if header.section_names == 0xffff { first.link } else { u32::from(header.section_names) };
        let bytes = self.range(header.sections, size.checked_mul(count.min(MOST_HEADERS))?)?;
        let mut sections: Vec<Section> = Vec::new();
        let mut name_offsets = Vec::new();
        for bytes in bytes.chunks_exact(size as usize) {
            name_offsets.push(self.fields(bytes).u32(0)?);
            sections.push(self.section(bytes)?);
        }
        let table = sections.get(names as usize)?;
        let table = self.range(table.offset, table.size.min(MOST_NAMES))?;
        for (section, offset) in sections.iter_mut().zip(name_offsets) {
            section.name = c_string(&table, offset as usize).unwrap_or_default();
        }
        Some(sections)
    }

    fn section(&self, bytes: &[u8]) -> Option<Section> {
        let fields = self.fields(bytes);
        let word = |at_64, at_32| fields.word(if self.is_64 { at_64 } else { at_32 });
        Some(Section {
            name: String::new(),
            kind: fields.u32(4)?,
            flags: word(8, 8)?,
            address: word(16, 12)?,
            offset: word(24, 16)?,
            size: word(32, 20)?,
            link: fields.u32(if self.is_64 { 40 } else { 24 })?,
            entry_size: word(56, 36)?,
        })
    }

    /// The section of this name.
    #[must_use]
    pub fn section_named(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Is there such a section with bytes in the file?
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.section_named(name).is_some_and(|section| section.kind != SHT_NOBITS && section.size > 0)
    }

    /// The first bytes of a section, at most `limit`; compressed ones as they are in the file.
    #[must_use]
    pub fn section_bytes(&self, section: &Section, limit: u64) -> Option<Vec<u8>> {
        if section.kind == SHT_NOBITS { None } else { self.range(section.offset, section.size.min(limit)) }
    }

    /// Where in the file the byte for this linked address is, and how many follow it in its segment.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<(u64, u64)> {
        self.loads().find_map(|segment| {
            let into = address.checked_sub(segment.address).filter(|&into| into < segment.file_size)?;
            Some((segment.offset.checked_add(into)?, segment.file_size - into))
        })
    }

    /// What has to be added to linked addresses to get those of the process, where this file is mapped so.
    ///
    /// One segment may end in the page of the file where the next begins: the one that begins there is meant, since
    /// only later parts of a segment (after its protection was changed) are mapped from its middle.
    #[must_use]
    pub fn bias(&self, map: &Map) -> Option<u64> {
        const PAGE: u64 = 0xfff;
        let fits = |segment: &&Segment| (segment.flags & 1 == 1) == map.execute && segment.file_size > 0;
        let begins = |segment: &&Segment| segment.offset & !PAGE == map.offset;
        let holds = |segment: &&Segment| {
            segment.offset & !PAGE <= map.offset
                && map.offset < segment.offset.saturating_add(segment.file_size)
        };
        let mut found = self.loads().filter(fits).find(begins);
        found = found.or_else(|| self.loads().filter(fits).find(holds));
        let segment = found.or_else(|| self.loads().find(begins))?;
        Some(map.start.wrapping_sub(map.offset).wrapping_add(segment.offset).wrapping_sub(segment.address))
    }

    /// The segments that are loaded.
    pub fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.kind == PT_LOAD)
    }

    /// A range of the file; `None` when it does not lie in it.
    pub(crate) fn range(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        if size > self.length || offset > self.length - size {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        // The file may have shrunk since.
        (self.source.read_at(offset, &mut bytes).ok()? == bytes.len()).then_some(bytes)
    }

    /// As much of a range as there is.
    pub(crate) fn up_to(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        let left = self.length.checked_sub(offset)?;
        self.range(offset, size.min(left))
    }

    pub(crate) fn fields<'a>(&self, bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, is_64: self.is_64, little_endian: self.little_endian }
    }
}

/// The parts of the file header that are of use.
struct Header {
    kind: Kind,
    machine: u16,
    entry: u64,
    segments: u64,
    sections: u64,
    segment_size: u16,
    segment_count: u16,
    section_size: u16,
    section_count: u16,
    section_names: u16,
}

impl Header {
    fn read(fields: &Fields<'_>) -> Option<Header> {
        let word = |at_64, at_32| fields.word(if fields.is_64 { at_64 } else { at_32 });
        let half = |at_64: usize| fields.u16(if fields.is_64 { at_64 } else { at_64 - 12 });
        Some(Header {
            kind: match fields.u16(16)? {
                2 => Kind::Executable,
                3 => Kind::Shared,
                other => Kind::Other(other),
            },
            machine: fields.u16(18)?,
            entry: word(24, 24)?,
            segments: word(32, 28)?,
            sections: word(40, 32)?,
            segment_size: half(54)?,
            segment_count: half(56)?,
            section_size: half(58)?,
            section_count: half(60)?,
            section_names: half(62)?,
        })
    }
}

/// Numbers in bytes, in the file's own size and order.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) bytes: &'a [u8],
    is_64: bool,
    little_endian: bool,
}

impl Fields<'_> {
    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.array(at)?;
        Some(if self.little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.array(at)?;
        Some(if self.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    pub(crate) fn u64(&self, at: usize) -> Option<u64> {
        let bytes = self.array(at)?;
        Some(if self.little_endian { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }

    /// An address or offset: 8 bytes in 64-bit files, else 4.
    pub(crate) fn word(&self, at: usize) -> Option<u64> {
        if self.is_64 { self.u64(at) } else { self.u32(at).map(u64::from) }
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}

/// The text up to the next NUL; what is no UTF-8 is replaced.
pub(crate) fn c_string(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests;
