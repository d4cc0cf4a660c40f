//! From a tree to an archive.

use std::{
    cell::RefCell,
    io::{self, BufWriter, Write},
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    rc::Rc,
};

use pepo_wire::{
    Failure,
    tree::{Attributes, Build, Part, Sink, Skipped, Tally},
};
use tar::{Builder, EntryType, Header};

/// Bytes that go out at once.
const PORTION: usize = 64 << 10;

/// Writes the parts of a tree, as they come, as an archive; its source is called `name`, or only what is in it is packed. `each` is told of
/// all that was packed so far.
///
/// # Errors
/// What came is no tree, or the archive cannot be written; then it has no end.
pub(in super::super) fn pack(
    parts: impl Iterator<Item = Part>,
    name: Option<Vec<u8>>,
    to: impl Write,
    each: &mut dyn FnMut(&Tally),
) -> Result<Tally, Failure> {
    let to = BufWriter::with_capacity(PORTION, to);
    let archive = Rc::new(RefCell::new(Archive { to, short: Vec::new() }));
    let mut build = Build::new(Folder { archive: Rc::clone(&archive), path: PathBuf::new() }, name);
    for part in parts {
        build.take(part)?;
        each(build.tally());
    }
    let mut tally = build.finish()?;
    let mut archive = archive.borrow_mut();
    let ended = archive.to.write_all(&[0; 1024]).and_then(|()| archive.to.flush());
    ended.map_err(|error| {
        Failure::new(pepo_wire::Code::FileDenied, "the archive could not be written").because(error)
    })?;
    tally.failed += archive.short.len() as u64;
    tally.skipped.append(&mut archive.short);
    Ok(tally)
}

/// The archive so far.
struct Archive<W: Write> {
    to: BufWriter<W>,
    /// Files that were shorter than they had been said to be.
    short: Vec<Skipped>,
}

impl<W: Write> Archive<W> {
    /// What writes heads. Dropped, it would end the archive, as if that were whole.
    fn tar(&mut self) -> ManuallyDrop<Builder<&mut BufWriter<W>>> {
        ManuallyDrop::new(Builder::new(&mut self.to))
    }
}

/// A folder in the archive.
struct Folder<W: Write> {
    archive: Rc<RefCell<Archive<W>>>,
    path: PathBuf,
}

/// A file whose head is written.
struct Member<W: Write> {
    archive: Rc<RefCell<Archive<W>>>,
    path: PathBuf,
    size: u64,
    written: u64,
}

impl<W: Write> Folder<W> {
    fn path(&self, name: &[u8]) -> io::Result<PathBuf> {
        Ok(self.path.join(system_path(name)?))
    }
}

fn header(kind: EntryType, attributes: Attributes, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(attributes.mode);
    // Whose they are is not told: they belong to whoever unpacks them.
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(attributes.modified.0).unwrap_or(0));
    header.set_size(size);
    header
}

impl<W: Write> Sink for Folder<W> {
    type File = Member<W>;

    fn enter(&self, name: &[u8], attributes: Attributes) -> io::Result<(Self, bool)> {
        let path = self.path(name)?;
        let mut head = header(EntryType::Directory, attributes, 0);
        self.archive.borrow_mut().tar().append_data(&mut head, path.join(""), io::empty())?;
        Ok((Folder { archive: Rc::clone(&self.archive), path }, true))
    }

    fn create(&self, name: &[u8], attributes: Attributes, size: u64) -> io::Result<Member<W>> {
        let path = self.path(name)?;
        // Its bytes follow one by one.
        let mut head = header(EntryType::Regular, attributes, size);
        self.archive.borrow_mut().tar().append_data(&mut head, &path, io::empty())?;
        Ok(Member { archive: Rc::clone(&self.archive), path, size, written: 0 })
    }

    fn put(&self, mut file: Member<W>, _name: &[u8], _attributes: Attributes) -> io::Result<()> {
        if file.written < file.size {
            let (path, size, written) = (file.path.display().to_string(), file.size, file.written);
            let why =
                format!("it became shorter while it was read: behind {written} of {size} bytes are zeros");
            io::copy(&mut io::Read::take(io::repeat(0), size - written), &mut file)?;
            self.archive.borrow_mut().short.push(Skipped { path, why });
        }
        let zeros = [0; 512];
        let over = usize::try_from(file.size % 512).unwrap_or(0);
        let padding = zeros.get(over..).filter(|_| over > 0).unwrap_or_default();
        self.archive.borrow_mut().to.write_all(padding)
    }

    fn link(&self, name: &[u8], to: &[u8]) -> io::Result<()> {
        let attributes = Attributes { mode: 0o777, ..Attributes::default() };
        let mut head = header(EntryType::Symlink, attributes, 0);
        self.archive.borrow_mut().tar().append_link(&mut head, self.path(name)?, system_path(to)?)
    }

    fn settle(&self, _attributes: Attributes) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Write for Member<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.size - self.written {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than it was said to be"));
        }
        let count = self.archive.borrow_mut().to.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
fn system_path(name: &[u8]) -> io::Result<&Path> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(Path::new(std::ffi::OsStr::from_bytes(name)))
}

/// A backslash would be a slash in the archive, and a colon the end of a disk's name.
#[cfg(not(unix))]
fn system_path(name: &[u8]) -> io::Result<&Path> {
    let odd =
        || io::Error::new(io::ErrorKind::InvalidInput, "no archive is made of such a name on this system");
    let name = str::from_utf8(name).map_err(|_| odd())?;
    if name.contains(['\\', ':']) { Err(odd()) } else { Ok(Path::new(name)) }
}
