//! The init: it reaps zombies, forwards signals, hands the terminal over, and ends with the program's status.
//!
//! All signals are blocked and read from one descriptor, so nothing ever interrupts anything. The program gets the mask
//! and the handlers that we were started with.

use std::{io, time::Duration};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, WaitOptions, WaitStatus},
};

use crate::{
    arguments::Flags,
    exit::{Exit, Fault},
    program::Program,
    signal,
    sys::{self, Action, Arrived, Child, Mask, Refused, Signals},
    tell,
};

/// Signals that tell of a fault of our own, or that the terminal sends to whom it does not belong: not to be forwarded.
const OURS: [i32; 9] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exited(u8),
    /// By a signal, which left a core or not.
    Killed {
        /// Which.
        signal: i32,
        /// Whether the kernel says that it wrote a core.
        core: bool,
    },
    /// It was not started: what should have prepared it ended with this status.
    Unprepared(u8),
}

impl Ended {
    /// The status as a shell tells it.
    pub(crate) fn status(self) -> u8 {
        match self {
            Ended::Exited(status) | Ended::Unprepared(status) => status,
            Ended::Killed { signal, .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// The init of one program at a time.
pub(crate) struct Init<'a> {
    flags: &'a Flags,
    signals: Signals,
    /// The mask and the handlers before us, which the program gets.
    mask: Mask,
    actions: Vec<Action>,
    /// Whether the terminal on standard input was ours to give.
    foreground: bool,
    child: Option<Pid>,
    /// Whether a signal came that asks to end.
    asked: bool,
    /// Whether the program went on after a stop.
    went_on: bool,
    /// Why the last start was refused, if it was.
    refusal: Option<Fault>,
}

impl<'a> Init<'a> {
    /// Takes over all signals; what `-s` and `-p` ask for is done here.
    pub(crate) fn new(flags: &'a Flags) -> Result<Init<'a>, Fault> {
        let failed = |what: &'static str| move |error: io::Error| internal(what, &error);
        let mask = Mask::all_but(&OURS);
        let before = mask.set().map_err(failed("cannot block signals"))?;
        let signals = Signals::new(&mask).map_err(failed("cannot read signals"))?;
        // The terminal belongs to the program's group, but our lines may still be written to it.
        let actions = [libc::SIGTTIN, libc::SIGTTOU].map(sys::ignore).into_iter().collect::<io::Result<_>>();
        let actions = actions.map_err(failed("cannot ignore SIGTTOU"))?;
        if let Some(signal) = flags.parent_death {
            sys::parent_death(signal).map_err(failed("cannot ask for a signal when the parent dies"))?;
        }
        if flags.subreaper {
            let me = Some(rustix::process::getpid());
            rustix::process::set_child_subreaper(me)
                .map_err(|error| internal("cannot become a subreaper", &error.into()))?;
        }
        Ok(Init {
            flags,
            signals,
            mask: before,
            actions,
            foreground: has_terminal(),
            child: None,
            asked: false,
            went_on: false,
            refusal: None,
        })
    }

    /// Runs the program until it ends; its status, or the shell's for a program that cannot be run.
    pub(crate) fn run(&mut self, program: &Program) -> Result<u8, Fault> {
        self.warn_of_zombies();
        let ended = match self.start(program)? {
            Some(ended) => ended,
            None => self.follow()?,
        };
        Ok(self.remapped(ended.status()))
    }

    /// Has `work` done by a process of its own before the program starts, which gets our signals. Its status unless it
    /// went well; `work` gets the mask with which it may hold signals off.
    pub(crate) fn work(
        &mut self,
        work: impl FnOnce(&Mask) -> Result<(), Fault>,
    ) -> Result<Option<u8>, Fault> {
        let blocked = Mask::all_but(&OURS);
        let pid = sys::fork(&self.mask, || match work(&blocked) {
            Ok(()) => 0,
            Err(fault) => {
                tell::fault(&fault);
                fault.status()
            }
        });
        self.child = Pid::from_raw(pid.map_err(|error| internal("cannot start a process", &error))?);
        let ended = self.follow()?;
        match ended {
            Ended::Killed { signal: libc::SIGKILL, .. } => {
                tell::line("what prepared the start was killed: by a limit of memory, if by nobody");
            }
            // An allocation that fails ends the process.
            Ended::Killed { signal: libc::SIGABRT, .. } => {
                let fault = Fault::new(Exit::Limit, "what prepared the start ran out of memory")
                    .next("an archive may ask for 2 GiB at most: pack it with a smaller dictionary (xz -9 has 64 MiB)");
                tell::fault(&fault);
                return Ok(Some(fault.status()));
            }
            _ => {}
        }
        Ok(Some(ended.status()).filter(|status| *status != 0))
    }

    /// Why the program that was started last could not be, if it could not.
    pub(crate) fn refusal(&mut self) -> Option<Fault> {
        self.refusal.take()
    }

    /// Whether somebody asked us to end.
    pub(crate) fn was_asked_to_end(&self) -> bool {
        self.asked
    }

    /// Whether the program went on after a stop, since this was asked last.
    pub(crate) fn went_on(&mut self) -> bool {
        std::mem::take(&mut self.went_on) && self.child.is_some()
    }

    /// Hands signals on and buries the dead until the program ends.
    fn follow(&mut self) -> Result<Ended, Fault> {
        loop {
            self.wait(&[], None)?;
            self.forward()?;
            if let Some(ended) = self.reap()? {
                return Ok(ended);
            }
        }
    }

    /// Starts the program. It has already ended if it could not be run.
    pub(crate) fn start(&mut self, program: &Program) -> Result<Option<Ended>, Fault> {
        self.spawn(program, false)
    }

    /// Starts the program and stops it at its first instruction, traced by nobody.
    pub(crate) fn start_held(&mut self, program: &Program) -> Result<Option<Ended>, Fault> {
        let started = self.spawn(program, true)?;
        let (None, Some(pid)) = (started, self.child) else { return Ok(started) };
        if let Some(ended) = self.stopped_or_ended(pid)? {
            return Ok(Some(ended));
        }
        sys::detach_stopped(pid.as_raw_nonzero().get(), &self.mask).map_err(|error| not_held(&error))?;
        // It is let go with a signal that stops it before it is back at its own code: whoever is told finds it stopped.
        self.stopped_or_ended(pid)
    }

    /// Waits until the program stops (or went on meanwhile); how it ended, if it does that instead.
    fn stopped_or_ended(&mut self, pid: Pid) -> Result<Option<Ended>, Fault> {
        match rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
            Ok(Some((_, status))) if status.continued() => self.went_on = true,
            Ok(Some((pid, status))) if !status.stopped() => return Ok(self.buried(pid, status)),
            Ok(_) => {}
            Err(error) => return Err(not_held(&error.into())),
        }
        Ok(None)
    }

    fn spawn(&mut self, program: &Program, traced: bool) -> Result<Option<Ended>, Fault> {
        let exec = program.exec()?;
        let child = Child { mask: &self.mask, actions: &self.actions, foreground: self.foreground, traced };
        let (pid, refused) =
            sys::spawn(&exec, &child).map_err(|error| internal("cannot start a process", &error))?;
        self.flags.tell(2, || format!("{} runs as PID {pid}", program.title().display()));
        match refused {
            None => {
                self.child = Pid::from_raw(pid);
                Ok(None)
            }
            Some(Refused::Prepare(error)) => Err(internal("cannot prepare the program's process", &error)
                .next("if ptrace is forbidden here, leave the word wait out")),
            Some(Refused::Exec(error)) => {
                let fault = not_run(program, &error);
                tell::fault(&fault);
                self.refusal = Some(fault);
                Ok(Some(Ended::Exited(refused_status(&error))))
            }
        }
    }

    /// The program's process.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.map(|pid| pid.as_raw_nonzero().get())
    }

    /// Our own group in the foreground again.
    pub(crate) fn take_terminal(&self) {
        if self.foreground {
            sys::set_foreground(sys::group());
        }
    }

    /// Whether the program has the terminal that was ours.
    pub(crate) fn gave_a_terminal(&self) -> bool {
        self.foreground
    }

    /// The signal by which the terminal asks a program to end that is stopped and so does not hear it. What a debugger stopped is
    /// the debugger's.
    pub(crate) fn interrupted(&self) -> Option<i32> {
        let status = self.program_status()?;
        let pending = u64::from_str_radix(field(&status, "ShdPnd:")?, 16).ok()?;
        let stopped = field(&status, "State:")?.starts_with('T');
        let has = |signal: &i32| stopped && pending >> (signal - 1) & 1 == 1;
        [libc::SIGINT, libc::SIGQUIT].into_iter().find(has)
    }

    /// Whether the program stands still for a debugger. Who that is cannot be seen from inside, if it is not inside.
    pub(crate) fn is_debugged(&self) -> bool {
        let status = self.program_status();
        status.is_some_and(|status| field(&status, "State:").is_some_and(|state| state.starts_with('t')))
    }

    /// The program's `/proc/PID/status`.
    fn program_status(&self) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()
    }

    /// The status after `-e`.
    pub(crate) fn remapped(&self, status: u8) -> u8 {
        if self.flags.remap.contains(&status) { 0 } else { status }
    }

    /// Sleeps until a signal arrives, one of the descriptors is ready, or the time is over; whether one of the descriptors is.
    pub(crate) fn wait(
        &self,
        others: &[std::os::fd::BorrowedFd<'_>],
        limit: Option<Duration>,
    ) -> Result<bool, Fault> {
        let fds = [std::os::fd::AsFd::as_fd(&self.signals)].into_iter().chain(others.iter().copied());
        let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let limit = limit.and_then(|limit| limit.try_into().ok());
        match rustix::event::poll(&mut fds, limit.as_ref()) {
            Ok(_) => Ok(fds.iter().skip(1).any(|fd| !fd.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(internal("cannot wait for signals", &error.into())),
        }
    }

    /// The next signal that is not the kernel's word of a child, nor from ourselves.
    pub(crate) fn arrived(&self) -> Result<Option<Arrived>, Fault> {
        let me = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        loop {
            match self.signals.next().map_err(|error| internal("cannot read signals", &error))? {
                // A write of ours to a closed pipe, or the end of our own stop, is no news for the program.
                Some(arrived) if arrived.sender == me => {}
                Some(arrived) if arrived.signal == libc::SIGCHLD => {}
                other => return Ok(other),
            }
        }
    }

    /// Hands on all signals that have arrived.
    fn forward(&mut self) -> Result<(), Fault> {
        while let Some(arrived) = self.arrived()? {
            self.asked |=
                matches!(arrived.signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP);
            self.pass(arrived.signal)?;
        }
        Ok(())
    }

    /// Hands a signal to the program, or to its group.
    pub(crate) fn pass(&self, signal: i32) -> Result<(), Fault> {
        let Some(child) = self.child else { return Ok(()) };
        self.flags.tell(3, || format!("{} goes to the program", signal::name(signal)));
        match sys::kill(child.as_raw_nonzero().get(), self.flags.group, signal) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                self.flags
                    .tell(2, || format!("the program was gone before {} reached it", signal::name(signal)));
                Ok(())
            }
            Err(error) => Err(internal("cannot hand a signal on", &error)),
        }
    }

    /// Buries all that has died; how the program ended, if it did.
    pub(crate) fn reap(&mut self) -> Result<Option<Ended>, Fault> {
        let mut ended = None;
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) if status.continued() => self.went_on |= self.child == Some(pid),
                Ok(Some((pid, status))) if status.stopped() => self.stopped(pid, status),
                Ok(Some((pid, status))) => ended = self.buried(pid, status).or(ended),
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ended),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(internal("cannot wait for children", &error.into())),
            }
        }
    }

    fn buried(&mut self, pid: Pid, status: WaitStatus) -> Option<Ended> {
        if self.child != Some(pid) {
            if self.flags.warn {
                tell::line(format!("reaped zombie process with pid={pid}"));
            }
            return None;
        }
        self.child = None;
        let ended = match (status.exit_status(), status.terminating_signal()) {
            (_, Some(signal)) => Ended::Killed { signal, core: status.as_raw() & 0x80 != 0 },
            (code, None) => Ended::Exited(u8::try_from(code.unwrap_or_default() & 0xff).unwrap_or(u8::MAX)),
        };
        self.flags.tell(2, || format!("the program ended: {ended:?}"));
        Some(ended)
    }

    /// The user stopped the program at its terminal (^Z). In a shell's job we must stop with it, or the shell never
    /// gets its terminal back. A session's leader (what is executed in a container is one) has nobody who could go on with it, so its
    /// program goes on at once; PID 1 leaves that to whoever knows better.
    fn stopped(&self, pid: Pid, status: WaitStatus) {
        let by_terminal =
            matches!(status.stopping_signal(), Some(libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU));
        let mine = self.child == Some(pid) && self.foreground && !rustix::process::getpid().is_init();
        if !(by_terminal && mine) {
            return;
        }
        let me = rustix::process::getpid();
        if rustix::process::getsid(None) == Ok(me) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::CONT);
            return;
        }
        let group = sys::group();
        sys::set_foreground(group);
        let _ = rustix::process::kill_process(me, rustix::process::Signal::STOP);
        if sys::foreground() == Some(group) {
            sys::set_foreground(pid.as_raw_nonzero().get());
        }
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::CONT);
    }

    /// Without PID 1's or a subreaper's place, orphans go elsewhere.
    fn warn_of_zombies(&self) {
        if rustix::process::getpid().is_init() || sys::is_subreaper() {
            return;
        }
        self.flags.tell(2, || "neither PID 1 nor a subreaper (-s): zombies go to another process".to_owned());
    }
}

