//! An init with its program in a PID namespace of its own, ended with the test.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use pepo_testkit::{command, only_child, wait};
use rustix::{
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// An init under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    Ours,
    Tini,
    Dumb,
}

impl Init {
    pub(crate) const ALL: [Init; 3] = [Init::Ours, Init::Tini, Init::Dumb];
    /// Those that have tini's flags.
    pub(crate) const TINIS: [Init; 2] = [Init::Ours, Init::Tini];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Init::Ours => env!("CARGO_BIN_EXE_pepo-entry"),
            Init::Tini => "/usr/bin/tini",
            Init::Dumb => "/usr/bin/dumb-init",
        }
    }
}

/// A program with all signals as they are by default: tests may run where some are ignored, which no shell can trap then.
pub(crate) fn with_signals(program: &str) -> Command {
    let mut command = command("env");
    command.args(["--default-signal", program]);
    command
}

/// The command line of an init as PID 1 of a new PID namespace. `flags` go before the `--`.
pub(crate) fn as_pid_1(init: Init, flags: &[&str], program: &[&str]) -> Command {
    let mut command = with_signals("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", init.path()]);
    command.args(flags).arg("--").args(program);
    clean(&mut command);
    command
}

/// The same as an ordinary process.
pub(crate) fn as_process(init: Init, flags: &[&str], program: &[&str]) -> Command {
    let mut command = with_signals(init.path());
    command.args(flags).arg("--").args(program);
    clean(&mut command);
    command
}

/// Nothing of the environment that a test runs in reaches the words.
fn clean(command: &mut Command) {
    command.env_remove("DEBUG").env_remove("PEPO_DEBUG");
}

/// A started command, killed when dropped; its streams are collected.
pub(crate) struct Started {
    child: Child,
    streams: [Arc<Mutex<Vec<u8>>>; 2],
    readers: Vec<JoinHandle<()>>,
}

/// What it came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The exit status, where a signal counts as a shell counts it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }
}

/// Starts a command.
pub(crate) fn start(command: &mut Command) -> Started {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let streams = [Arc::default(), Arc::default()];
    let sources: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    let readers = sources.into_iter().zip(&streams).map(|(mut source, stream)| {
        let stream: Arc<Mutex<Vec<u8>>> = Arc::clone(stream);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut bytes) {
                stream.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        })
    });
    let readers = readers.collect();
    Started { child, streams, readers }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    start(command).end()
}

impl Started {
    pub(crate) fn stdout(&self) -> String {
        text(&self.streams[0])
    }

    pub(crate) fn stderr(&self) -> String {
        text(&self.streams[1])
    }

    /// Waits until standard output or standard error has a line with this text.
    pub(crate) fn wait_for(&self, what: &str) {
        wait::until(&format!("it says {what:?}"), LIMIT, || {
            let said = self.stdout() + &self.stderr();
            if said.contains(what) { Ok(()) } else { Err(said) }
        });
    }

    /// The process id of the command.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The init: the only child of `unshare`.
    pub(crate) fn init(&self) -> u32 {
        only_child(self.pid())
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Outcome {
        let status = wait::until("it ends", LIMIT, || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(format!("{}{}", text(&self.streams[0]), text(&self.streams[1]))),
        });
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        Outcome { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(stream: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&stream.lock().unwrap()).into_owned()
}

/// A field of `/proc/PID/status`.
pub(crate) fn status_field(pid: impl AsRef<OsStr>, name: &str) -> String {
    let path = format!("/proc/{}/status", pid.as_ref().display());
    field(&fs::read_to_string(path).unwrap_or_default(), name)
}

/// A field of such a text.
pub(crate) fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Sends a signal to a process of this machine through a pidfd.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(fd, signal).unwrap();
}

/// A terminal, its other side opened.
pub(crate) fn terminal() -> (fs::File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
    (fs::File::from(master), slave)
}

/// A command on that terminal, in a session of its own.
pub(crate) fn on_terminal(slave: &OwnedFd, command: &Command) -> Command {
    let mut there = with_signals("setsid");
    there.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
    there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    there.env_remove("DEBUG").stdin(slave.try_clone().unwrap());
    there
}
