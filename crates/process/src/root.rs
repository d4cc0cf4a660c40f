//! Files of a process, through its own root.
//!
//! Paths and links in a container are hostile: a link to `/etc/shadow` must lead to the container's, a FIFO must not hang
//! us, and a device must not be opened. The kernel resolves the path (openat2(2), RESOLVE_IN_ROOT) below an O_PATH
//! descriptor of `/proc/PID/root`; where it does not know the call, components are walked one by one.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Process, ProcessError};

/// Links that are followed at most, as the kernel's own bound.
const MOST_LINKS: usize = 40;
/// Times openat2 is tried again when a rename raced with it.
const TRIES: usize = 8;

/// Opens a regular file as the target sees it.
pub(crate) fn open(process: &Process, path: &Path) -> Result<File, ProcessError> {
    let failed = |errno| failed(process, path, errno);
    let (found, kind) = find(process, path, failed)?;
    if kind != FileType::RegularFile {
        return Err(ProcessError::NotAFile { path: path.to_owned() });
    }
    reopen(&found).map_err(failed)
}

/// What the system says of a path in the target's root.
pub(crate) fn failed(process: &Process, path: &Path, errno: Errno) -> ProcessError {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
            ProcessError::NoFile { pid: process.pid(), path: path.to_owned() }
        }
        error => ProcessError::File { pid: process.pid(), path: path.to_owned(), source: error.into() },
    }
}

/// Takes hold (O_PATH) of a folder as the target sees it.
pub(crate) fn open_folder(process: &Process, path: &Path) -> Result<OwnedFd, ProcessError> {
    let failed =
        |errno: Errno| ProcessError::File { pid: process.pid(), path: path.to_owned(), source: errno.into() };
    let (found, kind) = find(process, path, failed)?;
    if kind == FileType::Directory { Ok(found) } else { Err(failed(Errno::NOTDIR)) }
}

/// An O_PATH descriptor of what the target has there, and what that is.
pub(crate) fn find(
    process: &Process,
    path: &Path,
    failed: impl Fn(Errno) -> ProcessError,
) -> Result<(OwnedFd, FileType), ProcessError> {
    let root = process.open_below("root", OFlags::PATH | OFlags::DIRECTORY)?;
    let found = resolve(root.as_fd(), path).map_err(&failed)?;
    let kind = rustix::fs::fstat(&found).map_err(&failed)?;
    Ok((found, FileType::from_raw_mode(kind.st_mode)))
}

/// Opens for reading what an O_PATH descriptor holds; it is known to be a regular file, so nothing can block or change.
pub(crate) fn reopen(found: &OwnedFd) -> Result<File, Errno> {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::open(
        link,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
    )
    .map(File::from)
}

/// Leads a path to an O_PATH descriptor, without ever leaving `root`.
fn resolve(root: rustix::fd::BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            Err(Errno::NOSYS | Errno::PERM) => return walk(root, path),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// What openat2 does, for kernels before 5.6 and sandboxes that refuse it: no component is ever a link to the kernel, and
/// `..` goes back on our own list of open folders, never out of the root.
fn walk(root: rustix::fd::BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let mut pending = components(path.as_os_str());
    let mut folders = vec![root.try_clone_to_owned().map_err(|_| Errno::MFILE)?];
    let mut links = 0;
    while let Some(component) = pending.pop() {
        let Some(here) = folders.last() else { return Err(Errno::NOENT) };
        if component == ".." {
            folders.truncate(folders.len().saturating_sub(1).max(1));
            continue;
        }
        let next = rustix::fs::openat(
            here,
            &component,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
        if kind != FileType::Symlink {
            folders.push(next);
            continue;
        }
        links += 1;
        if links > MOST_LINKS || is_procfs(here)? {
            return Err(Errno::LOOP);
        }
        let target = OsString::from_vec(rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes());
        if target.as_bytes().starts_with(b"/") {
            folders.truncate(1);
        }
        pending.extend(components(&target));
    }
    folders.pop().ok_or(Errno::NOENT)
}

/// The components in the order they are popped.
fn components(path: &OsStr) -> Vec<OsString> {
    let parts = path.as_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<OsString> = parts.map(|part| OsStr::from_bytes(part).to_owned()).collect();
    parts.reverse();
    parts
}

/// Links in procfs may lead anywhere; none is followed.
fn is_procfs(folder: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(folder)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::symlink};

    use super::*;

    /// Opens below a folder by the kernel's way and by ours; both must agree.
    fn both(root: &Path, path: &str) -> Result<String, Errno> {
        let root = fs::File::open(root).unwrap();
        let text = |found: Result<OwnedFd, Errno>| {
            let mut text = String::new();
            reopen(&found?)?.read_to_string(&mut text).map_err(|_| Errno::IO)?;
            Ok(text)
        };
        let by_kernel = text(resolve(root.as_fd(), Path::new(path)));
        let by_us = text(walk(root.as_fd(), Path::new(path)));
        assert_eq!(by_kernel, by_us, "{path}");
        by_us
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("secret"), "inside").unwrap();
        symlink("/secret", root.join("absolute")).unwrap();
        symlink("../../../../../secret", root.join("a/b/climbing")).unwrap();
        symlink("b/climbing", root.join("a/chain")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/a", root.join("folder")).unwrap();
        for path in [
            "/secret",
            "secret",
            "/absolute",
            "/a/b/climbing",
            "/a/chain",
            "//a/../../secret",
            "/folder/./chain",
        ] {
            assert_eq!(both(&root, path).as_deref(), Ok("inside"), "{path}");
        }
        assert_eq!(both(&root, "/loop"), Err(Errno::LOOP));
        assert_eq!(both(&root, "/nothing"), Err(Errno::NOENT));
        assert_eq!(both(&root, "/secret/x"), Err(Errno::NOTDIR));
    }

    #[test]
    fn magic_links_of_procfs_are_not_followed() {
        for path in ["/proc/self/exe", "/proc/self/root/etc/passwd", "/proc/self/cwd/x"] {
            let root = fs::File::open("/").unwrap();
            assert_eq!(resolve(root.as_fd(), Path::new(path)).unwrap_err(), Errno::LOOP, "{path}");
            assert_eq!(walk(root.as_fd(), Path::new(path)).unwrap_err(), Errno::LOOP, "{path}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR).unwrap();
        let process = Process::own().unwrap();
        for path in [fifo.as_path(), Path::new("/dev/null"), Path::new("/proc")] {
            assert!(
                matches!(process.open_in_root(path), Err(ProcessError::NotAFile { .. })),
                "{}",
                path.display()
            );
        }
        assert!(matches!(process.open_in_root("/no/such"), Err(ProcessError::NoFile { .. })));
        assert!(process.open_in_root(std::env::current_exe().unwrap()).is_ok());
    }
}
