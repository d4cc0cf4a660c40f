//! What an executable says, kept for the next process that runs it.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
};

use rustix::fs::AtFlags;

use super::{DebugInfo, Language};
use crate::{
    Process,
    elf::{Elf, ElfFacts, dwarf::Producer, go::GoBuild},
};

/// Most executables that are remembered.
const MOST: usize = 1024;

/// Symbols that tell a runtime which is built into the executable.
const MARKS: &[(&str, Language)] = &[
    ("PyRun_SimpleStringFlags", Language::Python),
    ("DotNetRuntimeInfo", Language::Dotnet),
    ("_ZN4node5StartEiPPc", Language::Node),
    ("ruby_init_stack", Language::Ruby),
    ("php_request_startup", Language::Php),
    ("JNI_CreateJavaVM", Language::Jvm),
];

/// What an executable says by itself.
#[derive(Debug)]
pub struct ExeFacts {
    /// What its ELF headers and notes say; without the producer.
    pub elf: ElfFacts,
    /// Who compiled it; looked for when it is first asked for.
    producer: OnceLock<Option<Producer>>,
    /// The runtime that is built into it.
    built_in: Option<Language>,
    /// `Py_Version`, for Python from 3.11 on.
    python_version: Option<u32>,
}

/// Names a file as long as nobody changes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

static SEEN: LazyLock<Mutex<HashMap<Key, Option<Arc<ExeFacts>>>>> = LazyLock::new(Mutex::default);

/// What the process's executable says; `None` when it may not be read or is no ELF file.
pub(crate) fn read(process: &Process) -> Option<Arc<ExeFacts>> {
    let stat = rustix::fs::statat(process.proc_dir(), "exe", AtFlags::empty()).ok()?;
    let key = Key {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).ok()?,
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
    };
    if let Some(known) = seen().get(&key) {
        return known.clone();
    }
    let file = process.open_exe().ok()?;
    // The process may have exec'd in between; then nothing is remembered.
    let same =
        file.metadata().is_ok_and(|metadata| metadata.ino() == key.inode && metadata.dev() == key.device);
    let facts = Elf::parse(file).ok().map(|elf| Arc::new(ExeFacts::new(&elf)));
    if same {
        let mut seen = seen();
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(key, facts.clone());
    }
    facts
}

