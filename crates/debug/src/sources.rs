//! The source files a program was made of, as its debug information or its interpreter names them, so that the user's side can
//! match them with files of its own. A help, not a promise: what is too large or too odd is left out.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use gimli::{
    AttributeValue, DebugLine, DebugLineOffset, DebugLineStr, DebugStr, DwarfSections, EndianSlice,
    LineProgramHeader, LittleEndian, SectionId,
};
use object::{Object as _, ObjectSection as _, ReadCache};
use pepo_process::{
    Process,
    runtime::{DebugInfo, Language, RuntimeFacts},
};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};

/// The most names that are told.
const MOST: usize = 20_000;
/// The most bytes of debug information that are read: the agent stays small.
const MAX_DEBUG_INFO: u64 = 32 << 20;
/// The most folders and files of a script's folder that are looked at.
const MAX_ENTRIES: usize = 5_000;
/// How deep below a script's folder is looked.
const DEPTH: usize = 6;

/// How a folder is opened to be listed.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// In bytes; what is read here has no addresses.
const ADDRESS_SIZE: u8 = 8;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The source files of a process, sorted, as the target sees them.
#[must_use]
pub fn of(process: &Process, runtime: &RuntimeFacts) -> Vec<String> {
    let names = match runtime.language {
        Language::Python => scripts(process),
        _ => debug_file(process, runtime).and_then(|file| compiled(file).ok()).unwrap_or_default(),
    };
    names.into_iter().take(MOST).collect()
}

/// Where the debug information is.
fn debug_file(process: &Process, runtime: &RuntimeFacts) -> Option<File> {
    match &runtime.debug_info {
        DebugInfo::Split(path) => process.open_in_root(path).ok(),
        DebugInfo::Brought(path) => File::open(path).ok(),
        _ => process.open_exe().ok(),
    }
}

/// The file tables of all line programs.
fn compiled(file: File) -> io::Result<BTreeSet<String>> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(io::Error::other)?;
    let size: u64 = elf
        .sections()
        .filter(|one| one.name().is_ok_and(|name| name.starts_with(".debug_")))
        .map(|one| one.size())
        .sum();
    if size > MAX_DEBUG_INFO {
        return Ok(BTreeSet::new());
    }
    // Compressed sections cost processor time while the debugger starts: the units are read only where tables need them.
    match of_tables(&elf) {
        Some(names) => Ok(names),
        None => of_units(&elf),
    }
}

type Elf<'a> = object::File<'a, &'a ReadCache<File>>;

/// A section's bytes; none when it is missing or cannot be read.
fn section<'a>(elf: &Elf<'a>, id: SectionId) -> Cow<'a, [u8]> {
    elf.section_by_name(id.name()).and_then(|one| one.uncompressed_data().ok()).unwrap_or_default()
}

/// From the line programs alone, which since version 5 of DWARF (6.2.4) name the folder of their unit too; `None` when one is
/// older.
fn of_tables(elf: &Elf<'_>) -> Option<BTreeSet<String>> {
    let ids = [SectionId::DebugLine, SectionId::DebugLineStr, SectionId::DebugStr];
    let [lines, line_texts, texts] = ids.map(|id| section(elf, id));
    let line_texts = DebugLineStr::from(EndianSlice::new(&line_texts, LittleEndian));
    let texts = DebugStr::from(EndianSlice::new(&texts, LittleEndian));
    let text = |value| match value {
        AttributeValue::String(text) => Some(text),
        AttributeValue::DebugLineStrRef(at) => line_texts.get_str(at).ok(),
        AttributeValue::DebugStrRef(at) => texts.get_str(at).ok(),
        _ => None,
    };
    let programs = DebugLine::new(&lines, LittleEndian);
    let (mut names, mut at) = (BTreeSet::new(), 0);
    while at < lines.len() && names.len() < MOST {
        let program = programs.program(DebugLineOffset(at), ADDRESS_SIZE, None, None).ok()?;
        let header = program.header();
        if header.version() < 5 {
            return None;
        }
        let base = header.include_directories().first().copied().and_then(text)?;
        add_files(header, &base, text, &mut names);
        at = at.checked_add(header.unit_length() + usize::from(header.format().initial_length_size()))?;
    }
    Some(names)
}

