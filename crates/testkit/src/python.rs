//! The Python interpreters of this machine, for the tests that must hold for each of them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::programs::{command, tools};

/// One interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// Major and minor version, e.g. (3, 12).
    pub version: (u32, u32),
    /// The real executable (no shim, no link).
    pub path: PathBuf,
}

/// The oldest and newest versions that are supported.
const SUPPORTED: std::ops::RangeInclusive<(u32, u32)> = (3, 8)..=(3, 14);

/// The interpreters 3.8 to 3.14 of this machine, oldest first, one for each version: from the toolkit folder,
/// pyenv, and `/usr`.
pub fn pythons() -> Vec<Python> {
    static FOUND: OnceLock<Vec<Python>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

impl Python {
    /// The system's own interpreter, or else the newest one found.
    pub fn of_the_system() -> Python {
        let all = pythons();
        let system = all.iter().find(|python| python.path.starts_with("/usr/bin"));
        system.or(all.last()).cloned().expect("this machine has a Python 3.8 to 3.14")
    }

    /// The interpreter of one version, if it is here.
    pub fn of(major: u32, minor: u32) -> Option<Python> {
        pythons().into_iter().find(|python| python.version == (major, minor))
    }
}

fn find() -> Vec<Python> {
    let home = PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let mut folders = vec![PathBuf::from("/usr/bin")];
    folders.extend(bins_below(&home.join(".pyenv/versions"), ""));
    folders.extend(bins_below(&tools(), "python"));
    // Later ones are replaced by earlier ones: the system's own comes first.
    let mut found = BTreeMap::new();
    for path in folders.iter().flat_map(|folder| interpreters(folder)) {
        if let Some(version) = version_of(&path).filter(|version| SUPPORTED.contains(version)) {
            found.entry(version).or_insert(path);
        }
    }
    found.into_iter().map(|(version, path)| Python { version, path }).collect()
}

/// `bin` folders of the folders below `folder` whose names start with `prefix`, in order.
fn bins_below(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut bins: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join("bin"))
        .collect();
    bins.sort();
    bins
}

/// Files called `python3.N` in a `bin` folder, without links.
fn interpreters(bin: &Path) -> Vec<PathBuf> {
    let named = |name: &str| name.strip_prefix("python3.").is_some_and(|minor| minor.parse::<u32>().is_ok());
    let mut paths: Vec<_> = fs::read_dir(bin)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| named(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| entry.path().canonicalize().ok())
        .collect();
    paths.sort();
    paths
}

/// What the interpreter itself says, so that a broken one is not listed.
fn version_of(path: &Path) -> Option<(u32, u32)> {
    let output = command(path)
        .args(["-SEc", "import sys; print(*sys.version_info[:2])"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
