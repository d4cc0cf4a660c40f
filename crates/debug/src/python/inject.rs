//! Gets a short piece of Python to run in a process, by the gentlest way that its state allows.
//!
//! 1. A thread is parked in a blocking system call with the GIL released: `PyGILState_Ensure`, `PyRun_SimpleString`,
//!    `PyGILState_Release` in it; the code lies on its stack. It stood still anyway.
//! 2. The main thread runs, and the interpreter has remote execution (3.14): the code is put into a memfd and its path into
//!    the thread's state; the thread stands still for one `memfd_create`.
//! 3. The main thread runs: `Py_AddPendingCall(PyRun_SimpleString, code)`, with the code in a page of its own; the
//!    evaluation loop runs it at its next safe point.
//!
//! An interpreter that has not started yet is brought to its start first ([`super::start`]).
//!
//! Interrupting a sleeping main thread with EINTR would not do: before 3.14 `PyErr_CheckSignals` runs no pending calls, and
//! code that does not expect EINTR would see it.

use std::{
    fs::OpenOptions,
    io::Write as _,
    time::{Duration, Instant},
};

use pepo_process::{
    AgentTid, Memory, Process,
    maps::Map,
    threads::{SyscallNow, Thread},
};

use super::{
    call::{Held, Ran},
    error::InjectError,
    fault::{Fault, Point},
    image::{Symbol, Symbols},
    moment::{self, Moment},
    payload::Config,
    remote_exec::RemoteExec,
    x86_64::Call,
};

/// Longest wait for a call that only reads or maps: microseconds, if the thread gets a processor.
const SHORT_CALL: Duration = Duration::from_millis(500);
/// Longest time the injector stays while Python code runs in a parked thread; then it leaves it to finish by itself.
const PYTHON_CALL: Duration = Duration::from_millis(500);
/// Between two looks for a safe moment.
const PAUSE: Duration = Duration::from_millis(3);
const PAGE: u64 = 4096;

/// What the code must clean up by itself, since it depends on how it came there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extra {
    /// Runs in the main thread.
    pub(super) main: bool,
    /// Address and length of the page with the code.
    pub(super) unmap: Option<(u64, u64)>,
    /// The descriptor with the code.
    pub(super) close: Option<u32>,
    /// The interpreter starts: the code waits for the program's own.
    pub(super) entry: bool,
}

/// How the code got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// It has run, or is about to, in a parked thread.
    Parked,
    /// The main thread will run it; the page at this address has it.
    Pending {
        /// First address of the page.
        page: u64,
    },
    /// The main thread will run it by remote execution.
    Remote(RemoteExec),
    /// The main thread will run it right before the program's first line.
    Entry,
}

/// Code that runs or will run.
#[derive(Debug)]
pub(super) struct Injected {
    pub(super) route: Route,
    /// How long threads stood still for it, in all.
    pub(super) stood_still: Duration,
}

/// One injection.
pub(super) struct Injection<'a> {
    pub(super) process: &'a Process,
    pub(super) memory: &'a Memory,
    pub(super) symbols: &'a Symbols,
    /// What the code is told.
    pub(super) config: &'a Config,
    pub(super) fault: &'a Fault,
}

