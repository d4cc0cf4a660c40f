//! One process that runs Python, as it is while it is recorded: its interpreter, and which thread of it is which thread of the kernel.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

use pepo_process::{
    AgentTid, Process,
    runtime::{self, Language, RuntimeFacts},
    stat::Stat,
};

use super::super::batch::Batch;
use crate::{
    interpreter::Interpreter,
    python::{Placed, PythonThread, Shape, Unreadable, eval_loop},
};

/// The most frames of one sample.
pub(in super::super) const MAX_FRAMES: usize = 1024;
/// Bytes of `stat` that are read.
const STAT: usize = 4096;
/// Finding out what is new takes at most one part in so many of the time.
const REST: u32 = 10;
/// The most threads whose places are remembered.
const MOST: usize = 20_000;

/// A process and its interpreter.
pub(in super::super) struct Program {
    pub(in super::super) process: Process,
    interpreter: Interpreter,
    /// The code of the interpreter's loop.
    pub(in super::super) eval_loop: Option<Range<u64>>,
    executable: Option<PathBuf>,
    /// By the thread's state and `pthread_self()`: how the agent's `/proc` numbers it.
    numbers: HashMap<(u64, u64), AgentTid>,
    shapes: HashMap<u64, Shape>,
    /// The threads, as they were when they were last listed, and those of them that are known.
    threads: Vec<PythonThread>,
    /// Before then, what is new is not found out.
    next: Instant,
}

impl Program {
    /// # Errors
    /// When it runs neither Python nor Ruby, or none whose frames can be read.
    pub(in super::super) fn open(process: &Process, facts: &RuntimeFacts) -> Result<Program, Unreadable> {
        let process = Process::open_started(process.pid(), process.start_time())
            .map_err(|error| Unreadable(error.to_string()))?;
        Ok(Program {
            interpreter: Interpreter::open(&process, facts)?,
            eval_loop: facts.python.as_ref().and_then(|python| eval_loop(&process, python)),
            executable: process.exe_path().ok(),
            process,
            numbers: HashMap::new(),
            shapes: HashMap::new(),
            threads: Vec::new(),
            next: Instant::now(),
        })
    }

    /// What it is written in.
    pub(in super::super) fn language(&self) -> Language {
        self.interpreter.language()
    }

    /// Lists the threads; false while there is nothing to be read.
    pub(in super::super) fn list(&mut self, batch: &mut Batch) -> bool {
        let Some(threads) = self.interpreter.threads() else {
            self.notice_exec();
            return false;
        };
        self.threads = threads;
        let is_new = |thread: &PythonThread| !self.numbers.contains_key(&(thread.address, thread.ident));
        if self.threads.iter().any(is_new) && Instant::now() >= self.next {
            let begun = Instant::now();
            self.learn(batch);
            self.next = Instant::now() + begun.elapsed() * REST;
        }
        true
    }

    /// Which threads these are, and what they are called.
    fn learn(&mut self, batch: &mut Batch) {
        let all = self.process.threads().unwrap_or_default();
        let by_number: HashMap<u32, AgentTid> = all.iter().map(|one| (one.container_tid, one.tid)).collect();
        let tids: HashSet<u32> = by_number.keys().copied().collect();
        let mut threads = self.threads.clone();
        self.interpreter.number(&mut threads, &tids);
        let names = self.interpreter.names(&threads);
        if self.numbers.len() >= MOST {
            self.numbers.clear();
            self.shapes.clear();
        }
        for thread in threads {
            let Some(tid) = by_number.get(&thread.native_id) else { continue };
            self.numbers.insert((thread.address, thread.ident), *tid);
            if let Some(name) = names.get(&thread.ident) {
                batch.call(self.process.pid().get(), tid.get(), name);
            }
        }
    }

    /// Another program has another interpreter; until it has begun there is none.
    fn notice_exec(&mut self) {
        let now = self.process.exe_path().ok();
        let begun = Instant::now();
        if begun < self.next || now.is_none() {
            return;
        }
        if let Ok(program) = Program::open(&self.process, &runtime::detect(&self.process)) {
            *self = program;
        }
        self.executable = now;
        self.next = Instant::now() + (begun.elapsed() * REST).max(Duration::from_millis(20));
    }

    /// The threads, each with its number; those whose number is not known yet are left out.
    pub(in super::super) fn threads(&self) -> Vec<(AgentTid, PythonThread)> {
        let known = |thread: &PythonThread| self.numbers.get(&(thread.address, thread.ident)).copied();
        self.threads.iter().filter_map(|thread| Some((known(thread)?, *thread))).collect()
    }

    /// Its frames at one moment, innermost first, and whether there are more; nothing when that could not be had.
    pub(in super::super) fn frames(&mut self, thread: &PythonThread) -> Option<(Vec<Placed>, bool)> {
        let shape = self.shapes.entry(thread.address).or_default();
        // At the first: those that stand still for longer would be seen too often.
        self.interpreter.frames(thread, shape, MAX_FRAMES, 0)
    }
}

/// Does a thread run, or could it?
pub(in super::super) fn is_running(process: &Process, tid: AgentTid) -> bool {
    let stat = process.read(&format!("task/{tid}/stat"), STAT).ok();
    stat.and_then(|text| Stat::parse(&text)).is_some_and(|stat| stat.state.letter() == 'R')
}

/// CPU time of all threads, ended ones too, in nanoseconds; as exact as clock ticks are.
pub(in super::super) fn cpu(process: &Process) -> u64 {
    let ticks = process.stat().map_or(0, |stat| stat.user_ticks + stat.system_ticks);
    ticks * (1_000_000_000 / pepo_process::stat::ticks_per_second().max(1))
}
