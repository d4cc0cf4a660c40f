//! Reading many places at nearly one moment: all by one system call where that is allowed (process_vm_readv(2)), else one after
//! the other through `/proc/PID/mem`.
#![allow(unsafe_code)] // process_vm_readv(2) has no safe wrapper.

use std::cell::Cell;

use pepo_process::{AgentPid, Process, ProcessError};

/// The most places of one call (IOV_MAX).
const AT_ONCE: usize = 1024;

/// A place and what was read there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Part {
    pub(crate) fn new(address: u64, length: u64) -> Part {
        Part { address, bytes: vec![0; usize::try_from(length).unwrap_or(0)] }
    }

    /// The first address after it.
    pub(crate) fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }

    /// The word at an address, if it was read here.
    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let bytes = self.bytes.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }
}

/// Memory that changes while it is read.
pub(crate) trait Memory {
    /// Fills the parts in their order, as near to one moment as can be; false when one of them cannot be read.
    fn fill(&self, parts: &mut [Part]) -> bool;

    /// Some bytes.
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut part = [Part { address, bytes: vec![0; length] }];
        let filled = address != 0 && self.fill(&mut part);
        let [part] = part;
        filled.then_some(part.bytes)
    }

    /// A number of eight bytes.
    fn word(&self, address: u64) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes(address, 8)?.try_into().ok()?))
    }
}

/// The memory of a process.
#[derive(Debug)]
pub(crate) struct Target {
    pid: AgentPid,
    file: pepo_process::Memory,
    /// Is process_vm_readv allowed? Found out by the first read.
    at_once: Cell<bool>,
}

impl Target {
    pub(crate) fn open(process: &Process) -> Result<Target, ProcessError> {
        Ok(Target { pid: process.pid(), file: process.memory()?, at_once: Cell::new(true) })
    }
}

impl Memory for Target {
    fn fill(&self, parts: &mut [Part]) -> bool {
        if self.at_once.get() {
            match parts.chunks_mut(AT_ONCE).try_for_each(|some| at_once(self.pid, some)) {
                Ok(()) => return true,
                Err(libc::EPERM | libc::ENOSYS) => self.at_once.set(false),
                Err(_) => return false,
            }
        }
        parts.iter_mut().all(|part| self.file.read_at(part.address, &mut part.bytes).is_ok())
    }
}

/// By one call; the error's number otherwise (EFAULT for a part that is not there).
fn at_once(pid: AgentPid, parts: &mut [Part]) -> Result<(), i32> {
    let wanted: usize = parts.iter().map(|part| part.bytes.len()).sum();
    let theirs: Vec<libc::iovec> = parts
        .iter()
        .map(|part| libc::iovec { iov_base: part.address as *mut libc::c_void, iov_len: part.bytes.len() })
        .collect();
    let ours: Vec<libc::iovec> = parts
        .iter_mut()
        .map(|part| libc::iovec { iov_base: part.bytes.as_mut_ptr().cast(), iov_len: part.bytes.len() })
        .collect();
    let counts = (ours.len() as libc::c_ulong, theirs.len() as libc::c_ulong);
    // SAFETY: each of `ours` is a live buffer of its own length, alone written by the kernel; `theirs` are addresses of the other
    // process, which this call only reads there.
    let read = unsafe {
        libc::process_vm_readv(pid.as_raw(), ours.as_ptr(), counts.0, theirs.as_ptr(), counts.1, 0)
    };
    match usize::try_from(read) {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) => Err(libc::EFAULT),
        Err(_) => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EFAULT)),
    }
}

/// Memory of which no more is read than this many bytes, so that what leads from one place to the next comes to an end.
pub(crate) struct Bounded<'a, M> {
    pub(crate) memory: &'a M,
    pub(crate) left: &'a Cell<u64>,
}

/// What a read costs besides its bytes.
const READ: u64 = 64;

impl<M: Memory> Memory for Bounded<'_, M> {
    fn fill(&self, parts: &mut [Part]) -> bool {
        let cost = parts.iter().map(|part| part.bytes.len() as u64 + READ).sum();
        let left = self.left.get().checked_sub(cost);
        self.left.set(left.unwrap_or(0));
        left.is_some() && self.memory.fill(parts)
    }
}

/// Memory that stands still, for tests: parts at addresses.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Still(pub(crate) Vec<Part>);

#[cfg(test)]
impl Memory for Still {
    fn fill(&self, parts: &mut [Part]) -> bool {
        parts.iter_mut().all(|part| {
            self.0.iter().any(|known| {
                let offset = part.address.checked_sub(known.address).and_then(|at| usize::try_from(at).ok());
                let bytes = offset.and_then(|at| known.bytes.get(at..at.checked_add(part.bytes.len())?));
                bytes.map(|bytes| part.bytes.copy_from_slice(bytes)).is_some()
            })
        })
    }
}
