//! What Go's linker writes about a build: `go version -m` shows it (Go's `debug/buildinfo` package).

use super::{Elf, PT_LOAD, Source};

/// What every such block begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Most bytes searched for it where there are no sections.
const SEARCHED: u64 = 1 << 20;
/// Most bytes of the text about modules.
const MOST: u64 = 1 << 20;

/// Facts about a Go build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoBuild {
    /// `1.26.8`, without `go`; empty when it is unknown.
    pub version: String,
    /// Path of the main package.
    pub path: String,
    /// Settings of the build: `-ldflags`, `-gcflags`, `CGO_ENABLED` and so on. Since Go 1.18.
    pub settings: Vec<(String, String)>,
}

impl GoBuild {
    /// A setting's value.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Was the compiler told to keep variables and lines as written? `None` where the build says nothing about itself.
    #[must_use]
    pub fn optimised(&self) -> Option<bool> {
        if self.settings.is_empty() {
            return None;
        }
        let flags = self.setting("-gcflags").unwrap_or_default();
        Some(!flags.split([' ', '=', '"', '\'']).any(|flag| flag == "-N"))
    }

    /// Major and minor version.
    #[must_use]
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split(|letter: char| !letter.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    fn new(version: &str, modules: &str) -> GoBuild {
        let mut build = GoBuild::default();
        // "go1.26.8", or "devel go1.27-0abc X:experiment".
        let words = version.split(' ').find_map(|word| word.strip_prefix("go"));
        build.version = words.unwrap_or_default().split('-').next().unwrap_or_default().to_owned();
        for line in modules.lines() {
            match line.split_once('\t') {
                Some(("path", path)) => path.clone_into(&mut build.path),
                Some(("build", setting)) => build
                    .settings
                    .extend(setting.split_once('=').map(|(name, value)| (name.to_owned(), unquote(value)))),
                _ => {}
            }
        }
        build
    }
}

/// Values with spaces are written as Go strings.
fn unquote(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inner.map_or_else(|| value.to_owned(), |inner| inner.replace("\\\"", "\"").replace("\\\\", "\\"))
}

impl<S: Source> Elf<S> {
    /// What Go's linker wrote; `None` when the file is no Go program.
    #[must_use]
    pub fn go_build(&self) -> Option<GoBuild> {
        let at = self.find_build_info()?;
        let head = self.range(at, 32)?;
        let (pointer_size, flags) = (head[14], head[15]);
        let (version, modules) = if flags & 2 != 0 {
            self.inline_strings(at.checked_add(32)?)?
        } else {
            self.pointed_strings(&head, pointer_size, flags & 1 != 0)?
        };
        // The modules stand between two marks of 16 bytes.
        let inner = modules.len().checked_sub(16).and_then(|end| modules.get(16..end)).unwrap_or_default();
        Some(GoBuild::new(&String::from_utf8_lossy(&version), &String::from_utf8_lossy(inner)))
    }

    /// Where the block is in the file: in its own section, else early in the writable segment.
    fn find_build_info(&self) -> Option<u64> {
        if let Some(section) = self.section_named(".go.buildinfo") {
            return self.search(section.offset, section.size);
        }
        let writable =
            self.segments.iter().filter(|segment| segment.kind == PT_LOAD && segment.flags & 2 != 0);
        writable.take(4).find_map(|segment| self.search(segment.offset, segment.file_size))
    }

    fn search(&self, offset: u64, size: u64) -> Option<u64> {
        let bytes = self.up_to(offset, size.min(SEARCHED))?;
        let found = bytes.chunks_exact(16).position(|block| block.starts_with(MAGIC))?;
        offset.checked_add(16 * found as u64)
    }

    /// Since Go 1.18: two strings with their lengths before them.
    fn inline_strings(&self, at: u64) -> Option<(Vec<u8>, Vec<u8>)> {
        let (version, next) = self.inline_string(at)?;
        let (modules, _) = self.inline_string(next)?;
        Some((version, modules))
    }

    fn inline_string(&self, at: u64) -> Option<(Vec<u8>, u64)> {
        let head = self.up_to(at, 10)?;
        let (length, used) = varint(&head)?;
        let start = at.checked_add(used)?;
        (length <= MOST).then_some(())?;
        Some((self.range(start, length)?, start.checked_add(length)?))
    }

    /// Before: pointers to two string headers.
    fn pointed_strings(&self, head: &[u8], pointer_size: u8, big_endian: bool) -> Option<(Vec<u8>, Vec<u8>)> {
        let size = usize::from(pointer_size);
        let number = |bytes: &[u8], at: usize| {
            let bytes = bytes.get(at..at.checked_add(size)?)?;
            let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
            Some(if big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
        };
        matches!(size, 4 | 8).then_some(())?;
        let string = |header: u64| {
            let (offset, left) = self.file_offset(header)?;
            let header = self.range(offset, (2 * size as u64).min(left))?;
            let length = number(&header, size)?;
            let (offset, left) = self.file_offset(number(&header, 0)?)?;
            (length <= MOST && length <= left).then(|| self.range(offset, length))?
        };
        let version = string(number(head, 16)?)?;
        Some((version, string(number(head, 16 + size)?).unwrap_or_default()))
    }
}

/// Go's unsigned variable-length number and how many bytes it took.
fn varint(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index as u64 + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_settings_are_read_as_go_writes_them() {
        let modules = "path\texample.org/shop\nmod\texample.org/shop\t(devel)\t\nbuild\t-compiler=gc\nbuild\t-gcflags=\"all=-N -l\"\nbuild\tCGO_ENABLED=0\n";
        let build = GoBuild::new("go1.26.8", modules);
        assert_eq!(
            (build.version.as_str(), build.path.as_str(), build.release()),
            ("1.26.8", "example.org/shop", Some((1, 26)))
        );
        assert_eq!(build.setting("-gcflags"), Some("all=-N -l"));
        assert_eq!(build.optimised(), Some(false));
        assert_eq!(GoBuild::new("go1.17", "").optimised(), None);
        assert_eq!(GoBuild::new("go1.20.1", "build\t-compiler=gc\n").optimised(), Some(true));
        assert_eq!(GoBuild::new("devel go1.27-0abcdef Tue", "").release(), Some((1, 27)));
        assert_eq!(GoBuild::new("go1.25rc1 X:nocoverageredesign", "").release(), Some((1, 25)));
        assert_eq!(GoBuild::new("", "build\n\tx=\nbuild\t=\n").release(), None);
    }

    #[test]
    fn numbers_that_never_end_are_refused() {
        assert_eq!(varint(&[0x05]), Some((5, 1)));
        assert_eq!(varint(&[0x80, 0x01]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 10]), None);
        assert_eq!(varint(&[]), None);
    }
}