impl Injection<'_> {
    /// Tries until it is in or the limit is over.
    ///
    /// # Errors
    /// [`InjectError::NoMoment`], or what made it impossible. Nothing runs in the process then.
    pub(super) fn run(&self, limit: Duration) -> Result<Injected, InjectError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(InjectError::Architecture { arch: std::env::consts::ARCH });
        }
        let end = Instant::now() + limit;
        let mut stood_still = Duration::ZERO;
        loop {
            let last = match self.attempt(&mut stood_still)? {
                Ok(route) => return Ok(Injected { route, stood_still }),
                Err(reason) => reason,
            };
            if Instant::now() >= end {
                return Err(InjectError::NoMoment { limit, last });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Main thread first; others only where Python code can run at once.
    fn attempt(&self, stood_still: &mut Duration) -> Result<Result<Route, String>, InjectError> {
        // Read before anything is stopped: it takes longer than all that is done in a stop.
        let maps = self.process.maps()?;
        let threads = self.process.threads()?;
        let main = self.process.pid().as_raw();
        let (first, others): (Vec<&Thread>, Vec<&Thread>) =
            threads.iter().partition(|thread| thread.tid.as_raw() == main);
        let mut reason = "the main thread has ended".to_owned();
        if let Some(thread) = first.first() {
            let parked_elsewhere = others.iter().any(|thread| looks_parked(thread));
            let sleeps_oddly =
                !matches!(thread.syscall, Some(SyscallNow::Running) | None) && !looks_parked(thread);
            // A main thread in an unknown system call may stay there: a parked thread is the better place.
            if !(sleeps_oddly && parked_elsewhere) {
                match self.main_thread(thread.tid, &maps, stood_still)? {
                    Ok(route) => return Ok(Ok(route)),
                    Err(why) => reason = format!("the main thread: {why}"),
                }
            }
        }
        for thread in others.iter().filter(|thread| looks_parked(thread)).take(8) {
            let mut held = self.stop(thread.tid)?;
            let done = if self.judge(&held, &maps) == Moment::Parked {
                self.parked(&mut held, false)?
            } else {
                None
            };
            *stood_still += held.release();
            if let Some(route) = done {
                return Ok(Ok(route));
            }
        }
        Ok(Err(reason))
    }

    fn main_thread(
        &self,
        tid: AgentTid,
        maps: &[Map],
        stood_still: &mut Duration,
    ) -> Result<Result<Route, &'static str>, InjectError> {
        let mut held = self.stop(tid)?;
        let route = self.in_main_thread(&mut held, maps);
        *stood_still += held.release();
        route
    }

    fn in_main_thread(
        &self,
        held: &mut Held<'_>,
        maps: &[Map],
    ) -> Result<Result<Route, &'static str>, InjectError> {
        match self.judge(held, maps) {
            Moment::Unsafe(why) => return Ok(Err(why)),
            Moment::Parked => {
                if let Some(route) = self.parked(held, true)? {
                    return Ok(Ok(route));
                }
            }
            Moment::Running => {}
        }
        match self.remote_exec() {
            Some(remote) => self.remote(held, remote),
            None => self.pending(held, maps),
        }
    }

    fn stop(&self, tid: AgentTid) -> Result<Held<'_>, InjectError> {
        Held::stop(tid, self.memory, self.symbols.return_stub, self.fault)
    }

    fn judge(&self, held: &Held<'_>, maps: &[Map]) -> Moment {
        if held.is_ordinary() {
            moment::judge(held.registers(), self.memory, maps, self.symbols)
        } else {
            Moment::Unsafe("it is not ordinary 64-bit code")
        }
    }

    /// Runs the code in a parked thread; `None` when the thread holds the GIL or is not Python's.
    fn parked(&self, held: &mut Held<'_>, main: bool) -> Result<Option<Route>, InjectError> {
        if self.gil(held)? != Gil::Released {
            return Ok(None);
        }
        let mut data = self.config.program(Extra { main, ..Extra::default() }).into_bytes();
        data.push(0);
        let code = held.data_address(data.len());
        // Ensure answers PyGILState_UNLOCKED (1), since the thread has a state and does not hold the GIL
        // (Include/pystate.h): that is what Release must be given.
        let calls = [
            Call::new(self.symbols.gil_ensure, &[]),
            Call::new(self.symbols.run_simple_string, &[code]),
            Call::new(self.symbols.gil_release, &[1]),
        ];
        held.run(&data, &calls, PYTHON_CALL)?;
        self.fault.reach(Point::Armed);
        Ok(Some(Route::Parked))
    }

    /// Leaves the code in an interpreter that starts, for the moment before the program's first line; `false` when it is not that
    /// far. The main thread has just come back from a system call that the interpreter makes with the GIL held.
    pub(super) fn at_start(&self, held: &mut Held<'_>) -> Result<bool, InjectError> {
        if !held.is_ordinary() || self.gil(held)? != Gil::Held {
            return Ok(false);
        }
        let mut data =
            self.config.program(Extra { main: true, entry: true, ..Extra::default() }).into_bytes();
        data.push(0);
        let code = held.data_address(data.len());
        held.run(&data, &[Call::new(self.symbols.run_simple_string, &[code])], PYTHON_CALL)?;
        self.fault.reach(Point::Armed);
        Ok(true)
    }

    /// Has the thread a Python thread state, and does it hold the GIL?
    ///
    /// A function's result is lost on the way back through rt_sigreturn, so lsearch(3) is called with the function as its
    /// comparison: it counts its table up if the result is not 0, and that can be read.
    fn gil(&self, held: &mut Held<'_>) -> Result<Gil, InjectError> {
        // Key; then for each question a count and room for two elements.
        let mut data = [0u64; 7];
        (data[1], data[4]) = (1, 1);
        let bytes: Vec<u8> = data.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let at = held.data_address(bytes.len());
        let ask =
            |count: u64, function: u64| Call::new(self.symbols.lsearch, &[at, count + 8, count, 8, function]);
        let calls = [ask(at + 8, self.symbols.this_thread_state), ask(at + 32, self.symbols.gil_check)];
        if held.run(&bytes, &calls, SHORT_CALL)? == Ran::GoesOn {
            return Ok(Gil::Unknown);
        }
        let has_state = self.memory.read_u64(at + 8)? == 2;
        let holds = self.memory.read_u64(at + 32)? == 2;
        Ok(match (has_state, holds) {
            (false, _) => Gil::Unknown,
            (true, true) => Gil::Held,
            (true, false) => Gil::Released,
        })
    }

    /// Maps a page for the code and adds the pending call.
    fn pending(&self, held: &mut Held<'_>, maps: &[Map]) -> Result<Result<Route, &'static str>, InjectError> {
        const READ_WRITE: u64 = 3;
        // MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
        const FLAGS: u64 = 0x02 | 0x20 | 0x10_0000;
        let length = {
            let longest = self.config.program(Extra {
                main: true,
                unmap: Some((u64::MAX, u64::MAX)),
                ..Extra::default()
            });
            (longest.len() as u64 + 1).div_ceil(PAGE) * PAGE
        };
        let Some(page) = hole(maps, length) else {
            return Ok(Err("its address space is full"));
        };
        let map = Call::new(self.symbols.mmap, &[page, length, READ_WRITE, FLAGS, u64::MAX, 0]);
        if held.run(&[], &[map], SHORT_CALL)? == Ran::GoesOn {
            return Ok(Err("mmap did not return"));
        }
        // Only what the kernel now says is ours is written to: another thread may have been faster.
        let is_ours = |map: &Map| map.start == page && map.len() == length && map.write && map.inode == 0;
        if maps.iter().any(is_ours) || !self.process.maps()?.iter().any(is_ours) {
            return Ok(Err("mmap was refused"));
        }
        let mut code = self
            .config
            .program(Extra { main: true, unmap: Some((page, length)), ..Extra::default() })
            .into_bytes();
        code.push(0);
        self.memory.write_at(page, &code)?;
        let add = Call::new(self.symbols.add_pending_call, &[self.symbols.run_simple_string, page]);
        held.run(&[], &[add], SHORT_CALL)?;
        self.fault.reach(Point::Armed);
        Ok(Ok(Route::Pending { page }))
    }

    fn remote_exec(&self) -> Option<RemoteExec> {
        let runtime: Symbol = self.symbols.runtime?;
        self.symbols.memfd_create?;
        // The script is opened through the target's own /proc.
        self.process.proc_path().join("root/proc/version").exists().then_some(())?;
        RemoteExec::find(self.memory, runtime, self.process.status().ok()?.container_pid())
    }

    fn remote(
        &self,
        held: &mut Held<'_>,
        remote: RemoteExec,
    ) -> Result<Result<Route, &'static str>, InjectError> {
        let name = format!("pepo-run-{}", self.config.nonce);
        let mut data = name.clone().into_bytes();
        data.push(0);
        let at = held.data_address(data.len());
        let create = self.symbols.memfd_create.unwrap_or_default();
        if held.run(&data, &[Call::new(create, &[at, 1])], SHORT_CALL)? == Ran::GoesOn {
            return Ok(Err("memfd_create did not return"));
        }
        let Some(number) = super::channel::find_memfd(self.process, &name) else {
            return Ok(Err("memfd_create was refused"));
        };
        let code = self.config.program(Extra { main: true, close: Some(number), ..Extra::default() });
        let path = self.process.proc_path().join(format!("fd/{number}"));
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(code.as_bytes()))
            .map_err(InjectError::channel("writing the code"))?;
        let asked = remote.ask(self.memory, &format!("/proc/self/fd/{number}"));
        self.fault.reach(Point::Armed);
        Ok(asked.map(|()| Route::Remote(remote)).ok_or("its state could not be written"))
    }
}

