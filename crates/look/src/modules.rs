//! The modules mapped into a process: unwind tables and names, read from the target's own files.

use std::{collections::HashMap, fs::File, io, ops::Range, path::PathBuf, sync::Arc};

use framehop::{ExplicitModuleSectionInfo, Module, Unwinder as _, UnwinderNative};
use object::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ReadCache, SymbolKind};
use pepo_process::{Process, maps::Map};

/// The largest table that is read from a file, in bytes.
const MAX_SECTION: u64 = 64 << 20;
/// The most symbols that are kept of one module.
const MAX_SYMBOLS: usize = 1_000_000;
/// The most modules that are read.
const MAX_MODULES: usize = 2_000;

/// Bytes of a section, shared.
pub(crate) type Bytes = Arc<[u8]>;

/// What is known of all modules of a process.
#[derive(Default)]
pub(crate) struct Modules {
    pub(crate) unwinder: UnwinderNative<Bytes, framehop::MayAllocateDuringUnwind>,
    modules: Vec<Loaded>,
    /// Sorted.
    executable: Vec<Range<u64>>,
    special: Vec<(Range<u64>, String)>,
    /// What could not be read, in words for people.
    pub(crate) notes: Vec<String>,
}

/// One module.
struct Loaded {
    range: Range<u64>,
    /// Subtracted from an address to get the one its ELF file uses.
    bias: u64,
    path: String,
    build_id: String,
    /// Sorted by address: (address, size, mangled name).
    symbols: Vec<(u64, u64, String)>,
}

/// A place in a module.
pub(crate) struct Place<'a> {
    pub(crate) module: &'a str,
    pub(crate) module_address: u64,
    pub(crate) build_id: &'a str,
    pub(crate) function: String,
}

impl Modules {
    /// Reads every module that has code mapped; with `names`, also what its functions are called.
    pub(crate) fn read(process: &Process, maps: &[Map], names: bool) -> Modules {
        let mut all = Modules {
            unwinder: UnwinderNative::new(),
            modules: Vec::new(),
            executable: maps.iter().filter(|map| map.execute).map(|map| map.start..map.end).collect(),
            special: special(maps),
            notes: Vec::new(),
        };
        let mut files: HashMap<PathBuf, Vec<&Map>> = HashMap::new();
        for map in maps {
            if let Some(path) = map.file() {
                files.entry(path.to_owned()).or_default().push(map);
            }
        }
        let with_code = files.into_iter().filter(|(_, maps)| maps.iter().any(|map| map.execute));
        for (path, maps) in with_code.take(MAX_MODULES) {
            if let Err(error) = all.add(process, &path.to_string_lossy(), &maps, names) {
                all.notes.push(format!("{} cannot be read: {error}", path.display()));
            }
        }
        all.modules.sort_by_key(|module| module.range.start);
        all
    }

    fn add(&mut self, process: &Process, path: &str, maps: &[&Map], names: bool) -> io::Result<()> {
        let file = open(process, path, maps)?;
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).map_err(io::Error::other)?;
        let Some(bias) = bias(&elf, maps) else { return Ok(()) };
        let start = maps.iter().map(|map| map.start).min().unwrap_or(0);
        let end = maps.iter().map(|map| map.end).max().unwrap_or(0);
        // The bias is where address 0 of the file lies; an ordinary executable is mapped where its file says.
        for (range, sections) in unwound_by(&elf, start..end, bias) {
            self.unwinder.add_module(Module::new(path.to_owned(), range, bias, sections));
        }
        let build_id = elf.build_id().ok().flatten().unwrap_or_default();
        self.modules.push(Loaded {
            range: start..end,
            bias,
            path: path.to_owned(),
            build_id: build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            symbols: if names { symbols(&elf) } else { Vec::new() },
        });
        Ok(())
    }

    /// What lies at an address.
    pub(crate) fn place(&self, address: u64) -> Option<Place<'_>> {
        let after = self.modules.partition_point(|module| module.range.start <= address);
        // Modules do not overlap but in damaged maps: then the nearest below is as good as any.
        let module = self.modules[..after].last().filter(|module| module.range.contains(&address))?;
        let module_address = address.wrapping_sub(module.bias);
        Some(Place {
            module: &module.path,
            module_address,
            build_id: &module.build_id,
            function: module.function(module_address).unwrap_or_default(),
        })
    }

    /// The name in brackets (`[vdso]`) of what lies at an address and is no file.
    pub(crate) fn special(&self, address: u64) -> Option<&str> {
        self.special.iter().find(|(range, _)| range.contains(&address)).map(|(_, name)| name.as_str())
    }

    /// Can code stand at this address?
    pub(crate) fn is_code(&self, address: u64) -> bool {
        let after = self.executable.partition_point(|range| range.start <= address);
        after.checked_sub(1).is_some_and(|index| self.executable[index].contains(&address))
    }
}

