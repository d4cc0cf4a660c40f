//! `stayalive` and `wait`: the program under our eyes, kept at its first instruction or its container after its fault,
//! until somebody lets go.
//!
//! One loop waits for signals, for who asks at the socket, and for the clock. Whoever stops the container ends it at
//! once, and the final status is the program's own.

/// Where the kernel put a core.
mod cores;
/// What is told of a fault, and how to enter.
mod report;
/// The socket that is asked, from both its sides.
pub(crate) mod socket;
/// Where we are: engine, name, our own path.
mod whereabouts;

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use crate::{
    exit::Fault,
    init::{Ended, Init},
    program::Program,
    signal, tell,
    words::Stay,
};
pub(crate) use socket::Socket;
use socket::{Ask, Caller};

/// What `stayalive` and `wait` ask for.
pub(crate) struct Wishes<'a> {
    /// Keep the container, so long.
    pub(crate) stay: Option<&'a Stay>,
    /// Hold the program at its first instruction, at most so long.
    pub(crate) wait: Option<Option<Duration>>,
}

/// What is going on.
#[derive(Debug)]
enum State {
    /// The program runs, or is held at its first instruction until then.
    Runs {
        /// Held at its first instruction; until when, if there is a limit.
        held: Option<Option<Instant>>,
    },
    /// The program has ended, and the container is kept.
    Kept {
        /// Until when, if there is a limit.
        until: Option<Instant>,
    },
}

/// How often it is looked whether Ctrl-C was pressed: a program that is held does not take it, nor do we, who gave the terminal away.
const GLANCE: Duration = Duration::from_millis(250);

/// The program, and who may ask about it.
struct Hold<'i, 'f> {
    init: &'i mut Init<'f>,
    program: &'i Program,
    wishes: Wishes<'i>,
    socket: Option<Socket>,
    state: State,
    /// How the program ended last.
    ended: Option<Ended>,
    /// Another command that runs in its place.
    other: Option<Program>,
    /// The process that was started last.
    pid: Option<i32>,
    /// The last signal that was handed to it.
    last: Option<i32>,
    /// Whether we were asked to end: then the end is no fault.
    ending: bool,
    /// Who asked last: our end would be theirs, so it waits for them to leave.
    asker: Option<Caller>,
}

/// Runs the program until it, or its hold, is over; the status is the program's own, unless who released it says another. One that is
/// `unprepared` is not started, but may be run again.
pub(crate) fn run(
    init: &mut Init<'_>,
    program: &Program,
    wishes: Wishes<'_>,
    socket: Option<Socket>,
    unprepared: Option<u8>,
) -> Result<u8, Fault> {
    let state = State::Runs { held: None };
    let mut hold = Hold {
        init,
        program,
        wishes,
        socket,
        state,
        ended: None,
        other: None,
        pid: None,
        last: None,
        ending: false,
        asker: None,
    };
    let mut over = match unprepared {
        Some(status) => hold.over(Ended::Unprepared(status))?,
        None => hold.start(program, true)?,
    };
    loop {
        if let Some(status) = over {
            hold.asker.into_iter().for_each(Caller::gone);
            return Ok(status);
        }
        over = hold.turn()?;
    }
}

impl Hold<'_, '_> {
    /// Starts a program; a status if that is the end.
    fn start(&mut self, program: &Program, first: bool) -> Result<Option<u8>, Fault> {
        self.last = None;
        let wait = self.wishes.wait.filter(|_| first);
        let started = match wait {
            None => self.init.start(program)?,
            Some(_) => self.init.start_held(program)?,
        };
        self.pid = self.init.pid();
        self.state = State::Runs { held: wait.map(|limit| limit.map(|limit| Instant::now() + limit)) };
        match (started, wait) {
            (Some(ended), _) => self.over(ended),
            (None, Some(limit)) => {
                report::held(program, self.init.pid().unwrap_or_default(), limit);
                Ok(None)
            }
            (None, None) => Ok(None),
        }
    }

    /// Waits for anything to happen, and does what it means; a status if that is the end.
    fn turn(&mut self) -> Result<Option<u8>, Fault> {
        let until = match &self.state {
            State::Runs { held } => held.flatten(),
            State::Kept { until } => *until,
        };
        let sockets: Vec<_> = self.socket.iter().map(Socket::as_fd).collect();
        let glance = (self.is_held() && self.init.gave_a_terminal()).then_some(GLANCE);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        self.init.wait(&sockets, left.into_iter().chain(glance).min())?;
        while let Some(arrived) = self.init.arrived()? {
            if let Some(status) = self.signal(arrived.signal)? {
                return Ok(Some(status));
            }
        }
        if let Some(ended) = self.init.reap()?
            && let Some(status) = self.over(ended)?
        {
            return Ok(Some(status));
        }
        if self.init.went_on() {
            self.state = State::Runs { held: None };
        }
        if let Some((ask, caller)) = self.socket.as_ref().and_then(Socket::asked) {
            let over = self.answer(ask, &caller)?;
            self.asker = Some(caller);
            if over.is_some() {
                return Ok(over);
            }
        }
        if glance.is_some()
            && self.is_held()
            && let Some(signal) = self.init.interrupted()
        {
            self.ending = true;
            tell::line(format!("{} ends the hold", signal::name(signal)));
            self.let_go()?;
        }
        match until.is_some_and(|until| Instant::now() >= until) {
            true => self.late(),
            false => Ok(None),
        }
    }

    fn is_held(&self) -> bool {
        matches!(self.state, State::Runs { held: Some(_) })
    }

