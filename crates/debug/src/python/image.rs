//! ELF images as they lie in a target's memory: exported symbols, without opening a file.
//!
//! The running image is the only one that is surely right (a package may have been upgraded under a running process), and it
//! can be read from any namespace. Layout: System V ABI, chapters 4 and 5 (ELF header, program header, dynamic section);
//! `DT_GNU_HASH` as glibc's elf/dl-lookup.c walks it.

use pepo_process::{Memory, Process, maps::Map};

use super::error::InjectError;

/// One loaded ELF image.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// What is added to the addresses in the file.
    bias: u64,
    /// Executable parts, as absolute addresses.
    pub(super) text: Vec<(u64, u64)>,
    tables: Tables,
}

/// The dynamic section's tables, as absolute addresses; 0 when absent.
#[derive(Clone, Copy, Debug, Default)]
struct Tables {
    symbols: u64,
    strings: u64,
    gnu_hash: u64,
    hash: u64,
}

/// An exported symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) address: u64,
    pub(super) size: u64,
}

/// Longest chain that is followed in a hash table.
const LONGEST_CHAIN: u32 = 4096;
/// Most program headers and dynamic entries that are read.
const MOST_HEADERS: u64 = 64;
const MOST_DYNAMIC: u64 = 256;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PF_X: u32 = 1;

impl Image {
    /// Reads the image whose first page is mapped at `base`.
    pub(super) fn read(memory: &Memory, base: u64) -> Option<Image> {
        let mut header = [0; 64];
        memory.read_at(base, &mut header).ok()?;
        // \x7fELF, 64 bits, little-endian: as this agent.
        if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
            return None;
        }
        let table = base.checked_add(u64_at(&header, 32)?)?;
        let count = u64::from(u16::from_le_bytes([header[56], header[57]])).min(MOST_HEADERS);
        let mut headers = vec![0; usize::try_from(count * 56).ok()?];
        memory.read_at(table, &mut headers).ok()?;
        let parts: Vec<Part> = headers.chunks_exact(56).filter_map(Part::read).collect();
        let first = parts.iter().filter(|part| part.kind == PT_LOAD).min_by_key(|part| part.address)?;
        let bias = base.wrapping_sub(first.address & !0xfff);
        let dynamic = parts.iter().find(|part| part.kind == PT_DYNAMIC)?;
        let text = parts.iter().filter(|part| part.kind == PT_LOAD && part.flags & PF_X != 0);
        let text = text.map(|part| (bias.wrapping_add(part.address), part.size)).collect();
        let tables = Tables::read(memory, bias, dynamic)?;
        Some(Image { bias, text, tables })
    }

    /// Does the address lie in its code?
    pub(super) fn has_code_at(&self, address: u64) -> bool {
        self.text.iter().any(|&(start, size)| address >= start && address - start < size)
    }

    /// An exported symbol that is defined here.
    pub(super) fn symbol(&self, memory: &Memory, name: &str) -> Option<Symbol> {
        if self.tables.gnu_hash != 0 { self.by_gnu_hash(memory, name) } else { self.by_hash(memory, name) }
    }

    fn by_gnu_hash(&self, memory: &Memory, name: &str) -> Option<Symbol> {
        let table = self.tables.gnu_hash;
        let mut head = [0; 16];
        memory.read_at(table, &mut head).ok()?;
        let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let (buckets, first, bloom) = (word(0)?, word(4)?, word(8)?);
        let hash = gnu_hash(name);
        let bucket_at = table + 16 + u64::from(bloom) * 8;
        let start = memory.read_u32(bucket_at + 4 * u64::from(hash.checked_rem(buckets)?)).ok()?;
        let chains = bucket_at + 4 * u64::from(buckets);
        for index in start..start.saturating_add(LONGEST_CHAIN) {
            let entry = memory.read_u32(chains + 4 * u64::from(index.checked_sub(first)?)).ok()?;
            if (entry ^ hash) >> 1 == 0
                && let Some(symbol) = self.named(memory, index, name)
            {
                return Some(symbol);
            }
            if entry & 1 == 1 {
                return None;
            }
        }
        None
    }

    fn by_hash(&self, memory: &Memory, name: &str) -> Option<Symbol> {
        let table = self.tables.hash;
        if table == 0 {
            return None;
        }
        let (buckets, chains) = (memory.read_u32(table).ok()?, memory.read_u32(table + 4).ok()?);
        let slot = sysv_hash(name).checked_rem(buckets)?;
        let mut index = memory.read_u32(table + 8 + 4 * u64::from(slot)).ok()?;
        for _ in 0..LONGEST_CHAIN {
            if index == 0 || index >= chains {
                return None;
            }
            if let Some(symbol) = self.named(memory, index, name) {
                return Some(symbol);
            }
            index = memory.read_u32(table + 8 + 4 * (u64::from(buckets) + u64::from(index))).ok()?;
        }
        None
    }

    /// Entry `index` of the symbol table, if it is called so and defined.
    fn named(&self, memory: &Memory, index: u32, name: &str) -> Option<Symbol> {
        let mut entry = [0; 24];
        memory.read_at(self.tables.symbols + 24 * u64::from(index), &mut entry).ok()?;
        let string = u64::from(u32::from_le_bytes(entry[..4].try_into().ok()?));
        let section = u16::from_le_bytes([entry[6], entry[7]]);
        let found = memory.read_c_string(self.tables.strings + string, name.len() + 1).ok()?;
        (section != 0 && found == name.as_bytes()).then_some(())?;
        Some(Symbol { address: self.bias.wrapping_add(u64_at(&entry, 8)?), size: u64_at(&entry, 16)? })
    }

    /// The first place in its code with these bytes.
    pub(super) fn find_code(&self, memory: &Memory, bytes: &[u8]) -> Option<u64> {
        const LARGEST_TEXT: u64 = 64 << 20;
        self.text.iter().find_map(|&(start, size)| {
            let code = memory.read_up_to(start, usize::try_from(size.min(LARGEST_TEXT)).ok()?).ok()?;
            let at = code.windows(bytes.len()).position(|window| window == bytes)?;
            Some(start + at as u64)
        })
    }
}

