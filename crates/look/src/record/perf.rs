//! Samples by the kernel's timer (perf_event_open(2), cpu-clock): each thread is interrupted after each period of CPU time, and the
//! kernel itself copies its registers and the top of its stack. Nothing is stopped, and a thread that waits costs nothing.
//!
//! Every thread has one event for each processor, as events of one processor may share a buffer; new threads and children inherit
//! them.

/// The system calls and the buffers.
mod events;
/// What the kernel writes into the buffers.
mod records;

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use pepo_process::{AgentTid, Process, threads};
use pepo_wire::{Code, Failure};

use self::{
    events::{Event, Ring, Wanted},
    records::{Record, Sample},
};
use super::{
    Cost, Sampler, Spent,
    batch::Batch,
    mode::Mode,
    space::{Copied, KERNEL, Spaces},
};

/// How often threads are listed anew at the beginning, while some come that no event follows yet.
const ROUNDS: usize = 5;
/// Bytes of all buffers together, at most.
const BUFFERS: usize = 32 << 20;
/// The largest and the smallest buffer of one processor, in bytes.
const LARGEST: usize = 2 << 20;
const SMALLEST: usize = 128 << 10;
/// Descriptors that are left to others.
const OTHERS: u64 = 128;

/// What the kernel's timer would show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// User code, and time in the kernel.
    Whole,
    /// User code alone.
    UserCode,
}

/// What the kernel's timer would show of a process that may be looked at: tried on the calling thread.
///
/// # Errors
/// Why it shows nothing; running threads are then held for each sample.
pub fn timer() -> Result<Timer, Failure> {
    let processor = processors().first().copied().unwrap_or(0);
    let open = |kernel| Event::open(&Wanted { period_nanos: 1_000_000_000, kernel }, 0, processor);
    match open(true) {
        Ok(_) => Ok(Timer::Whole),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open(false).map(|_| Timer::UserCode).map_err(|error| refused(&error))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// The sampler.
pub(super) struct Perf {
    rate: u32,
    events: Vec<Event>,
    rings: Vec<Ring>,
    spaces: Spaces,
    /// How long the buffers may be left alone.
    patience: Duration,
    bytes: Vec<u8>,
    early: Vec<Vec<u8>>,
    notes: Vec<String>,
}

impl Perf {
    /// Opens the events; and says what is lost, in words.
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub(super) fn open(process: &Process, rate: u32) -> Result<(Perf, Vec<String>), Failure> {
        let processors = processors();
        let mut perf = Perf {
            rate,
            events: Vec::new(),
            rings: Vec::new(),
            spaces: Spaces::default(),
            patience: Duration::ZERO,
            bytes: Vec::new(),
            early: Vec::new(),
            notes: Vec::new(),
        };
        let mut wanted = Wanted { period_nanos: 1_000_000_000 / u64::from(rate), kernel: true };
        let mut notes = Vec::new();
        let mut followed = HashSet::new();
        for _ in 0..ROUNDS {
            let tids = tids(process)?;
            let new: Vec<u32> = tids.into_iter().filter(|tid| !followed.contains(tid)).collect();
            if new.is_empty() {
                break;
            }
            let room = make_room(new.len() * processors.len(), perf.events.len());
            if room < new.len() * processors.len() {
                let part = room / processors.len().max(1);
                notes.push(format!(
                    "only {part} of {} threads are followed: RLIMIT_NOFILE allows no more",
                    new.len()
                ));
            }
            for tid in new.iter().take(room / processors.len().max(1)) {
                perf.follow(*tid, &processors, &mut wanted)?;
                followed.insert(*tid);
            }
            followed.extend(new);
            // A thread that was born meanwhile has inherited its events, or is followed in the next round.
            followed.extend(perf.born());
        }
        if !wanted.kernel {
            notes.push(
                "time in the kernel is not seen: perf_event_paranoid allows user code alone".to_owned(),
            );
        }
        if perf.events.is_empty() {
            return Err(Failure::new(Code::ProcessGone, "no thread is left"));
        }
        Ok((perf, notes))
    }

    /// Opens the events of one thread; one that has ended meanwhile has none.
    fn follow(&mut self, tid: u32, processors: &[u32], wanted: &mut Wanted) -> Result<(), Failure> {
        for processor in processors {
            let mut opened = Event::open(wanted, tid, *processor);
            if wanted.kernel
                && opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            {
                wanted.kernel = false;
                opened = Event::open(wanted, tid, *processor);
            }
            let event = match opened {
                Ok(event) => event,
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
                // A processor that is switched off.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(error) => return Err(refused(&error)),
            };
            match self.rings.iter().find(|ring| ring.processor == *processor) {
                Some(ring) => event.write_to(ring).map_err(|error| refused(&error))?,
                None => self.add_ring(&event, *processor, processors.len())?,
            }
            self.events.push(event);
        }
        Ok(())
    }

    /// A buffer as large as the kernel lets us have.
    fn add_ring(&mut self, event: &Event, processor: u32, processors: usize) -> Result<(), Failure> {
        let mut size = (BUFFERS / processors.max(1)).clamp(SMALLEST, LARGEST);
        size = 1 << size.ilog2();
        loop {
            match event.map(processor, size) {
                Ok(ring) => {
                    // A quarter of a buffer is filled in this time when its processor does nothing but the target's work.
                    let samples = (size / events::STACK as usize / 4).max(1) as u32;
                    self.patience =
                        (Duration::from_secs(1) / self.rate * samples).min(Duration::from_millis(100));
                    self.rings.push(ring);
                    return Ok(());
                }
                Err(_) if size > SMALLEST => size /= 2,
                Err(error) => return Err(refused(&error)),
            }
        }
    }

    /// Threads whose birth the kernel has told. What it told besides is kept.
    fn born(&mut self) -> Vec<u32> {
        let mut born = Vec::new();
        for ring in &mut self.rings {
            let mut bytes = Vec::new();
            ring.take(&mut bytes);
            for record in records::all(&bytes) {
                if let Record::Fork { tid, .. } = record {
                    born.push(tid);
                }
            }
            self.early.push(bytes);
        }
        born
    }

    fn drain(&mut self, batch: &mut Batch) {
        for bytes in std::mem::take(&mut self.early) {
            self.read(&bytes, batch);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        for index in 0..self.rings.len() {
            bytes.clear();
            self.rings[index].take(&mut bytes);
            self.read(&bytes, batch);
        }
        self.bytes = bytes;
    }

    fn read(&mut self, bytes: &[u8], batch: &mut Batch) {
        for record in records::all(bytes) {
            match record {
                Record::Sample(sample) => self.sample(&sample, batch),
                Record::Lost(count) => batch.lost(count),
                Record::Fork { pid, parent, .. } if pid != parent => self.spaces.forked(parent, pid),
                Record::Fork { .. } | Record::Other => {}
                Record::Exec { pid } => self.spaces.executed(pid),
                Record::Mapped { pid } => self.spaces.changed(pid),
                Record::Throttled => {
                    batch.note("the kernel took fewer samples than were asked for".to_owned())
                }
            }
        }
    }

    fn sample(&mut self, sample: &Sample<'_>, batch: &mut Batch) {
        let mut chain = if sample.kernel { vec![KERNEL] } else { Vec::new() };
        match sample.registers {
            Some(registers) => {
                let copied = Copied { registers, stack: sample.stack };
                chain.extend(self.spaces.chain(sample.pid, &copied, None, batch));
            }
            // Without registers it is a thread of the kernel, or is about to end; or its code is of another width.
            None if sample.narrow => batch.note("32-bit code has no stacks here".to_owned()),
            None => {}
        }
        batch.sample(sample.pid, sample.tid, sample.time, &chain);
    }
}

impl Sampler for Perf {
    fn name(&self) -> &'static str {
        "perf"
    }

    fn rate(&self) -> u32 {
        self.rate
    }

    fn mode(&self) -> Mode {
        Mode::Cpu
    }

    fn sample(&mut self, span: Duration, batch: &mut Batch) -> Result<(), Failure> {
        let end = Instant::now() + span;
        loop {
            self.drain(batch);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || batch.is_full() {
                return Ok(());
            }
            std::thread::sleep(left.min(self.patience));
        }
    }

    fn spent(&self) -> Spent {
        let cpu_nanos = self.events.iter().filter_map(|event| event.nanos().ok()).sum();
        Spent { cpu_nanos, rounds: 0 }
    }

    fn finish(self: Box<Self>) -> Cost {
        Cost { notes: self.notes, ..Cost::default() }
    }
}

fn tids(process: &Process) -> Result<Vec<u32>, Failure> {
    let listed = threads::list(process).map_err(|error| {
        Failure::new(Code::ProcessGone, "its threads cannot be listed").because_of(&error)
    })?;
    Ok(listed.into_iter().map(AgentTid::get).collect())
}

/// The processors that are switched on: `0-3,6`.
fn processors() -> Vec<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            all.extend(first..=last.min(first + 4096));
        }
    }
    if all.is_empty() {
        all.extend(0..std::thread::available_parallelism().map_or(1, |count| count.get() as u32));
    }
    all
}