/// From the units, each of which names its folder.
fn of_units(elf: &Elf<'_>) -> io::Result<BTreeSet<String>> {
    let naming = [
        SectionId::DebugAbbrev,
        SectionId::DebugInfo,
        SectionId::DebugLine,
        SectionId::DebugLineStr,
        SectionId::DebugStr,
        SectionId::DebugStrOffsets,
    ];
    let load = |id| -> io::Result<Cow<'_, [u8]>> {
        Ok(if naming.contains(&id) { section(elf, id) } else { Cow::default() })
    };
    let sections = DwarfSections::load(load)?;
    let dwarf = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
    let (mut names, mut units) = (BTreeSet::new(), dwarf.units());
    while let Ok(Some(header)) = units.next()
        && names.len() < MOST
    {
        if let Ok(unit) = dwarf.unit(header)
            && let Some(program) = &unit.line_program
        {
            let text = |value| dwarf.attr_string(&unit, value).ok();
            add_files(program.header(), &unit.comp_dir.unwrap_or_default(), text, &mut names);
        }
    }
    Ok(names)
}

fn add_files<'a>(
    header: &LineProgramHeader<Slice<'a>>,
    base: &Slice<'a>,
    text: impl Fn(AttributeValue<Slice<'a>>) -> Option<Slice<'a>>,
    names: &mut BTreeSet<String>,
) {
    let base = base.to_string_lossy();
    for file in header.file_names() {
        let Some(name) = text(file.path_name()) else { continue };
        let folder = file.directory(header).and_then(&text).unwrap_or_default();
        let path = Path::new(&*base).join(&*folder.to_string_lossy()).join(&*name.to_string_lossy());
        if path.is_absolute()
            && let Some(path) = path.to_str()
            && names.len() < MOST
        {
            names.insert(path.to_owned());
        }
    }
}

/// The script on the command line and the modules in its folder, read through the target's own root.
fn scripts(process: &Process) -> BTreeSet<String> {
    let words = process.command_line().unwrap_or_default();
    let Some(script) = words.iter().skip(1).find(|word| word.ends_with(".py")) else {
        return BTreeSet::new();
    };
    let cwd = std::fs::read_link(process.proc_path().join("cwd")).unwrap_or_else(|_| "/".into());
    let script = cwd.join(script);
    let mut names = BTreeSet::from([script.to_string_lossy().into_owned()]);
    if let Some(folder) = script.parent().filter(|folder| folder.parent().is_some())
        && let Ok(root) = rustix::fs::open(
            process.proc_path().join("root"),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )
        && let Ok(opened) = rustix::fs::openat2(
            &root,
            folder,
            FOLDER,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    {
        let mut left = MAX_ENTRIES;
        walk(opened, folder, DEPTH, &mut left, &mut names);
    }
    names
}

/// Adds the `.py` files below `folder`; links are not followed, so nothing outside the target's root is seen.
fn walk(opened: OwnedFd, folder: &Path, depth: usize, left: &mut usize, names: &mut BTreeSet<String>) {
    let Ok(entries) = Dir::read_from(&opened) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let path = folder.join(name);
        match entry.file_type() {
            FileType::Directory if depth > 0 && name != "." && name != ".." => {
                if let Ok(below) = rustix::fs::openat(&opened, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
                {
                    walk(below, &path, depth - 1, left, names);
                }
            }
            FileType::RegularFile if path.extension().is_some_and(|ending| ending == "py") => {
                names.insert(path.to_string_lossy().into_owned());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pepo_process::{AgentPid, runtime};
    use pepo_testkit::{Fixture, Life as _, Variant, fixtures, spawn};

    fn check(fixture: &Fixture) {
        let target = spawn(fixture, &[]);
        let process = Process::open(AgentPid::new(target.pid()).unwrap()).unwrap();
        let names = of(&process, &runtime::detect(&process));
        let wanted = fixture.source.to_str().unwrap().to_owned();
        assert!(names.contains(&wanted), "{wanted} is not among {} names: {names:?}", names.len());
    }

    #[test]
    fn the_source_of_every_language_is_named() {
        let debug = Variant::debug();
        for fixture in [
            fixtures::c(debug),
            fixtures::cpp(debug),
            fixtures::rust(debug),
            fixtures::go(debug),
            fixtures::python(debug),
        ] {
            check(&fixture);
        }
    }
}
