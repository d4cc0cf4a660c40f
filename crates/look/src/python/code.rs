//! Code objects: function, file and line. Kept by address; what was copied with the frames says whether it still is the same object.

use std::{collections::HashMap, sync::Arc};

use super::{
    lines,
    memory::{Memory, Part},
    offsets::{Frames, Lines, Offsets, fixed},
    text,
};

/// The most code objects that are known at a time, the most bytes of their tables, and the most places of each.
const MOST: usize = 50_000;
const MOST_BYTES: usize = 32 << 20;
const MOST_PLACES: usize = 8192;
/// The longest name and path, in characters.
const LONGEST: usize = 1024;
/// The largest table of lines, in bytes.
const LARGEST_TABLE: u64 = 4 << 20;

/// A function at a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    pub(crate) function: Arc<str>,
    pub(crate) file: Arc<str>,
    /// 0 when unknown.
    pub(crate) line: u32,
    /// 0 when unknown, as always in Python.
    pub(crate) column: u32,
}

/// What makes a code object the same as before: all of these are set when it is made, and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    kind: u64,
    file: u64,
    name: u64,
    qualified: u64,
    lines: u64,
    first_line: u32,
    /// Where the bytecode is.
    bytecode: u64,
}

impl Identity {
    fn of(offsets: &Offsets, part: &Part) -> Option<Identity> {
        let at = &offsets.code;
        let word = |field: u64| part.word(part.address.checked_add(field)?);
        let inside = offsets.frames != Frames::Objects;
        Some(Identity {
            kind: word(fixed::TYPE)?,
            file: word(at.file)?,
            name: word(at.name)?,
            qualified: at.qualified.map_or(Some(0), word)?,
            lines: word(at.lines)?,
            first_line: word(at.first_line)? as u32,
            bytecode: if inside { part.address.checked_add(at.bytecode)? } else { word(at.bytecode)? },
        })
    }
}

/// What is known of one.
#[derive(Debug)]
struct Known {
    identity: Identity,
    function: Arc<str>,
    file: Arc<str>,
    table: Vec<u8>,
    /// By instruction.
    lines: HashMap<u64, u32>,
}

/// All that are known.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    known: HashMap<u64, Known>,
    /// Bytes of their names and tables, about.
    bytes: usize,
    /// The type of code objects, by the first whose name and file could be read.
    kind: Option<u64>,
}

impl Codes {
    /// Where an instruction is; nothing for what is no code object.
    pub(crate) fn spot(
        &mut self,
        memory: &impl Memory,
        offsets: &Offsets,
        part: &Part,
        instruction: u64,
    ) -> Option<Spot> {
        let identity = Identity::of(offsets, part)?;
        if self.known.get(&part.address).is_none_or(|known| known.identity != identity) {
            if self.kind.is_some_and(|kind| kind != identity.kind) {
                return None;
            }
            let known = read(memory, offsets, identity)?;
            self.kind = Some(identity.kind);
            self.bytes += known.table.len() + known.function.len() + known.file.len();
            if self.known.len() >= MOST || self.bytes > MOST_BYTES {
                self.known.clear();
                self.bytes = 0;
            }
            self.known.insert(part.address, known);
        }
        let known = self.known.get_mut(&part.address)?;
        let place = match offsets.frames {
            // 3.10 counts instructions, the versions before count bytes.
            Frames::Objects if offsets.lines == Lines::Ranges => instruction.saturating_mul(2),
            Frames::Objects => instruction,
            // Before its first instruction it points to what is before.
            _ => instruction.saturating_sub(identity.bytecode),
        };
        if known.lines.len() >= MOST_PLACES {
            known.lines.clear();
        }
        let (first, table) = (identity.first_line, &known.table);
        let line = known.lines.entry(place).or_insert_with(|| {
            let inside = place < LARGEST_TABLE;
            inside.then(|| lines::line(offsets.lines, table, first, place)).flatten().unwrap_or(0)
        });
        Some(Spot {
            function: Arc::clone(&known.function),
            file: Arc::clone(&known.file),
            line: *line,
            column: 0,
        })
    }
}

fn read(memory: &impl Memory, offsets: &Offsets, identity: Identity) -> Option<Known> {
    let read = |address| text::read(memory, offsets, address, LONGEST);
    let name = if identity.qualified == 0 { identity.name } else { identity.qualified };
    let function = read(name)?;
    let file = read(identity.file)?;
    let size = memory.word(identity.lines.checked_add(fixed::SIZE)?).filter(|size| *size <= LARGEST_TABLE);
    let table = match size {
        Some(size) if size > 0 => memory.bytes(identity.lines.checked_add(fixed::BYTES)?, size as usize)?,
        _ => Vec::new(),
    };
    Some(Known { identity, function: function.into(), file: file.into(), table, lines: HashMap::new() })
}
