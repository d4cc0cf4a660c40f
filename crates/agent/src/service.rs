//! The calls, each a few lines over process, look and debug.
//!
//! Tasks: one that serves the stream (ends with it, or when pings stay unanswered), and those of each session (see
//! `sessions`), which end when the stream does; [`serve`] returns after the last of them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::stream::BoxStream;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use pepo_debug::{debugger, session::OpenEnv, tools::Tools};
use pepo_process::{find, list};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{
        CheckRequest, CheckResponse, CoreEvent, CoreRequest, FileChunk, HelloRequest, HelloResponse,
        ListProcessesRequest, ListProcessesResponse, ListSessionsRequest, ListSessionsResponse, LookEvent,
        LookRequest, ReadFileRequest, ReadTreeRequest, ReleaseRequest, ReleaseResponse, SessionEvent,
        SessionRequest, StackRequest, StackResponse, Target, TreePart, WriteTreeRequest, WriteTreeResponse,
        agent_server::{Agent, AgentServer},
    },
    version,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    sync::mpsc,
};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Bounds,
    bounds::{Bound, held},
    check, cores, files, looking, release,
    sessions::{Report, Sessions},
    trees,
};

/// Pings go out this often, and a client that answers none for [`PING_LIMIT`] is gone: the end of a stream is not always seen.
const PING: Duration = Duration::from_secs(5);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// The largest message accepted, in bytes.
const MAX_MESSAGE: usize = 32 << 20;
/// Bytes under way inside one process.
const DUPLEX: usize = 256 << 10;
/// How long sessions may take to let go after the stream has ended.
const LETTING_GO: Duration = Duration::from_secs(30);

/// What this agent offers, by name.
const ABILITIES: &[&str] = &[
    "list",
    "check",
    "stack",
    "session",
    "session.symbols",
    "sessions",
    "release",
    "read-file",
    "look",
    "core",
    "read-tree",
    "write-tree",
];

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where debuggers are found.
    pub tools: Tools,
    /// Where running sessions leave their journal; made with mode 0700.
    pub run_dir: PathBuf,
    /// This program, whose `guard` verb protects targets.
    pub self_exe: PathBuf,
    /// Versions of the protocol: (highest, lowest accepted).
    pub speaks: (u32, u32),
    /// What it offers, by name.
    pub offers: &'static [&'static str],
    /// What its client may do; without it, all that the agent's own user may.
    pub bounds: Option<Arc<Bounds>>,
    /// Hears what becomes of debugger sessions.
    pub reports: Option<mpsc::Sender<Report>>,
}

impl AgentConfig {
    /// The usual: this build's versions, and all that it can do.
    #[must_use]
    pub fn new(tools: Tools, run_dir: PathBuf, self_exe: PathBuf) -> AgentConfig {
        let speaks = (version::PROTOCOL, version::PROTOCOL_MIN);
        AgentConfig { tools, run_dir, self_exe, speaks, offers: ABILITIES, bounds: None, reports: None }
    }
}

/// Serves one byte stream until it ends, then lets go whatever its client held.
///
/// # Errors
/// The journal's folder can't be used, or the stream is not what it should be.
pub async fn serve<I>(io: I, config: AgentConfig) -> Result<(), Failure>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let sessions = open_sessions(&config)?;
    release::sweep(sessions.journal());
    let writing = TaskTracker::new();
    let service = Service { config, sessions: Arc::clone(&sessions), writing: writing.clone() };
    let service = AgentServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_LIMIT)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
        .await;
    sessions.finish(LETTING_GO).await;
    writing.close();
    // What was being written is taken away before this process may end.
    let _ = tokio::time::timeout(LETTING_GO, writing.wait()).await;
    match served {
        // A client that goes away without a word is the usual end of a killed one.
        Err(error) if !is_io(&error) => {
            Err(Failure::new(Code::StreamBroken, "the stream from the client broke").because_of(&error))
        }
        _ => Ok(()),
    }
}

/// Did the byte stream itself end, rather than what was said on it?
fn is_io(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<std::io::Error>())
}

/// An agent in this process: the other end of its stream, and the task that serves it.
///
/// Await the task after dropping the stream: then everything held was let go.
#[must_use]
pub fn serve_in_process(config: AgentConfig) -> (DuplexStream, tokio::task::JoinHandle<Result<(), Failure>>) {
    let (ours, theirs) = tokio::io::duplex(DUPLEX);
    (theirs, tokio::spawn(serve(ours, config)))
}

fn open_sessions(config: &AgentConfig) -> Result<Arc<Sessions>, Failure> {
    let env = OpenEnv { tools: config.tools.clone(), self_exe: config.self_exe.clone() };
    Ok(Arc::new(
        Sessions::open(&config.run_dir, env, config.reports.clone()).map_err(|error| error.failure())?,
    ))
}

struct Service {
    config: AgentConfig,
    sessions: Arc<Sessions>,
    /// Files that are being put into targets.
    writing: TaskTracker,
}

impl Service {
    /// The request, or the part of it that names what it is for, held to the bounds of this stream.
    fn held<T: Bound>(&self, request: T) -> Result<T, Status> {
        held(request, self.config.bounds.as_deref()).map_err(Failure::into_status)
    }
}

