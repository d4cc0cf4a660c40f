//! Names for addresses, from the bytes of an ELF file: DWARF with functions that were compiled into others, Go's own table,
//! and the symbol table, in this order.

/// Mangled names as they were written.
mod demangle;
/// Go's table of functions and lines, which no `strip` removes.
mod go;

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use gimli::{EndianArcSlice, RunTimeEndian};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use pepo_wire::agent::WantedSymbols;

use self::{demangle::demangled, go::GoTable};

type Reader = EndianArcSlice<RunTimeEndian>;

/// The most symbols that are kept of one file.
const MAX_SYMBOLS: usize = 4_000_000;
/// The largest section that is read, in bytes, as it is when unpacked.
const MAX_SECTION: u64 = 2 << 30;

/// Why a file has no symbols for us.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// It is not an ELF file, or a damaged one.
    #[error("{what} is not a readable ELF file")]
    NotElf {
        /// Which of the files.
        what: &'static str,
        /// What the reader says.
        #[source]
        source: object::Error,
    },
    /// It is another build than the one that ran.
    #[error("{what} is another build: its id is {found}, not {wanted}")]
    OtherBuild {
        /// Which of the files.
        what: &'static str,
        /// The id in the file.
        found: String,
        /// The id of what ran.
        wanted: String,
    },
}

/// The symbols of one module.
pub struct Symbols {
    dwarf: Option<addr2line::Context<Reader>>,
    go: Option<GoTable>,
    /// Sorted by address.
    table: Vec<Symbol>,
}

struct Symbol {
    address: u64,
    size: u64,
    name: String,
}

/// A function at a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Demangled; empty when unknown.
    pub function: String,
    /// Empty when unknown.
    pub file: String,
    /// 0 when unknown.
    pub line: u32,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols")
            .field("dwarf", &self.dwarf.is_some())
            .field("go", &self.go.is_some())
            .field("table", &self.table.len())
            .finish()
    }
}

impl Symbols {
    /// Reads what `program` has, and what the debug file split from it has. `build_id` is that of what ran; empty when it is not
    /// known, and then nothing is compared.
    ///
    /// # Errors
    /// When a file is no ELF file or another build. A file without symbols is no error: it names nothing.
    pub fn read(program: &[u8], debug: Option<&[u8]>, build_id: &str) -> Result<Symbols, SymbolError> {
        let program = parse("the program", program, build_id)?;
        let debug = debug.map(|bytes| parse("the debug file", bytes, build_id)).transpose()?;
        let mut table = symbols(&program);
        table.extend(debug.iter().flat_map(symbols));
        table.sort_by(|a, b| (a.address, b.size, &a.name).cmp(&(b.address, a.size, &b.name)));
        table.dedup_by_key(|symbol| symbol.address);
        let dwarf = debug.as_ref().and_then(dwarf).or_else(|| dwarf(&program));
        Ok(Symbols { dwarf, go: GoTable::find(&program), table })
    }

    /// Is there DWARF?
    #[must_use]
    pub fn has_debug_info(&self) -> bool {
        self.dwarf.is_some()
    }

    /// Is there a line for at least some address?
    #[must_use]
    pub fn has_lines(&self) -> bool {
        self.dwarf.is_some() || self.go.is_some()
    }

    /// The frames that stand for an address, innermost first; empty when nothing is known.
    #[must_use]
    pub fn frames(&self, address: u64) -> Vec<Named> {
        let mut frames = self.by_dwarf(address);
        let outermost_unnamed = frames.last().is_none_or(|frame| frame.function.is_empty());
        if outermost_unnamed && let Some(go) = &self.go {
            let named = go.lookup(address);
            if !named.is_empty() {
                return named;
            }
        }
        if outermost_unnamed && let Some(name) = self.by_table(address) {
            match frames.last_mut() {
                Some(outermost) => outermost.function = name,
                None => frames.push(Named { function: name, ..Named::default() }),
            }
        }
        frames.retain(|frame| *frame != Named::default());
        frames
    }

    fn by_dwarf(&self, address: u64) -> Vec<Named> {
        guarded(|| self.by_dwarf_unguarded(address)).unwrap_or_default()
    }

    fn by_dwarf_unguarded(&self, address: u64) -> Vec<Named> {
        let Some(dwarf) = &self.dwarf else { return Vec::new() };
        let Ok(mut found) = dwarf.find_frames(address).skip_all_loads() else { return Vec::new() };
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = found.next() {
            let function =
                frame.function.and_then(|function| function.raw_name().map(|name| demangled(&name)).ok());
            let location = frame.location;
            frames.push(Named {
                function: function.unwrap_or_default(),
                file: location.as_ref().and_then(|at| at.file).unwrap_or_default().to_owned(),
                line: location.and_then(|at| at.line).unwrap_or(0),
            });
        }
        frames
    }

    fn by_table(&self, address: u64) -> Option<String> {
        let after = self.table.partition_point(|symbol| symbol.address <= address);
        let symbol = self.table.get(after.checked_sub(1)?)?;
        // A symbol of size 0 (hand-written assembly) reaches up to the next one.
        (symbol.size == 0 || address - symbol.address < symbol.size).then(|| demangled(&symbol.name))
    }
}

