//! The DAP server for editors: on stdio or on a listening socket, one session (of one or several targets) a connection.
//!
//! Tasks of a connection: one reads the editor's frames into a bounded queue, one writes to the editor from a bounded queue,
//! one for each target passes the events of its session on, and the connection itself holds all state. When the editor's
//! stream ends, or the server is stopped, the targets are let go at once; a target is never ended.

/// Who may speak to a listening server.
pub mod access;
/// The arguments of `attach`.
pub mod arguments;
/// Sessions that belong together.
mod children;
/// One editor.
mod connection;
/// Several adapters behind one editor.
mod group;
/// Numbers of several adapters.
mod ids;
/// One adapter behind an editor.
mod member;
/// A session with children of its own.
mod parent;
/// The way out to an editor.
mod queue;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use pepo_wire::{Code, Failure, agent::Opened};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::arguments::{AttachArguments, FIELDS, Field, GuardWish, PauseBudget};
use self::{children::Children, connection::Connection};
use crate::{console::Files, link::Link};

/// Opens a session on one target; the command implements it.
#[async_trait]
pub trait Opener: Send + Sync {
    /// Opens a session on the target that `arguments.target` names.
    ///
    /// # Errors
    /// Why not, for the person at the editor.
    async fn open(&self, arguments: &AttachArguments) -> Result<OpenedTarget, Failure>;

    /// The names of all targets that are meant where one name may mean several; each is then opened by its own.
    ///
    /// # Errors
    /// Why there is none.
    async fn all(&self, arguments: &AttachArguments) -> Result<Vec<String>, Failure> {
        Ok(arguments.names())
    }
}

/// A session that was opened.
pub struct OpenedTarget {
    /// What the agent said of it.
    pub opened: Opened,
    /// The session.
    pub link: Box<dyn Link>,
    /// Files of the target's; none when its files are this machine's own.
    pub files: Option<Arc<dyn Files>>,
}

/// What all connections of a server share.
#[derive(Clone)]
pub(crate) struct Shared {
    opener: Arc<dyn Opener>,
    children: Arc<Children>,
    stop: CancellationToken,
}

/// May this connection attach?
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// It may.
    Open,
    /// If it knows this.
    Token(Arc<str>),
    /// As before, and the first line it sent may hold it.
    Asked {
        /// What it must know.
        token: Arc<str>,
        /// The token of the first line, once.
        known: connection::Once<tokio::sync::oneshot::Receiver<String>>,
    },
}

/// Serves one editor on a pair of streams, usually stdio, until it goes or `stop` is cancelled.
pub async fn serve<R, W>(reader: R, writer: W, opener: Arc<dyn Opener>, stop: CancellationToken)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let shared = Shared { opener, children: Arc::default(), stop };
    Connection::new(reader, writer, shared, Access::Open, false).run().await;
}

/// A server on a socket: many editors, and the child connections of one.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: Arc<str>,
}

impl Server {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Code::NotReachable`] when the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Server, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Code::NotReachable, format!("cannot listen on {address}")).because_of(&error)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let token = access::new_token().map_err(failed)?.into();
        Ok(Server { listener, address, token })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an editor of another user's must show.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Serves until `stop` is cancelled; returns when every target was let go.
    pub async fn run(self, opener: Arc<dyn Opener>, stop: CancellationToken) {
        let shared = Shared { opener, children: Arc::default(), stop: stop.clone() };
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Small messages go out at once; a refusal of the option costs only speed.
            let _ = stream.set_nodelay(true);
            let own = stream.local_addr().unwrap_or(self.address);
            let access =
                if access::same_user(peer, own) { Access::Open } else { Access::Token(self.token.clone()) };
            let (reader, writer) = stream.into_split();
            connections.spawn(Connection::new(reader, writer, shared.clone(), access, true).run());
        }
        connections.close();
        connections.wait().await;
    }
}
