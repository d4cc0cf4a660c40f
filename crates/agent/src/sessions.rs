//! Sessions of this agent: from the client's stream to the engine and back.
//!
//! Tasks, for each session: one that opens it and runs its engine (never cancelled: a debugger half in place would be left
//! behind), one that hands the client's messages on, one that waits at the control socket for a release. The first ends when
//! the engine does and takes the others with it.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{StreamExt as _, stream::BoxStream};
use pepo_debug::{
    journal::{CONTROL, Entry, Held, Journal, JournalError},
    session::{OpenEnv, Release, StoodStill, find},
};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{
        Closed, OpenSession, Opened, SessionEvent, SessionRequest, session_event::Kind as Event,
        session_request::Kind as RequestKind, target,
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Notify, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use crate::{
    Bounds,
    bounds::held,
    release::{RELEASE, STOOD_STILL},
    symbols,
};

/// Messages under way in each direction.
const WINDOW: usize = 64;

/// What becomes of a debugger session, for whoever serves the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// It is attached.
    Opened {
        /// The session's id.
        session: String,
        /// The debugger's name.
        debugger: String,
    },
    /// Its debugger is configured, and each breakpoint that was set is verified or refused.
    Ready {
        /// The session's id.
        session: String,
    },
    /// It ended, or never came to be attached.
    Closed {
        /// The session's id.
        session: String,
        /// How it ended.
        closed: Closed,
    },
}

/// All sessions of one agent.
#[derive(Debug)]
pub(crate) struct Sessions {
    journal: Journal,
    env: OpenEnv,
    reports: Option<mpsc::Sender<Report>>,
    running: TaskTracker,
}

impl Sessions {
    pub(crate) fn open(
        run_dir: &Path,
        env: OpenEnv,
        reports: Option<mpsc::Sender<Report>>,
    ) -> Result<Sessions, JournalError> {
        Ok(Sessions { journal: Journal::open(run_dir)?, env, reports, running: TaskTracker::new() })
    }

    async fn report(&self, report: Report) {
        if let Some(reports) = &self.reports {
            // Whoever wanted to know may have gone.
            let _ = reports.send(report).await;
        }
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Waits until every session has let go, for at most `limit`.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.running.close();
        if tokio::time::timeout(limit, self.running.wait()).await.is_err() {
            tracing::error!(sessions = self.running.len(), "sessions did not let go in time");
        }
    }

    /// Takes the client's stream; its first message opens the session.
    pub(crate) async fn start(
        self: Arc<Self>,
        mut incoming: Streaming<SessionRequest>,
        bounds: Option<&Bounds>,
    ) -> Result<BoxStream<'static, Result<SessionEvent, Status>>, Failure> {
        let first = incoming.message().await.map_err(|status| Failure::from_status(&status))?;
        let Some(SessionRequest { kind: Some(RequestKind::Open(request)) }) = first else {
            return Err(Failure::new(Code::Usage, "a session begins with `open`"));
        };
        let request = held(request, bounds)?;
        let session = new_id()?;
        let (events, outgoing) = mpsc::channel(WINDOW);
        let sessions = Arc::clone(&self);
        self.running.spawn(async move {
            let closed = match sessions.run(&session, request, incoming, &events).await {
                Ok(closed) => closed,
                Err(failure) => {
                    let reason = "failed".to_owned();
                    let closed = Closed { reason, failure: Some(failure), ..Closed::default() };
                    let _ = events.send(Event::Closed(closed.clone())).await;
                    closed
                }
            };
            sessions.report(Report::Closed { session, closed }).await;
        });
        Ok(ReceiverStream::new(outgoing).map(|kind| Ok(SessionEvent { kind: Some(kind) })).boxed())
    }

    /// One session from beginning to end.
    async fn run(
        &self,
        id: &str,
        request: OpenSession,
        mut incoming: Streaming<SessionRequest>,
        events: &mpsc::Sender<Event>,
    ) -> Result<Closed, Failure> {
        let held = self.journal.begin(id).map_err(|error| error.failure())?;
        let described = request.clone();
        let mut found = find(request, &self.env, &held.folder).await?;
        found.symbols = symbols::bring(found.symbols, &mut incoming, events).await?;
        let (opened, mut engine) = found.attach(&self.env, id, &held.folder).await?;
        held.write(&entry(&described, &opened)).map_err(|error| error.failure())?;
        let who = described.grant.map(|grant| grant.who).unwrap_or_default();
        tracing::info!(session = id, who, debugger = opened.debugger, "session opened");
        let debugger = opened.debugger.clone();
        self.report(Report::Opened { session: id.to_owned(), debugger }).await;
        // A client that is gone by now is noticed by the engine, which then lets go.
        let _ = events.send(Event::Opened(opened)).await;
        let release: Release = Arc::new(Notify::new());
        let (ended, end) = watch::channel(None);
        let control = tokio::spawn(control(bind(&held)?, Arc::clone(&release), engine.stood_still(), end));
        let (to_engine, requests) = mpsc::channel(WINDOW);
        let pump = tokio::spawn(pump(incoming, to_engine));
        let ready = engine.ready();
        let telling = async {
            if ready.await.is_ok() {
                self.report(Report::Ready { session: id.to_owned() }).await;
            }
        };
        let (closed, ()) = tokio::join!(engine.run(requests, events.clone(), release), telling);
        pump.abort();
        tracing::info!(
            session = id,
            reason = closed.reason,
            millis = closed.stood_still_millis,
            "session closed"
        );
        let _ = ended.send(Some(closed.clone()));
        let _ = tokio::time::timeout(Duration::from_secs(1), control).await;
        Ok(closed)
    }
}

