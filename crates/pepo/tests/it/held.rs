//! A session that is held while other commands are run.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use pepo_testkit::{Fixture, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{session::LIMIT, support::Surroundings};

/// How long a saying may take, on a busy machine.
const SAYING: Duration = Duration::from_mins(2);

/// A session held open by a command of its own, whose stdin stays open.
pub(crate) struct Held {
    child: Child,
    /// Its lines.
    said: Receiver<String>,
    errors: String,
}

impl Held {
    /// Attaches.
    pub(crate) fn attach(surroundings: &Surroundings, arguments: &[&str]) -> Held {
        let mut command = surroundings.command(&[arguments, &["--output", "json"]].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (saying, said) = mpsc::channel();
        thread::spawn(move || read(stdout, &saying));
        let mut held = Held { child, said, errors: String::new() };
        held.waits_for("attached");
        held
    }

    /// Attaches and waits for the first stop.
    pub(crate) fn open(surroundings: &Surroundings, arguments: &[&str], fixture: &Fixture) -> Held {
        let mut held = Held::attach(surroundings, arguments);
        held.types(&format!("break {}:{}\n", fixture.source_name(), fixture.line("BREAK")));
        held.types("continue\n");
        held.waits_for("stopped");
        held
    }

    /// Of the command.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    pub(crate) fn types(&mut self, text: &str) {
        use std::io::Write as _;
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next saying of this kind.
    #[track_caller]
    pub(crate) fn waits_for(&mut self, kind: &str) -> Value {
        let mut all = String::new();
        loop {
            let line = match self.said.recv_timeout(SAYING) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("no {kind} within {SAYING:?}, but:\n{all}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let mut errors = String::new();
                    self.child.stderr.as_mut().unwrap().read_to_string(&mut errors).unwrap();
                    panic!("no {kind} before the end, but:\n{all}{errors}");
                }
            };
            let value: Value = serde_json::from_str(&line).unwrap();
            all = all + &line + "\n";
            if value["kind"] == kind {
                return value;
            }
        }
    }

    /// Ends its input.
    pub(crate) fn hangs_up(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends a signal to the command.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// All that it wrote to stderr, once it has ended.
    pub(crate) fn errors(&mut self) -> String {
        self.child.stderr.as_mut().unwrap().read_to_string(&mut self.errors).unwrap();
        self.errors.clone()
    }

    #[track_caller]
    /// Waits for the command's end and gives its status.
    pub(crate) fn status(&mut self) -> Option<i32> {
        let ended = wait::try_until(LIMIT, || self.child.try_wait().unwrap().ok_or(()));
        ended.expect("the command ends").code()
    }
}

fn read(stdout: ChildStdout, saying: &Sender<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if saying.send(line).is_err() {
            return;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