/// Runs something that reads `/proc` away from the threads that carry messages; a panic there ends that call alone.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map(Response::new).map_err(Failure::into_status),
        Err(error) => Err(Failure::new(Code::Internal, "the call failed inside the agent")
            .because_of(&error)
            .into_status()),
    }
}

#[tonic::async_trait]
impl Agent for Service {
    type SessionStream = BoxStream<'static, Result<SessionEvent, Status>>;
    type ReadFileStream = BoxStream<'static, Result<FileChunk, Status>>;
    type LookStream = BoxStream<'static, Result<LookEvent, Status>>;
    type CoreStream = BoxStream<'static, Result<CoreEvent, Status>>;
    type ReadTreeStream = BoxStream<'static, Result<TreePart, Status>>;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let client = request.into_inner();
        version::meet((client.protocol, client.protocol_min), self.config.speaks)
            .map_err(Failure::into_status)?;
        Ok(Response::new(HelloResponse {
            protocol: self.config.speaks.0,
            protocol_min: self.config.speaks.1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            abilities: self.config.offers.iter().map(|name| (*name).to_owned()).collect(),
            heartbeat_seconds: (PING + PING_LIMIT).as_secs() as u32,
        }))
    }

    async fn list_processes(
        &self,
        request: Request<ListProcessesRequest>,
    ) -> Result<Response<ListProcessesResponse>, Status> {
        let target = self.held(request.into_inner())?.target;
        blocking(move || list_processes(target.as_ref())).await
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let tools = self.config.tools.clone();
        let request = self.held(request.into_inner())?;
        blocking(move || check::check(&request, &check::CheckEnv::new(&tools))).await
    }

    async fn stack(&self, request: Request<StackRequest>) -> Result<Response<StackResponse>, Status> {
        let request = request.into_inner();
        let target = self.held(request.target.clone())?;
        blocking(move || {
            let process = find::program(&named(target)?)?;
            pepo_look::stack(&process, &request)
        })
        .await
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let stream = Arc::clone(&self.sessions)
            .start(request.into_inner(), self.config.bounds.as_deref())
            .await
            .map_err(Failure::into_status)?;
        Ok(Response::new(stream))
    }

    async fn list_sessions(
        &self,
        _request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let mut sessions = release::list(self.sessions.journal()).await;
        if let Some(bounds) = &self.config.bounds {
            sessions.retain(|session| bounds.shows(session));
        }
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let request = self.held(request.into_inner())?;
        let released =
            release::release(self.sessions.journal(), request).await.map_err(Failure::into_status)?;
        Ok(Response::new(ReleaseResponse { released }))
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        let (path, limit, target) = (request.path, request.max_bytes, self.held(request.target)?);
        let opened = blocking(move || {
            let process = find::resolve(&named(target)?)?;
            files::open(&process, &path, limit)
        });
        Ok(Response::new(files::chunks(opened.await?.into_inner())))
    }

    async fn look(
        &self,
        request: Request<Streaming<LookRequest>>,
    ) -> Result<Response<Self::LookStream>, Status> {
        looking::start(request.into_inner(), self.config.bounds.as_deref())
            .await
            .map(Response::new)
            .map_err(Failure::into_status)
    }

    async fn core(
        &self,
        request: Request<Streaming<CoreRequest>>,
    ) -> Result<Response<Self::CoreStream>, Status> {
        cores::start(request.into_inner(), self.config.bounds.as_deref())
            .await
            .map(Response::new)
            .map_err(Failure::into_status)
    }

    async fn read_tree(
        &self,
        request: Request<ReadTreeRequest>,
    ) -> Result<Response<Self::ReadTreeStream>, Status> {
        let request = request.into_inner();
        let target = self.held(request.target)?;
        let who = self.config.bounds.as_ref().map(|bounds| bounds.who.clone());
        Ok(Response::new(trees::read(ReadTreeRequest { target, ..request }, who)))
    }

    async fn write_tree(
        &self,
        request: Request<Streaming<WriteTreeRequest>>,
    ) -> Result<Response<WriteTreeResponse>, Status> {
        trees::write(request.into_inner(), self.config.bounds.as_deref(), &self.writing)
            .await
            .map(Response::new)
            .map_err(Failure::into_status)
    }
}

/// The processes of a target with the debugger each would get; those that end meanwhile are left out.
fn list_processes(target: Option<&Target>) -> Result<ListProcessesResponse, Failure> {
    let mut processes = match target {
        None => list::all(),
        Some(target) => {
            find::members(target)?.iter().filter_map(|process| list::describe(process).ok()).collect()
        }
    };
    for runtime in processes.iter_mut().filter_map(|process| process.runtime.as_mut()) {
        runtime.debugger = debugger::usual_for(&runtime.language).unwrap_or_default().to_owned();
    }
    Ok(ListProcessesResponse { processes })
}

pub(crate) fn named(target: Option<Target>) -> Result<Target, Failure> {
    target.ok_or_else(|| Failure::new(Code::Usage, "the request names no target"))
}