impl Loaded {
    fn function(&self, address: u64) -> Option<String> {
        let after = self.symbols.partition_point(|(start, ..)| *start <= address);
        let (start, size, name) = self.symbols.get(after.checked_sub(1)?)?;
        // A symbol of size 0 (hand-written assembly) reaches up to the next one.
        (*size == 0 || address < start + size).then(|| format!("{:#}", rustc_demangle::demangle(name)))
    }
}

/// Code that is in no file but has a name.
fn special(maps: &[Map]) -> Vec<(Range<u64>, String)> {
    let named = maps.iter().filter(|map| map.execute && map.file().is_none());
    named
        .filter_map(|map| Some((map.start..map.end, map.path.as_ref()?.to_string_lossy().into_owned())))
        .collect()
}

fn open(process: &Process, path: &str, maps: &[&Map]) -> io::Result<File> {
    let mapped = maps.first().and_then(|map| process.open_mapped(map).ok());
    match mapped {
        Some(file) => Ok(file),
        None => process.open_in_root(path).map_err(io::Error::other),
    }
}

/// Address 0 of the file in the process, by the first segment that is mapped with its file offset.
fn bias<'d>(elf: &impl object::Object<'d>, maps: &[&Map]) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let map =
            maps.iter().find(|map| (map.offset..map.offset + map.len()).contains(&offset) && size > 0)?;
        Some((map.start + (offset - map.offset)).wrapping_sub(segment.address()))
    })
}

/// Which parts of a module are unwound by what. Where Go and C are linked into one program, `.eh_frame` knows C's functions alone, and
/// would be taken to know all; Go's, which lie together, are in `.debug_frame` or keep frame pointers.
fn unwound_by<'d>(
    elf: &impl object::Object<'d>,
    whole: Range<u64>,
    bias: u64,
) -> Vec<(Range<u64>, ExplicitModuleSectionInfo<Bytes>)> {
    let all = sections(elf);
    let of_go =
        [".gopclntab", ".data.rel.ro.gopclntab"].iter().any(|name| elf.section_by_name(name).is_some());
    if !of_go || all.eh_frame.is_none() {
        return vec![(whole, all)];
    }
    let address = |name: &str| {
        let found = elf.symbols().find(|symbol| symbol.name() == Ok(name));
        found.map(|symbol| symbol.address().wrapping_add(bias)).filter(|address| whole.contains(address))
    };
    // Without symbols nobody says where Go's end: frame pointers are the better guess for all.
    let go = match (address("runtime.text"), address("runtime.etext")) {
        (Some(start), Some(end)) if start < end => start..end,
        _ => whole.clone(),
    };
    let without = ExplicitModuleSectionInfo { eh_frame: None, eh_frame_hdr: None, ..sections(elf) };
    let parts = [(whole.start..go.start, all), (go.clone(), without), (go.end..whole.end, sections(elf))];
    parts.into_iter().filter(|(range, _)| !range.is_empty()).collect()
}

fn sections<'d>(elf: &impl object::Object<'d>) -> ExplicitModuleSectionInfo<Bytes> {
    let range = |name: &str| {
        elf.section_by_name(name).map(|section| section.address()..section.address() + section.size())
    };
    let data = |name: &str| {
        let section = elf.section_by_name(name).filter(|section| section.size() <= MAX_SECTION)?;
        section.uncompressed_data().ok().map(|data| Bytes::from(data.as_ref()))
    };
    ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: range(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        eh_frame: data(".eh_frame"),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        debug_frame: data(".debug_frame"),
        ..ExplicitModuleSectionInfo::default()
    }
}

fn symbols<'d>(elf: &impl object::Object<'d>) -> Vec<(u64, u64, String)> {
    let all = elf.symbols().chain(elf.dynamic_symbols());
    let functions = all.filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.address() != 0);
    let mut symbols: Vec<_> = functions
        .take(MAX_SYMBOLS)
        .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?.to_owned())))
        .collect();
    symbols.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
    symbols.dedup_by_key(|symbol| symbol.0);
    symbols
}
