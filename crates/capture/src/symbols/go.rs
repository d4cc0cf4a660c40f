//! Go's table of functions and lines (`runtime.pclntab`, debug/gosym): the runtime needs it, so no `strip` removes it. Its form
//! since Go 1.18.

/// What else the runtime says of itself.
mod module;

use object::{Object as _, ObjectSection as _};

use self::module::{ModuleData, bytes_from, number, word};
use super::Named;

const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;
/// Bytes of a function's description, without the tables' places that follow it.
const DESCRIPTION: usize = 44;
/// Numbers of two of these: which inlined call it is, and the tree of them.
const INLINED_INDEX: usize = 2;
const INLINED_TREE: usize = 3;
/// The most calls that are told as compiled into each other.
const MAX_INLINED: usize = 64;
/// The longest name of a function or file, in bytes.
const MAX_NAME: usize = 4096;

/// The table, with what its header says.
pub(super) struct GoTable {
    data: Vec<u8>,
    little: bool,
    /// Bytes of the smallest instruction.
    quantum: u64,
    functions: usize,
    /// Functions count their addresses from here.
    text: u64,
    names: usize,
    units: usize,
    files: usize,
    values: usize,
    table: usize,
    /// Does it say in a known form what was compiled into what (since Go 1.20)?
    has_inlined: bool,
    /// Where it says so (`go:func.*`); empty when that was not found.
    inlined: Vec<u8>,
}

impl GoTable {
    /// The table of a file that Go has made.
    pub(super) fn find(file: &object::File<'_>) -> Option<GoTable> {
        let names = [".gopclntab", ".data.rel.ro.gopclntab"];
        let section = names.iter().find_map(|name| file.section_by_name(name))?;
        let data = super::unpacked(&section)?.into_owned();
        // The header's own start of the text is not relocated in programs that may lie anywhere, and not kept since Go 1.26.
        let text = file.section_by_name(".text")?.address();
        let mut table = GoTable::parse(data, file.is_little_endian(), text)?;
        if let Some(module) = ModuleData::find(file, section.address(), table.names, table.little) {
            // Where C is linked in, its code comes first.
            table.text = module.text;
            if table.has_inlined {
                table.inlined = bytes_from(file, module.function_data).unwrap_or_default();
            }
        }
        Some(table)
    }

    fn parse(data: Vec<u8>, little: bool, text: u64) -> Option<GoTable> {
        let mut table = GoTable {
            data,
            little,
            quantum: 1,
            functions: 0,
            text,
            names: 0,
            units: 0,
            files: 0,
            values: 0,
            table: 0,
            has_inlined: false,
            inlined: Vec::new(),
        };
        let magic = table.u32(0)?;
        let [quantum, size] = [*table.data.get(6)?, *table.data.get(7)?];
        if (magic != MAGIC_1_18 && magic != MAGIC_1_20) || size != 8 {
            return None;
        }
        let word = |index: usize| table.u64(8 + index * 8).and_then(|word| usize::try_from(word).ok());
        let fields = (word(0)?, word(3)?, word(4)?, word(5)?, word(6)?, word(7)?);
        (table.functions, table.names, table.units, table.files, table.values, table.table) = fields;
        table.quantum = u64::from(quantum);
        table.has_inlined = magic == MAGIC_1_20;
        // The last function must lie in the table: what follows may then count on it.
        table.entry(table.functions.checked_sub(1)?)?;
        Some(table)
    }

    /// The functions and lines at an address: those that were compiled into others come before these. Empty when none is known.
    pub(super) fn lookup(&self, address: u64) -> Vec<Named> {
        self.lookup_if_known(address).unwrap_or_default()
    }

    fn lookup_if_known(&self, address: u64) -> Option<Vec<Named>> {
        let mut offset = u32::try_from(address.checked_sub(self.text)?).ok()?;
        // One entry more than functions: where the last one ends.
        if offset >= self.u32(self.table.checked_add(self.functions.checked_mul(8)?)?)? {
            return None;
        }
        let (start, at) = self.entry(self.function_at(offset)?)?;
        let mut all = Vec::new();
        while all.len() < MAX_INLINED
            && let Some((name, parent)) = self.inlined_at(start, at, offset)
        {
            all.push(self.named(name, start, at, offset)?);
            offset = start.checked_add(parent)?;
        }
        all.push(self.named(self.u32(at + 4)?, start, at, offset)?);
        Some(all)
    }

