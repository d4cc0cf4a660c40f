//! From an archive to a tree.

use std::{
    io::{self, BufRead, BufReader, Read},
    time::{SystemTime, UNIX_EPOCH},
};

use pepo_wire::{
    Code, Failure,
    agent::{TreeEnd, TreeEntry, TreeKind, TreeLeave},
    tree::{Attributes, DEEPEST, LONGEST_LINK, PORTION, Part, Tally, is_name},
};
use tar::{Archive, Entry, EntryType};

/// What other programs pack archives by, and the bytes that they begin with.
const PACKED: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "gzip"),
    (b"BZh", "bzip2"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
];

/// Tells what is in an archive in parts, as what is in one folder. Names that lead elsewhere, hard links, and what is neither file nor folder
/// nor link are skipped. `out` says whether anybody still wants more.
///
/// # Errors
/// It is no archive, or breaks off; [`Code::StreamBroken`] when nobody wants more.
pub(in super::super) fn unpack(from: impl Read, out: &mut dyn FnMut(Part) -> bool) -> Result<Tally, Failure> {
    let mut from = BufReader::with_capacity(PORTION, Watched { from, is_over: false });
    packed(&mut from)?;
    let mut unpack = Unpack { out, tally: Tally::default(), open: Vec::new(), begun: false };
    let mut archive = Archive::new(&mut from);
    for entry in archive.entries().map_err(broken)? {
        unpack.entry(&mut entry.map_err(broken)?)?;
    }
    if from.get_ref().is_over {
        return Err(broke_off("it has no end"));
    }
    unpack.begin(None)?;
    unpack.go(&[], None)?;
    unpack.say(Part::Leave(TreeLeave {}))?;
    unpack.say(Part::End(TreeEnd {}))?;
    Ok(unpack.tally)
}

/// Knows whether all was read: behind the end of an archive there is always something.
struct Watched<R> {
    from: R,
    is_over: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(bytes)?;
        self.is_over |= count == 0;
        Ok(count)
    }
}

fn packed(from: &mut impl BufRead) -> Result<(), Failure> {
    let begins = from.fill_buf().map_err(broken)?;
    match PACKED.iter().find(|(bytes, _)| begins.starts_with(bytes)) {
        None => Ok(()),
        Some((_, by)) => Err(Failure::new(Code::Usage, "standard input is no tar archive")
            .because(format!("it is compressed by {by}"))
            .hint(format!("decompress it on the way: `{by} -dc FILE | pepo cp - TARGET:PATH`"))),
    }
}

fn broken(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => broke_off(error),
        _ => Failure::new(Code::Usage, "standard input is no tar archive that can be read").because(error),
    }
}

fn broke_off(why: impl ToString) -> Failure {
    Failure::new(Code::FileDenied, "the archive on standard input breaks off")
        .because(why.to_string())
        .hint("what was copied until then is there; see why the program that writes it ended")
}

struct Unpack<'a> {
    out: &'a mut dyn FnMut(Part) -> bool,
    tally: Tally,
    /// Names from the source down to the folder that is open.
    open: Vec<Vec<u8>>,
    begun: bool,
}

