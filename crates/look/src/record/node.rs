//! Samples of JavaScript's frames, taken by V8's own profiler in the program's main thread and in its workers, and fetched each second.

use std::time::{Duration, Instant};

use pepo_process::Process;
use pepo_wire::Failure;

use super::{
    Cost, Sampler, Spent,
    batch::{Batch, Place},
    is_gone,
    mode::Mode,
    python::cpu,
    space::CUT_OFF,
    tids::Tids,
};
use crate::node::{Closed, Inspector, Sample, Worker, samples};

/// How often what was seen is fetched: the program's thread packs it up.
const FETCHED: Duration = Duration::from_secs(1);

/// The sampler.
pub(super) struct Nodes<'a> {
    process: &'a Process,
    rate: u32,
    idle: bool,
    /// Gone when the process has ended.
    inspector: Option<Inspector<'a>>,
    fetched: Instant,
    /// The main thread is the first.
    threads: Vec<Seen>,
    tids: Tids,
    used: u64,
    rounds: u64,
}

/// A thread of JavaScript.
#[derive(Debug, Default)]
struct Seen {
    /// Nothing for the main thread.
    worker: Option<Worker>,
    /// Its number here.
    tid: u32,
    /// How many profiles were fetched, and when the last sample in them was taken.
    profiles: u64,
    last: u64,
}

impl Seen {
    fn to(&self) -> Option<&str> {
        self.worker.as_ref().map(|worker| worker.session.as_str())
    }
}

impl<'a> Nodes<'a> {
    /// Opens the inspector and starts the profiler; and what it leaves in the program's log, in words.
    pub(super) fn open(
        process: &'a Process,
        rate: u32,
        idle: bool,
    ) -> Result<(Nodes<'a>, Vec<String>), Closed> {
        let mut inspector = Inspector::open(process)?;
        let opened = inspector.opened_port().map(|port| {
            format!(
                "its inspector was opened at port {port} of its own loopback for as long as this lasts; its log says so"
            )
        });
        let (fetched, used) = (Instant::now(), cpu(process));
        if let Err(why) = inspector.profile(None, 1_000_000 / rate).and_then(|()| inspector.watch_workers()) {
            let _ = inspector.close();
            return Err(why);
        }
        let main = Seen { tid: process.pid().get(), ..Seen::default() };
        let mut nodes = Nodes {
            process,
            rate,
            idle,
            inspector: Some(inspector),
            fetched,
            threads: vec![main],
            tids: Tids::default(),
            used,
            rounds: 0,
        };
        let mut notes: Vec<String> = opened.into_iter().collect();
        notes.extend(nodes.follow());
        Ok((nodes, notes))
    }

    /// Begins with workers that are new, and leaves those that have ended; what cannot be seen, in words.
    fn follow(&mut self) -> Vec<String> {
        let Some(inspector) = &mut self.inspector else { return Vec::new() };
        let living = inspector.workers().to_vec();
        let is_known = |worker: &Worker| self.threads.iter().any(|seen| seen.worker.as_ref() == Some(worker));
        let new: Vec<Worker> = living.iter().filter(|worker| !is_known(worker)).cloned().collect();
        let mut notes = Vec::new();
        self.threads.retain(|seen| {
            let gone = seen.worker.as_ref().filter(|worker| !living.contains(worker));
            // What it did since the last time went with it.
            notes.extend(gone.filter(|_| seen.tid > 0).map(ended));
            gone.is_none()
        });
        for worker in new {
            let to = Some(worker.session.as_str());
            let tid = inspector.tid(to).and_then(|theirs| {
                self.tids.list(self.process);
                self.tids.here(theirs)
            });
            let tid = tid.filter(|_| inspector.profile(to, 1_000_000 / self.rate).is_ok());
            if tid.is_none() {
                notes.push(format!("worker thread {} is not seen", worker.name));
            }
            // Those that cannot be seen are known, too: they are not asked again.
            let tid = tid.unwrap_or(0);
            self.threads.push(Seen { worker: Some(worker), tid, ..Seen::default() });
        }
        notes
    }

    /// Takes what was seen since the last time, and goes on.
    fn fetch(&mut self, batch: &mut Batch) -> Result<(), Closed> {
        let Some(inspector) = &mut self.inspector else { return Ok(()) };
        inspector.renew()?;
        self.fetched = Instant::now();
        let pid = self.process.pid().get();
        for seen in self.threads.iter_mut().filter(|seen| seen.tid > 0) {
            let profile = match (inspector.fetch(seen.to(), seen.profiles), &seen.worker) {
                (Ok(profile), _) => profile,
                (Err(why), None) => return Err(why),
                (Err(_), Some(worker)) => {
                    batch.note(ended(worker));
                    seen.tid = 0;
                    continue;
                }
            };
            if let Some(worker) = &seen.worker {
                batch.call(pid, seen.tid, &worker.name);
            }
            seen.profiles += 1;
            let samples =
                samples(&profile).ok_or_else(|| Closed("its profile is not understood".to_owned()))?;
            let last = seen.last;
            for sample in samples.into_iter().filter(|sample| sample.at > last) {
                seen.last = seen.last.max(sample.at);
                // The main thread tells how often was looked.
                self.rounds += u64::from(seen.worker.is_none());
                hand_on(pid, seen.tid, self.idle, sample, batch);
            }
        }
        for note in self.follow() {
            batch.note(note);
        }
        Ok(())
    }
}

fn ended(worker: &Worker) -> String {
    format!("the end of worker thread {} is not seen", worker.name)
}

fn hand_on(pid: u32, tid: u32, idle: bool, sample: Sample, batch: &mut Batch) {
    let mut chain: Vec<Place> = sample.chain.into_iter().map(Place::Named).collect();
    chain.extend(sample.is_cut.then_some(CUT_OFF));
    if chain.is_empty() && idle {
        chain.push(Place::Remark("[idle]"));
    }
    match (chain.is_empty(), batch.is_full()) {
        (true, _) => {}
        (false, true) => batch.lost(1),
        (false, false) => batch.sample(pid, tid, sample.at, &chain),
    }
}

impl Sampler for Nodes<'_> {
    fn name(&self) -> &'static str {
        "node"
    }

    fn rate(&self) -> u32 {
        self.rate
    }

    fn mode(&self) -> Mode {
        if self.idle { Mode::Wall } else { Mode::Cpu }
    }

    fn sample(&mut self, span: Duration, batch: &mut Batch) -> Result<(), Failure> {
        std::thread::sleep(span);
        if !span.is_zero() && self.fetched.elapsed() < FETCHED {
            return Ok(());
        }
        let fetched = self.fetch(batch).map_err(|why| why.0);
        if is_gone(fetched, self.process, batch)? {
            self.inspector = None;
        }
        Ok(())
    }

    fn spent(&self) -> Spent {
        Spent { cpu_nanos: cpu(self.process).saturating_sub(self.used), rounds: self.rounds }
    }

    fn finish(mut self: Box<Self>) -> Cost {
        let mut cost = Cost::default();
        if let Some(inspector) = self.inspector.take() {
            cost.notes.extend(inspector.close());
        }
        cost
    }
}
