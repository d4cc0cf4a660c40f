//! Versions of the runtimes that are neither Go nor Python.

use std::{io::Read as _, path::Path, sync::LazyLock};

use regex::{Regex, bytes};

use super::{Language, Module, RuntimeFacts};
use crate::{
    Process,
    elf::{CHUNK, Elf, Source},
    maps::Map,
};

/// Most bytes of Node's constants that are searched.
const MOST: u64 = 96 << 20;

/// The version of a runtime, by the files it is mapped from.
pub(crate) fn of(
    language: Language,
    process: &Process,
    maps: &[Map],
    facts: &RuntimeFacts,
) -> Option<String> {
    let mapped =
        |prefix: &str| maps.iter().filter_map(Map::file).find(|path| file_name(path).starts_with(prefix));
    match language {
        Language::Jvm => jvm(process, mapped("libjvm.so")?),
        // …/shared/Microsoft.NETCore.App/8.0.3/libcoreclr.so
        Language::Dotnet => digits_in(file_name(mapped("libcoreclr.so")?.parent()?)),
        // libruby-3.1.so.3.1.2
        Language::Ruby => mapped("libruby")
            .and_then(|path| digits_in(file_name(path).rsplit(".so.").next()?))
            .or(facts.version.clone()),
        Language::Node => node(process, maps, facts),
        _ => facts.version.clone(),
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The first numbers with dots between them: `php8.2` has 8.2.
pub(crate) fn digits_in(text: &str) -> Option<String> {
    static NUMBERS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[0-9]+(?:\.[0-9]+)+").expect("a constant pattern that a test uses"));
    Some(NUMBERS.find(text)?.as_str().to_owned())
}

/// `JAVA_VERSION="17.0.15"` in the file `release` of the runtime's home, two folders above `lib/server/libjvm.so`.
fn jvm(process: &Process, library: &Path) -> Option<String> {
    let home = library.parent()?.parent()?.parent()?;
    let mut text = String::new();
    process.open_in_root(home.join("release")).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
    java_version(&text)
}

fn java_version(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    Some(value.trim().trim_matches('"').to_owned()).filter(|value| !value.is_empty())
}

/// Node keeps its version as the constant "v20.20.2", and in the address of its own header files.
fn node(process: &Process, maps: &[Map], facts: &RuntimeFacts) -> Option<String> {
    let library = Module::find(process, maps, |path| file_name(path).starts_with("libnode.so"));
    let elf = match library {
        Some(library) => library.open(process)?,
        None => Module::find(process, maps, |path| path == facts.executable)?.open(process)?,
    };
    node_in_constants(&elf)
}

fn node_in_constants<S: Source>(elf: &Elf<S>) -> Option<String> {
    let pattern =
        bytes::Regex::new(r"(?-u)(?:node-v|\x00v)([0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2})[-\x00]").ok()?;
    let section = elf.section_named(".rodata")?;
    for start in (0..section.size.min(MOST)).step_by(CHUNK as usize) {
        let bytes = elf.up_to(section.offset.checked_add(start)?, (CHUNK + 64).min(section.size - start))?;
        if let Some(found) = pattern.captures(&bytes).and_then(|found| found.get(1)) {
            return Some(String::from_utf8_lossy(found.as_bytes()).into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_names_and_files() {
        for (text, version) in
            [("libruby-3.1.so.3.1", "3.1"), ("php8.2", "8.2"), ("8.0.3", "8.0.3"), ("php-fpm8.4.1", "8.4.1")]
        {
            assert_eq!(digits_in(text).as_deref(), Some(version));
        }
        assert_eq!(digits_in("ruby"), None);
        let release = "IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\nJAVA_VERSION_DATE=\"2025-04-15\"\n";
        assert_eq!(java_version(release).as_deref(), Some("17.0.15"));
        assert_eq!(java_version("JAVA_VERSION=\"\"\n"), None);
    }
}
