//! The text guard: what a process's instructions were before a debugger came, so that they can be put back when it has died.
//!
//! A software breakpoint is a changed byte in the target's text; its owner's death leaves it there, and the next thread that
//! comes by dies of it. Two ways of noting what was there: byte by byte where every change is seen beforehand
//! ([`Patches`], for the relay), or page by page where it is not ([`Noted`], for debuggers that own ptrace themselves).
//!
//! "From the file" alone would wipe the probes of other tools: pages that were already changed are noted with their bytes.
//! `/proc/PID/pagemap` tells them apart (proc_pid_pagemap(5): bit 61 is set for a page of a file, clear for a private copy).

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt as _};

use pepo_process::{Memory, Process, ProcessError, maps::Map};
use rustix::fs::{Mode, OFlags};

/// At most so many bytes of pages that were already changed are kept.
const MAX_KEPT: usize = 16 << 20;
/// A page that differs from its file in more bytes than that was not changed by a debugger.
const MAX_DIFFERENT: usize = 512;
/// Entries of the page map that are read at once.
const ENTRIES: usize = 8 << 10;

/// What was put back, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Bytes that were put back.
    pub bytes: usize,
    /// Addresses whose bytes should have been put back and were not.
    pub failed: Vec<u64>,
}

impl Restored {
    /// In words, for people; `None` when there was nothing to do.
    #[must_use]
    pub fn repair(&self) -> Option<String> {
        match self.bytes {
            0 => None,
            1 => Some("restored 1 text byte".to_owned()),
            many => Some(format!("restored {many} text bytes")),
        }
    }

    /// In words: what is still changed.
    #[must_use]
    pub fn left_behind(&self) -> Vec<String> {
        self.failed.iter().map(|address| format!("changed text at {address:#x}")).collect()
    }

    fn add(&mut self, memory: &Memory, address: u64, now: &[u8], before: &[u8]) {
        let mut at = 0;
        while at < now.len().min(before.len()) {
            let run = now.iter().zip(before).skip(at).take_while(|(now, before)| now != before).count();
            if run > 0 {
                match memory.write_at(address + at as u64, &before[at..at + run]) {
                    Ok(()) => self.bytes += run,
                    Err(_) => self.failed.push(address + at as u64),
                }
            }
            at += run.max(1);
        }
    }
}

/// Bytes noted before each change, for whoever sees the changes beforehand.
#[derive(Clone, Debug, Default)]
pub struct Patches {
    bytes: BTreeMap<u64, Patch>,
}

/// One changed byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// What stood there.
    pub before: u8,
    /// What was written over it, when that is known: anything else found there later is somebody else's.
    pub written: Option<u8>,
}

impl Patches {
    /// Notes what is there now for each byte that is going to be written, unless it was noted before; what cannot be read is
    /// not noted. Returns what was new.
    pub fn note(&mut self, memory: &Memory, address: u64, written: &[Option<u8>]) -> Vec<(u64, Patch)> {
        let Ok(bytes) = memory.read_up_to(address, written.len()) else { return Vec::new() };
        let patches = bytes.iter().zip(written).map(|(&before, &written)| Patch { before, written });
        let mut new = Vec::new();
        for (address, patch) in (address..).zip(patches) {
            let before = self.bytes.get(&address).map_or(patch.before, |known| known.before);
            let patch = Patch { before, ..patch };
            if self.bytes.insert(address, patch) != Some(patch) {
                new.push((address, patch));
            }
        }
        new
    }

    /// What stood where something was written.
    #[must_use]
    pub fn before(&self, address: u64) -> Option<u8> {
        self.bytes.get(&address).map(|patch| patch.before)
    }

    /// Takes over what another noted.
    pub fn remember(&mut self, address: u64, patch: Patch) {
        self.bytes.insert(address, patch);
    }

    /// The change was undone by whoever made it.
    pub fn forget(&mut self, address: u64, length: usize) {
        for address in (address..).take(length) {
            self.bytes.remove(&address);
        }
    }

    /// Puts back every noted byte that still is what was written over it.
    #[must_use]
    pub fn restore(&self, memory: &Memory) -> Restored {
        let mut restored = Restored::default();
        for (&address, patch) in &self.bytes {
            let mut now = [0];
            // What cannot be read was unmapped since: nothing is left there.
            if memory.read_at(address, &mut now).is_ok()
                && patch.written.is_none_or(|written| written == now[0])
            {
                restored.add(memory, address, &now, &[patch.before]);
            }
        }
        restored
    }
}

/// Which pages of a process's text were already changed when a debugger came, and what was in them.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    page: u64,
    /// Pages that were changed before, with their bytes; without when there were too many to keep.
    changed: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Noted {
    /// Looks at a process before a debugger is put on it. Stops nothing.
    ///
    /// # Errors
    /// When its mappings or page map cannot be read.
    pub fn note(process: &Process) -> Result<Noted, ProcessError> {
        let memory = process.memory()?;
        let mut noted = Noted { page: rustix::param::page_size() as u64, changed: BTreeMap::new() };
        let mut kept = 0;
        for address in changed_pages(process, noted.page)? {
            let mut bytes = vec![0; noted.page as usize];
            let keep = kept + bytes.len() <= MAX_KEPT && memory.read_at(address, &mut bytes).is_ok();
            kept += if keep { bytes.len() } else { 0 };
            noted.changed.insert(address, keep.then_some(bytes));
        }
        Ok(noted)
    }

    /// Puts back what was changed since, and nothing else.
    ///
    /// # Errors
    /// When mappings, page map or memory cannot be read.
    pub fn restore(&self, process: &Process) -> Result<Restored, ProcessError> {
        let memory = process.memory()?;
        let maps = text_maps(process)?;
        let mut restored = Restored::default();
        let mut files = Files::default();
        for address in changed_pages(process, self.page)? {
            let mut now = vec![0; self.page as usize];
            if memory.read_at(address, &mut now).is_err() {
                continue;
            }
            let before = match self.changed.get(&address) {
                Some(Some(bytes)) => Some(bytes.clone()),
                Some(None) => None,
                None => files.page(process, &maps, address, self.page),
            };
            let Some(before) = before else { continue };
            let different = now.iter().zip(&before).filter(|(now, before)| now != before).count();
            match different {
                0 => {}
                1..=MAX_DIFFERENT => restored.add(&memory, address, &now, &before),
                _ => restored.failed.push(address),
            }
        }
        Ok(restored)
    }
}

