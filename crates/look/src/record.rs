//! Recording: samples over a time, taken by whichever sampler works here, until the time is over, the process has ended, or the
//! one who asked has enough.
//!
//! One thread does all of it and ends with the recording: whatever the kernel holds for it (events, a thread held by ptrace) ends
//! with it, however it ends.

/// What was seen in a short span, as it travels.
mod batch;
/// Which sampler.
mod choose;
/// Samples of Java's frames by the JVM's own recorder.
mod flight;
/// Samples by holding threads that run, where perf is refused.
mod held;
/// Samples of Java's frames.
mod java;
/// What samples are of.
mod mode;
/// Samples of JavaScript's frames.
mod node;
/// Samples by the kernel's timer.
mod perf;
/// Samples of Python's own frames.
mod python;
/// The address spaces of the process and its children: from registers and a copy of the stack to a call chain.
mod space;
/// Threads by the numbers that they have where their process is.
mod tids;
/// Samples of threads that wait.
mod waiting;

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use pepo_process::{Process, list};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{LookBatch, LookEnded, LookEvent, LookStarted, StartLook, look_event::Kind as Event},
};

pub(crate) use self::batch::monotonic;
use self::{batch::Batch, choose::choose};
pub use self::{
    mode::Mode,
    perf::{Timer, timer},
};

/// Samples a second when nothing is asked; no multiple of the clocks that programs keep.
pub const USUAL_RATE: u32 = 99;
/// The most that may be asked.
pub const HIGHEST_RATE: u32 = 10_000;
/// What was seen is handed on at least this often.
const SPAN: Duration = Duration::from_millis(250);

/// One way of taking samples.
///
/// Runtimes with stacks of their own (interpreters) have samplers of their own; what they see travels in the same batches.
trait Sampler {
    /// Its name on the wire.
    fn name(&self) -> &'static str;

    /// Samples a second that it takes; 0 where that is not what it goes by.
    fn rate(&self) -> u32;

    /// What they are of.
    fn mode(&self) -> Mode;

    /// Takes samples for about this long.
    fn sample(&mut self, span: Duration, batch: &mut Batch) -> Result<(), Failure>;

    /// What has been used and done since the beginning.
    fn spent(&self) -> Spent;

    /// Tells what it cost and what it missed; nothing of it is left in the target.
    fn finish(self: Box<Self>) -> Cost;
}

/// CPU time that the target has used, and how often all of its threads were looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    cpu_nanos: u64,
    /// 0 where each thread is sampled by its own time.
    rounds: u64,
}

/// What sampling cost the target, and what it could not see.
#[derive(Debug, Default)]
struct Cost {
    held: u64,
    longest_hold: Duration,
    total_hold: Duration,
    notes: Vec<String>,
}

/// Records a process: hands events on until the recording is over or `hand_on` says that no one wants more. `enough` is asked
/// several times a second.
///
/// # Errors
/// Why it could not begin, or failed before the first sample. What goes wrong later is told in the last event.
pub fn record(
    process: &Process,
    request: &StartLook,
    enough: &(dyn Fn() -> bool + Sync),
    hand_on: &mut (dyn FnMut(LookEvent) -> bool + Send),
) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let recorder = std::thread::Builder::new().name("look".to_owned());
        let thread = recorder.spawn_scoped(scope, || run(process, request, enough, hand_on));
        let thread = thread
            .map_err(|error| Failure::new(Code::Internal, "no thread to look with").because_of(&error))?;
        thread.join().unwrap_or_else(|_| Err(Failure::new(Code::Internal, "the sampler failed")))
    })
}

