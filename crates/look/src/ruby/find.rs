//! Where the virtual machine is. Its address has a symbol, which libraries from 3.3 on do not export and strip; there it is found
//! among the interpreter's own data by what it points to: threads which point back.

use std::collections::HashSet;

use pepo_process::{
    Process,
    maps::Map,
    runtime::{Module, RuntimeFacts},
};

use super::{
    layout::Layout,
    objects::{self, ID_BLOCK},
};
use crate::python::{Memory, Part, PythonThread};

/// The most bytes of the interpreter's data that are searched, and the bytes of a virtual machine in which threads are looked for.
const MOST: u64 = 1 << 20;
const MACHINE: usize = 1024;
/// The most threads.
const MOST_THREADS: usize = 20_000;

/// The interpreter in a process.
pub(super) struct Place {
    version: Option<u64>,
    pointer: Option<u64>,
    symbols: Option<u64>,
    /// Its own writable data.
    data: Vec<(u64, u64)>,
    /// What can be pointed to.
    writable: Vec<(u64, u64)>,
}

impl Place {
    pub(super) fn of(process: &Process, facts: &RuntimeFacts) -> Option<Place> {
        let maps = process.maps().ok()?;
        let is_library = |path: &std::path::Path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libruby"))
        };
        let module = Module::find(process, &maps, is_library)
            .or_else(|| Module::find(process, &maps, |path| path == facts.executable))?;
        let names = ["ruby_version", "ruby_current_vm_ptr", "ruby_global_symbols"];
        let found = module.addresses(process, &names);
        let range = |map: &Map| (map.start, map.end);
        let mut data = Vec::new();
        for (index, map) in maps.iter().enumerate().filter(|(_, map)| map.write) {
            let own = |map: &Map| map.file() == Some(module.path.as_path());
            // What has no beginning in the file comes right after it.
            let after = || {
                let before = index.checked_sub(1).and_then(|before| maps.get(before));
                map.path.is_none() && before.is_some_and(|before| own(before) && before.end == map.start)
            };
            if own(map) || after() {
                data.push(range(map));
            }
        }
        Some(Place {
            version: found.get(names[0]).copied(),
            pointer: found.get(names[1]).copied(),
            symbols: found.get(names[2]).copied(),
            data,
            writable: maps.iter().filter(|map| map.write && map.read).map(range).collect(),
        })
    }

    /// The version, as it says itself: "3.1.2".
    pub(super) fn version(&self, memory: &impl Memory) -> Option<String> {
        let text = memory.bytes(self.version?, 16)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        let is_version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let text = text.get(..end).filter(|text| text.iter().all(is_version))?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// `rb_vm_t`.
    pub(super) fn machine(&self, memory: &impl Memory, layout: &Layout) -> Option<u64> {
        let is_one = |address: &u64| first_thread(memory, layout, *address).is_some();
        match self.pointer {
            Some(pointer) => memory.word(pointer).filter(is_one),
            None => {
                let mut words = self.words(memory).into_iter().map(|(_, word)| word);
                words.find(|word| self.is_writable(*word) && is_one(word))
            }
        }
    }

    /// `ruby_global_symbols`.
    pub(super) fn symbols(&self, memory: &impl Memory) -> Option<u64> {
        let words = || {
            let all = self.words(memory);
            let mut triples = all.array_windows::<3>();
            triples.find_map(|[(address, last), (_, table), (_, ids)]| {
                let is_near = *last > 100 && *last < 1 << 24 && self.is_writable(*table);
                let blocks = objects::array(memory, *ids).filter(|_| is_near && self.is_writable(*ids))?;
                (blocks.1 == last / ID_BLOCK + 1).then_some(*address)
            })
        };
        self.symbols.or_else(words)
    }

    fn is_writable(&self, address: u64) -> bool {
        address.is_multiple_of(8)
            && self.writable.iter().any(|(start, end)| (*start..*end).contains(&address))
    }

    /// All words of the interpreter's data, each with its address.
    fn words(&self, memory: &impl Memory) -> Vec<(u64, u64)> {
        let mut left = MOST;
        let mut words = Vec::new();
        for (start, end) in &self.data {
            let length = (end - start).min(left);
            left -= length;
            let bytes = memory.bytes(*start, usize::try_from(length).unwrap_or(0)).unwrap_or_default();
            let all = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
            words.extend((*start..).step_by(8).zip(all));
        }
        words
    }
}

/// Its threads, from the first on round their list.
pub(super) fn threads(memory: &impl Memory, layout: &Layout, machine: u64) -> Option<Vec<PythonThread>> {
    let mut at = first_thread(memory, layout, machine)?;
    let (mut threads, mut seen) = (Vec::new(), HashSet::new());
    while seen.insert(at) && seen.len() < MOST_THREADS {
        let next = memory.word(at)?;
        // One of the list is not a thread but its head; and one that nothing native runs is nowhere.
        let ident = is_thread(memory, layout, at, machine).then(|| layout.ident(memory, at)).flatten();
        threads.extend(ident.filter(|ident| *ident != 0).map(|ident| PythonThread {
            address: at,
            ident,
            native_id: 0,
            interpreter: machine,
            holds_gil: false,
        }));
        at = next;
    }
    Some(threads)
}

/// The first thread that a virtual machine points to.
pub(super) fn first_thread(memory: &impl Memory, layout: &Layout, machine: u64) -> Option<u64> {
    let bytes = memory.bytes(machine, MACHINE)?;
    let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    words.find(|word| is_thread(memory, layout, *word, machine))
}

/// Is there a thread of this virtual machine, with frames?
pub(super) fn is_thread(memory: &impl Memory, layout: &Layout, address: u64, machine: u64) -> bool {
    let is = || {
        // Most of what is asked for is no address at all.
        let place =
            address.checked_add(layout.machine).filter(|_| address > 1 << 16 && address.is_multiple_of(8))?;
        let mut parts = [Part::new(place, 8), Part::new(address.checked_add(layout.context)?, 8)];
        memory.fill(&mut parts).then_some(())?;
        let context = parts[1].word(parts[1].address)?;
        let points_back = parts[0].word(place) == Some(machine);
        let back = points_back.then(|| memory.word(context.checked_add(layout.thread)?))??;
        Some(back == address)
    };
    is().unwrap_or(false)
}
