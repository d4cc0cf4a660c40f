//! Recording: samples over a time, taken by whichever sampler works here, until the time is over, the process has ended, or the
//! one who asked has enough.
//!
//! One thread does all of it and ends with the recording: whatever the kernel holds for it (events, a thread held by ptrace) ends
//! with it, however it ends.

/// What was seen in a short span, as it travels.
mod batch;
/// Samples by holding threads that run, where perf is refused.
mod held;
/// Samples of JavaScript's frames.
mod node;
/// Samples by the kernel's timer.
mod perf;
/// Samples of Python's own frames.
mod python;
/// The address spaces of the process and its children: from registers and a copy of the stack to a call chain.
mod space;

use std::time::{Duration, Instant};

use pepo_process::{
    Process, list,
    runtime::{self, Language},
};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{LookBatch, LookEnded, LookEvent, LookStarted, StartLook, look_event::Kind as Event},
};

pub(crate) use self::batch::monotonic;
pub use self::perf::{Timer, timer};
use self::{
    batch::Batch,
    held::Held,
    node::Nodes,
    perf::Perf,
    python::{Program, Pythons},
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

    /// Samples a second that it takes.
    fn rate(&self) -> u32;

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
/// Why it could not begin. What goes wrong later is told in the last event.
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
    let (mut sampler, notes) = choose(process, request)?;
    let started = LookStarted {
        process: Some(described),
        sampler: sampler.name().to_owned(),
        rate: sampler.rate(),
        notes,
    };
    if !hand_on(LookEvent { kind: Some(Event::Started(started)) }) {
        return Ok(());
    }
    let mut batch = Batch::new(process);
    let mut ended = collect(process, sampler.as_mut(), request, &mut batch, enough, hand_on);
    let Some(ended) = &mut ended else { return Ok(()) };
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

/// A sampler, and what is lost by it, in words.
type Chosen<'a> = (Box<dyn Sampler + 'a>, Vec<String>);

/// The gentlest sampler that works here, or the one that was asked for.
fn choose<'a>(process: &'a Process, request: &StartLook) -> Result<Chosen<'a>, Failure> {
    let rate = if request.rate == 0 { USUAL_RATE } else { request.rate };
    if rate > HIGHEST_RATE {
        return Err(Failure::new(
            Code::TooLarge,
            format!("{rate} samples a second are more than {HIGHEST_RATE}"),
        )
        .hint("99 is right for most; 999 shows what is short, at a cost"));
    }
    let sampler = request.sampler.as_str();
    if !matches!(sampler, "" | "perf" | "hold" | "python" | "node") {
        return Err(Failure::new(Code::Usage, format!("no sampler is called `{sampler}`")));
    }
    if sampler == "perf" || sampler == "hold" && !request.native {
        return native(process, rate, sampler);
    }
    let facts = runtime::detect(process);
    if sampler == "node" || facts.language == Language::Node && sampler.is_empty() && !request.native {
        return match Nodes::open(process, rate, request.idle) {
            Ok((nodes, notes)) => Ok((Box::new(nodes), notes)),
            Err(why) if sampler == "node" => {
                Err(Failure::new(Code::NotOffered, "no frames of JavaScript can be sampled")
                    .because(why.0)
                    .hint("native frames can: `--sampler perf`"))
            }
            Err(why) => {
                let (chosen, mut notes) = native(process, rate, sampler)?;
                notes.push(format!("native frames only: {}", why.0));
                Ok((chosen, notes))
            }
        };
    }
    let runs_python = facts.language == Language::Python;
    if request.native {
        if runs_python {
            let held = Held::open(process, rate, Program::open(process, &facts).ok())?;
            return Ok((Box::new(held), Vec::new()));
        }
    } else {
        match Pythons::open(process, &facts, rate, request) {
            Ok(python) => return Ok((Box::new(python), Vec::new())),
            Err(why) if sampler == "python" || request.idle || request.lock_holder => {
                return Err(Failure::new(Code::NotOffered, "no frames of Python can be sampled")
                    .because(why.0)
                    .hint("native frames can: without `--sampler python`, `--idle` and `--gil`"));
            }
            Err(why) if runs_python => {
                let (chosen, mut notes) = native(process, rate, sampler)?;
                notes.push(format!("native frames only: {}", why.0));
                return Ok((chosen, notes));
            }
            Err(_) => {}
        }
    }
    let (chosen, mut notes) = native(process, rate, sampler)?;
    if facts.language == Language::Jvm {
        notes.push("native frames only: Java's are not sampled yet, `pepo stack` shows them".to_owned());
    }
    Ok((chosen, notes))
}

/// The kernel's timer, or else threads that are held.
fn native<'a>(process: &'a Process, rate: u32, sampler: &str) -> Result<Chosen<'a>, Failure> {
    let hold =
        || -> Result<Box<dyn Sampler + 'a>, Failure> { Ok(Box::new(Held::open(process, rate, None)?)) };
    if sampler == "hold" {
        return Ok((hold()?, Vec::new()));
    }
    match Perf::open(process, rate) {
        Ok((perf, notes)) => Ok((Box::new(perf), notes)),
        Err(failure) if sampler == "perf" || failure.code() == Code::ProcessGone => Err(failure),
        Err(failure) => {
            let note = format!("threads are held for each sample: {failure}");
            Ok((hold()?, vec![note]))
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