    /// A function by where its name is, at a place in the code of the one that is described at `at`.
    fn named(&self, name: u32, start: u32, at: usize, offset: u32) -> Option<Named> {
        let value = |field: usize| self.value(self.u32(at + field)?, start, offset);
        let line = value(24).and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
        let file = value(20).and_then(|file| self.file(self.u32(at + 32)?, file));
        let function = self.text_at(self.names.checked_add(name as usize)?)?;
        Some(Named { function, file: file.unwrap_or_default(), line })
    }

    /// What was compiled into the function at this place: where its name is, and from which place in the function it is called.
    fn inlined_at(&self, start: u32, at: usize, offset: u32) -> Option<(u32, u32)> {
        let numbers = self.u32(at + 28)? as usize;
        let counts = at.checked_add(DESCRIPTION)?;
        let has_tree = usize::from(*self.data.get(counts - 1)?) > INLINED_TREE && numbers > INLINED_INDEX;
        let indexes = self.u32(counts + INLINED_INDEX * 4).filter(|table| has_tree && *table != 0)?;
        let index = usize::try_from(self.value(indexes, start, offset)?).ok()?;
        let tree = self.u32(counts.checked_add(numbers.checked_mul(4)?)?.checked_add(INLINED_TREE * 4)?)?;
        let entry = usize::try_from(tree).ok()?.checked_add(index.checked_mul(16)?)?;
        let bytes = self.inlined.get(entry..entry.checked_add(16)?)?;
        let (name, parent) = (number(bytes, 4, self.little)?, number(bytes, 8, self.little)?);
        // Names end with a zero: what begins elsewhere is none, and this no such tree.
        let before = self.names.checked_add(name as usize)?.checked_sub(1)?;
        (name == 0 || self.data.get(before) == Some(&0)).then_some((name, parent))
    }

    /// The last function that begins at or before the offset.
    fn function_at(&self, offset: u32) -> Option<usize> {
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low.midpoint(high);
            if self.u32(self.table + middle * 8)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// Where a function begins, and where its description lies in the data.
    fn entry(&self, index: usize) -> Option<(u32, usize)> {
        let at = self.table.checked_add(index.checked_mul(8)?)?;
        Some((self.u32(at)?, self.table.checked_add(self.u32(at.checked_add(4)?)? as usize)?))
    }

    fn file(&self, unit: u32, number: i64) -> Option<String> {
        let index = u32::try_from(i64::from(unit).checked_add(number)?).ok()? as usize;
        let at = self.u32(self.units.checked_add(index.checked_mul(4)?)?)?;
        (at != u32::MAX).then(|| self.text_at(self.files.checked_add(at as usize)?))?
    }

    /// The value for an offset in a table of differences: pairs of value and length, both variable in size.
    fn value(&self, table: u32, start: u32, offset: u32) -> Option<i64> {
        let mut at = self.values.checked_add(table as usize)?;
        let (mut value, mut end) = (-1_i64, u64::from(start));
        for first in std::iter::once(true).chain(std::iter::repeat(false)) {
            let difference = self.variable(&mut at)?;
            if difference == 0 && !first {
                return None;
            }
            let sign = if difference & 1 == 1 { -1 } else { 0 };
            value += i64::from(difference >> 1) ^ sign;
            end += u64::from(self.variable(&mut at)?) * self.quantum;
            if u64::from(offset) < end {
                return Some(value);
            }
        }
        None
    }

    fn variable(&self, at: &mut usize) -> Option<u32> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = *self.data.get(*at)?;
            *at += 1;
            value |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn text_at(&self, at: usize) -> Option<String> {
        let rest = self.data.get(at..)?;
        let end = rest.iter().take(MAX_NAME).position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn u32(&self, at: usize) -> Option<u32> {
        number(&self.data, at, self.little)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        word(&self.data, at, self.little)
    }

    #[cfg(test)]
    pub(super) fn address_of(&self, name: &str) -> Option<u64> {
        (0..self.functions).find_map(|index| {
            let address = self.text + u64::from(self.entry(index)?.0);
            (self.lookup(address).last()?.function == name).then_some(address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_tables_end_without_a_panic() {
        let mut data = vec![0xff_u8; 256];
        data[..8].copy_from_slice(&[0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8]);
        assert!(GoTable::parse(data.clone(), true, 0).is_none());
        for word in 0..8 {
            data[8 + word * 8..16 + word * 8].copy_from_slice(&72_u64.to_le_bytes());
        }
        data[8..16].copy_from_slice(&1_u64.to_le_bytes());
        data[72..76].fill(0);
        data[76..80].copy_from_slice(&8_u32.to_le_bytes());
        if let Some(table) = GoTable::parse(data, true, 0) {
            let _ = table.lookup(5);
        }
    }
}
