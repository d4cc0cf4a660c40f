//! Files of this side, to be copied and to be put in place. What is put in place comes from a target and is hostile: each name is
//! looked at before it is used, no link is followed, and nothing but files and links is replaced.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pepo_wire::tree::{Attributes, Node, Sink, Source};

use crate::new_file::Part;

/// A folder of this side.
#[derive(Debug)]
pub(crate) struct Here(PathBuf);

impl Here {
    /// The folder at this path; the path itself is the user's, and its links are followed.
    pub(crate) fn at(path: &Path) -> Here {
        Here(path.to_owned())
    }

    fn path(&self, name: &[u8]) -> io::Result<PathBuf> {
        Ok(self.0.join(system_name(name)?))
    }
}

/// What a path is, to be sent.
pub(crate) fn node(path: &Path, follow: bool) -> io::Result<(Attributes, Node<Here>)> {
    let found = if follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
    let kind = found.file_type();
    let node = if kind.is_symlink() {
        Node::Link(wire_name(fs::read_link(path)?.as_os_str())?)
    } else if kind.is_dir() {
        Node::Folder(Here::at(path))
    } else if kind.is_file() {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Node::File(file, size)
    } else {
        Node::Other("neither file nor folder nor link")
    };
    Ok((attributes(&found), node))
}

impl Source for Here {
    type File = File;

    fn names(&self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
        Ok(fs::read_dir(&self.0)?.map(|entry| wire_name(&entry?.file_name())))
    }

    fn open(&self, name: &[u8]) -> io::Result<(Attributes, Node<Here>)> {
        node(&self.path(name)?, false)
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for Here {
    type File = Part;

    fn enter(&self, name: &[u8], _attributes: Attributes) -> io::Result<(Here, bool)> {
        let path = self.path(name)?;
        let made = match private_folder(&path) {
            Ok(()) => true,
            // A link to a folder is none.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&path)?.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                false
            }
            Err(error) => return Err(error),
        };
        Ok((Here(path), made))
    }

    fn create(&self, name: &[u8], _attributes: Attributes, _size: u64) -> io::Result<Part> {
        Part::beside(&self.path(name)?, &mut private_file())
    }

    fn put(&self, part: Part, name: &[u8], attributes: Attributes) -> io::Result<()> {
        replaceable(&self.path(name)?)?;
        set_mode(&part.file, attributes)?;
        part.file.set_modified(time(attributes.modified))?;
        part.keep()
    }

    fn link(&self, name: &[u8], to: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        if replaceable(&path)? {
            fs::remove_file(&path)?;
        }
        make_link(to, &path)
    }

    fn settle(&self, attributes: Attributes) -> io::Result<()> {
        // Where a folder cannot be opened like a file it keeps the time of its making.
        let Ok(folder) = File::open(&self.0) else { return Ok(()) };
        set_mode(&folder, attributes)?;
        folder.set_modified(time(attributes.modified))
    }
}

/// Is there a file or a link of this name?
///
/// # Errors
/// Something else is.
fn replaceable(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() || there.is_symlink() => Ok(true),
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a device, a pipe or a socket has that name"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn attributes(found: &fs::Metadata) -> Attributes {
    let modified = found.modified().unwrap_or(UNIX_EPOCH);
    let modified = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => before_1970(before.duration()),
    };
    Attributes { mode: mode(found), modified }
}

/// Nanoseconds count forwards, also before 1970.
fn before_1970(before: Duration) -> (i64, u32) {
    let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
    match before.subsec_nanos() {
        0 => (-seconds, 0),
        nanos => (-seconds - 1, 1_000_000_000 - nanos),
    }
}

/// The time, or the beginning of 1970 for one that this system does not know.
fn time((seconds, nanos): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(nanos.into()))).unwrap_or(UNIX_EPOCH)
}

#[cfg(unix)]
mod system {
    use std::{
        ffi::{OsStr, OsString},
        fs::{self, DirBuilder, File, OpenOptions, Permissions},
        io,
        os::unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        },
        path::Path,
    };

    use pepo_wire::tree::Attributes;

    pub(super) fn wire_name(name: &OsStr) -> io::Result<Vec<u8>> {
        Ok(name.as_bytes().to_vec())
    }

    pub(super) fn system_name(name: &[u8]) -> io::Result<OsString> {
        Ok(OsString::from_vec(name.to_vec()))
    }

    pub(super) fn private_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    pub(super) fn private_file() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.mode(0o600);
        options
    }

    pub(super) fn mode(found: &fs::Metadata) -> u32 {
        found.mode() & Attributes::MODE
    }

    pub(super) fn set_mode(file: &File, attributes: Attributes) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(attributes.mode & Attributes::MODE))
    }

    pub(super) fn make_link(to: &[u8], path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(OsStr::from_bytes(to), path)
    }
}

#[cfg(not(unix))]
mod system {
    use std::{
        ffi::{OsStr, OsString},
        fs::{self, File, OpenOptions},
        io,
        path::Path,
    };

    use pepo_wire::tree::Attributes;

    /// Names that are devices in every folder, whatever follows a dot.
    const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];

    pub(super) fn wire_name(name: &OsStr) -> io::Result<Vec<u8>> {
        let name =
            name.to_str().ok_or(io::Error::new(io::ErrorKind::InvalidInput, "its name is no Unicode"))?;
        Ok(name.replace('\\', "/").into_bytes())
    }

    /// A colon opens a stream of a file or names a disk, a dot or a space at the end is dropped: such names would mean another file.
    pub(super) fn system_name(name: &[u8]) -> io::Result<OsString> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "this system has no files of that name");
        let name = str::from_utf8(name).map_err(|_| bad())?;
        let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
        let numbered = matches!(stem.get(..3), Some("COM" | "LPT")) && stem.chars().count() == 4;
        let is_odd = |c: char| c.is_control() || "<>:\"/\\|?*".contains(c);
        match name.contains(is_odd)
            || name.ends_with(['.', ' '])
            || DEVICES.contains(&stem.as_str())
            || numbered
        {
            true => Err(bad()),
            false => Ok(name.into()),
        }
    }

    pub(super) fn private_folder(path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    pub(super) fn private_file() -> OpenOptions {
        OpenOptions::new()
    }

    /// As most programs make them; which are programs is not known here.
    pub(super) fn mode(found: &fs::Metadata) -> u32 {
        if found.is_dir() { 0o755 } else { 0o644 }
    }

    pub(super) fn set_mode(_file: &File, _attributes: Attributes) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn make_link(_to: &[u8], _path: &Path) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "links of Linux mean nothing on this system"))
    }
}

use system::{make_link, mode, private_file, private_folder, set_mode, system_name, wire_name};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_come_back_as_they_were() {
        for (offset, is_before) in [
            (Duration::new(5, 7), false),
            (Duration::new(0, 0), false),
            (Duration::new(5, 7), true),
            (Duration::new(5, 0), true),
            (Duration::new(0, 1), true),
        ] {
            let (raw, at) = match is_before {
                true => (before_1970(offset), UNIX_EPOCH - offset),
                false => ((offset.as_secs() as i64, offset.subsec_nanos()), UNIX_EPOCH + offset),
            };
            assert_eq!(time(raw), at, "{offset:?}");
        }
        assert!(time((i64::MAX, 999_999_999)) >= UNIX_EPOCH && time((i64::MIN, 0)) <= UNIX_EPOCH);
    }
}

#[cfg(all(test, unix))]
mod hostile;
