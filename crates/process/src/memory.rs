//! The memory of a process, through `/proc/PID/mem`.
//!
//! Where containers run under the usual seccomp profile `process_vm_readv` is refused but this file is not. The open file
//! belongs to the address space the process had then: after an exec it reads as empty, never as the new program.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use crate::{AgentPid, ProcessError};

/// The memory of one process. Opening it needs the right to trace; see `permits`.
#[derive(Debug)]
pub struct Memory {
    pid: AgentPid,
    file: File,
}

impl Memory {
    pub(crate) fn new(pid: AgentPid, file: File) -> Memory {
        Memory { pid, file }
    }

    /// Fills the buffer from `address` on.
    ///
    /// # Errors
    /// [`ProcessError::Memory`] when not all of it can be read.
    pub fn read_at(&self, address: u64, buffer: &mut [u8]) -> Result<(), ProcessError> {
        let length = buffer.len();
        self.file.read_exact_at(buffer, address).map_err(|source| self.error("read", address, length, source))
    }

    /// Reads up to `limit` bytes from `address` on: as many as are mapped.
    ///
    /// # Errors
    /// [`ProcessError::Memory`] when not even one byte can be read.
    pub fn read_up_to(&self, address: u64, limit: usize) -> Result<Vec<u8>, ProcessError> {
        let mut buffer = vec![0; limit];
        let mut filled = 0;
        while filled < limit {
            match self.file.read_at(&mut buffer[filled..], address.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if filled > 0 => break,
                Err(source) => return Err(self.error("read", address, limit, source)),
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    /// A little number as the process's processor writes it; ours has the same byte order.
    ///
    /// # Errors
    /// As [`Memory::read_at`].
    pub fn read_u64(&self, address: u64) -> Result<u64, ProcessError> {
        let mut bytes = [0; 8];
        self.read_at(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// As [`Memory::read_u64`], several that follow each other.
    ///
    /// # Errors
    /// As [`Memory::read_at`].
    pub fn read_u64s<const N: usize>(&self, address: u64) -> Result<[u64; N], ProcessError> {
        let mut bytes = [[0; 8]; N];
        self.read_at(address, bytes.as_flattened_mut())?;
        Ok(bytes.map(u64::from_ne_bytes))
    }

    /// As [`Memory::read_u64`], four bytes.
    ///
    /// # Errors
    /// As [`Memory::read_at`].
    pub fn read_u32(&self, address: u64) -> Result<u32, ProcessError> {
        let mut bytes = [0; 4];
        self.read_at(address, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// The bytes up to a NUL, at most `limit`.
    ///
    /// # Errors
    /// As [`Memory::read_up_to`].
    pub fn read_c_string(&self, address: u64, limit: usize) -> Result<Vec<u8>, ProcessError> {
        let mut bytes = self.read_up_to(address, limit)?;
        if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }

    /// Writes the bytes from `address` on, read-only pages included (private copies are made of them).
    ///
    /// # Errors
    /// [`ProcessError::Memory`] when not all of it can be written.
    pub fn write_at(&self, address: u64, bytes: &[u8]) -> Result<(), ProcessError> {
        self.file
            .write_all_at(bytes, address)
            .map_err(|source| self.error("write", address, bytes.len(), source))
    }

    fn error(&self, act: &'static str, address: u64, length: usize, source: io::Error) -> ProcessError {
        match source.raw_os_error() {
            Some(libc::ESRCH) => ProcessError::Gone { pid: self.pid },
            _ => ProcessError::Memory { pid: self.pid, act, address, length, source },
        }
    }
}
