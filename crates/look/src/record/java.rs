//! Samples of Java's frames, taken by async-profiler within the JVM, and fetched each second. It tells how often each stack was seen since
//! the beginning; what is new since the last time is handed on.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use pepo_process::{Process, runtime::RuntimeFacts};
use pepo_wire::Failure;

use super::{
    Cost, Sampler, Spent,
    batch::{Batch, Count, Place, monotonic},
    is_gone,
    mode::Mode,
    python::cpu,
    space::CUT_OFF,
    tids::Tids,
};
use crate::{
    jvm::{Folded, FoldedFrame, Profiler, Unattachable, parse_stack, split_stack},
    python::Spot,
};

/// How often what was seen is fetched, at least.
const FETCHED: Duration = Duration::from_secs(1);
/// How many times longer than a fetch took is the time to the next.
const REST: u32 = 20;

/// The sampler.
pub(super) struct Javas<'a> {
    process: &'a Process,
    profiler: Profiler<'a>,
    mode: Mode,
    rate: u32,
    next: Instant,
    /// What each stack counted, by its hash: the stacks themselves would be kept twice.
    counts: HashMap<u64, u64>,
    /// Threads as the JVM numbers them, and as we do.
    tids: Tids,
    is_gone: bool,
    used: u64,
}

impl<'a> Javas<'a> {
    /// Loads the profiler into the JVM and starts it; and what the user should know of that, in words.
    pub(super) fn open(
        process: &'a Process,
        facts: &RuntimeFacts,
        rate: u32,
        mode: Mode,
    ) -> Result<(Javas<'a>, Vec<String>), Unattachable> {
        let (profiler, notes) = Profiler::start(process, facts, mode, rate)?;
        let javas = Javas {
            process,
            profiler,
            mode,
            rate,
            next: Instant::now() + FETCHED,
            counts: HashMap::new(),
            tids: Tids::default(),
            is_gone: false,
            used: cpu(process),
        };
        Ok((javas, notes))
    }

    /// Takes what was seen since the last time.
    fn fetch(&mut self, batch: &mut Batch) -> Result<(), Unattachable> {
        if self.is_gone {
            return Ok(());
        }
        let begun = Instant::now();
        if !self.profiler.renew()? {
            batch.note("it was not reached for a while, in which nothing was sampled".to_owned());
        }
        let text = self.profiler.fetch()?;
        self.next = Instant::now() + FETCHED.max(begun.elapsed() * REST);
        let text = String::from_utf8_lossy(&text);
        // The same stack may have several lines, which differ by what is not told.
        let mut now: HashMap<&str, u64> = HashMap::new();
        for (stack, count) in text.lines().filter_map(split_stack) {
            let sum = now.entry(stack).or_default();
            *sum = sum.saturating_add(count);
        }
        self.tids.list(self.process);
        for (stack, count) in now {
            let mut hasher = DefaultHasher::new();
            stack.hash(&mut hasher);
            let before = self.counts.insert(hasher.finish(), count).unwrap_or(0);
            if count > before {
                self.seen(&parse_stack(stack, count - before), batch);
            }
        }
        Ok(())
    }

    fn seen(&self, folded: &Folded<'_>, batch: &mut Batch) {
        let mut chain: Vec<Place> = folded.frames.iter().map(place).collect();
        chain.extend(folded.is_cut.then_some(CUT_OFF));
        let pid = self.process.pid().get();
        // One that has ended is told by the number that it had where the JVM is.
        let tid = folded.tid.map_or(pid, |tid| self.tids.here(tid).unwrap_or(tid));
        let of = if self.mode.is_weighed() {
            Count { count: 1, weight: folded.count }
        } else {
            Count { count: folded.count, weight: 0 }
        };
        if batch.is_full() {
            batch.lost(of.count);
        } else if !chain.is_empty() {
            if !folded.name.is_empty() {
                batch.call(pid, tid, folded.name);
            }
            batch.samples(pid, tid, monotonic(), &chain, of);
        }
    }
}

fn place(frame: &FoldedFrame) -> Place {
    match frame {
        FoldedFrame::Kernel => Place::Remark("[kernel]"),
        FoldedFrame::Function(name) => {
            Place::Named(Spot { function: name.as_str().into(), file: Arc::from(""), line: 0, column: 0 })
        }
    }
}

impl Sampler for Javas<'_> {
    fn name(&self) -> &'static str {
        "async-profiler"
    }

    fn rate(&self) -> u32 {
        if self.mode.is_weighed() { 0 } else { self.rate }
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
            self.profiler.stop();
        }
        Cost::default()
    }
}
