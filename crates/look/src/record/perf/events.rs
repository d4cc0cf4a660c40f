//! perf_event_open(2), the buffers it fills, and nothing else.
#![allow(unsafe_code)] // No safe wrapper of these system calls is among the dependencies.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use super::records::{REGISTERS, SAMPLE_TYPE};

/// Bytes of stack that are copied with each sample.
pub(super) const STACK: u32 = 32 << 10;
/// Bits of the flags: see the manual's order.
const INHERIT: u64 = 1 << 1;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const COMM: u64 = 1 << 9;
const TASK: u64 = 1 << 13;
const MMAP2: u64 = 1 << 23;
const COMM_EXEC: u64 = 1 << 24;
const USE_CLOCKID: u64 = 1 << 25;
/// `MMAP2` alone tells nothing: the older flag must stand beside it.
const MMAP: u64 = 1 << 8;

const TYPE_SOFTWARE: u32 = 1;
const COUNT_CPU_CLOCK: u64 = 0;
const CLOEXEC: u64 = 1 << 3;
const SET_OUTPUT: u64 = 0x2405;

/// What an event is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// CPU time between two samples.
    pub(super) period_nanos: u64,
    /// Also while it is in the kernel.
    pub(super) kernel: bool,
}

/// `struct perf_event_attr` as of Linux 4.1 (PERF_ATTR_SIZE_VER5); what is newer is not used.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config1: u64,
    config2: u64,
    branches: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    max_stack: u16,
    reserved: u16,
}

/// The event of one thread on one processor. Its end is the end of its file.
pub(super) struct Event {
    file: File,
}

impl Event {
    /// Opens it; it counts at once.
    pub(super) fn open(wanted: &Wanted, tid: u32, processor: u32) -> io::Result<Event> {
        let mut flags = INHERIT | EXCLUDE_HYPERVISOR | COMM | TASK | MMAP | MMAP2 | COMM_EXEC | USE_CLOCKID;
        if !wanted.kernel {
            flags |= EXCLUDE_KERNEL;
        }
        let mut attributes = Attributes {
            kind: TYPE_SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: COUNT_CPU_CLOCK,
            sample_period: wanted.period_nanos,
            sample_type: SAMPLE_TYPE,
            flags,
            sample_regs_user: REGISTERS,
            sample_stack_user: STACK,
            clockid: libc::CLOCK_MONOTONIC,
            ..Attributes::default()
        };
        let (tid, processor, group) = (i64::from(tid), i64::from(processor), -1_i64);
        // SAFETY: the kernel reads `size` bytes of the structure, and may write its own size there; both outlive the call.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw mut attributes, tid, processor, group, CLOEXEC)
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call has just made this descriptor, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Event { file: File::from(fd) })
    }

    /// The buffer of this event and of those that write to it; `size` is a power of two.
    pub(super) fn map(&self, processor: u32, size: usize) -> io::Result<Ring> {
        let page = rustix::param::page_size();
        let length = page + size;
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, self.file.as_raw_fd());
        // SAFETY: a new mapping, chosen by the kernel, of a descriptor that is open; it is unmapped by `Ring` alone.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Ring { processor, fd, start, page, size })
    }

    /// From now on what it samples goes to that buffer.
    pub(super) fn write_to(&self, ring: &Ring) -> io::Result<()> {
        // SAFETY: the request takes a descriptor as its argument and touches no memory of ours.
        let result = unsafe { libc::syscall(libc::SYS_ioctl, self.file.as_raw_fd(), SET_OUTPUT, ring.fd) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// CPU time it has counted, of the thread and of all that were born of it.
    pub(super) fn nanos(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        (&self.file).read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// A buffer that the kernel writes and we read.
pub(super) struct Ring {
    pub(super) processor: u32,
    /// Of the event that it belongs to, which outlives it.
    fd: i32,
    start: NonNull<u8>,
    /// Bytes of the page before the data.
    page: usize,
    size: usize,
}

impl Ring {
    /// Adds what the kernel has written to `bytes`, and gives it its room back.
    pub(super) fn take(&mut self, bytes: &mut Vec<u8>) {
        let head = self.position(1024).load(Ordering::Acquire);
        let tail = self.position(1032).load(Ordering::Relaxed);
        let count = usize::try_from(head.wrapping_sub(tail)).unwrap_or(0).min(self.size);
        let from = usize::try_from(tail % self.size as u64).unwrap_or(0);
        let first = count.min(self.size - from);
        for (offset, length) in [(from, first), (0, count - first)] {
            // SAFETY: `offset + length` is at most `size`, and the kernel leaves what lies between tail and head alone until
            // the tail is moved, below.
            let part =
                unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(self.page + offset), length) };
            bytes.extend_from_slice(part);
        }
        self.position(1032).store(head, Ordering::Release);
    }

    /// `data_head` or `data_tail` of `struct perf_event_mmap_page`.
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets lie in the first page, are aligned to eight bytes, and are shared with the kernel by atomic
        // loads and stores alone.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: made by `Event::map` with this length; no reference into it outlives `take`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.page + self.size) };
    }
}
