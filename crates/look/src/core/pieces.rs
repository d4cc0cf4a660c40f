//! Memory in pieces of one mebibyte, without the pages at both ends that are zero. (Of the stack of a thread a page or two are used, and
//! a program may have thousands.)

use std::{
    ops::Range,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use pepo_process::{Memory, Process};
use pepo_wire::{Code, Failure, FailureExt as _};

use super::mappings::Mapping;

const PIECE: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Memory of which it is asked at once what is there: stacks are large, many, and mostly empty.
const SPAN: u64 = 16 << 20;
/// Bytes under way before the reader has to wait.
const WINDOW: usize = 16 << 20;
/// How often it is looked whether there is room again.
const AGAIN: Duration = Duration::from_micros(200);
/// Of an entry of `/proc/PID/pagemap` (proc_pid_pagemap(5)): the page is in memory, or swapped out.
const THERE: u64 = 0b11 << 62;

/// Bytes of the file, from an offset on.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Why it did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The pause budget is spent.
    Budget,
    /// Nobody listens any more.
    Unheard,
    /// The process has ended.
    Gone,
}

impl Cut {
    pub(super) fn failure(self, process: &Process, stood_still: Duration) -> Failure {
        match self {
            Cut::Budget => {
                Failure::new(Code::BudgetSpent, "the pause budget is spent: the target runs again")
                    .because(format!(
                        "it stood still for {} ms, and not all of its memory was read",
                        stood_still.as_millis()
                    ))
                    .hint("allow more with `--pause-budget`, or read it while it runs with `--no-stop`")
            }
            Cut::Unheard => Failure::new(Code::Interrupted, "interrupted; the target was let go"),
            Cut::Gone => Failure::new(
                Code::ProcessGone,
                format!("process {} has ended before its memory was read", process.pid()),
            )
            .try_command("list what runs now", ["pepo", "ps"]),
        }
    }
}

/// How many bytes are under way: read, and not compressed yet. Pieces of stacks are small and many, so pieces are not what is counted.
#[derive(Debug, Default)]
pub(super) struct Window(AtomicUsize);

impl Window {
    /// So many bytes are not under way any more.
    pub(super) fn leaves(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Release);
    }

    /// Nobody has to wait: who sends now learns that nobody listens.
    pub(super) fn open(&self) {
        self.0.store(0, Ordering::Release);
    }

    fn has_room(&self) -> bool {
        self.0.load(Ordering::Acquire) < WINDOW
    }

    fn enters(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Release);
    }
}

