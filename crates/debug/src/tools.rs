//! Debuggers on this machine: where they are looked for, which versions they are, and how missing ones are installed.
//!
//! The order, first hit wins: the folder in `PEPO_TOOLS`, then `$XDG_DATA_HOME/pepo/tools` (by default
//! `~/.local/share/pepo/tools`), both laid out as `NAME/bin/PROGRAM`; then PATH, where names with a version (`lldb-dap-19`)
//! count too and the newest goes first.

use std::{
    env, fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use pepo_process::runtime::Language;
use pepo_wire::{Code, Failure};

/// The debuggers that can be installed: data.
mod catalog;
/// What programs say of their versions, and remembering it.
mod versions;

pub use catalog::{Entry, Install, System, catalog, entry};

/// What the image of a pod's helper with debuggers is called, unless it is called otherwise.
pub const DEBUGGERS_IMAGE: &str = concat!("pepo.dev/pepo-debuggers:", env!("CARGO_PKG_VERSION"));

/// A version as numbers: "1.27.2" is greater than "1.9".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Vec<u32>);

impl Version {
    /// The first thing in a text that looks like a version with at least two numbers; else a lone number.
    #[must_use]
    pub fn find(text: &str) -> Option<Version> {
        let words = || text.split(|c: char| !c.is_ascii_digit() && c != '.').filter(|word| !word.is_empty());
        let parse = |word: &str| {
            let numbers: Option<Vec<u32>> =
                word.trim_matches('.').split('.').map(|part| part.parse().ok()).collect();
            numbers.filter(|numbers| !numbers.is_empty()).map(Version)
        };
        words()
            .filter(|word| word.trim_matches('.').contains('.'))
            .find_map(parse)
            .or_else(|| words().find_map(parse))
    }

    /// The number at a place; 0 where there is none.
    #[must_use]
    pub fn part(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Major and minor number, to compare with.
    #[must_use]
    pub fn pair(&self) -> (u32, u32) {
        (self.part(0), self.part(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program.
    pub path: PathBuf,
    /// What it says of itself; `None` when it says nothing that is understood.
    pub version: Option<Version>,
    /// The folder it was found in.
    pub folder: PathBuf,
}

impl Tool {
    /// For people.
    #[must_use]
    pub fn version_text(&self) -> String {
        self.version.as_ref().map_or_else(|| "unknown".to_owned(), Version::to_string)
    }
}

/// Where debuggers are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tools {
    /// Toolkit folders, in their order.
    toolkits: Vec<PathBuf>,
    /// The folders of PATH.
    path: Vec<PathBuf>,
    /// They are those of an image, where nothing is installed.
    given: Option<Given>,
    /// Where versions are kept from one command to the next.
    versions: Option<PathBuf>,
}

/// By which image debuggers are where nothing is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// The target's, of which an engine makes helpers.
    Targets,
    /// The helper's own, in a pod.
    Helpers,
}

impl Tools {
    /// As the environment says.
    #[must_use]
    pub fn from_env() -> Tools {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        Tools {
            toolkits: [set("PEPO_TOOLS"), user_toolkit()].into_iter().flatten().collect(),
            path: env::split_paths(&path).filter(|folder| folder.is_absolute()).collect(),
            given: None,
            versions: versions::file(),
        }
    }

    /// The same in a helper container, which has what the target's image has.
    #[must_use]
    pub fn of_image(self) -> Tools {
        Tools { given: Some(Given::Targets), ..self }
    }

    /// The same in a pod's helper, whose image its user chooses.
    #[must_use]
    pub fn of_helper(self) -> Tools {
        Tools { given: Some(Given::Helpers), ..self }
    }

    /// In these folders and nowhere else.
    #[must_use]
    pub fn in_folders(toolkits: Vec<PathBuf>, path: Vec<PathBuf>) -> Tools {
        Tools { toolkits, path, given: None, versions: None }
    }

    /// All folders that are searched for a debugger, in their order.
    #[must_use]
    pub fn searched(&self, debugger: &str) -> Vec<PathBuf> {
        let toolkits = self.toolkits.iter().map(|folder| folder.join(debugger).join("bin"));
        toolkits.chain(self.path.iter().cloned()).collect()
    }

    /// A program by its own name or its debugger's: `dlv` or `delve`, `gdbserver`, `lldb-server`.
    ///
    /// Starts it once to hear its version; what it said is kept as long as the file is the same ([`versions`]).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Tool> {
        let entry = catalog().iter().find(|entry| entry.name == name || entry.programs.contains(&name))?;
        let program = if entry.programs.contains(&name) { name } else { *entry.programs.first()? };
        self.in_toolkits(entry.name, program).or_else(|| self.in_path(program))
    }

    /// As [`Tools::find`]; its absence is a failure that says how to install it.
    ///
    /// # Errors
    /// [`Code::ToolMissing`].
    pub fn need(&self, name: &str) -> Result<Tool, Failure> {
        self.find(name).ok_or_else(|| {
            let debugger = entry(name).map_or(name, |entry| entry.name);
            let folders: Vec<_> =
                self.searched(debugger).iter().map(|folder| folder.display().to_string()).collect();
            let failure = Failure::new(Code::ToolMissing, format!("`{name}` is not installed"))
                .because(format!("looked in {}", folders.join(", ")));
            self.remedy(failure, "install it", debugger)
        })
    }

    /// How a debugger is had that is missing or too old.
    #[must_use]
    pub fn remedy(&self, failure: Failure, words: &str, debugger: &str) -> Failure {
        match self.given {
            None => failure.try_command(words, ["pepo", "tools", "install", debugger]),
            Some(Given::Targets) => failure
                .because("the helper container beside the target has only what the target's image has")
                .hint(format!("put {debugger} into the image"))
                .hint("run Pepo on the engine's machine with CAP_SYS_PTRACE, as root has it: then it uses what is installed there"),
            Some(Given::Helpers) => failure
                .because("the helper in the pod has only what its own image has")
                .hint(format!("name an image with debuggers: --image {DEBUGGERS_IMAGE}, which `cargo xtask image --debuggers` makes"))
                .hint(format!("or any other with sh and {debugger}")),
        }
    }

    fn in_toolkits(&self, debugger: &str, program: &str) -> Option<Tool> {
        let paths = self.toolkits.iter().map(|folder| folder.join(debugger).join("bin").join(program));
        paths.filter(|path| is_program(path)).find_map(|path| self.found(path))
    }

    fn found(&self, path: PathBuf) -> Option<Tool> {
        let folder = path.parent()?.to_owned();
        Some(Tool { version: versions::of(&path, self.versions.as_deref()), path, folder })
    }

    /// The newest of this name, with or without a version in it.
    fn in_path(&self, program: &str) -> Option<Tool> {
        let mut all: Vec<PathBuf> = Vec::new();
        for folder in &self.path {
            let names = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut here: Vec<PathBuf> = names
                .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_named(name, program)))
                .map(|entry| entry.path())
                .filter(|path| is_program(path))
                .collect();
            here.sort();
            all.extend(here);
        }
        let mut tools: Vec<Tool> = all.into_iter().filter_map(|path| self.found(path)).collect();
        // Stable: of equal versions the first in PATH stays the first.
        tools.sort_by(|one, other| other.version.cmp(&one.version));
        tools.into_iter().next()
    }
}

