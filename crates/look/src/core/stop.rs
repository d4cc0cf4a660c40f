//! All threads of a process, stopped together and let go together: PTRACE_SEIZE and PTRACE_INTERRUPT (ptrace(2)), nothing else.
//!
//! No signal is sent and no byte changed, so the death of this process at any point, SIGKILL too, lets all threads run on. Some system
//! calls in which a thread waits end with EINTR by it, as after every debugger's stop (signal(7)).

use std::{
    collections::BTreeSet,
    io,
    time::{Duration, Instant},
};

use pepo_process::{
    AgentTid, Process,
    threads::{self, SyscallNow},
};
use pepo_wire::{Code, Failure, FailureExt as _};

use crate::registers::{self, Set};

/// How long threads may take to stop: one may be asleep where signals don't reach.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often threads that were born meanwhile are looked for.
const ROUNDS: usize = 100;

/// A thread and what its registers hold, as the kernel writes the sets.
#[derive(Debug, Default)]
pub(super) struct Thread {
    pub(super) container_tid: u32,
    pub(super) general: Vec<u8>,
    /// Each with the type of its note.
    pub(super) others: Vec<(u32, Vec<u8>)>,
}

/// Threads that stand still, or with `running` only their account. To be let go by the thread that stopped them.
#[derive(Debug)]
pub(super) struct Stopped {
    /// The main thread first.
    pub(super) threads: Vec<Thread>,
    pub(super) notes: Vec<String>,
    /// With the signal that each had been about to get.
    held: Vec<(AgentTid, i64)>,
}

impl Stopped {
    /// Stops all threads, also those that are born meanwhile.
    pub(super) fn stop(process: &Process, limit: Option<Duration>) -> Result<Stopped, Failure> {
        let until = Instant::now() + limit.unwrap_or(PATIENCE).min(PATIENCE);
        let mut stopped = Stopped { threads: Vec::new(), notes: Vec::new(), held: Vec::new() };
        let mut known = BTreeSet::new();
        for _ in 0..ROUNDS {
            let there = threads::list(process).map_err(|error| error.failure())?;
            let new: Vec<AgentTid> = there.into_iter().filter(|tid| known.insert(*tid)).collect();
            if new.is_empty() {
                stopped.read_registers(process, &known);
                return match stopped.threads.is_empty() {
                    true => Err(gone(process)),
                    false => Ok(stopped),
                };
            }
            stopped.hold(process, &new, until)?;
        }
        Err(Failure::new(Code::NotNow, "the process makes threads faster than they can be stopped")
            .hint("try again, or read it while it runs with `--no-stop`"))
    }

    /// What is known of threads that run on.
    pub(super) fn running(process: &Process) -> Result<Stopped, Failure> {
        let threads = process.threads().map_err(|error| error.failure())?;
        let mut stopped = Stopped { threads: Vec::new(), notes: Vec::new(), held: Vec::new() };
        let main = AgentTid::from(process.pid());
        let (first, others): (Vec<_>, Vec<_>) = threads.iter().partition(|thread| thread.tid == main);
        stopped.threads = first.into_iter().chain(others).map(account).collect();
        stopped.notes.push("of threads that wait, instruction and stack pointer alone are known".to_owned());
        Ok(stopped)
    }

    /// Lets them run on.
    pub(super) fn let_go(&mut self) {
        for (tid, signal) in self.held.drain(..) {
            // One that was killed meanwhile is gone.
            let _ = registers::detach(tid, signal);
        }
    }

    fn hold(&mut self, process: &Process, new: &[AgentTid], until: Instant) -> Result<(), Failure> {
        let mut seized = Vec::new();
        for &tid in new {
            match registers::seize(tid).and_then(|()| registers::interrupt(tid)) {
                Ok(()) => seized.push(tid),
                Err(error) if has_ended(process, tid, &error) => {}
                Err(error) => return Err(refused(process, &error)),
            }
        }
        for tid in seized {
            match registers::wait_until_stopped(tid, until.saturating_duration_since(Instant::now())) {
                Ok(signal) => self.held.push((tid, signal)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.notes.push(format!("thread {tid} could not be stopped: it is deep in the kernel"));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn read_registers(&mut self, process: &Process, known: &BTreeSet<AgentTid>) {
        let main = AgentTid::from(process.pid());
        let order = known.iter().filter(|tid| **tid == main).chain(known.iter().filter(|tid| **tid != main));
        for &tid in order {
            let container_tid = threads::container_tid(process, tid).unwrap_or(tid.get());
            let read =
                |set: Set| registers::read_set(tid, set).ok().map(|bytes| (set.note(), as_known(set, bytes)));
            if let Ok(general) = registers::read_set(tid, Set::General) {
                let others = Set::OTHERS.iter().filter_map(|set| read(*set)).collect();
                self.threads.push(Thread { container_tid, general, others });
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn as_known(set: Set, bytes: Vec<u8>) -> Vec<u8> {
    if set == Set::Extended { super::extended::as_known(bytes) } else { bytes }
}

#[cfg(target_arch = "aarch64")]
fn as_known(_set: Set, bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// The kernel's short account of a thread that waits; zeros for one that runs.
fn account(thread: &threads::Thread) -> Thread {
    let (instruction, stack) = match thread.syscall {
        Some(
            SyscallNow::Blocked { stack_pointer, program_counter }
            | SyscallNow::Call { stack_pointer, program_counter, .. },
        ) => (program_counter, stack_pointer),
        _ => (0, 0),
    };
    let general = registers::set_of(instruction, stack);
    Thread { container_tid: thread.container_tid, general, others: Vec::new() }
}

/// A thread that has ended cannot be seized; the main thread of others stays as a zombie.
fn has_ended(process: &Process, tid: AgentTid, error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
        || process.threads().is_ok_and(|threads| {
            threads.iter().find(|thread| thread.tid == tid).is_none_or(|thread| thread.state.is_zombie())
        })
}

fn refused(process: &Process, error: &io::Error) -> Failure {
    let tracer = process.status().map_or(0, |status| status.tracer);
    let target = format!("pid/{}", process.pid());
    if tracer != 0 {
        return Failure::new(Code::AlreadyTraced, format!("process {tracer} traces it already"))
            .try_command("let go of it, whoever holds it", ["pepo", "release", &target]);
    }
    Failure::new(Code::NeedsCapability, "the process may not be stopped")
        .because_of(error)
        .try_command("see which right is missing", ["pepo", "check", &target, "--for", "core"])
}

fn gone(process: &Process) -> Failure {
    Failure::new(Code::ProcessGone, format!("process {} has ended", process.pid()))
        .try_command("list what runs now", ["pepo", "ps"])
}