/// Mappings of files that can be executed and are private: where a debugger's breakpoints go.
pub(crate) fn text_maps(process: &Process) -> Result<Vec<Map>, ProcessError> {
    let maps = process.maps()?;
    Ok(maps.into_iter().filter(|map| map.execute && !map.shared && map.file().is_some()).collect())
}

/// The pages of the text that are private copies.
fn changed_pages(process: &Process, page: u64) -> Result<Vec<u64>, ProcessError> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_FILE: u64 = 1 << 61;
    let maps = text_maps(process)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(process.proc_dir(), "pagemap", flags, Mode::empty()) else {
        return Ok(Vec::new());
    };
    let file = File::from(file);
    let mut changed = Vec::new();
    for map in maps {
        let mut address = map.start;
        while address < map.end {
            let count = ((map.end - address) / page).min(ENTRIES as u64) as usize;
            let mut entries = vec![0; count * 8];
            if count == 0 || file.read_exact_at(&mut entries, address / page * 8).is_err() {
                break;
            }
            for (index, entry) in entries.as_chunks::<8>().0.iter().enumerate() {
                let entry = u64::from_ne_bytes(*entry);
                if entry & SWAPPED != 0 || (entry & PRESENT != 0 && entry & OF_FILE == 0) {
                    changed.push(address + index as u64 * page);
                }
            }
            address += count as u64 * page;
        }
    }
    Ok(changed)
}

/// Files behind mappings, opened once.
#[derive(Default)]
struct Files {
    open: BTreeMap<u64, Option<File>>,
}

impl Files {
    /// What the file has for a page of the target.
    fn page(&mut self, process: &Process, maps: &[Map], address: u64, page: u64) -> Option<Vec<u8>> {
        let map = maps.iter().find(|map| map.contains(address))?;
        let file = self.open.entry(map.start).or_insert_with(|| {
            // The very file, even when it was replaced; else the one that has its name now. That both are alike is seen
            // by how little they differ from the memory.
            process.open_mapped(map).ok().or_else(|| process.open_in_root(map.file()?).ok())
        });
        let mut bytes = vec![0; page as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            let count = file
                .as_ref()?
                .read_at(&mut bytes[filled..], map.offset + (address - map.start) + filled as u64)
                .ok()?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use pepo_process::Process;

    use super::*;

    /// An address in a page of this very program's text that nothing else changes, and its byte.
    fn place(process: &Process, memory: &Memory, page: u64) -> (u64, u8) {
        let map = text_maps(process).unwrap().into_iter().max_by_key(Map::len).unwrap();
        // The end of the last whole page: padding, or code of no test.
        let address = map.start + (map.len() / 4096 - 1 - page) * 4096 + 4000;
        let mut byte = [0];
        memory.read_at(address, &mut byte).unwrap();
        (address, byte[0])
    }

    #[test]
    fn what_changed_since_is_put_back_and_what_was_changed_before_stays() {
        let process = Process::own().unwrap();
        let memory = process.memory().unwrap();
        let (before_us, old) = place(&process, &memory, 0);
        let (ours, own) = place(&process, &memory, 1);
        memory.write_at(before_us, &[!old]).unwrap();
        let noted = Noted::note(&process).unwrap();
        memory.write_at(ours, &[!own]).unwrap();
        let restored = noted.restore(&process).unwrap();
        assert_eq!(restored.repair().as_deref(), Some("restored 1 text byte"));
        assert_eq!(restored.left_behind(), Vec::<String>::new());
        let mut byte = [0];
        memory.read_at(ours, &mut byte).unwrap();
        assert_eq!(byte[0], own);
        memory.read_at(before_us, &mut byte).unwrap();
        assert_eq!(byte[0], !old, "another tool's change");
        memory.write_at(before_us, &[old]).unwrap();
        assert_eq!(
            noted.restore(&process).unwrap().bytes,
            1,
            "a change of a page that was changed before is a change"
        );
        memory.write_at(before_us, &[old]).unwrap();
    }

    #[test]
    fn a_patch_that_somebody_else_wrote_over_is_left_alone() {
        let process = Process::own().unwrap();
        let memory = process.memory().unwrap();
        let mut data = vec![1_u8, 2, 3];
        let address = data.as_mut_ptr() as u64;
        let mut patches = Patches::default();
        assert_eq!(patches.note(&memory, address, &[Some(0xcc), Some(0xcc), None]).len(), 3);
        memory.write_at(address, &[0xcc, 7, 9]).unwrap();
        assert_eq!(patches.note(&memory, address, &[Some(0xcc)]), [], "what stood there first counts");
        assert_eq!(patches.restore(&memory).bytes, 2);
        assert_eq!(std::hint::black_box(&data), &[1, 7, 3]);
        patches.forget(address, 3);
        assert_eq!(patches.restore(&memory), Restored::default());
    }
}
