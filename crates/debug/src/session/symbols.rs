//! Debug files that the user's side brings: what is wanted of it, and where what came is laid for every debugger to find.
//!
//! All of it is in the session's own folder and goes with it; nothing of it is in the target.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
};

use pepo_process::{
    AgentPid, Process,
    elf::Elf,
    runtime::{DebugInfo, Module, RuntimeFacts},
};
use pepo_wire::{
    Code, Failure,
    agent::{SymbolFile, SymbolsPart, SymbolsWanted, WantedSymbols, symbols_part::Kind},
};

use crate::guard::files::EXE;

/// Most files that are asked for.
const MOST_FILES: usize = 256;
/// Most bytes that are taken, of all files together.
const MOST_BYTES: u64 = 4 << 30;

/// The mapped files that say nothing of lines and types and can be told apart from others; the executable goes first.
#[must_use]
pub(super) fn wanted(process: &Process, facts: &RuntimeFacts) -> SymbolsWanted {
    let maps = process.maps().unwrap_or_default();
    let mut paths: Vec<&Path> = vec![&facts.executable];
    for path in maps.iter().filter(|map| map.execute).filter_map(|map| map.file()) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let modules = paths.into_iter().filter_map(|path| {
        let module = Module::find(process, &maps, |mapped| mapped == path)?;
        lacking(path, &module.open(process)?)
    });
    SymbolsWanted { modules: modules.take(MOST_FILES).collect(), max_bytes: MOST_BYTES }
}

fn lacking(path: &Path, elf: &Elf<File>) -> Option<WantedSymbols> {
    if elf.has_debug_info() {
        return None;
    }
    let build_id = elf.build_id().unwrap_or_default();
    let debug_link = elf.debug_link().unwrap_or_default();
    let debug_link_crc = elf.debug_link_crc().unwrap_or_default();
    let named = !build_id.is_empty() || !debug_link.is_empty();
    named.then(|| WantedSymbols { path: path.display().to_string(), build_id, debug_link, debug_link_crc })
}

/// Debug files of one session.
#[derive(Debug)]
pub struct Symbols {
    folder: PathBuf,
    pid: AgentPid,
    wanted: SymbolsWanted,
    left: u64,
    /// The file that is coming.
    open: Option<File>,
    /// What came, by its place in the list of what is wanted.
    files: BTreeMap<usize, PathBuf>,
    /// What the user's side could not bring, and why.
    notes: Vec<String>,
}

impl Symbols {
    /// Nothing has come yet. `folder` is the session's own.
    pub(super) fn new(folder: &Path, pid: AgentPid, wanted: SymbolsWanted) -> Symbols {
        let left = wanted.max_bytes;
        let folder = folder.join("symbols");
        Symbols { folder, pid, wanted, left, open: None, files: BTreeMap::new(), notes: Vec::new() }
    }

    /// What to ask the user's side for.
    #[must_use]
    pub fn wanted(&self) -> &SymbolsWanted {
        &self.wanted
    }

    /// Takes a part; `false` after the last one.
    ///
    /// # Errors
    /// [`Code::TooLarge`], or the file could not be written.
    pub fn take(&mut self, part: SymbolsPart) -> Result<bool, Failure> {
        let kept = |error: io::Error| {
            Failure::new(Code::FileDenied, "a debug file could not be kept beside the target")
                .because_of(&error)
        };
        match part.kind {
            Some(Kind::File(file)) => self.begin(&file).map_err(kept)?,
            Some(Kind::Data(data)) => {
                self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| {
                    Failure::new(Code::TooLarge, format!("more than {MOST_BYTES} bytes of debug files"))
                })?;
                if let Some(file) = &mut self.open {
                    file.write_all(&data).map_err(kept)?;
                }
            }
            Some(Kind::End(end)) => {
                self.open = None;
                self.notes = end.notes;
                return Ok(false);
            }
            // Of a newer client.
            None => {}
        }
        Ok(true)
    }

    fn begin(&mut self, file: &SymbolFile) -> io::Result<()> {
        self.open = None;
        let number = file.module as usize;
        let Some(wanted) = self.wanted.modules.get(number) else { return Ok(()) };
        let path = if file.agent_path.is_empty() {
            fs::create_dir_all(&self.folder)?;
            let path = self.folder.join(format!("{number}.debug"));
            self.open = Some(File::create(&path)?);
            path
        } else {
            PathBuf::from(&file.agent_path)
        };
        for place in places(wanted, self.pid) {
            let link = self.folder.join(place);
            fs::create_dir_all(link.parent().unwrap_or(&self.folder))?;
            std::os::unix::fs::symlink(&path, &link).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })?;
        }
        tracing::info!(module = wanted.path, from = file.name, "debug file");
        self.files.insert(number, path);
        Ok(())
    }

    /// The folder where debuggers find them; none when nothing came.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        (!self.files.is_empty()).then(|| self.folder.clone())
    }

    /// What is known of the program, with the file that came for its executable.
    pub(super) fn complete(&self, facts: &mut RuntimeFacts) {
        let is_exe = |number: &usize| {
            let module = self.wanted.modules.get(*number);
            module.is_some_and(|module| Path::new(&module.path) == facts.executable)
        };
        let Some((_, path)) = self.files.iter().find(|(number, _)| is_exe(number)) else { return };
        let Some(elf) = File::open(path).ok().and_then(|file| Elf::parse(file).ok()) else { return };
        if elf.has_debug_info() {
            facts.debug_info = DebugInfo::Brought(path.clone());
            facts.optimised = facts.optimised.or_else(|| elf.producer()?.optimised);
        }
    }

    /// A failure for want of debug information, with why the user's side brought none.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        if failure.code() != Code::NoDebugInfo {
            return failure;
        }
        self.notes.iter().fold(failure, |failure, note| failure.because(note))
    }
}