fn seen() -> std::sync::MutexGuard<'static, HashMap<Key, Option<Arc<ExeFacts>>>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ExeFacts {
    fn new<S: crate::elf::Source>(elf: &Elf<S>) -> ExeFacts {
        let facts = elf.facts_for_lists();
        // Go and ordinary static programs have no table of exports; a full scan would tell nothing more.
        let look = facts.go.is_none();
        let mut names: Vec<&str> = MARKS.iter().map(|(name, _)| *name).collect();
        names.push("Py_Version");
        let found = if look { elf.exported(&names) } else { HashMap::new() };
        let built_in = MARKS.iter().find(|(name, _)| found.contains_key(name)).map(|(_, language)| *language);
        let python_version = found.get("Py_Version").and_then(|symbol| {
            let (offset, _) = elf.file_offset(symbol.address)?;
            elf.fields(&elf.range(offset, 4)?).u32(0)
        });
        ExeFacts { elf: facts, producer: OnceLock::new(), built_in, python_version }
    }

    /// The language, by what is built in, needed, or by the executable's name.
    pub(crate) fn language(&self, name: &str) -> Option<Language> {
        if self.elf.go.is_some() {
            return Some(Language::Go);
        }
        let needs = |prefix: &str| self.elf.needed.iter().any(|library| library.starts_with(prefix));
        let needed = || match () {
            () if needs("libpython") => Some(Language::Python),
            () if needs("libruby") => Some(Language::Ruby),
            () if needs("libnode.so") => Some(Language::Node),
            () => None,
        };
        // A debugger links the library too; its name decides.
        let own = super::HOSTS.iter().any(|host| name.starts_with(host));
        self.built_in.or_else(|| if own { None } else { needed() }).or_else(|| language_of_name(name))
    }

    /// The version, as far as the executable and its name tell.
    pub(crate) fn version(&self, language: Language, name: &str) -> Option<String> {
        match language {
            Language::Go => {
                self.elf.go.as_ref().map(|go| go.version.clone()).filter(|version| !version.is_empty())
            }
            Language::Python => self.python_version.map(super::python::version_of_hex).or_else(|| {
                let libraries = self.elf.needed.iter().map(String::as_str);
                libraries
                    .chain([name])
                    .find_map(super::python::version_in_name)
                    .map(|(major, minor)| format!("{major}.{minor}"))
            }),
            Language::Ruby | Language::Php => super::versions::digits_in(name),
            _ => None,
        }
    }

    /// Was it compiled with optimisation, by Go's own words?
    pub(crate) fn optimised_go(&self) -> Option<bool> {
        self.elf.go.as_ref().and_then(GoBuild::optimised)
    }

    /// Was it compiled with optimisation? Go's own words first, then the debug information's.
    pub(crate) fn optimised(&self, process: &Process, debug_info: &DebugInfo) -> Option<bool> {
        self.optimised_go().or_else(|| match debug_info {
            DebugInfo::Split(path) => {
                Elf::parse(process.open_in_root(path).ok()?).ok()?.producer()?.optimised
            }
            _ => self.producer(process)?.optimised,
        })
    }

    /// Who compiled it.
    pub(crate) fn producer(&self, process: &Process) -> Option<&Producer> {
        if self.producer.get().is_none() {
            // A process that ends meanwhile must not settle it for the next one.
            let elf = Elf::parse(process.open_exe().ok()?).ok()?;
            return self.producer.get_or_init(|| elf.producer()).as_ref();
        }
        self.producer.get()?.as_ref()
    }

    /// Where the debug information is: in the file, or where gdb's manual ("Separate Debug Files") says it may be.
    pub(crate) fn debug_info(&self, process: &Process, executable: &Path) -> DebugInfo {
        if self.elf.has_debug_info {
            return DebugInfo::Present;
        }
        let found = self.split_files(executable).into_iter().find(|path| process.open_in_root(path).is_ok());
        match found {
            Some(path) => DebugInfo::Split(path),
            None if self.elf.debug_link.is_some() => DebugInfo::Elsewhere(self.elf.debug_link.clone()),
            None => DebugInfo::Absent,
        }
    }

    fn split_files(&self, executable: &Path) -> Vec<PathBuf> {
        const DEBUG: &str = "/usr/lib/debug";
        let by_id = self.elf.build_id.as_deref().and_then(|id| id.split_at_checked(2));
        let by_id =
            by_id.map(|(first, rest)| PathBuf::from(format!("{DEBUG}/.build-id/{first}/{rest}.debug")));
        let folder = executable.parent().unwrap_or(Path::new("/"));
        let below = Path::new(DEBUG).join(folder.strip_prefix("/").unwrap_or(folder));
        let by_link = self.elf.debug_link.iter().flat_map(|name| {
            [folder.join(name), folder.join(".debug").join(name), below.join(name)]
                .into_iter()
                .filter(|path| path != executable)
        });
        by_id.into_iter().chain(by_link).collect()
    }
}

/// The language that an executable's name stands for.
pub(crate) fn language_of_name(name: &str) -> Option<Language> {
    let stem =
        name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.' || letter == '-');
    Some(match stem {
        "python" | "pythont" | "pypy" => Language::Python,
        "java" => Language::Jvm,
        "node" | "nodejs" => Language::Node,
        "ruby" => Language::Ruby,
        "dotnet" => Language::Dotnet,
        "php" | "php-fpm" | "php-cgi" => Language::Php,
        "sh" | "ash" | "bash" | "dash" | "ksh" | "mksh" | "zsh" | "fish" => Language::Shell,
        _ if stem.starts_with("python3") => Language::Python,
        _ => return None,
    })
}
