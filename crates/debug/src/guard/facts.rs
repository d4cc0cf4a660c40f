//! What was changed in the target through the guard, and the way back: the one thing both relay and keeper must be able to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use pepo_process::{Memory, Process};

use super::{
    request::{Point, Stop},
    stub::Link,
};
use crate::text::Patches;

const UNFINISHED: &str = "restored the registers of a thread in an unfinished call";

/// How long threads may take to run again after the detach.
const SETTLE: Duration = Duration::from_secs(2);

/// How often in a row, a millisecond apart, threads must be seen to run.
const LOOKS: u32 = 3;

/// What was changed in the target.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Breakpoints that are, or may be, in the target.
    pub(super) points: BTreeSet<Point>,
    /// What stood where text was changed.
    pub(super) patches: Patches,
    /// Memory reserved in the target.
    pub(super) allocations: BTreeSet<u64>,
    /// Registers kept by the stub during a call: state numbers with the thread suffix of the request.
    pub(super) registers: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Registers of threads in which gdb has begun a call, by the threads' names.
    pub(super) calls: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The stub was told that requests name processes.
    pub(super) multiprocess: bool,
    /// Threads stop one by one, and stops are notified.
    pub(super) non_stop: bool,
    /// The stub has let go.
    pub(super) detached: bool,
    /// The target had been stopped by a signal before we came.
    pub(super) was_stopped: bool,
}

/// What the way back took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) repairs: Vec<String>,
    pub(super) left_behind: Vec<String>,
}

impl Outcome {
    pub(super) fn join(&mut self, other: Outcome) {
        self.repairs.extend(other.repairs);
        self.left_behind.extend(other.left_behind);
    }
}

impl Facts {
    /// Through a living stub: stops the target if it runs, undoes everything, detaches.
    ///
    /// # Errors
    /// When the stub does not answer; what can be done without it is for [`Facts::after`].
    pub(super) fn release(
        &mut self,
        link: &mut Link,
        process: &Process,
        running: bool,
    ) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        if self.non_stop {
            link.halt_threads(process, self.multiprocess)?;
        } else if running && link.halt(process)? == Stop::Ended {
            self.detached = true;
            return Ok(outcome);
        }
        outcome.join(self.undo(link, process));
        self.detach(link, process)?;
        Ok(outcome)
    }

    /// Removes breakpoints and everything else that was changed, while the target stands.
    pub(super) fn undo(&mut self, link: &mut Link, process: &Process) -> Outcome {
        let mut outcome = Outcome::default();
        for (state, suffix) in std::mem::take(&mut self.registers) {
            let _ = link.ask(&[&b"QRestoreRegisterState:"[..], &state, &suffix].concat());
            outcome.repairs.push(UNFINISHED.to_owned());
        }
        for (thread, registers) in std::mem::take(&mut self.calls) {
            let selected = link.ask(&[&b"Hg"[..], &thread].concat());
            let restored = selected.and_then(|_| link.ask(&[&b"G"[..], &registers].concat()));
            match restored.as_deref() {
                Ok(b"OK") => outcome.repairs.push(UNFINISHED.to_owned()),
                _ => outcome.left_behind.push("a thread in an unfinished call".to_owned()),
            }
        }
        let count = self.points.len();
        for point in std::mem::take(&mut self.points) {
            if !matches!(link.ask(&point.removal()).as_deref(), Ok(b"OK")) && point.kind != 0 {
                outcome.left_behind.push(format!("a watchpoint at {:#x}", point.address));
            }
        }
        if count > 0 {
            outcome.repairs.push(format!("removed {count} breakpoint{}", if count == 1 { "" } else { "s" }));
        }
        for address in std::mem::take(&mut self.allocations) {
            let _ = link.ask(format!("_m{address:x}").as_bytes());
        }
        if let Ok(memory) = process.memory() {
            outcome.join(self.restore(&memory));
        }
        outcome
    }

    /// Text through `/proc/PID/mem`: what the stub did not put back.
    fn restore(&self, memory: &Memory) -> Outcome {
        let restored = self.patches.restore(memory);
        Outcome { repairs: restored.repair().into_iter().collect(), left_behind: restored.left_behind() }
    }

    fn detach(&mut self, link: &mut Link, process: &Process) -> io::Result<()> {
        let request = if self.multiprocess { format!("D;{:x}", process.pid().get()) } else { "D".to_owned() };
        if link.ask(request.as_bytes())? != b"OK" {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stub does not let go"));
        }
        self.detached = true;
        if !self.was_stopped {
            flush_stops(process);
        }
        Ok(())
    }

    /// After the stub has let go or died: text as it was, no tracer, every thread runs.
    pub(super) fn after(&self, process: &Process) -> Outcome {
        let mut outcome = Outcome::default();
        if !process.alive() {
            return outcome;
        }
        match process.memory() {
            Ok(memory) => outcome.join(self.restore(&memory)),
            Err(error) if process.alive() => {
                outcome.left_behind.push(format!("text that could not be compared: {error}"))
            }
            Err(_) => return outcome,
        }
        outcome.join(settle(process, self.was_stopped));
        outcome
    }
}

/// Takes back a SIGSTOP with which a stub stopped a thread that had stopped already: it would be delivered after the detach, and
/// between its delivery and the stop of all threads nothing in `/proc` tells of it. SIGCONT discards it (signal(7)), and means
/// nothing else to a process that does not catch it; one that does is watched in [`settle`].
fn flush_stops(process: &Process) {
    if process.status().is_ok_and(|status| !status.catches(libc::SIGCONT)) {
        let _ = process.resume();
    }
}

/// Waits until no thread is traced and none stopped by us.
pub(super) fn settle(process: &Process, was_stopped: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let until = Instant::now() + SETTLE;
    if !was_stopped {
        flush_stops(process);
    }
    let mut looks = 0;
    loop {
        let Ok(threads) = process.threads() else { return outcome };
        let traced = threads.iter().filter(|thread| thread.tracer != 0 && !thread.state.is_zombie()).count();
        let stopped = threads.iter().filter(|thread| thread.state.is_stopped()).count();
        if traced == 0
            && !was_stopped
            && (stopped > 0 || stop_is_pending(process))
            && process.resume().is_ok()
        {
            outcome.repairs.push(format!("resumed {stopped} threads"));
            looks = 0;
        } else if traced == 0 && (stopped == 0 || was_stopped) {
            looks += 1;
            if looks >= LOOKS {
                return outcome;
            }
        } else {
            looks = 0;
        }
        if Instant::now() > until {
            outcome.left_behind.push(format!("{traced} traced and {stopped} stopped threads"));
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has a thread, or the process, a SIGSTOP that was not delivered yet? (proc_pid_status(5): SigPnd, ShdPnd.)
fn stop_is_pending(process: &Process) -> bool {
    const STOP: u64 = 1 << (libc::SIGSTOP - 1);
    let Ok(threads) = process.threads() else { return false };
    threads.iter().any(|thread| {
        let status = process.read(&format!("task/{}/status", thread.tid), 16 << 10).unwrap_or_default();
        String::from_utf8_lossy(&status).lines().any(|line| {
            let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"));
            mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .is_some_and(|mask| mask & STOP != 0)
        })
    })
}

/// Was every thread stopped by a signal before we came?
pub(super) fn is_stopped(process: &Process) -> bool {
    process.stat().is_ok_and(|stat| stat.state.is_stopped())
}
