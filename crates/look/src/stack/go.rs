//! The goroutines of a program of Go: what each does and where.
//!
//! One that waits is read while the program runs on: twice, and it is believed when both readings agree. One that runs is seen
//! by its thread, which is held for one sample as any that runs.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use pepo_process::threads::Thread;
use pepo_wire::agent::{self, Frame, GoroutineStack};

use super::{MAX_FRAMES, Reader, Unwound};
use crate::{
    go::{Go, Goroutine, MOST, Start, Status, since},
    registers::Registers,
    unwind::{Cache, Walked, walk},
};

/// How often a goroutine is read until it holds still.
const TRIES: usize = 5;
/// Bytes of a goroutine's stack that are copied; what is above them is read word by word.
const COPY: u64 = 16 << 10;
/// The most frames of different stacks that are told.
const MOST_FRAMES: usize = 100_000;
/// How long reading may take; goroutines after that are told without frames.
const PATIENCE: Duration = Duration::from_secs(10);

/// Goroutines, as they are told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) goroutines: Vec<agent::Goroutine>,
    pub(super) stacks: Vec<GoroutineStack>,
    pub(super) notes: Vec<String>,
}

/// What makes two stacks the same: the frames' addresses, where it began, where it was started.
type Key = (Vec<u64>, u64, u64);

/// Reads them one after the other.
struct Tellers<'a, 'b> {
    reader: &'a mut Reader<'b>,
    go: &'a Go<'b>,
    threads: HashMap<u32, &'a Thread>,
    cache: Cache,
    begun: Instant,
    known: HashMap<Key, u32>,
    frames: usize,
    /// How often a thread was looked at.
    looks: usize,
    /// How many moved all the time.
    restless: usize,
    /// How many came too late to be told with frames.
    late: usize,
    told: Told,
}

/// All goroutines but the dead ones.
pub(super) fn goroutines<'a>(reader: &mut Reader<'a>, go: &Go<'a>, threads: &[Thread]) -> Told {
    let (addresses, left_out) = go.addresses();
    let threads = threads.iter().map(|thread| (thread.container_tid, thread)).collect();
    let mut tellers = Tellers {
        reader,
        go,
        threads,
        cache: Cache::new(),
        begun: Instant::now(),
        known: HashMap::new(),
        frames: 0,
        looks: 0,
        restless: 0,
        late: 0,
        told: Told::default(),
    };
    for address in addresses {
        tellers.tell(address);
    }
    tellers.finish(left_out)
}

impl Tellers<'_, '_> {
    fn tell(&mut self, address: u64) {
        let Some(mut goroutine) = self.go.goroutine(address) else { return };
        let mut walked = None;
        if self.begun.elapsed() > PATIENCE || self.frames > MOST_FRAMES {
            self.late += 1;
        } else {
            for _ in 0..TRIES {
                walked = self.walked(&goroutine);
                let Some(now) = self.go.goroutine(address) else { return };
                let agrees = is_same(&now, &goroutine);
                goroutine = now;
                if agrees && walked.is_some() {
                    break;
                }
                walked = None;
            }
            self.restless += usize::from(walked.is_none());
        }
        let thread = matches!(goroutine.status, Status::Running | Status::Syscall)
            .then(|| self.go.thread(&goroutine))
            .flatten();
        let stack = self.stack(&goroutine, &walked.unwrap_or_default());
        self.told.goroutines.push(agent::Goroutine {
            id: goroutine.id,
            state: self.go.words(&goroutine),
            waited_seconds: since(goroutine.since).map(|time| time.as_secs()),
            locked_to_thread: goroutine.is_locked,
            created_by: goroutine.parent,
            container_tid: thread.unwrap_or(0),
            stack,
        });
    }

    /// Its frames; nothing when it moved meanwhile.
    fn walked(&mut self, goroutine: &Goroutine) -> Option<Vec<Walked>> {
        match goroutine.status {
            Status::Running => self.running(goroutine),
            Status::CopyStack => None,
            _ => {
                let first = self.parked(goroutine);
                (first == self.parked(goroutine)).then_some(first)
            }
        }
    }