/// Eight hex digits.
fn new_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::new(Code::Internal, "no random numbers").because_of(&error))?;
    Ok(format!("{:08x}", u32::from_le_bytes(bytes)))
}

fn entry(request: &OpenSession, opened: &Opened) -> Entry {
    let process = opened.process.clone().unwrap_or_default();
    let target_name = match request.target.as_ref().and_then(|target| target.kind.as_ref()) {
        Some(target::Kind::Container(container)) => container.name.clone(),
        Some(target::Kind::Process(process)) => format!("pid/{}", process.agent_pid),
        None => String::new(),
    };
    Entry {
        session: opened.session.clone(),
        who: request.grant.as_ref().map(|grant| grant.who.clone()).unwrap_or_default(),
        target_name,
        debugger: opened.debugger.clone(),
        agent_pid: process.agent_pid,
        start_time: process.start_time,
        since: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
    }
}

/// Hands the client's messages to the engine; the engine sees the stream's end as the end of its channel.
async fn pump(mut incoming: Streaming<SessionRequest>, to_engine: mpsc::Sender<RequestKind>) {
    while let Ok(Some(request)) = incoming.message().await {
        if let Some(kind) = request.kind
            && to_engine.send(kind).await.is_err()
        {
            return;
        }
    }
}

fn bind(held: &Held) -> Result<UnixListener, Failure> {
    UnixListener::bind(held.folder.join(CONTROL)).map_err(|error| {
        Failure::new(Code::FileDenied, "the session's control socket cannot be made").because_of(&error)
    })
}

/// Answers at the control socket: how long the target stood still so far; and after a release, when the session has ended, how
/// it did. The folder is open to its owner alone.
async fn control(
    listener: UnixListener,
    release: Release,
    still: StoodStill,
    mut end: watch::Receiver<Option<Closed>>,
) {
    let mut waiting: Vec<UnixStream> = Vec::new();
    loop {
        tokio::select! {
            changed = end.changed() => {
                let closed = if changed.is_ok() { end.borrow().clone() } else { None };
                for stream in waiting {
                    farewell(stream, closed.as_ref()).await;
                }
                return;
            }
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                match asked(stream).await {
                    Some((line, stream)) if line == RELEASE => {
                        waiting.push(stream);
                        release.notify_one();
                    }
                    Some((line, stream)) if line == STOOD_STILL => {
                        answer(stream, &format!("{}\n", still.millis())).await;
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The first line of a connection.
async fn asked(stream: UnixStream) -> Option<(String, UnixStream)> {
    let mut reader = BufReader::with_capacity(16, stream);
    let mut line = String::new();
    let read = tokio::time::timeout(Duration::from_secs(1), reader.read_line(&mut line)).await;
    read.is_ok_and(|read| read.is_ok()).then(|| (line, reader.into_inner()))
}

async fn farewell(stream: UnixStream, closed: Option<&Closed>) {
    let left: &[String] = closed.map(|closed| closed.left_behind.as_slice()).unwrap_or_default();
    let line =
        if left.is_empty() { "released\n".to_owned() } else { format!("left behind: {}\n", left.join("; ")) };
    answer(stream, &line).await;
}

async fn answer(mut stream: UnixStream, line: &str) {
    let _ = stream.write_all(line.as_bytes()).await;
}