fn parse<'d>(what: &'static str, bytes: &'d [u8], build_id: &str) -> Result<object::File<'d>, SymbolError> {
    let file = object::File::parse(bytes).map_err(|source| SymbolError::NotElf { what, source })?;
    let found = self::build_id(&file);
    if build_id.is_empty() || found == build_id {
        return Ok(file);
    }
    Err(SymbolError::OtherBuild { what, found, wanted: build_id.to_owned() })
}

/// Lower-case hex; empty when there is none.
fn build_id(file: &object::File<'_>) -> String {
    file.build_id().ok().flatten().map(hex).unwrap_or_default()
}

fn has_debug_info(file: &object::File<'_>) -> bool {
    file.section_by_name(".debug_info").is_some_and(|section| section.size() > 0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn symbols(file: &object::File<'_>) -> Vec<Symbol> {
    let all = file.symbols().chain(file.dynamic_symbols());
    let functions = all.filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.address() != 0);
    let named = functions.filter_map(|symbol| {
        let name = symbol.name().ok().filter(|name| !name.is_empty())?.to_owned();
        Some(Symbol { address: symbol.address(), size: symbol.size(), name })
    });
    named.take(MAX_SYMBOLS).collect()
}

fn dwarf(file: &object::File<'_>) -> Option<addr2line::Context<Reader>> {
    has_debug_info(file).then_some(())?;
    let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let load = |section: gimli::SectionId| -> Result<Reader, gimli::Error> {
        let section = file.section_by_name(section.name());
        let data = section.and_then(|section| unpacked(&section)).unwrap_or_default();
        Ok(EndianArcSlice::new(Arc::from(data.as_ref()), endian))
    };
    guarded(|| addr2line::Context::from_dwarf(gimli::Dwarf::load(load).ok()?).ok())?
}

/// The reader of DWARF is not ours, and the files come from the target: where it panics, nothing has a name.
fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

/// The bytes of a section. What it says of its size when unpacked is not believed beyond a limit.
fn unpacked<'d>(section: &object::Section<'d, '_>) -> Option<Cow<'d, [u8]>> {
    let data = section.compressed_data().ok()?;
    if data.uncompressed_size > MAX_SECTION {
        return None;
    }
    data.decompress().ok()
}

/// What the debug file split from a program is known by; empty where it names none.
#[must_use]
pub fn debug_file_of(program: &[u8]) -> WantedSymbols {
    let Ok(file) = object::File::parse(program) else { return WantedSymbols::default() };
    let link = file.gnu_debuglink().ok().flatten();
    let link = link.map(|(link, sum)| (String::from_utf8_lossy(link).into_owned(), sum));
    // A name, never a way out of a folder.
    let (debug_link, debug_link_crc) =
        link.filter(|(link, _)| !link.contains('/') && link != "..").unwrap_or_default();
    WantedSymbols { path: String::new(), build_id: build_id(&file), debug_link, debug_link_crc }
}

/// Is it the debug file that is wanted: does it hold debug information, and is it of the same build, or where no build id is known, has
/// it the checksum?
#[must_use]
pub fn is_debug_file(bytes: &[u8], wanted: &WantedSymbols) -> bool {
    let Ok(file) = object::File::parse(bytes) else { return false };
    let is_same = if wanted.build_id.is_empty() {
        let mut sum = flate2::Crc::new();
        sum.update(bytes);
        !wanted.debug_link.is_empty() && sum.sum() == wanted.debug_link_crc
    } else {
        build_id(&file) == wanted.build_id
    };
    is_same && has_debug_info(&file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pepo_testkit::{Fixture, Symbols as Split, Variant, fixtures};

    use super::*;

    /// The frames of a symbol's first bytes, with its address.
    fn frames_of(symbols: &Symbols, name: &str, whole: &Symbols) -> Vec<Named> {
        let symbol = whole.table.iter().find(|symbol| demangled(&symbol.name).ends_with(name));
        let symbol = symbol.unwrap_or_else(|| panic!("no symbol {name}"));
        symbols.frames(symbol.address + 4)
    }

    fn read(fixture: &Fixture) -> Symbols {
        Symbols::read(&fs::read(&fixture.path).unwrap(), None, "").unwrap()
    }

    #[test]
    fn functions_have_their_names_files_and_lines_in_each_language() {
        for fixture in [
            fixtures::c(Variant::debug()),
            fixtures::cpp(Variant::debug()),
            fixtures::rust(Variant::debug()),
            fixtures::go(Variant::debug()),
        ] {
            let symbols = read(&fixture);
            let tick = fixture.tick();
            let wanted = if fixture.language == pepo_testkit::Language::Cpp { "tick(int)" } else { tick };
            let table: Vec<_> =
                symbols.table.iter().map(|one| demangled(&one.name)).filter(|n| n.contains("tick")).collect();
            let name = table.iter().find(|name| name.as_str() == wanted || name.contains(tick)).unwrap();
            let frames = frames_of(&symbols, name, &symbols);
            let outer = frames.last().unwrap_or_else(|| panic!("nothing in {:?}", fixture.path));
            assert!(outer.function.contains(tick), "{frames:?} in {:?}", fixture.path);
            assert!(outer.file.ends_with(fixture.source_name()), "{frames:?}");
            let near = fixture.line("BREAK");
            assert!(outer.line > 0 && outer.line.abs_diff(near) < 12, "{frames:?}, BREAK is {near}");
        }
    }

    #[test]
    fn a_stripped_program_of_go_still_knows_its_functions_and_lines() {
        let whole = read(&fixtures::go(Variant::debug()));
        let stripped = fixtures::go(Variant::debug().symbols(Split::Stripped));
        let symbols = read(&stripped);
        assert!(symbols.dwarf.is_none() && symbols.table.is_empty() && symbols.has_lines(), "{symbols:?}");
        // The same compiler, the same code: only the tables are gone, so addresses are found by name in the table of Go.
        let address = symbols.go.as_ref().unwrap().address_of("main.tick").unwrap();
        let frames = symbols.frames(address + 4);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].function, "main.tick");
        assert!(frames[0].file.ends_with("loop.go"), "{frames:?}");
        let with_dwarf = frames_of(&whole, "main.tick", &whole);
        assert_eq!(frames[0].line, with_dwarf.last().unwrap().line);
    }

    #[test]
    fn what_a_stripped_program_of_go_has_inlined_is_told_as_its_debug_information_tells_it() {
        let optimised = |variant| read(&fixtures::build(pepo_testkit::Language::Go, "waits", variant));
        let whole = optimised(Variant::release());
        let stripped = optimised(Variant::release().symbols(Split::Stripped));
        let mut with_inlined = 0;
        for name in ["main.lock", "sync.(*Cond).Wait", "runtime.forcegchelper", "net.(*TCPListener).Accept"] {
            let symbol = whole.table.iter().find(|symbol| symbol.name == name).unwrap();
            for address in symbol.address..symbol.address + symbol.size {
                let frames = stripped.frames(address);
                assert_eq!(frames, whole.by_dwarf(address), "{name} at {address:#x}");
                with_inlined += usize::from(frames.len() > 1);
            }
        }
        assert!(with_inlined > 50, "{with_inlined}");
    }

    #[test]
    fn a_stripped_program_of_go_and_c_is_named_where_its_own_code_begins() {
        let whole = read(&fixtures::go(Variant::debug().linked_with_c()));
        let symbols = read(&fixtures::go(Variant::debug().linked_with_c().symbols(Split::Stripped)));
        let symbol = whole.table.iter().find(|symbol| symbol.name == "main.tick").unwrap();
        let frames = symbols.frames(symbol.address + 4);
        assert!(symbols.dwarf.is_none() && symbols.by_table(symbol.address + 4).is_none());
        assert!(frames.len() == 1 && frames[0].function == "main.tick", "{frames:?}");
    }

    #[test]
    fn a_stripped_program_is_named_by_its_debug_file_and_by_no_other() {
        let split = fixtures::c(Variant::debug().symbols(Split::Split));
        let program = fs::read(&split.path).unwrap();
        let bare = Symbols::read(&program, None, "").unwrap();
        assert!(bare.dwarf.is_none());
        let debug_file = split.debug_file.clone().unwrap();
        let debug = fs::read(&debug_file).unwrap();
        let wanted = debug_file_of(&program);
        assert_eq!(Some(wanted.debug_link.as_str()), debug_file.file_name().and_then(|name| name.to_str()));
        let by_sum = WantedSymbols { build_id: String::new(), ..wanted.clone() };
        for wanted in [&wanted, &by_sum] {
            assert!(is_debug_file(&debug, wanted), "{wanted:?}");
            assert!(!is_debug_file(&program, wanted) && !is_debug_file(&debug[..debug.len() / 2], wanted));
        }
        let id = wanted.build_id;
        let symbols = Symbols::read(&program, Some(&debug), &id).unwrap();
        let frames = frames_of(&symbols, "tick", &symbols);
        assert_eq!(frames[0].function, "tick");
        assert!(frames[0].file.ends_with("loop.c"));
        let other = fs::read(fixtures::cpp(Variant::debug()).path).unwrap();
        let error = Symbols::read(&program, Some(&other), &id).unwrap_err();
        assert!(matches!(error, SymbolError::OtherBuild { what: "the debug file", .. }), "{error}");
    }

    #[test]
    fn damaged_files_are_an_error_or_name_nothing() {
        let whole = fs::read(fixtures::go(Variant::debug().symbols(Split::Stripped)).path).unwrap();
        assert!(Symbols::read(b"#!/bin/sh\n", None, "").is_err());
        for part in [64, 4096, whole.len() / 2] {
            if let Ok(symbols) = Symbols::read(&whole[..part], None, "") {
                assert!(symbols.frames(0x47_0000).len() <= 1);
            }
        }
    }
}