/// Where debuggers look for the debug file of a module, below a folder for debug files (gdb manual, "Separate Debug Files"): by
/// its build id; by the name it gives, at once (LLDB, and delve for an executable it cannot see) or in the module's own folder,
/// which for gdb is where it opens the executable: below `/proc/PID`, or as it was handed over.
fn places(wanted: &WantedSymbols, pid: AgentPid) -> Vec<PathBuf> {
    let by_id = wanted.build_id.split_at_checked(2).filter(|(_, rest)| !rest.is_empty());
    let by_id = by_id.map(|(first, rest)| Path::new(".build-id").join(first).join(format!("{rest}.debug")));
    let by_name = is_plain(&wanted.debug_link).then(|| {
        let folder = Path::new(&wanted.path).parent().unwrap_or(Path::new(""));
        let folder: PathBuf =
            folder.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let proc = PathBuf::from(format!("proc/{}", pid.get()));
        let handed = Path::new(EXE).strip_prefix("/").ok().and_then(Path::parent).unwrap_or(Path::new(""));
        [PathBuf::new(), folder, proc, handed.to_owned()].map(|folder| folder.join(&wanted.debug_link))
    });
    by_id.into_iter().chain(by_name.into_iter().flatten()).collect()
}

/// The name of a file and nothing else.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, build_id: &str, debug_link: &str) -> WantedSymbols {
        WantedSymbols {
            path: path.into(),
            build_id: build_id.into(),
            debug_link: debug_link.into(),
            debug_link_crc: 0,
        }
    }

    fn symbols(folder: &Path, modules: Vec<WantedSymbols>, max_bytes: u64) -> Symbols {
        Symbols::new(folder, AgentPid::new(7).unwrap(), SymbolsWanted { modules, max_bytes })
    }

    fn part(kind: Kind) -> SymbolsPart {
        SymbolsPart { kind: Some(kind) }
    }

    #[test]
    fn no_name_of_a_targets_leads_out_of_the_folder() {
        let places = |path, id, link| {
            let places = places(&wanted(path, id, link), AgentPid::new(7).unwrap());
            places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(places("/app/x", "abcdef", ""), [".build-id/ab/cdef.debug"]);
        assert_eq!(
            places("/app/x", "", "x.debug"),
            ["x.debug", "app/x.debug", "proc/7/x.debug", "proc/self/fd/x.debug"]
        );
        assert_eq!(places("/../a/../x", "", "d"), ["d", "a/d", "proc/7/d", "proc/self/fd/d"]);
        for link in ["..", ".", "a/b", "/a", ""] {
            assert_eq!(places("/app/x", "a", link), [""; 0], "{link}");
        }
    }

    #[test]
    fn files_come_in_parts_and_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let mut symbols = symbols(folder.path(), vec![wanted("/app/x", "abcdef", "")], 8);
        assert_eq!(symbols.folder(), None);
        let file = SymbolFile { module: 0, name: "x".into(), agent_path: String::new() };
        assert!(symbols.take(part(Kind::File(file))).unwrap());
        for data in ["1234", "5678"] {
            assert!(symbols.take(part(Kind::Data(data.into()))).unwrap());
        }
        assert!(!symbols.take(part(Kind::End(Default::default()))).unwrap());
        let found = symbols.folder().unwrap().join(".build-id/ab/cdef.debug");
        assert_eq!(fs::read(found).unwrap(), b"12345678");
    }

    #[test]
    fn what_was_not_asked_for_is_not_kept_and_too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut symbols = symbols(folder.path(), vec![wanted("/app/x", "abcdef", "")], 8);
        let other = SymbolFile { module: 1, ..SymbolFile::default() };
        assert!(symbols.take(part(Kind::File(other))).unwrap());
        assert!(symbols.take(part(Kind::Data(vec![0; 4]))).unwrap());
        assert_eq!((symbols.folder(), fs::read_dir(folder.path()).unwrap().count()), (None, 0));
        assert_eq!(symbols.take(part(Kind::Data(vec![0; 5]))).unwrap_err().code(), Code::TooLarge);
    }

    #[test]
    fn only_a_lack_of_debug_information_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let mut symbols = symbols(folder.path(), Vec::new(), 8);
        let end = pepo_wire::agent::SymbolsEnd { notes: vec!["nothing fits".into()] };
        symbols.take(part(Kind::End(end))).unwrap();
        let explained = |code| symbols.explain(Failure::new(code, "x")).why;
        assert_eq!(explained(Code::NoDebugInfo), ["nothing fits"]);
        assert_eq!(explained(Code::ToolMissing), [""; 0]);
    }
}
