//! CPython: its version and where it is.
//!
//! Up to 3.10 no exported datum says the version; it stands in file names and as text in the interpreter's constants. From
//! 3.11 on `Py_Version` is exported, in the form of PY_VERSION_HEX ("API and ABI Versioning" in Python's C API reference).

use std::path::Path;

use regex::bytes::Regex;

use super::{Module, RuntimeFacts};
use crate::{
    Process,
    elf::{CHUNK, Elf, Source},
    maps::Map,
};

/// Most bytes of constants that are searched for the version.
const MOST: u64 = 16 << 20;

/// Where CPython is in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonFacts {
    /// As exactly as it is known: "3.12.4", or "3.12".
    pub version: String,
    /// 3.
    pub major: u32,
    /// 8 to 14 are the ones that can be debugged.
    pub minor: u32,
    /// The third number, if it could be found out.
    pub patch: Option<u32>,
    /// The file that the interpreter is in: libpython or the executable.
    pub module: Module,
    /// Address of `_PyRuntime` in the process.
    pub runtime_address: u64,
    /// Built without the global interpreter lock.
    pub free_threaded: bool,
}

/// Finds the interpreter in a process.
pub(crate) fn find(process: &Process, maps: &[Map], facts: &RuntimeFacts) -> Option<PythonFacts> {
    let is_library = |path: &Path| {
        name(path).is_some_and(|name| name.starts_with("libpython") && version_in_name(name).is_some())
    };
    let module = Module::find(process, maps, is_library)
        .or_else(|| Module::find(process, maps, |path| path == facts.executable))?;
    let elf = module.open(process)?;
    let symbols = elf.symbols(&["_PyRuntime", "Py_Version"]);
    // Exported by all versions from 3.7 on: where it is missing the interpreter is not, or not yet loaded.
    let runtime_address = symbols.get("_PyRuntime")?.address.wrapping_add(module.bias);
    let exact =
        symbols.get("Py_Version").and_then(|symbol| number_at(&elf, symbol.address)).map(parts_of_hex);
    let (major, minor) =
        exact.map(|(major, minor, _)| (major, minor)).or_else(|| by_names(maps, facts, &module))?;
    let patch = exact.map(|(_, _, patch)| patch).or_else(|| patch_in_constants(&elf, major, minor));
    let version = match patch {
        Some(patch) => format!("{major}.{minor}.{patch}"),
        None => format!("{major}.{minor}"),
    };
    let free_threaded = is_free_threaded(process, runtime_address, &module, minor);
    Some(PythonFacts { version, major, minor, patch, module, runtime_address, free_threaded })
}

/// Major and minor version by the names of files: the interpreter's, and those of its extension modules.
fn by_names(maps: &[Map], facts: &RuntimeFacts, module: &Module) -> Option<(u32, u32)> {
    let own = [module.path.as_path(), facts.executable.as_path()]
        .into_iter()
        .filter_map(name)
        .find_map(version_in_name);
    own.or_else(|| maps.iter().filter_map(Map::file_name).find_map(version_of_extension))
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// `libpython3.12.so.1.0`, `python3.8`, `python3.13t`.
pub(crate) fn version_in_name(name: &str) -> Option<(u32, u32)> {
    let rest = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python")?;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `_json.cpython-38-x86_64-linux-gnu.so`.
fn version_of_extension(name: &str) -> Option<(u32, u32)> {
    let (_, rest) = name.split_once(".cpython-")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let (major, minor) = digits.split_at_checked(1)?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// PY_VERSION_HEX in three numbers.
fn parts_of_hex(hex: u32) -> (u32, u32, u32) {
    (hex >> 24, hex >> 16 & 0xff, hex >> 8 & 0xff)
}

/// PY_VERSION_HEX as a person writes it.
pub(crate) fn version_of_hex(hex: u32) -> String {
    let (major, minor, patch) = parts_of_hex(hex);
    format!("{major}.{minor}.{patch}")
}

fn number_at<S: Source>(elf: &Elf<S>, address: u64) -> Option<u32> {
    let (offset, _) = elf.file_offset(address)?;
    elf.fields(&elf.range(offset, 4)?).u32(0)
}

/// The third number: the constant PY_VERSION, "3.8.18" before a NUL byte. Linkers let it share the end of a longer text.
fn patch_in_constants<S: Source>(elf: &Elf<S>, major: u32, minor: u32) -> Option<u32> {
    let section = elf.section_named(".rodata")?;
    let pattern =
        Regex::new(&format!(r"(?-u)[^0-9.]{major}\.{minor}\.([0-9]{{1,3}})(?:(?:a|b|rc)[0-9]+)?\+?\x00"))
            .ok()?;
    for start in (0..section.size.min(MOST)).step_by(CHUNK as usize) {
        let bytes = elf.up_to(section.offset.checked_add(start)?, (CHUNK + 64).min(section.size - start))?;
        if let Some(found) = pattern.captures(&bytes).and_then(|found| found.get(1)) {
            return std::str::from_utf8(found.as_bytes()).ok()?.parse().ok();
        }
    }
    None
}

/// From 3.13 on `_PyRuntime` begins with a cookie, the version, and whether the build has no lock (`_Py_DebugOffsets`).
fn is_free_threaded(process: &Process, runtime: u64, module: &Module, minor: u32) -> bool {
    if minor < 13 {
        return false;
    }
    let by_name = || name(&module.path).is_some_and(|name| name.contains(&format!("3.{minor}t")));
    let by_memory = || {
        let mut head = [0; 24];
        process.memory().ok()?.read_at(runtime, &mut head).ok()?;
        head.starts_with(b"xdebugpy").then(|| head[16..].iter().any(|&byte| byte != 0))
    };
    by_memory().unwrap_or_else(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_tell_the_minor_version() {
        for (name, version) in [
            ("libpython3.12.so.1.0", Some((3, 12))),
            ("libpython3.8.so", Some((3, 8))),
            ("libpython3.13t.so.1.0", Some((3, 13))),
            ("python3.10", Some((3, 10))),
            ("python3", None),
            ("libpython3.so", None),
            ("python", None),
        ] {
            assert_eq!(version_in_name(name).filter(|(major, _)| *major == 3), version, "{name}");
        }
        assert_eq!(version_of_extension("_json.cpython-38-x86_64-linux-gnu.so"), Some((3, 8)));
        assert_eq!(version_of_extension("_json.cpython-314t-x86_64-linux-gnu.so"), Some((3, 14)));
        assert_eq!(version_of_extension("libz.so.1"), None);
        assert_eq!(version_of_hex(0x030c_04f0), "3.12.4");
    }
}