    /// A signal for the program; for us, when it is gone.
    fn signal(&mut self, signal: i32) -> Result<Option<u8>, Fault> {
        let ends =
            matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT) || signal == libc::SIGRTMIN() + 3;
        self.ending |= ends;
        match &self.state {
            State::Kept { .. } if ends => {
                tell::line(format!("{} ends the hold", signal::name(signal)));
                Ok(Some(self.status()))
            }
            State::Kept { .. } => Ok(None),
            State::Runs { held } => {
                let held = held.is_some();
                self.last = Some(signal);
                self.init.pass(signal)?;
                if held && (ends || signal == libc::SIGCONT) {
                    self.let_go()?;
                }
                Ok(None)
            }
        }
    }

    /// Lets the program go on from its first instruction.
    fn let_go(&mut self) -> Result<(), Fault> {
        self.state = State::Runs { held: None };
        self.init.pass(libc::SIGCONT)
    }

    /// The clock ends a hold.
    fn late(&mut self) -> Result<Option<u8>, Fault> {
        match &self.state {
            State::Runs { .. } => {
                tell::line("wait: the time is over, the program goes on");
                self.let_go()?;
                Ok(None)
            }
            State::Kept { .. } => {
                tell::line("stayalive: the time is over");
                Ok(Some(self.status()))
            }
        }
    }

    /// The program ended: that is the end of all, or the container is kept. What ran in its place changes nothing.
    fn over(&mut self, ended: Ended) -> Result<Option<u8>, Fault> {
        // Ctrl-C at the program's terminal is no fault of its own.
        self.ending |= self.init.gave_a_terminal()
            && matches!(ended, Ended::Killed { signal: libc::SIGINT | libc::SIGQUIT, .. });
        let other = self.other.take();
        let again = other.is_none() && self.ended.is_some();
        if other.is_none() {
            self.ended = Some(ended);
        }
        let fault = self.status() != 0 || other.is_some();
        let stay = self.wishes.stay.filter(|stay| !self.ending && (fault || stay.always));
        let Some(stay) = stay else {
            if again && !self.ending {
                tell::line(format!(
                    "{} {}: the container ends",
                    self.program.title().display(),
                    report::how(ended)
                ));
            }
            return Ok(Some(self.status()));
        };
        self.state = State::Kept { until: stay.limit.map(|limit| Instant::now() + limit) };
        // Ctrl-C at the terminal is for us now.
        self.init.take_terminal();
        match other {
            Some(other) => {
                let name = other.title().display();
                tell::line(format!("{name} {}; the container is kept on", report::how(ended)));
            }
            None => report::kept(self.program, ended, self.pid, self.last, stay.limit),
        }
        Ok(None)
    }

    /// The status of the program as it ended last.
    fn status(&self) -> u8 {
        self.init.remapped(self.ended.map_or(0, Ended::status))
    }

    /// Somebody asks at the socket.
    fn answer(&mut self, ask: Ask, caller: &Caller) -> Result<Option<u8>, Fault> {
        match ask {
            Ask::Status => {
                caller.answer(&self.told());
                Ok(None)
            }
            Ask::Release(code) => match &self.state {
                State::Runs { held: Some(_) } if code.is_some() => {
                    caller.refuse(
                        "the program is held and has no status yet: release without one lets it go on",
                    );
                    Ok(None)
                }
                State::Runs { held: Some(_) } => {
                    // It may be one that only listens, as strace does; then it goes on at once.
                    caller.answer(match self.init.is_debugged() {
                        true => "the program goes on as soon as the debugger that stands there lets it\n",
                        false => "the program goes on\n",
                    });
                    self.let_go()?;
                    Ok(None)
                }
                State::Runs { held: None } => {
                    caller.refuse("the program runs and is not held: whoever stops the container ends it");
                    Ok(None)
                }
                State::Kept { .. } => {
                    let status = code.unwrap_or_else(|| self.status());
                    caller.answer(&format!("the container ends with status {status}\n"));
                    Ok(Some(status))
                }
            },
            Ask::Rerun(command) => {
                if let State::Runs { .. } = self.state {
                    caller.refuse("the program still runs: end it first (its PID is in status)");
                    return Ok(None);
                }
                self.rerun(command, caller)
            }
        }
    }

    fn rerun(&mut self, command: Vec<OsString>, caller: &Caller) -> Result<Option<u8>, Fault> {
        if !command.is_empty() {
            self.other = Some(self.program.other(command));
        }
        let program = self.other.clone().unwrap_or_else(|| self.program.clone());
        let again = if self.other.is_some() { "" } else { " again" };
        tell::line(format!("runs {}{again}", program.title().display()));
        let status = self.start(&program, false)?;
        match self.init.pid() {
            Some(pid) => {
                caller.answer(&format!("runs as PID {pid}; its output goes to the container's log\n"))
            }
            None => caller.refuse(&match self.init.refusal() {
                Some(fault) => fault.to_string(),
                None => "it could not be started; the container's log says why".to_owned(),
            }),
        }
        Ok(status)
    }

    fn told(&self) -> String {
        let name = self.program.title().display();
        let whom = if self.init.is_debugged() { ", where a debugger stands" } else { "" };
        match (&self.state, self.init.pid(), &self.other) {
            (State::Runs { held: Some(_) }, Some(pid), _) => {
                format!("{name} is held at its first instruction as PID {pid}{whom}\n")
            }
            (State::Runs { .. }, Some(pid), Some(other)) => {
                format!("{} runs as PID {pid} in place of {name}{whom}\n", other.title().display())
            }
            (State::Runs { .. }, Some(pid), None) => format!("{name} runs as PID {pid}{whom}\n"),
            _ => {
                let how = self.ended.map(report::how).unwrap_or_default();
                format!("{name} {how}; the container is kept\n")
            }
        }
    }
}
