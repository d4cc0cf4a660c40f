//! A place in a JVM's `/tmp` for what its own recorder writes: the folder `.pepo-jfr-N-…` with the files `recording` and `settings.jfc`.
//!
//! A JVM's own recorder takes no file that is lent as `/proc/N/fd/M`, for it asks for the real path. Worse, it ends the whole JVM when it
//! cannot write. So the room that it needs is taken for the file beforehand, and stays taken until it was written: beyond its end, where
//! the recorder, which opens the file without cutting it, finds it. Both files stand in a folder of their own: once that is gone, a JVM
//! that comes late makes no file any more. It goes with the recording; a fork of this process sees to it when we are killed.

use std::{
    fs::File,
    io::{self, PipeReader, Read as _, Write as _},
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
/// The files in them.
const NAME: &str = "recording";
const SETTINGS: &str = "settings.jfc";
/// Bytes that are taken. Some 150,000 are written each time, and what a JVM keeps in memory has a limit of 10 MiB.
const ROOM: u64 = 16 << 20;
/// A folder that was not used for as long belongs to one who was killed.
const OLD: Duration = Duration::from_secs(60);
/// So often it is tried to remove it after the end of this process.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The place for it, until it is removed.
pub(super) struct Spare {
    tmp: OwnedFd,
    folder: String,
    file: File,
    keeper: Forked,
}

impl Spare {
    /// Makes it: the JVM's user may read and write there, and nobody else.
    ///
    /// # Errors
    /// It cannot be made, or there is no room.
    pub(super) fn make(listener: &Listener<'_>, settings: &str) -> Result<Spare, Unattachable> {
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
        let mut keeper = Forked::start(|life| keep(life, listener, &folder)).map_err(failed)?;
        let tmp = tmp.try_clone_to_owned().map_err(failed)?;
        let made =
            listener.as_its_user(|| lay(&tmp, &folder, settings).map_err(|error| unsafe_place(&error)));
        match made {
            Ok(file) => Ok(Spare { tmp, folder, file, keeper }),
            Err(why) => {
                keeper.tell();
                Err(why)
            }
        }
    }

    /// Takes the room for what will be written, which cannot fail for want of it then. Where a file system knows no such thing, there must
    /// at least be as much now.
    ///
    /// # Errors
    /// There is no room, or the process may not write as much.
    pub(super) fn reserve(&self, process: &Process) -> Result<(), Unattachable> {
        may_write(process)?;
        let taken = match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, ROOM) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => has_room(self.tmp.as_fd()),
            taken => taken.map_err(io::Error::from),
        };
        taken.map_err(|error| unsafe_place(&error))
    }

    /// Path of the file, for the JVM.
    pub(super) fn recording(&self) -> String {
        format!("/tmp/{}/{NAME}", self.folder)
    }

    /// Path of the settings, for the JVM.
    pub(super) fn settings(&self) -> String {
        format!("/tmp/{}/{SETTINGS}", self.folder)
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

    /// Takes it away: a JVM that comes later writes nowhere.
    pub(super) fn remove(&self, listener: &Listener<'_>) {
        let _ = listener.as_its_user(|| {
            let _ = remove(self.tmp.as_fd(), &self.folder);
            Ok(())
        });
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.keeper.tell();
    }
}

/// Makes the folder with its files, or nothing.
fn lay(tmp: &OwnedFd, folder: &str, settings: &str) -> io::Result<File> {
    rustix::fs::mkdirat(tmp, folder, Mode::RWXU)?;
    let create = |name: &str| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(tmp, format!("{folder}/{name}"), flags, Mode::RUSR | Mode::WUSR);
        opened.map(File::from)
    };
    let made = || {
        create(SETTINGS)?.write_all(settings.as_bytes())?;
        Ok(create(NAME)?)
    };
    made().inspect_err(|_| {
        let _ = remove(tmp.as_fd(), folder);
    })
}

fn unsafe_place(error: &io::Error) -> Unattachable {
    Unattachable::new(
        format!(
            "its recorder has no safe place to write to in its /tmp, where {} MiB are needed: {error}",
            ROOM >> 20
        ),
        format!("give it a writable /tmp with {} MiB free", ROOM >> 20),
    )
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

/// With the files in it, and nothing else.
fn remove(tmp: BorrowedFd<'_>, folder: &str) -> rustix::io::Result<()> {
    for name in [NAME, SETTINGS] {
        let _ = rustix::fs::unlinkat(tmp, format!("{folder}/{name}"), AtFlags::empty());
    }
    rustix::fs::unlinkat(tmp, folder, AtFlags::REMOVEDIR)
}

/// Takes away what is left of those who were killed, and whose forks were.
fn sweep(tmp: BorrowedFd<'_>, family: &str) {
    let Ok(listed) = Dir::read_from(tmp) else { return };
    for entry in listed.flatten() {
        let Some(name) = entry.file_name().to_str().ok().filter(|name| name.starts_with(family)) else {
            continue;
        };
        // Each recording cuts the file anew.
        let made = rustix::fs::statat(tmp, format!("{name}/{NAME}"), AtFlags::SYMLINK_NOFOLLOW);
        let made = made.or_else(|_| rustix::fs::statat(tmp, name, AtFlags::SYMLINK_NOFOLLOW));
        let Ok(stat) = made else { continue };
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