/// Takes code back that did not run in time; what stays of it.
pub(super) fn take_back(route: Route, memory: &Memory) -> Vec<String> {
    match route {
        // What waits for the program's first line waits no longer than for that.
        Route::Parked | Route::Entry => Vec::new(),
        Route::Remote(remote) => {
            remote.take_back(memory);
            vec!["an empty memfd that closes with the process".to_owned()]
        }
        Route::Pending { page } => {
            // An empty program: the pending call itself cannot be removed.
            let _ = memory.write_at(page, &[0]);
            vec!["a page of memory and a pending call that does nothing".to_owned()]
        }
    }
}

/// A thread and Python's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gil {
    /// The thread is Python's and holds it.
    Held,
    /// The thread is Python's and does not hold it.
    Released,
    /// The thread is none of Python's, or it did not answer.
    Unknown,
}

fn looks_parked(thread: &Thread) -> bool {
    matches!(thread.syscall, Some(SyscallNow::Call { number, .. }) if moment::may_park(number))
}

/// A free place between two mappings, away from both.
fn hole(maps: &[Map], length: u64) -> Option<u64> {
    const LOWEST: u64 = 1 << 32;
    const HIGHEST: u64 = 0x7fff_0000_0000;
    maps.windows(2)
        .map(|pair| (pair[0].end.max(LOWEST), pair[1].start.min(HIGHEST)))
        .map(|(start, end)| (end.saturating_sub(start), start))
        .max()
        .filter(|&(room, _)| room > length * 4 + (64 << 20))
        .map(|(room, start)| (start + room / 2) & !(PAGE - 1))
}
