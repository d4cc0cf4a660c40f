//! Samples of Python's own frames, read from memory while the program runs: nothing is held. All threads that run are looked at once in
//! each round; what moved too fast to be seen counts as lost.
//!
//! A thread runs when it holds the interpreter's lock or the kernel says so; samples are of time on the wall, in which threads ran or
//! could have run.

/// A process and its interpreter.
mod program;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use pepo_process::{
    AgentPid, Process, list,
    runtime::{self, Language, RuntimeFacts},
    stat::Stat,
};
use pepo_wire::{Failure, agent::StartLook};

pub(super) use self::program::{Program, cpu, is_running};
use super::{
    Cost, Sampler, Spent,
    batch::{Batch, Place, monotonic},
    mode::Mode,
    space::CUT_OFF,
};
use crate::python::{Placed, Unreadable};

/// How often children are looked for.
const CHILDREN: Duration = Duration::from_millis(250);
/// The most processes that are looked at.
const MOST: usize = 128;
/// The time after a round is at least one part in so many of what the round took.
const REST: u32 = 3;
/// A round that is late by less than this many periods is made up for.
const LATE: u32 = 3;

/// The sampler.
pub(super) struct Pythons<'a> {
    first: &'a Process,
    rate: u32,
    mode: Mode,
    language: Language,
    lock_holder: bool,
    subprocesses: bool,
    programs: Vec<Program>,
    /// Processes that are not looked at, since they run no Python.
    others: HashSet<(u32, u64)>,
    next: Instant,
    next_children: Instant,
    rounds: u64,
    /// CPU time of each process, before and by now.
    cpu: HashMap<u32, (u64, u64)>,
    skipped: u64,
}

impl Pythons<'_> {
    /// # Errors
    /// When its frames cannot be read.
    pub(super) fn open<'a>(
        process: &'a Process,
        facts: &RuntimeFacts,
        rate: u32,
        mode: Mode,
        request: &StartLook,
    ) -> Result<Pythons<'a>, Unreadable> {
        let program = Program::open(process, facts)?;
        if request.lock_holder && program.language() == Language::Ruby {
            return Err(Unreadable("which thread has Ruby's lock is not read".to_owned()));
        }
        let used = cpu(process);
        Ok(Pythons {
            first: process,
            rate,
            mode,
            language: program.language(),
            lock_holder: request.lock_holder,
            subprocesses: request.subprocesses,
            programs: vec![program],
            others: HashSet::new(),
            next: Instant::now(),
            next_children: Instant::now(),
            rounds: 0,
            cpu: HashMap::from([(process.pid().get(), (used, used))]),
            skipped: 0,
        })
    }

    /// Looks at every thread once.
    fn round(&mut self, batch: &mut Batch) {
        self.rounds += 1;
        for program in &mut self.programs {
            if !program.list(batch) {
                batch.lost(u64::from(program.process.alive()));
                continue;
            }
            let pid = program.process.pid().get();
            for (tid, thread) in program.threads() {
                let runs = || thread.holds_gil || is_running(&program.process, tid);
                let is_seen = match self.mode {
                    _ if self.lock_holder => thread.holds_gil,
                    Mode::OffCpu => !runs(),
                    Mode::Wall => true,
                    _ => runs(),
                };
                if !is_seen {
                    continue;
                }
                if batch.is_full() {
                    batch.lost(1);
                    continue;
                }
                match program.frames(&thread) {
                    // It has just begun, or is about to end.
                    Some((frames, _)) if frames.is_empty() => {}
                    Some((frames, is_cut)) => {
                        batch.sample(pid, tid.get(), monotonic(), &places(&frames, is_cut));
                    }
                    None => batch.lost(1),
                }
            }
        }
    }

    /// Processes that have ended are looked at no more; new children are from now on.
    fn follow(&mut self, batch: &mut Batch) {
        if !self.subprocesses || Instant::now() < self.next_children {
            return;
        }
        self.programs.retain(|program| program.process.alive());
        let known: HashSet<u32> = self.programs.iter().map(|program| program.process.pid().get()).collect();
        for child in descendants(self.first.pid().get(), &known) {
            let Ok(process) = Process::open(child) else { continue };
            let key = (child.get(), process.start_time());
            if self.others.contains(&key) || self.programs.len() >= MOST {
                continue;
            }
            match Program::open(&process, &runtime::detect(&process)) {
                Ok(program) => self.programs.push(program),
                // A child may yet become a program of Python: it is asked again as long as it is young.
                Err(why) if process.stat().is_ok_and(|stat| stat.uptime_seconds() > 5.0) => {
                    batch.note(format!("process {child} is not seen: {}", why.0));
                    self.others.insert(key);
                }
                Err(_) => {}
            }
        }
        self.next_children = Instant::now() + CHILDREN;
    }

    fn count_cpu(&mut self) {
        for program in &self.programs {
            let used = cpu(&program.process);
            let counted = self.cpu.entry(program.process.pid().get()).or_insert((used, used));
            counted.1 = counted.1.max(used);
        }
    }
}

/// All below a process, and below those that are known, without these.
fn descendants(first: u32, known: &HashSet<u32>) -> Vec<AgentPid> {
    let mut children: HashMap<u32, Vec<AgentPid>> = HashMap::new();
    for pid in list::pids().unwrap_or_default() {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok().and_then(|text| Stat::parse(&text));
        if let Some(stat) = stat {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut below: Vec<u32> = known.iter().copied().chain([first]).collect();
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    while let Some(pid) = below.pop() {
        if !seen.insert(pid) {
            continue;
        }
        for child in children.get(&pid).into_iter().flatten() {
            below.push(child.get());
            if !known.contains(&child.get()) {
                found.push(*child);
            }
        }
    }
    found
}

/// Frames as places of a call chain.
pub(super) fn places(frames: &[Placed], is_cut: bool) -> Vec<Place> {
    let mut places: Vec<Place> = frames.iter().map(|frame| Place::Named(frame.spot.clone())).collect();
    places.extend(is_cut.then_some(CUT_OFF));
    places
}

impl Sampler for Pythons<'_> {
    fn name(&self) -> &'static str {
        self.language.name()
    }

    fn rate(&self) -> u32 {
        self.rate
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn sample(&mut self, span: Duration, batch: &mut Batch) -> Result<(), Failure> {
        let end = Instant::now() + span;
        let period = Duration::from_secs(1) / self.rate;
        self.follow(batch);
        while self.next < end && !batch.is_full() {
            std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
            if !self.first.alive() {
                break;
            }
            let begun = Instant::now();
            self.round(batch);
            let rested = Instant::now() + begun.elapsed() / REST;
            let mut next = (self.next + period).max(rested);
            // Rounds that are late are made up for, but not many at once: they would all show the same.
            while next + period * LATE < Instant::now() {
                next += period;
                self.skipped += 1;
            }
            self.next = next;
        }
        if self.next >= end {
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
        }
        self.count_cpu();
        Ok(())
    }

    fn spent(&self) -> Spent {
        let used = self.cpu.values().map(|(before, now)| now - before).sum();
        Spent { cpu_nanos: used, rounds: self.rounds }
    }

    fn finish(self: Box<Self>) -> Cost {
        let mut cost = Cost::default();
        if self.skipped > 0 {
            cost.notes.push(format!("{} rounds were left out: this machine was too busy", self.skipped));
        }
        cost
    }
}
