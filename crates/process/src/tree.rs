//! Trees of files, read from the target's root and put there.
//!
//! A path is led below the root once, to its folder; from there on each name is opened in the folder that is open, and no link is
//! followed. What is written has no name until it is whole (open(2), O_TMPFILE): an agent that is killed leaves no half of a file. What
//! the kernel itself shows as files (`/proc`, `/sys`) is neither read nor written: there stand, for one, environments with their secrets.

/// Files that are made by the rights of another user.
mod behalf;
/// Files that are put in place.
mod put;

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use pepo_wire::tree::{Attributes, Cut, Existing, Node, Source};
use rustix::{
    fs::{Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{Process, ProcessError, root};

pub use put::Owner;

/// Links that are followed to a destination at most, as the kernel's own bound.
const MOST_LINKS: usize = 40;

/// File systems whose files are the kernel's own words (statfs(2), linux/magic.h): proc, sysfs, debugfs, tracefs, cgroup, cgroup2,
/// securityfs, bpf, pstore, configfs, selinuxfs, efivarfs, devpts, binfmt_misc.
const OF_THE_KERNEL: [u32; 14] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x0027_e0eb,
    0x6367_7270,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0x6265_6570,
    0xf97c_ff8c,
    0xde5e_81e4,
    0x0000_1cd1,
    0x4249_4e4d,
];

/// A folder of a target's, held by an O_PATH descriptor.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// Whose the files are that are put there.
    owner: Arc<Owner>,
}

/// What a path of the target's leads to, to be sent. A link is sent as such, unless it is to be followed.
///
/// # Errors
/// [`ProcessError::NoFile`], or what opening said.
pub fn source(
    process: &Process,
    path: &str,
    follow: bool,
) -> Result<(Attributes, Node<Folder>), ProcessError> {
    let failed = |errno| root::failed(process, Path::new(path), errno);
    let cut = Cut::of(path);
    let found = match cut.name {
        Some(name) if !follow && !cut.is_folder => {
            let folder = folder(process, cut.folder)?;
            open_path(&folder, name.as_bytes()).map_err(failed)?
        }
        _ => root::find(process, Path::new(path), failed)?.0,
    };
    node(found).map_err(|error| root::failed(process, Path::new(path), errno(&error)))
}

/// Where something is to be put.
#[derive(Debug)]
pub struct Destination {
    /// What is there now.
    pub existing: Existing,
    /// The folder that it is in, or that it is.
    folder: OwnedFd,
    /// Its name there; nothing when it is a folder.
    name: Option<String>,
}

impl Destination {
    /// Follows a path of the target's; the folder before its last name has to be there.
    ///
    /// # Errors
    /// [`ProcessError::NoFile`], or what opening said.
    pub fn find(process: &Process, path: &str) -> Result<Destination, ProcessError> {
        let failed = |errno| root::failed(process, Path::new(path), errno);
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let cut = Cut::of(&path);
            let Some(name) = cut.name else {
                let folder = folder(process, &path)?;
                return Ok(Destination { existing: Existing::Folder, folder, name: None });
            };
            let folder = folder(process, cut.folder)?;
            let existing = match open_path(&folder, name.as_bytes()) {
                Err(Errno::NOENT) => Existing::Nothing,
                Err(error) => return Err(failed(error)),
                Ok(found) => match kind(&found).map_err(failed)? {
                    FileType::Directory => {
                        return Ok(Destination { existing: Existing::Folder, folder: found, name: None });
                    }
                    FileType::Symlink => {
                        let to = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(failed)?;
                        let to = to.to_str().map_err(|_| failed(Errno::ILSEQ))?;
                        path =
                            if to.starts_with('/') { to.to_owned() } else { format!("{}/{to}", cut.folder) };
                        continue;
                    }
                    _ => Existing::Other,
                },
            };
            return Ok(Destination { existing, folder, name: Some(name.to_owned()) });
        }
        Err(failed(Errno::LOOP))
    }

    /// The folder in which it is put, and its name there when it is not that folder itself. What is put there is this owner's.
    ///
    /// # Errors
    /// It is a folder of the kernel's own.
    pub fn open(self, owner: Arc<Owner>) -> io::Result<(Folder, Option<String>)> {
        Ok((Folder::to_put(self.folder, owner)?, self.name))
    }
}

/// A folder below the target's root.
fn folder(process: &Process, path: &str) -> Result<OwnedFd, ProcessError> {
    let path = Path::new(if path.is_empty() { "/" } else { path });
    let failed = |errno| root::failed(process, path, errno);
    match root::find(process, path, failed)? {
        (found, FileType::Directory) => Ok(found),
        _ => Err(failed(Errno::NOTDIR)),
    }
}

/// Takes hold of what has this name in a folder; of a link, not of what it leads to.
fn open_path(folder: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn kind(fd: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Is it the kernel's own word?
fn is_of_the_kernel(fd: impl AsFd) -> Result<bool, Errno> {
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    Ok(OF_THE_KERNEL.iter().any(|&one| i64::from(one) == magic & 0xffff_ffff))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What a descriptor holds.
fn node(found: OwnedFd) -> io::Result<(Attributes, Node<Folder>)> {
    let stat = rustix::fs::fstat(&found)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let node = match kind {
        FileType::RegularFile | FileType::Directory if is_of_the_kernel(&found)? => {
            Node::Other("the kernel's own, no file")
        }
        FileType::RegularFile => {
            Node::File(root::reopen(&found)?, u64::try_from(stat.st_size).unwrap_or_default())
        }
        FileType::Directory => Node::Folder(Folder { fd: found, owner: Arc::default() }),
        FileType::Symlink => Node::Link(rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes()),
        FileType::Fifo => Node::Other("a pipe"),
        FileType::Socket => Node::Other("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Node::Other("a device"),
        FileType::Unknown => Node::Other("of a kind that is not known"),
    };
    Ok((attributes(&stat), node))
}

fn attributes(stat: &Stat) -> Attributes {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Attributes { mode: stat.st_mode & Attributes::MODE, modified: (stat.st_mtime, nanos) }
}

impl Folder {
    /// The folder itself, open to be read.
    fn readable(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
    }
}

impl Source for Folder {
    type File = File;

    fn names(&self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
        let names = Dir::new(self.readable()?)?;
        Ok(names.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                (!matches!(name, b"." | b"..")).then(|| Ok(name.to_vec()))
            }
            Err(error) => Some(Err(error.into())),
        }))
    }

    fn open(&self, name: &[u8]) -> io::Result<(Attributes, Node<Folder>)> {
        node(open_path(&self.fd, name)?)
    }
}

#[cfg(test)]
mod tests;