/// Where `pepo tools install` puts debuggers of this user.
#[must_use]
pub fn user_toolkit() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("pepo/tools"))
}

/// The commands that install a debugger here, each with what is added to its environment.
///
/// # Errors
/// [`Code::ToolMissing`] for a name that is not in the catalogue, or when this system has no known way.
pub fn install(name: &str) -> Result<Vec<Install>, Failure> {
    let unknown = || {
        let names: Vec<_> = catalog().iter().map(|entry| entry.name).collect();
        Failure::new(Code::ToolMissing, format!("there is no debugger called `{name}`"))
            .hint(format!("the debuggers are {}", names.join(", ")))
    };
    let entry = entry(name).ok_or_else(unknown)?;
    let system = System::here();
    let ways: Vec<Install> = entry.install.iter().filter(|way| way.system.fits(system)).cloned().collect();
    if ways.is_empty() {
        return Err(Failure::new(
            Code::ToolMissing,
            format!("how `{name}` is installed on this system is not known"),
        )
        .hint(entry.hint.to_owned()));
    }
    Ok(ways)
}

fn is_named(name: &str, program: &str) -> bool {
    let Some(rest) = name.strip_prefix(program) else { return false };
    let version = rest.strip_prefix('-').unwrap_or_default();
    rest.is_empty()
        || (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

/// Languages for people: "C, C++, Rust".
#[must_use]
pub fn languages(languages: &[Language]) -> String {
    let names: Vec<_> = languages.iter().map(|language| language.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(folder: &Path, name: &str, says: &str) {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("GNU gdb (Debian 16.3-1) 16.3", "16.3"),
            ("Delve Debugger\nVersion: 1.27.2\nBuild: $Id: abc1 $", "1.27.2"),
            ("LLVM (http://llvm.org/):\n  LLVM version 19.1.7", "19.1.7"),
            ("lldb version 21", "21"),
        ] {
            assert_eq!(
                Version::find(said).map(|version| version.to_string()).as_deref(),
                Some(version),
                "{said}"
            );
        }
        assert_eq!(Version::find("no digits"), None);
        assert!(Version::find("1.27.2") > Version::find("1.9"));
    }

    #[test]
    fn the_toolkit_goes_before_path_and_the_newest_before_others() {
        let folder = tempfile::tempdir().unwrap();
        let (toolkit, path) = (folder.path().join("kit"), folder.path().join("bin"));
        program(&path, "lldb-dap-14", "LLVM version 14.0.6");
        program(&path, "lldb-dap-19", "LLVM version 19.1.7");
        program(&path, "lldb-dap-helper", "LLVM version 99.0");
        let tools = Tools::in_folders(vec![toolkit.clone()], vec![path.clone()]);
        assert_eq!(tools.find("lldb").unwrap().path, path.join("lldb-dap-19"));
        program(&toolkit.join("lldb/bin"), "lldb-dap", "LLVM version 18.1.0");
        let tool = tools.find("lldb-dap").unwrap();
        assert_eq!((tool.folder.clone(), tool.version_text().as_str()), (toolkit.join("lldb/bin"), "18.1.0"));
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let failure =
            Tools::in_folders(vec!["/kit".into()], vec!["/bin-of-nobody".into()]).need("dlv").unwrap_err();
        assert_eq!(failure.code(), Code::ToolMissing);
        assert_eq!(failure.hints[0].command, ["pepo", "tools", "install", "delve"]);
        assert!(
            failure.why[0].contains("/kit/delve/bin") && failure.why[0].contains("/bin-of-nobody"),
            "{failure:?}"
        );
    }

    #[test]
    fn where_nothing_is_installed_the_image_that_could_have_it_is_named() {
        let none = || Tools::in_folders(Vec::new(), vec!["/bin-of-nobody".into()]);
        let told = |tools: Tools| tools.need("dlv").unwrap_err();
        let hints = |tools: Tools| told(tools).hints.into_iter().map(|hint| hint.text).collect::<Vec<_>>();
        assert_eq!(hints(none().of_image())[0], "put delve into the image");
        let of_helper = hints(none().of_helper());
        assert!(
            of_helper[0].contains(DEBUGGERS_IMAGE) && of_helper[1].contains("sh and delve"),
            "{of_helper:?}"
        );
    }

    #[test]
    fn a_program_that_never_answers_has_no_version() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path(), "gdb", "no version here");
        let tool = Tools::in_folders(Vec::new(), vec![folder.path().to_owned()]).find("gdb").unwrap();
        assert_eq!(tool.version, None);
        assert_eq!(tool.version_text(), "unknown");
    }

    #[test]
    fn every_debugger_can_be_installed_on_debian() {
        for entry in catalog() {
            assert!(entry.install.iter().any(|way| way.system.fits(System::Debian)), "{}", entry.name);
            assert!(!entry.programs.is_empty());
        }
    }
}
