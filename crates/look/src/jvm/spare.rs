//! A file in a JVM's `/tmp` for the moment in which the JVM writes into it: `.pepo-jfr-N-…/recording`.
//!
//! A JVM's own recorder takes no file that is lent as `/proc/N/fd/M`, for it asks for the real path. Worse, it ends the whole JVM when it
//! cannot write. So there must be room, which is taken and given back before the JVM is asked. The file stands in a folder of its own:
//! once that is gone, a JVM that comes late makes no file any more. It goes when it was read; a fork of this process sees to it when we
//! are killed.

use std::{
    fs::File,
    io::{self, PipeReader, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pepo_process::Process;
use rustix::{
    fs::{AtFlags, Dir, FallocateFlags, Mode, OFlags},
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

use super::attach::{Listener, Unattachable};
use crate::forked::{Forked, apart};

/// What the folders are called, before the JVM's number.
const FAMILY: &str = ".pepo-jfr-";
/// The file in it.
const NAME: &str = "recording";
/// Bytes that there must be room for. Some 150,000 are written each time, and what a JVM keeps in memory has a limit of 10 MiB.
const ROOM: u64 = 32 << 20;
/// Where a file's blocks are memory, of which less is taken to try.
const TMPFS: i64 = 0x0102_1994;
/// A folder that is as old belongs to one who was killed.
const OLD: Duration = Duration::from_secs(60);
/// So often it is tried to remove it after the end of this process.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The place for it.
pub(super) struct Spare {
    tmp: OwnedFd,
    folder: String,
    keeper: Forked,
}

/// The file, while it is there.
pub(super) struct Opened<'a> {
    listener: &'a Listener<'a>,
    spare: &'a Spare,
    file: File,
}

impl Spare {
    /// Finds a name, and makes nothing yet but the fork.
    ///
    /// # Errors
    /// The system gives no more processes, or no random bytes.
    pub(super) fn prepare(listener: &Listener<'_>) -> Result<Spare, Unattachable> {
        let failed =
            |error: io::Error| Unattachable::new(format!("no file can be put by for it: {error}"), "");
        let (tmp, number) = listener.place();
        let family = format!("{FAMILY}{number}-");
        let _ = listener.as_its_user(|| {
            sweep(tmp, &family);
            Ok(())
        });
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(|error| failed(error.into()))?;
        let folder = format!("{family}{:016x}", u64::from_ne_bytes(random));
        let keeper = Forked::start(|life| keep(life, listener, &folder)).map_err(failed)?;
        let tmp = tmp.try_clone_to_owned().map_err(failed)?;
        Ok(Spare { tmp, folder, keeper })
    }

    /// The file, empty; the JVM's user may write into it, and nobody else.
    ///
    /// # Errors
    /// There is no room, or it cannot be made.
    pub(super) fn open<'a>(
        &'a self,
        listener: &'a Listener<'a>,
        process: &Process,
    ) -> Result<Opened<'a>, Unattachable> {
        may_write(process)?;
        listener.as_its_user(|| {
            let made = has_room(self.tmp.as_fd()).and_then(|()| self.make());
            made.map(|file| Opened { listener, spare: self, file }).map_err(|error| {
                let why = format!("its recorder has no safe place to write to in its /tmp: {error}");
                Unattachable::new(why, format!("give it a writable /tmp with {} MiB free", ROOM >> 20))
            })
        })
    }

    fn make(&self) -> io::Result<File> {
        rustix::fs::mkdirat(&self.tmp, &self.folder, Mode::RWXU)?;
        let made = || {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
            let path = format!("{}/{NAME}", self.folder);
            let file = File::from(rustix::fs::openat(&self.tmp, path, flags, Mode::RUSR | Mode::WUSR)?);
            if rustix::fs::fstatfs(&file)?.f_type != TMPFS {
                match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, ROOM) {
                    // A file system that knows no such thing.
                    Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(0)?,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(file)
        };
        made().inspect_err(|_| {
            let _ = remove(self.tmp.as_fd(), &self.folder);
        })
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.keeper.tell();
    }
}

impl Opened<'_> {
    /// Its path, for the JVM.
    pub(super) fn path(&self) -> String {
        format!("/tmp/{}/{NAME}", self.spare.folder)
    }

    /// What was written.
    ///
    /// # Errors
    /// There is too much of it.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len();
        if length > ROOM {
            return Err(io::Error::other(format!("it writes more than {} MiB", ROOM >> 20)));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        let _ = self.listener.as_its_user(|| {
            let _ = remove(self.spare.tmp.as_fd(), &self.spare.folder);
            Ok(())
        });
    }
}

/// The fork's work: when this process was killed, it removes what may be there.
fn keep(mut life: PipeReader, listener: &Listener<'_>, folder: &str) {
    apart();
    // Nothing at the end of the pipe, a byte at our own end.
    if matches!(life.read(&mut [0]), Ok(1..)) {
        return;
    }
    let _ = listener.become_its_user();
    let (tmp, _) = listener.place();
    for _ in 0..TRIES {
        match remove(tmp, folder) {
            // The JVM may be about to make the file.
            Err(Errno::NOTEMPTY | Errno::EXIST) => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}

/// With the file in it, and nothing else.
fn remove(tmp: BorrowedFd<'_>, folder: &str) -> rustix::io::Result<()> {
    let _ = rustix::fs::unlinkat(tmp, format!("{folder}/{NAME}"), AtFlags::empty());
    rustix::fs::unlinkat(tmp, folder, AtFlags::REMOVEDIR)
}

/// Takes away what is left of those who were killed, and whose forks were.
fn sweep(tmp: BorrowedFd<'_>, family: &str) {
    let Ok(listed) = Dir::read_from(tmp) else { return };
    for entry in listed.flatten() {
        let Some(name) = entry.file_name().to_str().ok().filter(|name| name.starts_with(family)) else {
            continue;
        };
        let Ok(stat) = rustix::fs::statat(tmp, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let made = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        if SystemTime::now().duration_since(made).is_ok_and(|age| age > OLD) {
            let _ = remove(tmp, name);
        }
    }
}

/// Is there room in this file system?
fn has_room(tmp: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstatfs(tmp)?;
    // A tmpfs without a limit has no blocks at all.
    let free = u64::try_from(stat.f_bsize).unwrap_or(0).saturating_mul(stat.f_bavail);
    if stat.f_blocks > 0 && free < ROOM {
        return Err(io::Error::other(format!("{} MiB are free", free >> 20)));
    }
    Ok(())
}

/// May the process write files as large as that? (getrlimit(2), `RLIMIT_FSIZE`)
fn may_write(process: &Process) -> Result<(), Unattachable> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap_or_default();
    let limit = text.lines().find_map(|line| line.strip_prefix("Max file size"));
    match limit.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => Ok(()),
        Some(bytes) if bytes.parse().is_ok_and(|bytes: u64| bytes >= ROOM) => Ok(()),
        _ => Err(Unattachable::new(
            "it may not write files of any size, and its recorder would end it for that",
            format!("raise its RLIMIT_FSIZE to {} MiB", ROOM >> 20),
        )),
    }
}