/// One program header.
struct Part {
    kind: u32,
    flags: u32,
    address: u64,
    size: u64,
}

impl Part {
    fn read(bytes: &[u8]) -> Option<Part> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Part { kind: word(0)?, flags: word(4)?, address: u64_at(bytes, 16)?, size: u64_at(bytes, 40)? })
    }
}

impl Tables {
    fn read(memory: &Memory, bias: u64, dynamic: &Part) -> Option<Tables> {
        let length = dynamic.size.min(MOST_DYNAMIC * 16);
        let bytes =
            memory.read_up_to(bias.wrapping_add(dynamic.address), usize::try_from(length).ok()?).ok()?;
        let mut tables = Tables::default();
        for entry in bytes.chunks_exact(16) {
            let value = u64_at(entry, 8)?;
            // glibc writes absolute addresses back into the section, musl leaves those of the file.
            let value = if value < bias { value + bias } else { value };
            match u64_at(entry, 0)? {
                0 => break,
                4 => tables.hash = value,
                5 => tables.strings = value,
                6 => tables.symbols = value,
                0x6fff_fef5 => tables.gnu_hash = value,
                _ => {}
            }
        }
        (tables.symbols != 0 && tables.strings != 0).then_some(tables)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)))
}

fn sysv_hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

/// The interpreter and the C library of one process, with the addresses that the injector needs.
#[derive(Debug)]
pub(super) struct Symbols {
    pub(super) python: Image,
    pub(super) add_pending_call: u64,
    pub(super) run_simple_string: u64,
    pub(super) gil_ensure: u64,
    pub(super) gil_release: u64,
    pub(super) gil_check: u64,
    pub(super) this_thread_state: u64,
    /// Functions that wait on a Python lock with the GIL released.
    pub(super) lock_waits: Vec<Symbol>,
    /// `_PyRuntime`.
    pub(super) runtime: Option<Symbol>,
    pub(super) mmap: u64,
    pub(super) memfd_create: Option<u64>,
    pub(super) lsearch: u64,
    pub(super) return_stub: u64,
    /// The C library is musl.
    pub(super) musl: bool,
}

impl Symbols {
    /// Finds them in the process's memory.
    ///
    /// # Errors
    /// [`InjectError::NoSymbol`] when one is not exported, [`InjectError::Process`] when memory can't be read.
    pub(super) fn find(process: &Process, memory: &Memory) -> Result<Symbols, InjectError> {
        let maps = process.maps()?;
        let images = images(&maps);
        let find_with = |name: &'static str, fits: &dyn Fn(&str) -> bool| {
            images
                .iter()
                .filter(|map| map.file_name().is_some_and(fits))
                .filter_map(|map| Some((Image::read(memory, map.start)?, map.file_name()?.to_owned())))
                .find(|(image, _)| image.symbol(memory, name).is_some())
                .ok_or(InjectError::NoSymbol { name, place: "an exported symbol of the process" })
        };
        let executable = process.exe_path().ok();
        let executable = executable.as_deref().and_then(|path| path.file_name()?.to_str());
        let (python, _) = find_with("PyRun_SimpleString", &|name| {
            ["libpython", "python"].iter().any(|start| name.starts_with(start)) || Some(name) == executable
        })?;
        let (libc, libc_name) = find_with("mmap", &|name| {
            ["libc.so", "libc-2", "ld-musl", "libc.musl"].iter().any(|start| name.starts_with(start))
        })?;
        let from = |image: &Image, name: &'static str, place| {
            image
                .symbol(memory, name)
                .map(|symbol| symbol.address)
                .ok_or(InjectError::NoSymbol { name, place })
        };
        let in_python = |name| from(&python, name, "the interpreter");
        let stub = libc.find_code(memory, &super::x86_64::RETURN_STUB);
        let waits = ["PyThread_acquire_lock_timed", "_PyParkingLot_Park", "_PySemaphore_Wait"];
        Ok(Symbols {
            add_pending_call: in_python("Py_AddPendingCall")?,
            run_simple_string: in_python("PyRun_SimpleString")?,
            gil_ensure: in_python("PyGILState_Ensure")?,
            gil_release: in_python("PyGILState_Release")?,
            gil_check: in_python("PyGILState_Check")?,
            this_thread_state: in_python("PyGILState_GetThisThreadState")?,
            lock_waits: waits.iter().filter_map(|name| python.symbol(memory, name)).collect(),
            runtime: python.symbol(memory, "_PyRuntime"),
            mmap: from(&libc, "mmap", "the C library")?,
            memfd_create: from(&libc, "memfd_create", "the C library").ok(),
            lsearch: from(&libc, "lsearch", "the C library")?,
            return_stub: stub
                .ok_or(InjectError::NoSymbol { name: "rt_sigreturn", place: "the C library" })?,
            musl: libc_name.contains("musl"),
            python,
        })
    }
}

/// First mappings of files: where images begin.
fn images(maps: &[Map]) -> Vec<&Map> {
    maps.iter().filter(|map| map.offset == 0 && map.read && map.file().is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_abi() {
        assert_eq!(gnu_hash("printf"), 0x156b_2bb8);
        assert_eq!(sysv_hash("printf"), 0x077_905a6);
    }
}