impl Unpack<'_> {
    fn say(&mut self, part: Part) -> Result<(), Failure> {
        match (self.out)(part) {
            true => Ok(()),
            false => Err(Failure::new(Code::StreamBroken, "nobody takes the files any more")),
        }
    }

    fn tell(&mut self, name: &[u8], kind: TreeKind, attributes: Attributes) -> Result<(), Failure> {
        self.say(Part::Entry(entry(name, kind, attributes)))
    }

    /// The folder that all is in, once.
    fn begin(&mut self, attributes: Option<Attributes>) -> Result<(), Failure> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        self.tell(&[], TreeKind::Folder, attributes.unwrap_or_else(implied))
    }

    /// Leaves and enters folders until this one is open. Those that the archive has not named are as most are; the last may be.
    fn go(&mut self, to: &[Vec<u8>], attributes: Option<Attributes>) -> Result<(), Failure> {
        let same = self.open.iter().zip(to).take_while(|(open, to)| open == to).count();
        while self.open.len() > same {
            self.open.pop();
            self.say(Part::Leave(TreeLeave {}))?;
        }
        for (depth, name) in to.iter().enumerate().skip(same) {
            let named = attributes.filter(|_| depth + 1 == to.len());
            self.tell(name, TreeKind::Folder, named.unwrap_or_else(implied))?;
            self.open.push(name.clone());
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), Failure> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        self.tally.count()?;
        let path = entry.path_bytes().into_owned();
        let attributes = attributes(entry)?;
        let names: Vec<Vec<u8>> = path
            .split(|byte| *byte == b'/')
            .filter(|name| !matches!(*name, b"" | b"."))
            .map(<[u8]>::to_vec)
            .collect();
        self.begin(Some(attributes).filter(|_| names.is_empty() && kind.is_dir()))?;
        if names.len() > DEEPEST || !names.iter().all(|name| is_name(name)) {
            return self.skip(&path, "its name leads out of the folder, or is too long", true);
        }
        let Some((name, folders)) = names.split_last() else { return Ok(()) };
        match kind {
            EntryType::Directory => self.go(&names, Some(attributes)),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.go(folders, None)?;
                self.file(name, attributes, entry)
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().unwrap_or_default().into_owned();
                if to.is_empty() || to.len() > LONGEST_LINK || to.contains(&0) {
                    return self.skip(&path, "a link that leads nowhere", true);
                }
                self.go(folders, None)?;
                self.say(Part::Entry(TreeEntry { link: to, ..self::entry(name, TreeKind::Link, attributes) }))
            }
            EntryType::Link => self.skip(&path, "another name of a file in the archive (a hard link)", true),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.skip(&path, "a device or a pipe", false)
            }
            _ => self.skip(&path, "of a kind that is not known here", true),
        }
    }

    fn file(
        &mut self,
        name: &[u8],
        attributes: Attributes,
        file: &mut Entry<'_, impl Read>,
    ) -> Result<(), Failure> {
        let size = file.size();
        self.say(Part::Entry(TreeEntry { size, ..entry(name, TreeKind::File, attributes) }))?;
        let mut left = size;
        while left > 0 {
            let mut data = Vec::new();
            let count = file.by_ref().take(PORTION as u64).read_to_end(&mut data).map_err(broken)? as u64;
            if count == 0 {
                return Err(broke_off(format!(
                    "{left} bytes of {} are missing",
                    String::from_utf8_lossy(name)
                )));
            }
            left = left.saturating_sub(count);
            self.say(Part::Data(data))?;
        }
        Ok(())
    }

    fn skip(&mut self, path: &[u8], why: &str, failed: bool) -> Result<(), Failure> {
        self.tally.skip(String::from_utf8_lossy(path).into_owned(), why.to_owned(), failed);
        Ok(())
    }
}

fn entry(name: &[u8], kind: TreeKind, attributes: Attributes) -> TreeEntry {
    TreeEntry {
        name: name.to_vec(),
        kind: kind.into(),
        mode: attributes.mode,
        modified_seconds: attributes.modified.0,
        modified_nanos: attributes.modified.1,
        ..TreeEntry::default()
    }
}

fn attributes(entry: &Entry<'_, impl Read>) -> Result<Attributes, Failure> {
    let header = entry.header();
    let modified = i64::try_from(header.mtime().map_err(broken)?).unwrap_or(0);
    Ok(Attributes { mode: header.mode().map_err(broken)? & Attributes::MODE, modified: (modified, 0) })
}

/// Those of a folder that is not named itself, but has something in it.
fn implied() -> Attributes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Attributes { mode: 0o755, modified: (i64::try_from(now.as_secs()).unwrap_or(0), 0) }
}