/// Raises the limit of open files as far as it takes and may be; how many more may be opened.
fn make_room(more: usize, open: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = (more + open) as u64 + OTHERS;
    let highest = limit.maximum.unwrap_or(u64::MAX);
    let mut current = limit.current.unwrap_or(u64::MAX);
    if current < needed {
        let raised = Rlimit { current: Some(needed.min(highest)), maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            current = needed.min(highest);
        }
    }
    usize::try_from(current.saturating_sub(OTHERS)).unwrap_or(usize::MAX).saturating_sub(open).min(more)
}

/// Why the kernel gives no event.
fn refused(error: &io::Error) -> Failure {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let (code, why) = match error.raw_os_error() {
        Some(libc::EACCES) => (
            Code::NeedsCapability,
            format!("perf_event_paranoid is {} and there is no CAP_PERFMON", paranoid.trim()),
        ),
        Some(libc::EPERM) => {
            (Code::Seccomp, "a seccomp filter, or a missing right, forbids perf_event_open".to_owned())
        }
        Some(libc::EMFILE | libc::ENFILE) => (Code::TooLarge, "no more files may be opened".to_owned()),
        Some(libc::ENOSYS | libc::ENOENT | libc::EOPNOTSUPP) => {
            (Code::NotOffered, "this kernel has no perf_event_open".to_owned())
        }
        _ => (Code::Internal, "perf_event_open failed".to_owned()),
    };
    Failure::new(code, "the kernel takes no samples for us").because(why).because_of(error)
}
