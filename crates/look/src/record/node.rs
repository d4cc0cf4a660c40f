//! Samples of JavaScript's frames, taken by V8's own profiler in the program's main thread, and fetched each second.

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
};
use crate::node::{Closed, Inspector, samples};

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
    /// How many were fetched, and when the last sample in them was taken.
    profiles: u64,
    last: u64,
    used: u64,
    rounds: u64,
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
        if let Err(why) = inspector.profile(1_000_000 / rate) {
            let _ = inspector.close();
            return Err(why);
        }
        let (fetched, used) = (Instant::now(), cpu(process));
        let nodes = Nodes {
            process,
            rate,
            idle,
            inspector: Some(inspector),
            fetched,
            profiles: 0,
            last: 0,
            used,
            rounds: 0,
        };
        Ok((nodes, opened.into_iter().collect()))
    }

    /// Takes what was seen since the last time, and goes on.
    fn fetch(&mut self, batch: &mut Batch) -> Result<(), Closed> {
        let Some(inspector) = &mut self.inspector else { return Ok(()) };
        let profile = inspector.fetch(self.profiles)?;
        inspector.renew()?;
        (self.fetched, self.profiles) = (Instant::now(), self.profiles + 1);
        let seen = samples(&profile).ok_or_else(|| Closed("its profile is not understood".to_owned()))?;
        let (pid, last) = (self.process.pid().get(), self.last);
        for sample in seen.into_iter().filter(|sample| sample.at > last) {
            self.last = self.last.max(sample.at);
            self.rounds += 1;
            let mut chain: Vec<Place> = sample.chain.into_iter().map(Place::Named).collect();
            chain.extend(sample.is_cut.then_some(CUT_OFF));
            if chain.is_empty() && self.idle {
                chain.push(Place::Remark("[idle]"));
            }
            match (chain.is_empty(), batch.is_full()) {
                (true, _) => {}
                (false, true) => batch.lost(1),
                (false, false) => batch.sample(pid, pid, sample.at, &chain),
            }
        }
        Ok(())
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
        let mut cost =
            Cost { notes: vec!["of its threads only the main one is seen".to_owned()], ..Cost::default() };
        if let Some(inspector) = self.inspector.take() {
            cost.notes.extend(inspector.close());
        }
        cost
    }
}
