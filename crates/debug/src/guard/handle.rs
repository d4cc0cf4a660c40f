//! The agent's side of a guard: starts it, gives it its order and signs of life, hears how it ended.
//!
//! One task for each guard: it waits on a timer (heartbeat), on orders from the [`Handle`], and on the guard's reports. It ends
//! with the control stream. Dropping the handle closes that stream, and the guard lets go by itself.

use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use async_trait::async_trait;
use pepo_wire::{Code, Failure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    process::{Child, Command},
    sync::{mpsc, oneshot, watch},
};

use super::control::{Order, Protect, Report, Tell, entrust};
use crate::debugger::{Hold, LetGo};

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(2);
/// How long a guard may take to start its adapter.
const STARTS: Duration = Duration::from_secs(10);
/// How long it may take to let go: interrupt, detach, and the end of stub and adapter.
const LETS_GO: Duration = Duration::from_secs(20);

/// A running guard.
#[derive(Debug)]
pub struct Handle {
    tell: mpsc::Sender<Tell>,
    last: watch::Receiver<Option<Report>>,
    child: Child,
    adapter: u32,
    /// The control stream once more, where the adapter owns the target and its stream is entrusted to the guard.
    watched: Option<StdStream>,
    /// Files that go when the guard has ended.
    files: Vec<PathBuf>,
}

/// A guard that runs and waits for its order, so that its start takes no time of the attach. Dropped, it ends.
#[derive(Debug)]
pub struct Waiting {
    control: StdStream,
    dap: StdStream,
    child: Child,
    log: PathBuf,
}

impl Waiting {
    /// Starts a guard; what it has to say goes into `log`.
    ///
    /// # Errors
    /// What starting it said.
    pub fn start(self_exe: &Path, log: PathBuf) -> io::Result<Waiting> {
        let (control, orders) = StdStream::pair()?;
        let (dap, adapter) = StdStream::pair()?;
        control.set_nonblocking(true)?;
        let stderr = std::fs::File::create(&log).map_or_else(|_| Stdio::null(), Stdio::from);
        let mut command = Command::from(super::command(self_exe));
        command.arg("guard").stdin(OwnedFd::from(orders)).stdout(OwnedFd::from(adapter)).stderr(stderr);
        let child = command.spawn()?;
        Ok(Waiting { control, dap, child, log })
    }

    /// Gives the order and waits until the adapter runs. The stream's other end is the adapter's standard input and output.
    ///
    /// # Errors
    /// [`Code::ToolDied`] when the adapter cannot be started.
    pub async fn take(self, order: &Order) -> Result<(Handle, StdStream), Failure> {
        let Waiting { control, dap, child, log } = self;
        let failed = |why: &str| {
            let words = last_words(&order.adapter.log).or_else(|| last_words(&log));
            let program = order.adapter.program.display();
            let failure = Failure::new(Code::ToolDied, format!("{program} could not be started"));
            words.into_iter().fold(failure.because(why), Failure::because)
        };
        let watched = matches!(order.protect, Protect::Text).then(|| control.try_clone()).transpose();
        let watched = watched.map_err(|error| failed(&error.to_string()))?;
        let control = UnixStream::from_std(control).map_err(|error| failed(&error.to_string()))?;
        let mut first = serde_json::to_vec(order).map_err(|error| failed(&error.to_string()))?;
        first.push(b'\n');
        let (tell, orders) = mpsc::channel(4);
        let (report, last) = watch::channel(None);
        let (started, has_started) = oneshot::channel();
        tokio::spawn(talk(control, first, orders, report, started));
        let adapter = match tokio::time::timeout(STARTS, has_started).await {
            Ok(Ok(adapter)) => adapter,
            Ok(Err(_)) => return Err(failed("the guard ended")),
            Err(_) => return Err(failed("nothing was heard in time")),
        };
        Ok((Handle { tell, last, child, adapter, watched, files: vec![log] }, dap))
    }

