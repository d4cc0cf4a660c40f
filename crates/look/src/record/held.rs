//! Samples by holding threads that run, where perf is refused: each for the time it takes to copy its registers and the top of its
//! stack. Every hold is measured. Threads that wait are not touched.
//!
//! A thread is taken for running by its state; that it waits for a processor looks the same, so these samples are of time that
//! threads run or could run.

use std::{
    collections::HashMap,
    io::ErrorKind,
    time::{Duration, Instant},
};

use pepo_process::{AgentTid, Memory, Process, threads};
use pepo_wire::{Code, Failure, FailureExt as _};

use super::{
    Cost, Sampler, Spent,
    batch::{Batch, monotonic},
    mode::Mode,
    python::{Program, cpu, is_running},
    space::{Copied, OfPython, Spaces},
    waiting::{Waiting, is_waiting},
};
use crate::{
    python::{Placed, PythonThread},
    registers,
};

/// The most holds of each thread a second.
const HIGHEST_RATE: u32 = 49;
/// The most threads that are held in one round.
const MOST: usize = 64;
/// How much longer than a round is the time to the next, at least.
const REST: u32 = 3;

/// The sampler.
pub(super) struct Held<'a> {
    process: &'a Process,
    memory: Memory,
    rate: u32,
    next: Instant,
    spaces: Spaces,
    program: Option<std::path::PathBuf>,
    cpu_before: u64,
    cost: Cost,
    /// Whose frames are joined with the native ones.
    python: Option<Program>,
    mode: Mode,
    waiting: Waiting,
    rounds: u64,
}

/// A thread that was held, and the frames of Python that it had then.
type Hold = (AgentTid, std::io::Result<registers::Held>, Option<(Vec<Placed>, bool)>);

impl Held<'_> {
    /// # Errors
    /// When its memory cannot be read.
    pub(super) fn open(
        process: &Process,
        rate: u32,
        python: Option<Program>,
        mode: Mode,
    ) -> Result<Held<'_>, Failure> {
        let rate = rate.min(HIGHEST_RATE);
        Ok(Held {
            process,
            memory: process.memory().map_err(|error| error.failure())?,
            rate,
            next: Instant::now(),
            spaces: Spaces::default(),
            program: process.exe_path().ok(),
            cpu_before: cpu(process),
            cost: Cost::default(),
            python,
            mode,
            waiting: Waiting::default(),
            rounds: 0,
        })
    }

    /// Looks at each thread that the mode is about.
    fn look(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        self.rounds += 1;
        if self.mode != Mode::OffCpu {
            self.round(batch)?;
        }
        if self.mode != Mode::Cpu {
            self.notice_exec()?;
            let tids: Vec<AgentTid> = threads::list(self.process)
                .unwrap_or_default()
                .into_iter()
                .filter(|tid| is_waiting(self.process, *tid))
                .collect();
            self.waiting.round(self.process, &self.memory, &tids, &mut self.spaces, batch);
        }
        Ok(())
    }

    /// Holds each running thread once. Whatever could not be let go is let go by the end of the thread that held it.
    fn round(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        self.notice_exec()?;
        let (running, all) = self.running();
        if all > MOST {
            batch.note(format!("only {MOST} of {all} running threads were held at a time"));
        }
        let held = self.hold(&running, batch);
        let pid = self.process.pid().get();
        let eval_loop = self.python.as_ref().and_then(|python| python.eval_loop.clone());
        for (tid, held, frames) in held {
            match held {
                Ok(held) => {
                    self.cost.held += 1;
                    self.cost.longest_hold = self.cost.longest_hold.max(held.pause);
                    self.cost.total_hold += held.pause;
                    // Too late: it waited by then.
                    if held.waited {
                        continue;
                    }
                    let copied = Copied { registers: held.registers, stack: &held.stack };
                    let frames = frames.as_ref().map(|(frames, is_cut)| OfPython {
                        frames,
                        is_cut: *is_cut,
                        eval_loop: eval_loop.as_ref(),
                    });
                    let chain = self.spaces.chain(pid, &copied, frames.as_ref(), batch);
                    batch.sample(pid, tid.get(), monotonic(), &chain);
                }
                // So long at most it stood still.
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    self.cost.held += 1;
                    self.cost.longest_hold = self.cost.longest_hold.max(registers::PATIENCE);
                    self.cost.total_hold += registers::PATIENCE;
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(
                        Failure::new(Code::NeedsCapability, "no thread may be held").because_of(&error)
                    );
                }
                // It ended: not lost but not there to be seen.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Holds these threads, one after the other.
    fn hold(&mut self, running: &[AgentTid], batch: &mut Batch) -> Vec<Hold> {
        let (process, memory) = (self.process, &self.memory);
        let listed = self.python.as_mut().and_then(|python| python.list(batch).then_some(python));
        let known: HashMap<AgentTid, PythonThread> =
            listed.map(|python| python.threads().into_iter().collect()).unwrap_or_default();
        let python = &mut self.python;
        std::thread::scope(|scope| {
            // Again before each: while the others were held, it may have begun to wait, and what waits is not touched.
            let still = running.iter().filter(|tid| is_running(process, **tid));
            let hold = || {
                let mut held = Vec::new();
                for tid in still {
                    let mut frames = None;
                    let one = registers::sample(*tid, memory, &mut || {
                        frames =
                            python.as_mut().zip(known.get(tid)).and_then(|(one, thread)| one.frames(thread));
                    });
                    // It may stop yet, and goes on at the end of this very thread.
                    let is_late = matches!(&one, Err(error) if error.kind() == ErrorKind::TimedOut);
                    held.push((*tid, one, frames));
                    if is_late {
                        break;
                    }
                }
                held
            };
            scope.spawn(hold).join().unwrap_or_default()
        })
    }

    /// Another program has other code, and its memory must be opened anew.
    fn notice_exec(&mut self) -> Result<(), Failure> {
        let now = self.process.exe_path().ok();
        if now.is_some() && now != self.program {
            self.program = now;
            self.memory = self.process.memory().map_err(|error| error.failure())?;
            self.spaces.executed(self.process.pid().get());
        }
        Ok(())
    }

    /// The first of the running threads, and how many there are.
    fn running(&self) -> (Vec<AgentTid>, usize) {
        let mut running = threads::list(self.process).unwrap_or_default();
        running.retain(|tid| is_running(self.process, *tid));
        let all = running.len();
        // A different part of them each time.
        if all > MOST {
            running.rotate_left(self.cost.held as usize % all);
            running.truncate(MOST);
        }
        (running, all)
    }
}

impl Sampler for Held<'_> {
    fn name(&self) -> &'static str {
        "hold"
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
        while self.next < end {
            std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
            if !self.process.alive() {
                return Ok(());
            }
            let begun = Instant::now();
            self.look(batch)?;
            // A round that took long, as among thousands of threads, is not made up for and is followed by a longer rest.
            self.next = (self.next + period).max(Instant::now() + begun.elapsed() * REST);
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        Ok(())
    }

    fn spent(&self) -> Spent {
        // Of time on the wall there are as many samples of each thread as there were rounds.
        let rounds = if self.mode == Mode::Cpu { 0 } else { self.rounds };
        Spent { cpu_nanos: cpu(self.process).saturating_sub(self.cpu_before), rounds }
    }

    fn finish(self: Box<Self>) -> Cost {
        self.cost
    }
}
