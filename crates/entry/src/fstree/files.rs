//! Files as they are made: created, filled and dressed; many small ones by several threads.

use std::{
    collections::BTreeSet,
    num::NonZero,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::{
    fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    data::{Ahead, copy},
    list::Entry,
    tar::Member,
    unpack::Store,
};

/// As many files a thread takes at once: those of one reading ahead.
const AT_ONCE: usize = 256;
/// More threads wait for each other: a folder takes one new name at a time.
const MOST_THREADS: usize = 4;

/// A small file, and the folder that it is for.
pub(super) struct Waiting<'a> {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) entry: &'a Entry,
}

/// Makes all that wait, under their own names. The first that cannot be made is told; others after it may be there.
pub(super) fn make_all<'a>(
    waiting: &[Waiting<'a>],
    store: &Store,
    ahead: &mut Ahead,
    notes: &mut BTreeSet<String>,
) -> Result<(), (&'a Entry, Errno)> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let all_notes = Mutex::new(BTreeSet::new());
    let work = |ahead: &mut Ahead| {
        let mut notes = BTreeSet::new();
        loop {
            let begin = next.fetch_add(AT_ONCE, Ordering::Relaxed);
            let Some(some) = waiting.get(begin..).filter(|rest| !rest.is_empty()) else { break };
            let made = some.iter().take(AT_ONCE).enumerate().try_for_each(|(at, one)| {
                let name = one.entry.path.rsplit('/').next().unwrap_or(&one.entry.path);
                make(&one.folder, name, one.entry, store, ahead, &mut notes)
                    .map_err(|error| (begin + at, error))
            });
            if let Err(error) = made {
                // Nobody takes more.
                next.store(waiting.len(), Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed = Some(
                    failed
                        .map_or(error, |other: (usize, Errno)| if other.0 < error.0 { other } else { error }),
                );
            }
        }
        all_notes.lock().unwrap_or_else(PoisonError::into_inner).append(&mut notes);
    };
    thread::scope(|scope| {
        for _ in 1..threads(waiting.len()) {
            // Where no thread can be had there is this one.
            let _ = thread::Builder::new().spawn_scoped(scope, || work(&mut Ahead::default()));
        }
        work(ahead);
    });
    notes.append(&mut all_notes.into_inner().unwrap_or_else(PoisonError::into_inner));
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((at, error)) => Err((waiting[at].entry, error)),
        None => Ok(()),
    }
}

/// How many threads so many files are worth.
fn threads(files: usize) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    files.div_ceil(AT_ONCE).min(processors).min(MOST_THREADS)
}

/// Makes a file of the archive under a name that nobody uses. What cannot be kept is noted.
pub(super) fn make(
    folder: &OwnedFd,
    name: &str,
    entry: &Entry,
    store: &Store,
    ahead: &mut Ahead,
    notes: &mut BTreeSet<String>,
) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
    fill(&file, entry, store, ahead)?;
    dress(&file, &entry.member, notes)
}

/// Copies a file's data out of the store; holes stay holes.
fn fill(file: &OwnedFd, entry: &Entry, store: &Store, ahead: &mut Ahead) -> Result<(), Errno> {
    let mut from = entry.at;
    for (offset, length) in &entry.member.pieces {
        copy(store, ahead, from, file, *offset, *length)?;
        from += length;
    }
    let end = entry.member.pieces.last().map_or(0, |(offset, length)| offset + length);
    if end < entry.member.size {
        rustix::fs::ftruncate(file, entry.member.size)?;
    }
    Ok(())
}

/// Owner, mode, attributes and time, as far as they are permitted.
pub(super) fn dress(file: &OwnedFd, member: &Member, notes: &mut BTreeSet<String>) -> Result<(), Errno> {
    let owner = rustix::fs::fchown(file, Some(Uid::from_raw(member.user)), Some(Gid::from_raw(member.group)));
    let mut mode = member.mode;
    if owner.is_err() {
        notes.insert("owners".to_owned());
        // As another user's it would be another right.
        mode &= 0o1777;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    for (name, value) in &member.attributes {
        if rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).is_err() {
            notes.insert(format!("the attribute {}", String::from_utf8_lossy(name)));
        }
    }
    rustix::fs::futimens(file, &times(member))
}

/// The times of a file of the archive.
pub(super) fn times(member: &Member) -> Timestamps {
    let modified = Timespec { tv_sec: member.time.0, tv_nsec: member.time.1.into() };
    Timestamps { last_access: modified, last_modification: modified }
}