    /// The guard's number.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// The task: until the control stream ends.
async fn talk(
    control: UnixStream,
    first: Vec<u8>,
    mut orders: mpsc::Receiver<Tell>,
    last: watch::Sender<Option<Report>>,
    started: oneshot::Sender<u32>,
) {
    let (read, mut write) = control.into_split();
    let mut started = Some(started);
    let mut lines = BufReader::new(read).lines();
    let mut beat = tokio::time::interval(BEAT);
    if write.write_all(&first).await.is_err() {
        return;
    }
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            _ = beat.tick() => {
                let _ = write.write_all(&line_of(Tell::Beat)).await;
                continue;
            }
            order = orders.recv() => match order {
                Some(order) => {
                    let _ = write.write_all(&line_of(order)).await;
                    continue;
                }
                // The handle was dropped: so is the stream, and the guard lets go.
                None => return,
            }
        };
        let Ok(Some(line)) = line else { return };
        match serde_json::from_str(&line) {
            Ok(Report::Started { adapter }) => {
                if let Some(started) = started.take() {
                    let _ = started.send(adapter);
                }
            }
            Ok(report) => drop(last.send(Some(report))),
            Err(error) => tracing::debug!(%error, line, "a report that is not understood"),
        }
    }
}

fn line_of(tell: Tell) -> Vec<u8> {
    let mut line = serde_json::to_vec(&tell).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The end of what a program wrote, for the message of its death.
#[must_use]
pub fn last_words(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text =
        String::from_utf8_lossy(text.get(text.len().saturating_sub(2000)..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ");
    (!last.is_empty()).then_some(last)
}

impl Handle {
    /// The adapter's number in the agent's `/proc`.
    #[must_use]
    pub fn adapter(&self) -> u32 {
        self.adapter
    }

    /// The guard's own number.
    #[must_use]
    pub fn guard(&self) -> Option<u32> {
        self.child.id()
    }

    /// Keeps our end of the adapter's stream open in the guard, where the adapter owns the target: at our death it is not the
    /// adapter that lets go, among the hits of its breakpoints, but the guard that ends it in order.
    ///
    /// # Errors
    /// The guard has gone.
    pub fn entrust(&self, stream: BorrowedFd<'_>) -> std::io::Result<()> {
        self.watched.as_ref().map_or(Ok(()), |control| entrust(control, stream))
    }

    /// These are removed when the guard has ended.
    #[must_use]
    pub fn removes(mut self, files: Vec<PathBuf>) -> Handle {
        self.files.extend(files);
        self
    }

    /// Asks how the target does: standing still, how long in all, breakpoints in it.
    pub async fn state(&mut self) -> Option<Report> {
        self.last.mark_unchanged();
        self.tell.send(Tell::State).await.ok()?;
        let changed = tokio::time::timeout(BEAT, self.last.changed()).await;
        changed.ok()?.ok()?;
        self.last.borrow().clone()
    }

    /// The last report, once the guard has ended.
    pub async fn ended(&mut self) -> Option<Report> {
        let ended = |report: &Option<Report>| matches!(report, Some(Report::Ended { .. }));
        let report = tokio::time::timeout(LETS_GO, self.last.wait_for(ended)).await;
        match report {
            Ok(Ok(report)) => report.clone(),
            _ => None,
        }
    }
}

#[async_trait]
impl Hold for Handle {
    async fn disarm(&mut self) {
        if self.watched.is_some() && self.tell.send(Tell::Disarm).await.is_ok() {
            // It answers when that is done.
            self.state().await;
        }
    }

    async fn let_go(mut self: Box<Self>) -> LetGo {
        let _ = self.tell.send(Tell::Release).await;
        let report = self.ended().await;
        let exited = tokio::time::timeout(LETS_GO, self.child.wait()).await;
        for file in &self.files {
            let _ = std::fs::remove_file(file).or_else(|_| std::fs::remove_dir_all(file));
        }
        let mut gone = match report {
            Some(Report::Ended { repairs, left_behind, .. }) => LetGo { repairs, left_behind },
            _ => LetGo {
                left_behind: vec!["the guard died before it could report".to_owned()],
                ..LetGo::default()
            },
        };
        if exited.is_err() {
            gone.left_behind.push("a guard that does not end".to_owned());
        }
        gone
    }
}
