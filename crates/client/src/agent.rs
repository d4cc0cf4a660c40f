//! The connection to an agent and its calls.

use std::{sync::Mutex, time::Duration};

use hyper_util::rt::TokioIo;
use pepo_wire::{
    Code, Failure,
    agent::{
        CheckRequest, CheckResponse, HelloRequest, HelloResponse, ListProcessesRequest, ListSessionsRequest,
        OpenSession, Process, ReadFileRequest, ReadTreeRequest, ReleaseRequest, Released, SessionInfo,
        StackRequest, StackResponse, StartCore, StartLook, StartWriteTree, Target, WriteTreeResponse,
        agent_client::AgentClient,
    },
    tree::Part,
    version,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tonic::transport::{Channel, Endpoint};

use crate::{Core, Look, Session, SymbolPaths, Tree, tree};

/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// HTTP/2 pings go out this often, and an agent that answers none for as long again is gone.
const PING: Duration = Duration::from_secs(5);
/// The ability to ask for debug files.
const SYMBOLS: &str = "session.symbols";
/// The largest message accepted from an agent, in bytes.
const MAX_MESSAGE: usize = 32 << 20;

/// An agent beside a target. Cheap to clone; all clones share one connection.
#[derive(Clone, Debug)]
pub struct Agent {
    service: AgentClient<Channel>,
    hello: HelloResponse,
}

impl Agent {
    /// Shakes hands with the agent at the other end of `io`.
    ///
    /// # Errors
    /// [`Code::StreamBroken`] when nobody answers, [`Code::VersionMismatch`] when the two have no version in common,
    /// [`Code::TimedOut`] after ten seconds.
    pub async fn connect<I>(io: I) -> Result<Agent, Failure>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Agent::connect_speaking(io, (version::PROTOCOL, version::PROTOCOL_MIN)).await
    }

    /// As [`Agent::connect`], speaking the given versions: (highest, lowest accepted).
    ///
    /// # Errors
    /// As [`Agent::connect`].
    pub async fn connect_speaking<I>(io: I, speaks: (u32, u32)) -> Result<Agent, Failure>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let late = |_| Failure::new(Code::TimedOut, format!("the agent did not answer within {HANDSHAKE:?}"));
        tokio::time::timeout(HANDSHAKE, shake_hands(io, speaks)).await.map_err(late)?
    }

    /// What the agent said of itself.
    #[must_use]
    pub fn hello(&self) -> &HelloResponse {
        &self.hello
    }

    /// Does the agent offer this ability?
    #[must_use]
    pub fn can(&self, ability: &str) -> bool {
        self.hello.abilities.iter().any(|one| one == ability)
    }

    fn offers(&self, ability: &str, lacks: &str) -> Result<(), Failure> {
        if self.can(ability) {
            return Ok(());
        }
        Err(Failure::new(Code::NotOffered, format!("the agent beside the target {lacks}"))
            .because(format!("it is of version {}", self.hello.version)))
    }

    /// The processes of a target, or all that the agent sees.
    ///
    /// # Errors
    /// The agent's own failure.
    pub async fn list(&self, target: Option<Target>) -> Result<Vec<Process>, Failure> {
        let request = ListProcessesRequest { target };
        Ok(answer(self.service.clone().list_processes(request).await)?.processes)
    }

    /// What would work on a target (on the agent's machine when there is none), and if not, why.
    ///
    /// # Errors
    /// The agent's own failure.
    pub async fn check(&self, request: CheckRequest) -> Result<CheckResponse, Failure> {
        answer(self.service.clone().check(request).await)
    }

    /// Where every thread of a process is now.
    ///
    /// # Errors
    /// The agent's own failure.
    pub async fn stack(&self, request: StackRequest) -> Result<StackResponse, Failure> {
        answer(self.service.clone().stack(request).await)
    }

    /// Begins to take samples of a process.
    ///
    /// # Errors
    /// The agent's own failure; [`Code::NotOffered`] from one that is too old.
    pub async fn look(&self, request: StartLook) -> Result<Look, Failure> {
        self.offers("look", "takes no samples")?;
        Look::start(self.service.clone(), request).await
    }

    /// Plans a core file of a process; nothing is stopped before the plan is accepted.
    ///
    /// # Errors
    /// The agent's own failure; [`Code::NotOffered`] from one that is too old.
    pub async fn core(&self, request: StartCore) -> Result<Core, Failure> {
        self.offers("core", "makes no core files")?;
        Core::plan(self.service.clone(), request).await
    }

    /// Opens a debugger session; it is kept alive until it is closed or dropped.
    ///
    /// # Errors
    /// The agent's own failure: nothing was left behind.
    pub async fn session(&self, open: OpenSession) -> Result<Session, Failure> {
        Session::open(self.service.clone(), open, None).await
    }

    /// As [`Agent::session`], bringing debug files of this side that the agent asks for.
    ///
    /// # Errors
    /// As [`Agent::session`]; [`Code::NotOffered`] by an agent that cannot ask.
    pub async fn session_with(&self, open: OpenSession, symbols: SymbolPaths) -> Result<Session, Failure> {
        if !self.can(SYMBOLS) {
            let version = &self.hello.version;
            return Err(Failure::new(Code::NotOffered, "the agent takes no debug files")
                .because(format!("it is of version {version}, this side of {}", env!("CARGO_PKG_VERSION")))
                .hint("renew the agent, which is the older side, or go on without `--symbols`"));
        }
        let open = OpenSession { offers_symbols: true, ..open };
        Session::open(self.service.clone(), open, Some(symbols)).await
    }

    /// The sessions on the agent's machine.
    ///
    /// # Errors
    /// The agent's own failure.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, Failure> {
        Ok(answer(self.service.clone().list_sessions(ListSessionsRequest {}).await)?.sessions)
    }

    /// Ends the sessions on a target (on all, without one) and repairs what a dead debugger left.
    ///
    /// # Errors
    /// The agent's own failure; what fails for one target stands in its [`Released`].
    pub async fn release(&self, target: Option<Target>) -> Result<Vec<Released>, Failure> {
        let request = ReleaseRequest { all: target.is_none(), target };
        Ok(answer(self.service.clone().release(request).await)?.released)
    }

    /// A file, a link or a folder with all that is in it, as the target sees it.
    ///
    /// # Errors
    /// The agent's own failure; [`Code::NotOffered`] from one that is too old.
    pub async fn read_tree(&self, request: ReadTreeRequest) -> Result<Tree, Failure> {
        self.offers("read-tree", "copies no folders")?;
        Tree::read(self.service.clone(), request).await
    }

    /// Puts a tree into the target. When `parts` ends before the tree does, what was begun is gone.
    ///
    /// # Errors
    /// The agent's own failure; [`Code::NotOffered`] from one that is too old.
    pub async fn write_tree(
        &self,
        start: StartWriteTree,
        parts: mpsc::Receiver<Part>,
    ) -> Result<WriteTreeResponse, Failure> {
        self.offers("write-tree", "puts no files into it")?;
        tree::write(self.service.clone(), start, parts).await
    }

    /// A file as the target sees it; at most `max_bytes` (0: the agent's limit).
    ///
    /// # Errors
    /// [`Code::FileNotFound`], [`Code::FileDenied`], [`Code::TooLarge`].
    pub async fn read_file(&self, target: Target, path: &str, max_bytes: u64) -> Result<Vec<u8>, Failure> {
        let request = ReadFileRequest { target: Some(target), path: path.to_owned(), max_bytes };
        let mut chunks = answer(self.service.clone().read_file(request).await)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await.map_err(|status| Failure::from_status(&status))? {
            bytes.extend_from_slice(&chunk.data);
            if max_bytes > 0 && bytes.len() as u64 > max_bytes {
                return Err(Failure::new(Code::TooLarge, format!("{path} is larger than {max_bytes} bytes")));
            }
        }
        Ok(bytes)
    }
}

/// The message of an answer, or the failure in its status.
pub(crate) fn answer<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
    result.map(tonic::Response::into_inner).map_err(|status| Failure::from_status(&status))
}

async fn shake_hands<I>(io: I, speaks: (u32, u32)) -> Result<Agent, Failure>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut service = AgentClient::new(channel(io).await?)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let request = HelloRequest {
        protocol: speaks.0,
        protocol_min: speaks.1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let hello = answer(service.hello(request).await)?;
    version::meet(speaks, (hello.protocol, hello.protocol_min))?;
    Ok(Agent { service, hello })
}

/// A gRPC channel over one byte stream; it is never dialled again.
async fn channel<I>(io: I) -> Result<Channel, Failure>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let once = Mutex::new(Some(TokioIo::new(io)));
    let connector = tower::service_fn(move |_| {
        let io = once.lock().ok().and_then(|mut io| io.take());
        async move { io.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::BrokenPipe)) }
    });
    Endpoint::from_static("http://agent.pepo.invalid")
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| Failure::new(Code::StreamBroken, "no stream to the agent").because_of(&error))
}
