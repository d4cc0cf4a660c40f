//! Fixture programs as processes of this machine, ended through a pidfd when dropped.

use std::{
    fs,
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use tempfile::TempDir;

use crate::{fixtures::Fixture, life::Life, programs::command, wait};

/// A child process of the test; killed and waited for when dropped.
///
/// If the test process itself is killed, a fixture ends by its next heartbeat (its output is closed).
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: u32,
    pidfd: OwnedFd,
    output: Arc<Mutex<Vec<u8>>>,
    /// The root it has for its own, removed after it.
    root: Option<TempDir>,
}

/// Starts a fixture with arguments (for `loop`: `[MICROSECONDS] [main|worker]`) and, for the `loop`, waits for
/// its first heartbeat.
pub fn spawn(fixture: &Fixture, arguments: &[&str]) -> Running {
    let words = fixture.command();
    let mut command = command(&words[0]);
    command.args(&words[1..]).args(arguments);
    let running = spawn_command(&mut command);
    if fixture.program == "loop" {
        running.wait_started();
    }
    running
}

/// The children of a process, in this machine's numbers.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
}

/// The only child of a process, as soon as there is one.
///
/// # Panics
/// If there is none, or more, for ten seconds.
pub fn only_child(pid: u32) -> u32 {
    wait::until("it has one child", Duration::from_secs(10), || match children(pid).as_slice() {
        [child] => Ok(*child),
        others => Err(format!("{others:?}")),
    })
}

/// Starts any command with its output noted.
pub fn spawn_command(command: &mut Command) -> Running {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    Running::watch(child)
}

impl Running {
    pub(crate) fn watch(mut child: Child) -> Running {
        let output = Arc::new(Mutex::new(Vec::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as _),
            child.stderr.take().map(|err| Box::new(err) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let output = Arc::clone(&output);
            thread::spawn(move || note(stream, &output));
        }
        let pid = Pid::from_child(&child);
        let pidfd =
            pidfd_open(pid, PidfdFlags::empty()).expect("a child that is not yet waited for has a pidfd");
        Running { pid: child.id(), child, pidfd, output, root: None }
    }

    /// The target is not the child itself but its child `pid`, which ends the child when it ends.
    pub(crate) fn adopt(&mut self, pid: u32, root: TempDir) {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
        self.pidfd = pidfd_open(number, PidfdFlags::empty()).expect("its parent has not waited for it");
        (self.pid, self.root) = (pid, Some(root));
    }

    /// The root folder that an isolated target has for its own, as this machine sees it.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_ref().map(TempDir::path)
    }

    /// Sends a signal through the pidfd.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).expect("a child that is not yet waited for takes signals");
    }
}

impl Life for Running {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("noting cannot panic")).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself: then there is only the waiting left.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.child.wait();
    }
}

fn note(mut stream: Box<dyn Read + Send>, output: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        output.lock().expect("noting cannot panic").extend_from_slice(&bytes[..count]);
    }
}
