//! Files that are mapped, and addresses in them.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{Process, elf::Elf, maps::Map};

/// One file that is mapped into a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its path as the target sees it.
    pub path: PathBuf,
    /// What has to be added to linked addresses.
    pub bias: u64,
    /// Its first mapping.
    map: Map,
}

impl Module {
    /// The first mapped file that fits.
    #[must_use]
    pub fn find(process: &Process, maps: &[Map], fits: impl Fn(&Path) -> bool) -> Option<Module> {
        let map = maps.iter().find(|map| map.file().is_some_and(&fits))?;
        let elf = Elf::parse(open(process, map)?).ok()?;
        Some(Module { path: map.file()?.to_owned(), bias: elf.bias(map)?, map: map.clone() })
    }

    /// The file itself, even when it was removed or replaced since, as far as we may open it.
    #[must_use]
    pub fn open(&self, process: &Process) -> Option<Elf<File>> {
        Elf::parse(open(process, &self.map)?).ok()
    }

    /// Addresses in the process of the symbols of these names, as far as they are defined in the file.
    #[must_use]
    pub fn addresses<'a>(&self, process: &Process, names: &[&'a str]) -> HashMap<&'a str, u64> {
        let symbols = self.open(process).map(|elf| elf.symbols(names)).unwrap_or_default();
        symbols.into_iter().map(|(name, symbol)| (name, symbol.address.wrapping_add(self.bias))).collect()
    }
}

/// Opens the very file that is mapped: as the executable, by its mapping, or by path when it is still the same there.
fn open(process: &Process, map: &Map) -> Option<File> {
    let is_exe = rustix::fs::statat(process.proc_dir(), "exe", rustix::fs::AtFlags::empty())
        .is_ok_and(|stat| stat.st_ino == map.inode && process.exe_path().ok().as_deref() == map.file());
    if is_exe && let Ok(file) = process.open_exe() {
        return Some(file);
    }
    if let Ok(file) = process.open_mapped(map) {
        return Some(file);
    }
    // Overlay file systems show another device number in the mapping, but the same inode.
    let file = process.open_in_root(map.file().filter(|_| !map.deleted)?).ok()?;
    (file.metadata().ok()?.ino() == map.inode).then_some(file)
}
