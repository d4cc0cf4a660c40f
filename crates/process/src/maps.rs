//! `/proc/PID/maps`, as proc_pid_maps(5) describes it.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// One mapping of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
    /// Changes go to the file.
    pub shared: bool,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// Device of the file: major and minor number.
    pub device: (u32, u32),
    /// Inode of the file; 0 for anonymous memory.
    pub inode: u64,
    /// The file as the target sees it, or a name in brackets such as `[stack]`; `None` for anonymous memory.
    pub path: Option<PathBuf>,
    /// The file was removed or replaced.
    pub deleted: bool,
}

impl Map {
    /// Reads one line; `None` when it is not as the manual says.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Map> {
        let mut rest = line;
        let range = word(&mut rest)?;
        let (start, end) = range.split_once('-')?;
        let flags = word(&mut rest)?.as_bytes();
        let offset = word(&mut rest)?;
        let (major, minor) = word(&mut rest)?.split_once(':')?;
        let inode = word(&mut rest)?.parse().ok()?;
        let path = rest.iter().position(|&byte| byte != b' ').map(|first| &rest[first..]);
        let (path, deleted) = match path.and_then(|path| path.strip_suffix(b" (deleted)")) {
            Some(path) => (Some(path), true),
            None => (path, false),
        };
        let (start, end) = (hex(start)?, hex(end)?);
        (start <= end && flags.len() == 4).then(|| Map {
            start,
            end,
            read: flags[0] == b'r',
            write: flags[1] == b'w',
            execute: flags[2] == b'x',
            shared: flags[3] == b's',
            offset: hex(offset).unwrap_or(0),
            device: (hex(major).unwrap_or(0) as u32, hex(minor).unwrap_or(0) as u32),
            inode,
            path: path.map(|path| PathBuf::from(OsString::from_vec(unescape(path)))),
            deleted,
        })
    }

    /// Reads the whole file's text; lines that are not as the manual says are left out.
    #[must_use]
    pub fn parse_all(text: &[u8]) -> Vec<Map> {
        text.split(|&byte| byte == b'\n').filter_map(Map::parse).collect()
    }

    /// The file behind the mapping, as the target sees it.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.path.as_deref().filter(|path| self.inode != 0 && path.is_absolute())
    }

    /// The file's last component, if it is UTF-8.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.file()?.file_name()?.to_str()
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Is it empty? Never so in what the kernel writes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Does the address lie in it?
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// The word up to the next space, which is taken away.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    std::str::from_utf8(word).ok().filter(|word| !word.is_empty())
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The kernel writes a newline in a path as `\012`, and nothing else.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(br"\012") {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_kinds_are_read() {
        let text = b"55d0c0a00000-55d0c0a02000 r--p 00000000 fd:01 1835020                    /usr/bin/cat\n\
7f2b8c021000-7f2b90000000 ---p 00000000 00:00 0 \n\
7f2b97cf8000-7f2b97cfa000 r-xs 00025000 00:1f 77   /tmp/a b\\012c (deleted)\n\
7ffd1a5f2000-7ffd1a613000 rw-p 00000000 00:00 0                          [stack]\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
        let maps = Map::parse_all(text);
        assert_eq!(maps.len(), 5);
        assert_eq!(maps[0].file_name(), Some("cat"));
        assert_eq!((maps[0].device, maps[0].inode, maps[0].execute), ((0xfd, 1), 1_835_020, false));
        assert_eq!((&maps[1].path, maps[1].read), (&None, false));
        assert_eq!(maps[2].path.as_deref(), Some(std::path::Path::new("/tmp/a b\nc")));
        assert!(maps[2].deleted && maps[2].execute && maps[2].shared && maps[2].offset == 0x25000);
        assert_eq!((maps[3].file(), maps[3].path.as_deref()), (None, Some(std::path::Path::new("[stack]"))));
        assert_eq!(maps[4].len(), 0x1000);
        assert!(maps[4].contains(0xffff_ffff_ff60_0fff) && !maps[4].contains(0xffff_ffff_ff60_1000));
    }

    #[test]
    fn broken_lines_are_left_out() {
        let broken = [
            "",
            " ",
            "1-2",
            "2-1 r--p 0 0:0 0",
            "x-y r--p 0 0:0 0",
            "1-2 r- 0 0:0 0",
            "1-2 r--p 0 0 0",
            "1-2 r--p 0 0:0 q",
        ];
        for line in broken {
            assert_eq!(Map::parse(line.as_bytes()), None, "{line:?}");
        }
        assert!(Map::parse(&[0xff; 64]).is_none());
    }
}
