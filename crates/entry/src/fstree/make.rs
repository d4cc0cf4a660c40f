//! Makes what an entry is, in a folder that is open, under a name that nobody uses.

use std::{collections::BTreeSet, os::fd::OwnedFd};

use ring::digest::{self, SHA256};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    data::{Ahead, copy, errno, zeros},
    list::{Entry, shown},
    tar::{Kind, Member},
    unpack::{Store, hex},
};

/// One who makes entries; each thread has its own.
pub(super) struct Maker<'a> {
    store: &'a Store,
    ahead: Ahead,
    /// What could not be kept.
    pub(super) notes: BTreeSet<String>,
}

impl<'a> Maker<'a> {
    /// One that takes data from `store`.
    pub(super) fn new(store: &'a Store) -> Maker<'a> {
        Maker { store, ahead: Ahead::default(), notes: BTreeSet::new() }
    }

    /// Makes what has no other name, and is no folder; what it is, in words.
    pub(super) fn make(&mut self, folder: &OwnedFd, name: &str, entry: &Entry) -> Result<String, Errno> {
        let member = &entry.member;
        match member.kind {
            Kind::File => {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
                self.fill(&file, entry)?;
                self.dress(&file, member)?;
                Ok(String::new())
            }
            Kind::SymLink => {
                rustix::fs::symlinkat(member.link.as_slice(), folder, name)?;
                self.own_link(folder, name, member);
                Ok(format!("link to {}", shown(&member.link)))
            }
            Kind::Pipe => {
                rustix::fs::mknodat(folder, name, FileType::Fifo, Mode::from_raw_mode(member.mode), 0)?;
                self.own_link(folder, name, member);
                Ok("pipe".to_owned())
            }
            Kind::Device { block, numbers } => {
                let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
                let device = rustix::fs::makedev(numbers.0, numbers.1);
                rustix::fs::mknodat(folder, name, kind, Mode::from_raw_mode(member.mode), device)?;
                self.own_link(folder, name, member);
                Ok("device".to_owned())
            }
            Kind::Folder => Err(Errno::ISDIR),
            Kind::HardLink => Err(Errno::MLINK),
        }
    }

    /// Copies a file's data out of the store; holes stay holes.
    fn fill(&mut self, file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        let mut from = entry.at;
        for (offset, length) in &entry.member.pieces {
            copy(self.store, &mut self.ahead, from, file, *offset, *length)?;
            from += length;
        }
        let end = entry.member.pieces.last().map_or(0, |(offset, length)| offset + length);
        if end < entry.member.size {
            rustix::fs::ftruncate(file, entry.member.size)?;
        }
        Ok(())
    }

    /// Owner, mode, attributes and time, as far as they are permitted.
    pub(super) fn dress(&mut self, file: &OwnedFd, member: &Member) -> Result<(), Errno> {
        let owner =
            rustix::fs::fchown(file, Some(Uid::from_raw(member.user)), Some(Gid::from_raw(member.group)));
        let mut mode = member.mode;
        if owner.is_err() {
            self.note("owners");
            // As another user's it would be another right.
            mode &= 0o1777;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
        for (name, value) in &member.attributes {
            if rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).is_err() {
                self.note(&format!("the attribute {}", String::from_utf8_lossy(name)));
            }
        }
        rustix::fs::futimens(file, &times(member))
    }

    /// The same for what has no data.
    fn own_link(&mut self, folder: &OwnedFd, name: &str, member: &Member) {
        let (user, group) = (Some(Uid::from_raw(member.user)), Some(Gid::from_raw(member.group)));
        if rustix::fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            self.note("owners");
        }
        let _ = rustix::fs::utimensat(folder, name, &times(member), AtFlags::SYMLINK_NOFOLLOW);
    }

    fn note(&mut self, what: &str) {
        if !self.notes.contains(what) {
            self.notes.insert(what.to_owned());
        }
    }

    /// The SHA-256 of a file of the archive, holes and all.
    pub(super) fn sum_of(&self, entry: &Entry) -> Result<String, Errno> {
        let mut sum = digest::Context::new(&SHA256);
        let mut buffer = vec![0; 128 * 1024];
        let (mut at, mut from) = (0, entry.at);
        for (offset, length) in &entry.member.pieces {
            zeros(&mut sum, offset - at);
            let mut left = *length;
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count = self.store.read_at(&mut buffer[..most], from).map_err(|error| errno(&error))?;
                if count == 0 {
                    return Err(Errno::IO);
                }
                sum.update(&buffer[..count]);
                from += count as u64;
                left -= count as u64;
            }
            at = offset + length;
        }
        zeros(&mut sum, entry.member.size - at);
        Ok(hex(sum.finish().as_ref()))
    }
}

fn times(member: &Member) -> Timestamps {
    let modified = Timespec { tv_sec: member.time.0, tv_nsec: member.time.1.into() };
    Timestamps { last_access: modified, last_modification: modified }
}
