//! The data of files: copied out of the store, and summed.

use std::{io, os::fd::OwnedFd};

use ring::digest::{self, SHA256};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::unpack::{Store, hex};

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

/// Copies within the kernel where that is possible.
pub(super) fn copy(
    store: &Store,
    mut from: u64,
    file: &OwnedFd,
    mut to: u64,
    mut left: u64,
) -> Result<(), Errno> {
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
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written = rustix::io::pwrite(file, rest, to)?;
            rest = &rest[written..];
            to += written as u64;
        }
        from += count as u64;
        left -= count as u64;
    }
    Ok(())
}