fn run(
    process: &Process,
    request: &StartLook,
    enough: &dyn Fn() -> bool,
    hand_on: &mut dyn FnMut(LookEvent) -> bool,
) -> Result<(), Failure> {
    let described = list::describe(process).map_err(|error| error.failure())?;
    let (mut sampler, mut notes) = choose(process, request)?;
    if is_narrow(process) {
        notes.push("a program of 32 bits: its samples are counted, and have no stacks".to_owned());
    }
    let started = LookStarted {
        process: Some(described),
        sampler: sampler.name().to_owned(),
        rate: sampler.rate(),
        mode: sampler.mode().name().to_owned(),
        notes,
    };
    if !hand_on(LookEvent { kind: Some(Event::Started(started)) }) {
        return Ok(());
    }
    let mut batch = Batch::new(process);
    let mut ended = collect(process, sampler.as_mut(), request, &mut batch, enough, hand_on);
    let Some(ended) = &mut ended else { return Ok(()) };
    // It had only seemed to have begun.
    if let Some(failure) = ended.failure.take_if(|_| batch.counts().0 == 0) {
        sampler.finish();
        return Err(failure);
    }
    ended.duration_nanos = batch.elapsed();
    let spent = sampler.spent();
    let cost = sampler.finish();
    (ended.cpu_nanos, ended.rounds) = (spent.cpu_nanos, spent.rounds);
    (ended.samples, ended.lost) = batch.counts();
    ended.held = cost.held;
    ended.longest_hold_nanos = nanos(cost.longest_hold);
    ended.total_hold_nanos = nanos(cost.total_hold);
    ended.notes = batch.notes();
    ended.notes.extend(cost.notes);
    hand_on(LookEvent { kind: Some(Event::Ended(std::mem::take(ended))) });
    Ok(())
}

/// Is it a program of 32 bits? (elf(5), `EI_CLASS`)
fn is_narrow(process: &Process) -> bool {
    let mut head = [0; 5];
    let read = process.open_exe().is_ok_and(|mut program| program.read_exact(&mut head).is_ok());
    read && head[4] == object::elf::ELFCLASS32.0
}

/// Nothing when no one listens any more.
fn collect(
    process: &Process,
    sampler: &mut dyn Sampler,
    request: &StartLook,
    batch: &mut Batch,
    enough: &dyn Fn() -> bool,
    hand_on: &mut dyn FnMut(LookEvent) -> bool,
) -> Option<LookEnded> {
    let end = match request.duration_millis {
        0 => None,
        millis => Some(Instant::now() + Duration::from_millis(millis.into())),
    };
    loop {
        let left = end.map_or(SPAN, |end| end.saturating_duration_since(Instant::now()));
        let reason = match (process.alive(), enough(), left.is_zero()) {
            (false, ..) => Some("target exited"),
            (_, true, _) => Some("stopped"),
            (_, _, true) => Some("time over"),
            _ => None,
        };
        // Once more after the end: what the kernel still has is part of it.
        let taken = sampler.sample(if reason.is_some() { Duration::ZERO } else { left.min(SPAN) }, batch);
        let seen: LookBatch = batch.take(sampler.spent());
        if !hand_on(LookEvent { kind: Some(Event::Batch(seen)) }) {
            return None;
        }
        match (taken, reason) {
            (Err(failure), _) => {
                let failure = Some(failure);
                return Some(LookEnded { reason: "failed".to_owned(), failure, ..LookEnded::default() });
            }
            (Ok(()), Some(reason)) => {
                return Some(LookEnded { reason: reason.to_owned(), ..LookEnded::default() });
            }
            (Ok(()), None) => {}
        }
    }
}

/// What became of fetching what a program's own profiler has seen: has the program ended, and took it with it?
fn is_gone(fetched: Result<(), String>, process: &Process, batch: &mut Batch) -> Result<bool, Failure> {
    match fetched {
        Err(_) if !process.alive() => {
            batch.note("what was seen in the last second before its end is lost".to_owned());
            Ok(true)
        }
        Err(why) => Err(Failure::new(Code::StreamBroken, "the profile could not be fetched").because(why)),
        Ok(()) => Ok(false),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
