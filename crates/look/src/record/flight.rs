//! Samples of Java's frames, taken by the JVM's own recorder, which is stopped, read and started anew every few seconds.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pepo_process::{Process, runtime::RuntimeFacts};
use pepo_wire::Failure;

use super::{
    Cost, Sampler, Spent,
    batch::{Batch, Count, Place, monotonic},
    is_gone,
    mode::Mode,
    nanos,
    python::cpu,
    space::CUT_OFF,
    tids::Tids,
};
use crate::{
    jvm::{Flight, JavaSample, Unattachable},
    python::Spot,
};

/// How often what was seen is fetched, at least.
const FETCHED: Duration = Duration::from_secs(3);
/// How many times longer than a fetch took is the time to the next: nothing is sampled meanwhile.
const REST: u32 = 20;
/// But not longer than half of the recorder's own patience.
const LONGEST: Duration = Duration::from_secs(10);

/// The sampler.
pub(super) struct Flights<'a> {
    process: &'a Process,
    flight: Flight<'a>,
    mode: Mode,
    next: Instant,
    /// Threads as the JVM numbers them, and as we do.
    tids: Tids,
    /// Those that were there before it began, by the JVM's numbers: what the first sample of each says that it has allocated, it has since
    /// its own beginning.
    older: HashSet<u32>,
    is_gone: bool,
    used: u64,
}

impl<'a> Flights<'a> {
    /// Starts the recorder; and what the user should know of that, in words.
    pub(super) fn open(
        process: &'a Process,
        facts: &RuntimeFacts,
        rate: u32,
        mode: Mode,
    ) -> Result<(Flights<'a>, Vec<String>), Unattachable> {
        let (flight, notes) = Flight::start(process, facts, mode, rate)?;
        let (next, used) = (Instant::now() + FETCHED, cpu(process));
        let mut tids = Tids::default();
        tids.list(process);
        let older = if mode == Mode::Alloc { tids.theirs().collect() } else { HashSet::new() };
        Ok((Flights { process, flight, mode, next, tids, older, is_gone: false, used }, notes))
    }

    /// Takes what was seen since the last time.
    fn fetch(&mut self, batch: &mut Batch) -> Result<(), Unattachable> {
        if self.is_gone {
            return Ok(());
        }
        let begun = Instant::now();
        self.tids.list(self.process);
        let (process, tids) = (self.process, &self.tids);
        // Between the calendar, by which it tells, and the kernel's clock.
        let (now, calendar) = (monotonic(), SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos));
        let mut samples: Vec<JavaSample> = Vec::new();
        let ran_on = self.flight.fetch(&mut |sample| samples.push(sample));
        samples.sort_by_key(|sample| sample.at);
        samples.retain(|sample| !self.older.remove(&sample.tid));
        if self.mode == Mode::Alloc {
            share_alike(&mut samples);
        }
        for sample in &samples {
            let at = now.saturating_sub(calendar.saturating_sub(sample.at));
            take(process, tids, sample, at, batch);
        }
        let ran_on = ran_on?;
        if !ran_on {
            batch.note("it was not reached for a while, in which nothing was sampled".to_owned());
        }
        self.next = Instant::now() + (begun.elapsed() * REST).clamp(FETCHED, LONGEST);
        Ok(())
    }
}

/// Each sample tells what its thread has allocated since the one before, and the recorder takes most of them within a part of each second:
/// few would weigh as much as all others. So all of a thread's weigh alike, and together as much as it has allocated.
fn share_alike(samples: &mut [JavaSample]) {
    let mut threads: HashMap<u32, (u64, u64)> = HashMap::new();
    for sample in &*samples {
        let (sum, count) = threads.entry(sample.tid).or_default();
        *sum = sum.saturating_add(sample.weight);
        *count += 1;
    }
    for sample in samples {
        let (sum, count) = threads.get(&sample.tid).copied().unwrap_or((0, 1));
        sample.weight = (sum / count).max(1);
    }
}

fn take(process: &Process, tids: &Tids, sample: &JavaSample, at: u64, batch: &mut Batch) {
    // What is allocated or waited for stands innermost.
    let class =
        |class: &Arc<str>| Spot { function: Arc::clone(class), file: Arc::default(), line: 0, column: 0 };
    let innermost = sample.class.iter().map(class);
    let mut chain: Vec<Place> =
        innermost.chain(sample.stack.frames.iter().cloned()).map(Place::Named).collect();
    chain.extend(sample.stack.is_cut.then_some(CUT_OFF));
    let pid = process.pid().get();
    // One that has ended is told by the number that it had where the JVM is.
    let tid = if sample.tid == 0 { pid } else { tids.here(sample.tid).unwrap_or(sample.tid) };
    if batch.is_full() {
        batch.lost(1);
    } else if !chain.is_empty() {
        if !sample.name.is_empty() {
            batch.call(pid, tid, &sample.name);
        }
        batch.samples(pid, tid, at, &chain, Count { count: 1, weight: sample.weight });
    }
}

impl Sampler for Flights<'_> {
    fn name(&self) -> &'static str {
        "jfr"
    }

    fn rate(&self) -> u32 {
        if self.mode.is_weighed() { 0 } else { self.flight.rate() }
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn sample(&mut self, span: Duration, batch: &mut Batch) -> Result<(), Failure> {
        std::thread::sleep(span);
        if !span.is_zero() && Instant::now() < self.next {
            return Ok(());
        }
        let fetched = self.fetch(batch).map_err(|why| why.to_string());
        self.is_gone |= is_gone(fetched, self.process, batch)?;
        Ok(())
    }

    fn spent(&self) -> Spent {
        Spent { cpu_nanos: cpu(self.process).saturating_sub(self.used), rounds: 0 }
    }

    fn finish(mut self: Box<Self>) -> Cost {
        if !self.is_gone {
            self.flight.stop();
        }
        Cost::default()
    }
}
