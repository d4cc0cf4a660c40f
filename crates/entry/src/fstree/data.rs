//! The data of files: copied out of the store, and summed.

use std::{io, os::fd::OwnedFd};

use ring::digest::{self, SHA256};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::unpack::{Store, hex};

/// So much is read ahead of small files, in bytes.
const AHEAD: usize = 1 << 20;
/// As large is a small one.
const SMALL: usize = 64 * 1024;

pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

pub(super) fn zeros(sum: &mut digest::Context, mut count: u64) {
    let zeros = [0; 4096];
    while count > 0 {
        let most = zeros.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        sum.update(&zeros[..most]);
        count -= most as u64;
    }
}

/// The SHA-256 of a file that is there.
pub(super) fn sum_at(folder: &OwnedFd, name: &str) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let mut sum = digest::Context::new(&SHA256);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match rustix::io::read(&file, &mut buffer)? {
            0 => return Ok(hex(sum.finish().as_ref())),
            count => sum.update(&buffer[..count]),
        }
    }
}

/// What was read ahead of a store: small files follow each other in it.
#[derive(Default)]
pub(super) struct Ahead {
    at: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    fn get(&mut self, store: &Store, from: u64, length: usize) -> Result<&[u8], Errno> {
        let held = from.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok());
        let held = held.filter(|skip| skip.saturating_add(length) <= self.bytes.len());
        let skip = match held {
            Some(skip) => skip,
            None => {
                self.bytes.resize(AHEAD, 0);
                let count = store.read_at(&mut self.bytes, from).map_err(|error| errno(&error))?;
                self.bytes.truncate(count);
                self.at = from;
                0
            }
        };
        self.bytes.get(skip..skip + length).ok_or(Errno::IO)
    }
}

/// Copies within the kernel where that is possible and worth it.
pub(super) fn copy(
    store: &Store,
    ahead: &mut Ahead,
    mut from: u64,
    file: &OwnedFd,
    mut to: u64,
    mut left: u64,
) -> Result<(), Errno> {
    if let Ok(length) = usize::try_from(left)
        && length <= SMALL
    {
        return write_all(file, ahead.get(store, from, length)?, to);
    }
    while left > 0 {
        let most = usize::try_from(left.min(1 << 30)).unwrap_or(usize::MAX);
        let (mut source, mut target) = (from, to);
        match rustix::fs::copy_file_range(store.file(), Some(&mut source), file, Some(&mut target), most) {
            Ok(count @ 1..) => {
                (from, to, left) = (from + count as u64, to + count as u64, left - count as u64);
            }
            Ok(0) => return Err(Errno::IO),
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_hand(store, from, file, to, left);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn copy_by_hand(
    store: &Store,
    mut from: u64,
    file: &OwnedFd,
    mut to: u64,
    mut left: u64,
) -> Result<(), Errno> {
    let mut buffer = vec![0; 128 * 1024];
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = store.read_at(&mut buffer[..most], from).map_err(|error| errno(&error))?;
        if count == 0 {
            return Err(Errno::IO);
        }
        write_all(file, &buffer[..count], to)?;
        (from, to) = (from + count as u64, to + count as u64);
        left -= count as u64;
    }
    Ok(())
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut to: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = rustix::io::pwrite(file, bytes, to)?;
        bytes = &bytes[written..];
        to += written as u64;
    }
    Ok(())
}
