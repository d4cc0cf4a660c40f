//! What kind of program a process runs: language, version, C library, debug information.
//!
//! Judged by what is mapped and by what the ELF files say, never by running anything. What an executable says is kept by
//! device, inode, size and time of change, so that a list of a thousand processes reads each program once.

/// What an executable says, kept for the next process that runs it.
pub mod exe;

/// Files that are mapped, and addresses in them.
pub mod module;

/// What it was told at its start.
pub mod options;

/// CPython: its version and where it is.
pub mod python;

/// Versions of the other runtimes.
mod versions;

use std::{fmt, path::PathBuf, sync::Arc};

use pepo_wire::{Code, Failure, FailureExt as _};

use crate::{
    Process,
    elf::go::GoBuild,
    error::ProcessError,
    maps::Map,
    permits::{DAC_OVERRIDE, DAC_READ_SEARCH, Judge, Roots},
};

pub use crate::elf::Libc;
pub use exe::ExeFacts;
pub use module::Module;
pub use python::PythonFacts;

/// What a program is written in, as far as a debugger cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// C, C++, Rust and the like.
    #[default]
    Native,
    /// Go.
    Go,
    /// CPython.
    Python,
    /// A Java virtual machine.
    Jvm,
    /// Node.
    Node,
    /// Ruby.
    Ruby,
    /// .NET.
    Dotnet,
    /// PHP.
    Php,
    /// A shell, which runs a script or waits for commands.
    Shell,
}

impl Language {
    /// As it is called on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Language::Native => "native",
            Language::Go => "go",
            Language::Python => "python",
            Language::Jvm => "jvm",
            Language::Node => "node",
            Language::Ruby => "ruby",
            Language::Dotnet => "dotnet",
            Language::Php => "php",
            Language::Shell => "shell",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Is there debug information, and where?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DebugInfo {
    /// In the executable itself.
    Present,
    /// In a file of its own, found in the target's root at this path.
    Split(PathBuf),
    /// In a file of its own, which the user's side brought to this path beside the target.
    Brought(PathBuf),
    /// In a file of its own, of this name or for the build id, which is not in the target's root.
    Elsewhere(Option<String>),
    /// The executable has been stripped of it, or never had any.
    Absent,
    /// The executable could not be read.
    #[default]
    Unknown,
}

impl DebugInfo {
    /// Can a debugger find it without help?
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self, DebugInfo::Present | DebugInfo::Split(_) | DebugInfo::Brought(_))
    }
}

/// What kind of program a process runs. What could not be read stays at its default.
#[derive(Clone, Debug, Default)]
pub struct RuntimeFacts {
    /// Its language.
    pub language: Language,
    /// The runtime's or compiler's version: "3.12.4", "1.26.8".
    pub version: Option<String>,
    /// The C library.
    pub libc: Libc,
    /// Where the debug information is.
    pub debug_info: DebugInfo,
    /// Was it compiled with optimisation? `None` when it cannot be told.
    pub optimised: Option<bool>,
    /// Without its full symbol table?
    pub stripped: bool,
    /// GNU build id of the executable, lower-case hexadecimal.
    pub build_id: Option<String>,
    /// Path of the executable as the target sees it.
    pub executable: PathBuf,
    /// What Go's linker wrote; for Go.
    pub go: Option<GoBuild>,
    /// Where the interpreter is; for Python.
    pub python: Option<PythonFacts>,
    /// Everything the executable says; `None` when it could not be read.
    pub exe: Option<Arc<ExeFacts>>,
    /// Why it could not be read.
    pub unread: Option<Failure>,
}

/// Looks at a process and says what it runs. What cannot be read is left out; see [`crate::permits`] for why.
#[must_use]
pub fn detect(process: &Process) -> RuntimeFacts {
    let maps = process.maps().unwrap_or_default();
    let mut facts = detect_by_exe(process);
    if facts.exe.is_none() {
        facts.unread = process.open_exe().err().and_then(|error| unread(process, &facts, &error));
    }
    if let Some(language) = language_of_maps(&maps, &facts) {
        facts.language = language;
    }
    facts.libc = libc_of_maps(&maps).unwrap_or(facts.libc);
    match facts.language {
        Language::Python => {
            facts.python = python::find(process, &maps, &facts);
            facts.version = facts.python.as_ref().map(|python| python.version.clone());
        }
        Language::Native | Language::Go | Language::Shell => {}
        language => facts.version = versions::of(language, process, &maps, &facts),
    }
    if let Some(exe) = facts.exe.clone() {
        facts.debug_info = exe.debug_info(process, &facts.executable);
        facts.optimised = exe.optimised(process, &facts.debug_info);
    }
    facts
}

