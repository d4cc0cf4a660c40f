//! Files that are put in place: written without a name, then given one at once.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pepo_wire::tree::{Attributes, Sink};
use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid},
    io::Errno,
};

use super::{Folder, behalf::on_behalf_of, is_of_the_kernel, open_path};
use crate::{Process, ProcessError};

/// Names that are tried for what has none yet.
const TRIES: u64 = 8;
/// Nobody else reads half of a file.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Whose the files are that are put into a target: its process's user's, as far as we may give them away. What is replaced keeps its
/// owner.
#[derive(Debug, Default)]
pub struct Owner {
    /// User and group; nothing when they are our own.
    ids: Option<(Uid, Gid)>,
    /// Its process is in another user namespace than we are.
    is_apart: bool,
    /// Some could not be given away.
    kept: AtomicBool,
}

impl Owner {
    /// The user by whose rights the process opens files.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn of(process: &Process) -> Result<Owner, ProcessError> {
        let status = process.status()?;
        let theirs = (Uid::from_raw(status.uid[3]), Gid::from_raw(status.gid[3]));
        let ours = (rustix::process::geteuid(), rustix::process::getegid());
        let is_apart = process.namespaces().user != Process::own()?.namespaces().user;
        let ids = Some(theirs).filter(|&theirs| theirs != ours);
        Ok(Owner { ids, is_apart, kept: AtomicBool::new(false) })
    }

    /// Were some files not given away, so that they are our own user's?
    #[must_use]
    pub fn kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    fn give(&self, give: impl FnOnce(Uid, Gid) -> Result<(), Errno>, replaced: Option<(Uid, Gid)>) {
        if let Some((user, group)) = replaced.or(self.ids)
            && give(user, group).is_err()
        {
            self.kept.store(true, Ordering::Relaxed);
        }
    }
}

/// A file that is being written; dropped, it was never there.
#[derive(Debug)]
pub struct Part {
    file: File,
    /// Where the file system makes no files without a name: its name until it is whole.
    named: Option<Named>,
}

/// A name that is taken away again.
#[derive(Debug)]
struct Named {
    folder: OwnedFd,
    name: String,
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

impl Named {
    /// What `make` makes under a name that nothing else has.
    fn new<T>(folder: &OwnedFd, make: impl Fn(&str) -> Result<T, Errno>) -> io::Result<(Named, T)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..TRIES {
            let name = format!(".pepo-{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            match make(&name) {
                Ok(made) => return Ok((Named { folder: folder.try_clone()?, name }, made)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Gives it its own name, over what has it now. Then nothing is left to take away.
    fn becomes(self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.folder, &self.name, &self.folder, name)?)
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

impl Folder {
    /// A folder in which files are put.
    pub(super) fn to_put(fd: OwnedFd, owner: Arc<Owner>) -> io::Result<Folder> {
        if is_of_the_kernel(&fd)? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the folder is the kernel's own"));
        }
        Ok(Folder { fd, owner })
    }

    /// Makes a name in it; where we are nobody to the file system, by the rights of the folder's owner.
    fn making<T>(&self, make: impl FnOnce() -> T) -> T {
        match rustix::fs::fstat(&self.fd) {
            Ok(stat) if self.owner.is_apart => {
                on_behalf_of(Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid), make)
            }
            _ => make(),
        }
    }

    /// Begins a file under a name that it has until it is whole.
    fn create_named(&self) -> io::Result<Part> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let make = |name: &str| rustix::fs::openat(&self.fd, name, flags, PRIVATE);
        let (named, fd) = Named::new(&self.fd, |name| self.making(|| make(name)))?;
        Ok(Part { file: fd.into(), named: Some(named) })
    }

    /// Whose the file is that a new one replaces; nothing when there is none.
    ///
    /// # Errors
    /// It is neither a file nor a link.
    fn replaced(&self, name: &[u8]) -> io::Result<Option<(Uid, Gid)>> {
        let stat = match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)))),
            FileType::Symlink => Ok(None),
            FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a device, a pipe or a socket has that name",
            )),
        }
    }
}

impl Sink for Folder {
    type File = Part;

    fn enter(&self, name: &[u8], _attributes: Attributes) -> io::Result<(Folder, bool)> {
        let made = match self.making(|| rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let fd = open_path(&self.fd, name)?;
        if super::kind(&fd)? != FileType::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if made {
            let give =
                |user, group| rustix::fs::chownat(&fd, "", Some(user), Some(group), AtFlags::EMPTY_PATH);
            self.owner.give(give, None);
        }
        Ok((Folder::to_put(fd, Arc::clone(&self.owner))?, made))
    }

    fn create(&self, _name: &[u8], _attributes: Attributes, _size: u64) -> io::Result<Part> {
        if self.owner.is_apart {
            return self.create_named();
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TMPFILE;
        match rustix::fs::openat(&self.fd, ".", flags, PRIVATE) {
            Ok(fd) => Ok(Part { file: fd.into(), named: None }),
            // The file system, or a kernel before 3.11, does not know it.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => self.create_named(),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&self, part: Part, name: &[u8], attributes: Attributes) -> io::Result<()> {
        let replaced = self.replaced(name)?;
        let give = |user, group| rustix::fs::fchown(&part.file, Some(user), Some(group));
        self.owner.give(give, replaced);
        set(&part.file, attributes)?;
        let named = match part.named {
            Some(named) => named,
            None => {
                let from = format!("/proc/self/fd/{}", part.file.as_raw_fd());
                let link = |to: &[u8]| rustix::fs::linkat(CWD, &from, &self.fd, to, AtFlags::SYMLINK_FOLLOW);
                match link(name) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EXIST) => Named::new(&self.fd, |name| link(name.as_bytes()))?.0,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        self.making(|| named.becomes(name))
    }

    fn link(&self, name: &[u8], to: &[u8]) -> io::Result<()> {
        self.replaced(name)?;
        let make = |temporary: &str| self.making(|| rustix::fs::symlinkat(to, &self.fd, temporary));
        let (named, ()) = Named::new(&self.fd, make)?;
        let give = |user, group| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&self.fd, &named.name, Some(user), Some(group), flags)
        };
        self.owner.give(give, None);
        self.making(|| named.becomes(name))
    }

    fn settle(&self, attributes: Attributes) -> io::Result<()> {
        set(self.readable()?, attributes)
    }
}

/// Mode and time of what is open.
fn set(file: impl AsFd, attributes: Attributes) -> io::Result<()> {
    rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
    let (tv_sec, tv_nsec) = (attributes.modified.0, attributes.modified.1.into());
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec },
    };
    Ok(rustix::fs::futimens(&file, &times)?)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A part as it is on file systems that make no files without a name.
    pub(in crate::tree) fn named(folder: &OwnedFd, make: impl Fn(&str) -> Result<OwnedFd, Errno>) -> Part {
        let (named, fd) = Named::new(folder, make).unwrap();
        Part { file: fd.into(), named: Some(named) }
    }

    impl Owner {
        pub(in crate::tree) fn testing(user: u32, group: u32) -> Owner {
            Owner {
                ids: Some((Uid::from_raw(user), Gid::from_raw(group))),
                is_apart: false,
                kept: AtomicBool::new(false),
            }
        }
    }
}