/// A field of such a text, named with its colon.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Whether standard input is our terminal and we are in its foreground: only then is it ours to give.
fn has_terminal() -> bool {
    sys::foreground() == Some(sys::group())
}

/// Tini's statuses for a program that cannot be run: the shell's.
fn refused_status(error: &io::Error) -> u8 {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Exit::NotFound as u8,
        Some(libc::EACCES) => Exit::NotRunnable as u8,
        _ => 1,
    }
}

fn not_run(program: &Program, error: &io::Error) -> Fault {
    let name = program.name().display();
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            let tried: Vec<_> = program.candidates().iter().map(|file| file.display().to_string()).collect();
            let missing = program.candidates().iter().any(|file| file.exists());
            let fault = Fault::new(Exit::NotFound, format!("cannot run {name}: {error}"));
            match missing {
                true => fault.next("the file is there, but not the interpreter or loader that it names"),
                false => fault.next(format!("looked for {}", tried.join(" "))),
            }
        }
        Some(libc::EACCES) => Fault::new(Exit::NotRunnable, format!("cannot run {name}: {error}"))
            .next("chmod +x it in the image, or mount it without noexec"),
        _ => Fault::new(Exit::No, format!("cannot run {name}: {error}")),
    }
}

fn not_held(error: &io::Error) -> Fault {
    internal("wait: cannot hold the program", error)
}

fn internal(what: &str, error: &io::Error) -> Fault {
    Fault::new(Exit::Internal, format!("{what}: {error}"))
}