/// As [`detect`], by the executable alone: for lists. Runtimes that come only as a library into another program are missed.
#[must_use]
pub fn detect_by_exe(process: &Process) -> RuntimeFacts {
    let path = process.exe_path().unwrap_or_default();
    let name = file_name(&path).unwrap_or_default();
    let Some(exe) = exe::read(process) else {
        // Without the right to look at the executable only names are left.
        return RuntimeFacts {
            language: language_by_names(process, &name),
            executable: path,
            ..RuntimeFacts::default()
        };
    };
    let language = exe.language(&name).unwrap_or(Language::Native);
    RuntimeFacts {
        language,
        version: exe.version(language, &name),
        libc: exe.elf.libc,
        debug_info: if exe.elf.has_debug_info { DebugInfo::Present } else { DebugInfo::Absent },
        optimised: exe.optimised_go(),
        stripped: !exe.elf.has_symtab,
        build_id: exe.elf.build_id.clone(),
        executable: path,
        go: exe.elf.go.clone(),
        python: None,
        exe: Some(exe),
        unread: None,
    }
}

/// Whose file it is, and what would open it.
fn unread(process: &Process, facts: &RuntimeFacts, error: &ProcessError) -> Option<Failure> {
    if error.is_gone() {
        return None;
    }
    let pid = process.pid();
    let cause = error.failure();
    let what = format!("the executable of process {pid}, {}, cannot be read", facts.executable.display());
    let mut failure = Failure { why: cause.why.clone(), ..Failure::new(cause.code(), what) };
    if cause.code() != Code::FileDenied {
        return Some(failure);
    }
    if let Ok(stat) = rustix::fs::statat(process.proc_dir(), "exe", rustix::fs::AtFlags::empty()) {
        let mode = stat.st_mode & 0o7777;
        failure =
            failure.because(format!("it belongs to {}:{}, with mode {mode:04o}", stat.st_uid, stat.st_gid));
    }
    let own = Judge::new(&Roots::default()).own;
    Some(if own.has(DAC_OVERRIDE) || own.has(DAC_READ_SEARCH) {
        failure.hint("its file system keeps it from root (FUSE without allow_other, NFS with root_squash): allow it there, or copy the program to another")
    } else {
        let command = ["sudo".to_owned(), "pepo".into(), "check".into(), format!("pid/{pid}")];
        failure
            .try_command("run Pepo with CAP_DAC_READ_SEARCH, as root has it", command)
            .hint("in a helper container: --cap-add DAC_READ_SEARCH")
    })
}

/// By the process's own name and first argument.
fn language_by_names(process: &Process, exe_name: &str) -> Language {
    let first = process.command_line().ok().and_then(|line| line.into_iter().next()).unwrap_or_default();
    let first = file_name(std::path::Path::new(&first)).unwrap_or_default();
    let name = process.stat().map(|stat| stat.name).unwrap_or_default();
    [exe_name, &first, &name].into_iter().find_map(exe::language_of_name).unwrap_or_default()
}

/// By the libraries that are mapped; `None` keeps what the executable said.
fn language_of_maps(maps: &[Map], facts: &RuntimeFacts) -> Option<Language> {
    if facts.language != Language::Native && facts.language != Language::Shell {
        return None;
    }
    // Debuggers and editors have an interpreter inside, but are not written in it.
    if file_name(&facts.executable).is_some_and(|name| HOSTS.iter().any(|host| name.starts_with(host))) {
        return None;
    }
    maps.iter().filter_map(Map::file_name).find_map(|name| {
        let is = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.contains(".so"));
        match () {
            () if is("libjvm") => Some(Language::Jvm),
            () if is("libpython") => Some(Language::Python),
            () if is("libcoreclr") => Some(Language::Dotnet),
            () if is("libnode") => Some(Language::Node),
            () if is("libruby") => Some(Language::Ruby),
            () if is("libphp") => Some(Language::Php),
            () => None,
        }
    })
}

/// Programs that have an interpreter inside for their own scripts.
const HOSTS: &[&str] =
    &["gdb", "lldb", "vim", "nvim", "weechat", "libreoffice", "soffice", "blender", "postgres", "perf"];

fn libc_of_maps(maps: &[Map]) -> Option<Libc> {
    maps.iter().filter_map(Map::file_name).find_map(|name| match () {
        () if name.starts_with("ld-musl") || name.starts_with("libc.musl") => Some(Libc::Musl),
        () if name == "libc.so.6" || name.starts_with("ld-linux") || name.starts_with("libc-2.") => {
            Some(Libc::Glibc)
        }
        () => None,
    })
}

fn file_name(path: &std::path::Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
