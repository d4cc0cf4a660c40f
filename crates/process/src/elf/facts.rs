//! Everything of interest about an ELF file at once.

use super::{Elf, Kind, PT_DYNAMIC, PT_INTERP, Source, c_string, dwarf::Producer, go::GoBuild};

/// Most bytes of the dynamic section.
const MOST_DYNAMIC: u64 = 256 << 10;
/// Most libraries that are listed.
const MOST_NEEDED: usize = 512;

/// The C library a program runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Libc {
    /// GNU's.
    Glibc,
    /// musl.
    Musl,
    /// None that can be told: a static program.
    None,
    /// Not looked at, or another one.
    #[default]
    Unknown,
}

impl Libc {
    /// `glibc`, `musl`, `none`, or empty.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Libc::Glibc => "glibc",
            Libc::Musl => "musl",
            Libc::None => "none",
            Libc::Unknown => "",
        }
    }

    /// By the loader's path.
    fn of_interpreter(path: &str) -> Libc {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.starts_with("ld-musl") {
            Libc::Musl
        } else if name.starts_with("ld-linux") || name.starts_with("ld64") || name.starts_with("ld-2.") {
            Libc::Glibc
        } else {
            Libc::Unknown
        }
    }
}

/// What an ELF file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfFacts {
    /// 64-bit?
    pub is_64: bool,
    /// `e_machine`.
    pub machine: u16,
    /// Loaded at fixed addresses or anywhere.
    pub kind: Kind,
    /// A position-independent executable (not a library).
    pub is_pie: bool,
    /// Needs no loader.
    pub is_static: bool,
    /// Path of its loader.
    pub interpreter: Option<String>,
    /// C library, by the loader and the ABI note.
    pub libc: Libc,
    /// GNU build id, lower-case hexadecimal.
    pub build_id: Option<String>,
    /// Name of the split debug file (`.gnu_debuglink`).
    pub debug_link: Option<String>,
    /// Has it types and variables?
    pub has_debug_info: bool,
    /// Has it line numbers?
    pub has_debug_line: bool,
    /// Has it the full symbol table? Without it, it is stripped.
    pub has_symtab: bool,
    /// Has it Go's table of functions and lines?
    pub has_gopclntab: bool,
    /// What Go's linker wrote.
    pub go: Option<GoBuild>,
    /// Who compiled it; not looked for where only a list is made.
    pub producer: Option<Producer>,
    /// Libraries it needs, as it names them.
    pub needed: Vec<String>,
}

impl<S: Source> Elf<S> {
    /// Reads everything of interest; what is broken is left out.
    #[must_use]
    pub fn facts(&self) -> ElfFacts {
        ElfFacts { producer: self.producer(), ..self.facts_for_lists() }
    }

    /// As [`Elf::facts`] without the producer, which takes longer than all the rest.
    #[must_use]
    pub(crate) fn facts_for_lists(&self) -> ElfFacts {
        let interpreter = self.interpreter();
        let dynamic = self.dynamic();
        let is_static = interpreter.is_none() && dynamic.needed.is_empty();
        let is_executable_kind = interpreter.is_some() || dynamic.is_pie || (is_static && self.entry != 0);
        ElfFacts {
            is_64: self.is_64,
            machine: self.machine,
            kind: self.kind,
            is_pie: self.kind == Kind::Shared && is_executable_kind,
            is_static,
            libc: self.libc(interpreter.as_deref(), is_static),
            interpreter,
            build_id: self.build_id(),
            debug_link: self.debug_link(),
            has_debug_info: self.has_debug_info(),
            has_debug_line: self.has_section(".debug_line") || self.has_section(".zdebug_line"),
            has_symtab: self.has_section(".symtab"),
            has_gopclntab: self.has_section(".gopclntab") || self.has_section(".data.rel.ro.gopclntab"),
            go: self.go_build(),
            producer: None,
            needed: dynamic.needed,
        }
    }

    /// Has it types and variables?
    #[must_use]
    pub fn has_debug_info(&self) -> bool {
        self.has_section(".debug_info") || self.has_section(".zdebug_info")
    }

    /// Path of the loader.
    #[must_use]
    pub fn interpreter(&self) -> Option<String> {
        let segment = self.segments.iter().find(|segment| segment.kind == PT_INTERP)?;
        c_string(&self.range(segment.offset, segment.file_size.min(4096))?, 0)
    }

    /// Name of the split debug file (gdb manual, "Separate Debug Files").
    #[must_use]
    pub fn debug_link(&self) -> Option<String> {
        let section = self.section_named(".gnu_debuglink")?;
        c_string(&self.section_bytes(section, 4096)?, 0)
            .filter(|name| !name.is_empty() && !name.contains('/'))
    }

    /// The CRC-32 that stands behind it, at the next multiple of four.
    #[must_use]
    pub fn debug_link_crc(&self) -> Option<u32> {
        let section = self.section_bytes(self.section_named(".gnu_debuglink")?, 4096)?;
        let name = section.iter().position(|&byte| byte == 0)?;
        self.fields(&section).u32((name + 4) & !3)
    }

    fn libc(&self, interpreter: Option<&str>, is_static: bool) -> Libc {
        let has_gnu_abi = || self.notes().iter().any(|note| note.owner == "GNU" && note.kind == 1);
        match interpreter {
            Some(path) => Libc::of_interpreter(path),
            None if has_gnu_abi() => Libc::Glibc,
            None if is_static => Libc::None,
            None => Libc::Unknown,
        }
    }

    /// What the loader is told (System V ABI, "Dynamic section").
    fn dynamic(&self) -> Dynamic {
        self.read_dynamic().unwrap_or_default()
    }

    fn read_dynamic(&self) -> Option<Dynamic> {
        const DT_NEEDED: u64 = 1;
        const DT_STRTAB: u64 = 5;
        const DT_FLAGS_1: u64 = 0x6fff_fffb;
        const DF_1_PIE: u64 = 0x0800_0000;
        let segment = self.segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
        let bytes = self.range(segment.offset, segment.file_size.min(MOST_DYNAMIC))?;
        let word = if self.is_64 { 8 } else { 4 };
        let entries = bytes.chunks_exact(2 * word).map_while(|entry| {
            let fields = self.fields(entry);
            Some((fields.word(0)?, fields.word(word)?)).filter(|(tag, _)| *tag != 0)
        });
        let entries: Vec<(u64, u64)> = entries.collect();
        let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let strings = value(DT_STRTAB).and_then(|address| self.file_offset(address));
        let needed = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED).take(MOST_NEEDED);
        let needed = needed.filter_map(|(_, name)| {
            let (offset, left) = strings?;
            let left = left.checked_sub(*name)?;
            c_string(&self.up_to(offset.checked_add(*name)?, left.min(512))?, 0)
        });
        Some(Dynamic { needed: needed.collect(), is_pie: value(DT_FLAGS_1).unwrap_or(0) & DF_1_PIE != 0 })
    }
}

#[derive(Default)]
struct Dynamic {
    needed: Vec<String>,
    is_pie: bool,
}
