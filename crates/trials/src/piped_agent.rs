//! An agent in a process of its own, over its standard input and output, as in a helper container.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result};
use pepo_wire::agent::{Grant, Guard, OpenSession, ProcessTarget, Right, Target, target};
use tokio::net::UnixStream;

use pepo_testkit::pepo;

/// `pepo agent --stdio` as a child.
pub struct PipedAgent {
    child: Child,
}

impl PipedAgent {
    /// Starts it with its journal below `folder`; the stream is its standard input and output.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(folder: &Path) -> Result<(PipedAgent, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let output = theirs.try_clone()?;
        let child = pepo_testkit::command(pepo())
            .args(["agent", "--stdio"])
            .env("PEPO_RUN", run_dir(folder))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .stderr(Stdio::inherit())
            .spawn()
            .context("the agent does not start")?;
        ours.set_nonblocking(true)?;
        Ok((PipedAgent { child }, UnixStream::from_std(ours)?))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and waits for it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for PipedAgent {
    fn drop(&mut self) {
        // Its stream is closed by now; it lets go and ends by itself, in its own time.
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.kill();
    }
}

/// The agent's folder below a temporary one: agents make theirs themselves, open to nobody else.
#[must_use]
pub fn run_dir(folder: &Path) -> PathBuf {
    folder.join("run")
}

/// Asks for a debugger on a process of this machine, without a limit on how long it may stand still.
#[must_use]
pub fn open_request(pid: u32, debugger: &str, guard: Guard, lease_seconds: u32) -> OpenSession {
    let process = ProcessTarget { agent_pid: pid, ..ProcessTarget::default() };
    OpenSession {
        target: Some(Target { kind: Some(target::Kind::Process(process)), selector: None }),
        debugger: debugger.to_owned(),
        grant: Some(Grant {
            who: "a test".to_owned(),
            rights: vec![Right::Stop as i32, Right::Modify as i32],
            lease_seconds,
            pause_budget_millis: Some(0),
        }),
        guard: guard as i32,
        ..OpenSession::default()
    }
}