    fn parked(&mut self, goroutine: &Goroutine) -> Vec<Walked> {
        let start = goroutine.start;
        if !goroutine.stack.contains(&start.stack) {
            return Vec::new();
        }
        let end = goroutine.stack.end;
        let length = (end - start.stack).min(COPY) as usize;
        let copy = self.reader.memory.read_up_to(start.stack, length).unwrap_or_default();
        let frame = start.frame.or_else(|| self.frame_by_call(&start, &copy));
        let frame = frame.or_else(|| self.reader.find_frame_pointer(start.stack)).unwrap_or(0);
        let reader = &*self.reader;
        let mut read = |address: u64| {
            let own = (start.stack..end.saturating_sub(7)).contains(&address);
            own.then(|| reader.word(start.stack, &copy, address)).flatten().ok_or(())
        };
        let registers =
            Registers { instruction: start.instruction, stack: start.stack, frame: start.frame, link: 0 };
        walk(&reader.modules, &mut self.cache, (registers, frame), MAX_FRAMES, &mut read).0
    }

    /// Before Go 1.23 the frame pointer of a goroutine in a system call is not kept. Among pairs on the stack that look like a saved one
    /// the right one returns to a call of the function that it is in: of all that were called, the one that begins last
    /// before the place where it is. Others are left over from calls before.
    fn frame_by_call(&self, start: &Start, copy: &[u8]) -> Option<u64> {
        let words: Vec<u64> = copy.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let ends = start.stack..start.stack + copy.len() as u64;
        let pairs = words.array_windows::<2>().zip((start.stack..).step_by(8));
        let called = pairs.filter(|([saved, _], at)| saved > at && ends.contains(saved)).filter_map(
            |([_, back], at)| {
                let function = self.called_before(*back)?;
                (function <= start.instruction).then_some((function, at))
            },
        );
        // Of several the innermost.
        called.max_by_key(|(function, at)| (*function, std::cmp::Reverse(*at))).map(|(_, at)| at)
    }

    /// The function that the call before this address calls, where it stands in the instruction.
    fn called_before(&self, back: u64) -> Option<u64> {
        const CALL: u8 = 0xe8;
        if cfg!(not(target_arch = "x86_64")) || !self.reader.modules.is_code(back) {
            return None;
        }
        let mut call = [0; 5];
        self.reader.memory.read_at(back.checked_sub(5)?, &mut call).ok()?;
        let [CALL, distance @ ..] = call else { return None };
        Some(back.wrapping_add_signed(i32::from_le_bytes(distance).into()))
    }

    /// By its thread. Where that is on a stack of the runtime's own, the goroutine's is as it was left.
    fn running(&mut self, goroutine: &Goroutine) -> Option<Vec<Walked>> {
        let tid = self.go.thread(goroutine)?;
        let thread = *self.threads.get(&tid)?;
        // Memory that lies must not have one thread held again and again.
        self.looks += 1;
        if self.looks > self.threads.len() * TRIES {
            return None;
        }
        let (Unwound { walked, .. }, _) = self.reader.look(thread);
        let first = walked.first()?;
        let on_own_stack = goroutine.stack.contains(&first.stack.start);
        let walked = if on_own_stack { walked } else { self.parked(goroutine) };
        (!walked.is_empty()).then_some(walked)
    }

    /// The number of its stack among those that are told.
    fn stack(&mut self, goroutine: &Goroutine, walked: &[Walked]) -> u32 {
        let addresses = walked.iter().map(|one| one.address).collect();
        let key = (addresses, goroutine.entry, goroutine.created_at);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let number = u32::try_from(self.told.stacks.len()).unwrap_or(u32::MAX);
        self.frames += walked.len();
        self.told.stacks.push(GoroutineStack {
            frames: walked.iter().map(|one| self.reader.frame(one)).collect(),
            entry: self.at(goroutine.entry, goroutine.entry),
            // The address after the call.
            created_at: self.at(goroutine.created_at, goroutine.created_at.wrapping_sub(1)),
        });
        self.known.insert(key, number);
        number
    }

    fn at(&self, address: u64, lookup: u64) -> Option<Frame> {
        (address != 0).then(|| self.reader.frame(&Walked { address, lookup, stack: 0..0 }))
    }

    fn finish(mut self, left_out: usize) -> Told {
        let notes = [
            (
                self.restless,
                "goroutines were never at one place long enough for their frames to be seen".to_owned(),
            ),
            (self.late, "goroutines are told without frames: there are too many".to_owned()),
            (left_out, format!("goroutines more are not told: only the first {MOST} are read")),
        ];
        self.told.notes = notes
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        self.told
    }
}

/// Is it the same goroutine, at the same place?
fn is_same(one: &Goroutine, other: &Goroutine) -> bool {
    let place = |goroutine: &Goroutine| {
        let at = (goroutine.status != Status::Running).then_some(goroutine.start);
        (goroutine.id, goroutine.status, goroutine.machine, goroutine.stack.clone(), at)
    };
    place(one) == place(other)
}