/// Reads and sends.
pub(super) struct Reader<'a> {
    process: &'a Process,
    memory: Memory,
    /// Absent where it may not be read: then all pages are read.
    pagemap: Option<std::fs::File>,
    pieces: Sender<Piece>,
    window: &'a Window,
    until: Option<Instant>,
    /// Bytes that could not be read.
    pub(super) unreadable: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        process: &'a Process,
        (pieces, window): (Sender<Piece>, &'a Window),
        until: Option<Instant>,
    ) -> Result<Reader<'a>, Failure> {
        let memory = process.memory().map_err(|error| error.failure())?;
        let pagemap = process.pagemap().ok();
        Ok(Reader { process, memory, pagemap, pieces, window, until, unreadable: 0 })
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Cut> {
        let at = (offset..).step_by(PIECE as usize);
        at.zip(bytes.chunks(PIECE as usize)).try_for_each(|(offset, bytes)| self.send(offset, bytes.to_vec()))
    }

    /// What of a mapping is in the file, from `offset` on.
    pub(super) fn mapping(&mut self, mapping: &Mapping, offset: u64) -> Result<(), Cut> {
        let mut done = 0;
        while done < mapping.dumped {
            let length = SPAN.min(mapping.dumped - done);
            let there = self.there(mapping, mapping.map.start + done, length);
            for (pages, at) in there.chunks((PIECE / PAGE) as usize).zip((done..).step_by(PIECE as usize)) {
                let Some(used) = used(pages) else { continue };
                let at = at + used.start as u64 * PAGE;
                self.piece(mapping.map.start + at, &pages[used], offset + at)?;
            }
            self.in_time()?;
            done += length;
        }
        Ok(())
    }

    fn piece(&mut self, start: u64, there: &[bool], offset: u64) -> Result<(), Cut> {
        let mut bytes = vec![0; there.len() * PAGE as usize];
        self.fill(start, there, &mut bytes);
        if !self.process.alive() {
            return Err(Cut::Gone);
        }
        match not_zero(&bytes) {
            Some(part) if part.len() == bytes.len() => self.send(offset, bytes),
            Some(part) => self.send(offset + part.start as u64, bytes[part].to_vec()),
            None => self.in_time(),
        }
    }

    /// Reads the pages that are there; where that fails, one by one.
    fn fill(&mut self, start: u64, there: &[bool], bytes: &mut [u8]) {
        let mut page = 0;
        for run in there.chunk_by(|a, b| a == b) {
            let from = page * PAGE as usize;
            page += run.len();
            let Some(part) = bytes.get_mut(from..(page * PAGE as usize)) else { return };
            if run[0] && self.memory.read_at(start + from as u64, part).is_err() {
                for (one, at) in part.chunks_mut(PAGE as usize).zip((from as u64..).step_by(PAGE as usize)) {
                    if self.memory.read_at(start + at, one).is_err() {
                        one.fill(0);
                        self.unreadable += one.len() as u64;
                    }
                }
            }
        }
    }

    /// Which pages are worth reading. Reading one that was never touched would make the kernel put one there.
    fn there(&self, mapping: &Mapping, start: u64, length: u64) -> Vec<bool> {
        let pages = (length / PAGE) as usize;
        let mut entries = vec![0; pages * 8];
        let read = self.pagemap.as_ref().filter(|_| mapping.zero_filled).is_some_and(|pagemap| {
            std::os::unix::fs::FileExt::read_exact_at(pagemap, &mut entries, start / PAGE * 8).is_ok()
        });
        match read {
            true => {
                entries.as_chunks::<8>().0.iter().map(|one| u64::from_ne_bytes(*one) & THERE != 0).collect()
            }
            false => vec![true; pages],
        }
    }

    fn send(&mut self, offset: u64, bytes: Vec<u8>) -> Result<(), Cut> {
        self.in_time()?;
        while !self.window.has_room() {
            std::thread::sleep(AGAIN);
            self.in_time()?;
        }
        self.window.enters(bytes.len());
        self.pieces.send(Piece { offset, bytes }).map_err(|_| Cut::Unheard)
    }

    fn in_time(&self) -> Result<(), Cut> {
        match self.until {
            Some(until) if Instant::now() >= until => Err(Cut::Budget),
            _ => Ok(()),
        }
    }
}

/// From the first page that is there to the last.
fn used(there: &[bool]) -> Option<Range<usize>> {
    let first = there.iter().position(|&is| is)?;
    let last = there.iter().rposition(|&is| is)?;
    Some(first..last + 1)
}

/// From the first page that is not zero to the last.
fn not_zero(bytes: &[u8]) -> Option<Range<usize>> {
    let page = PAGE as usize;
    let is_full = |page: &[u8]| page.iter().any(|&byte| byte != 0);
    let first = bytes.chunks(page).position(is_full)?;
    let last = bytes.chunks(page).rposition(is_full)?;
    Some(first * page..bytes.len().min((last + 1) * page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_at_both_ends_is_not_looked_through() {
        assert_eq!(used(&[false, true, false, true, false]), Some(1..4));
        assert_eq!(used(&[true]), Some(0..1));
        assert_eq!((used(&[false; 3]), used(&[])), (None, None));
    }

    #[test]
    fn pages_of_zeros_at_both_ends_are_left_out() {
        let mut bytes = vec![0; 5 * PAGE as usize];
        assert_eq!(not_zero(&bytes), None);
        bytes[2 * 4096 + 17] = 1;
        assert_eq!(not_zero(&bytes), Some(2 * 4096..3 * 4096));
        bytes[4 * 4096 - 1] = 1;
        bytes.truncate(4 * 4096);
        assert_eq!(not_zero(&bytes), Some(2 * 4096..4 * 4096));
        assert_eq!(not_zero(&[1]), Some(0..1));
    }
}
