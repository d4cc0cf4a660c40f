//! From an engine's address to a byte stream, on every system.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Endpoint, Io};

/// How long a connection on this machine or network may take.
const NEAR: Duration = Duration::from_secs(2);
/// How long a handshake of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(8);

/// Dials one endpoint, whatever host a request names.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    /// The engine's command at the other end of ssh: `docker`, `podman`.
    program: &'static str,
    refusal: Refusal,
}

/// What the other side had last against TLS. It may come after the handshake, when the connection is given up before it is used.
pub(crate) type Refusal = Arc<Mutex<Option<rustls::Error>>>;

/// A byte stream to an engine.
pub(crate) struct EngineStream {
    io: Box<dyn Io>,
    refusal: Refusal,
}

impl Dialer {
    pub(crate) fn new(endpoint: Endpoint, program: &'static str, refusal: Refusal) -> Dialer {
        Dialer { endpoint, program, refusal }
    }

    async fn dial(self) -> io::Result<TokioIo<EngineStream>> {
        let stream: Box<dyn Io> = match &self.endpoint {
            Endpoint::Unix(path) => unix(path).await?,
            Endpoint::Pipe(path) => pipe(path).await?,
            Endpoint::Tcp { host, port } => Box::new(tcp(host, *port).await?),
            Endpoint::Tls { host, port, folder } => {
                let join = super::tls::join(tcp(host, *port).await?, host, folder);
                tokio::time::timeout(HANDSHAKE, join).await.map_err(|_| io::ErrorKind::TimedOut)??
            }
            Endpoint::Ssh { user, host, port, socket } => super::ssh::dial(
                "ssh",
                &super::ssh::arguments(user.as_deref(), host, *port, socket.as_deref(), self.program),
            )?,
        };
        Ok(TokioIo::new(EngineStream { io: stream, refusal: self.refusal }))
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<EngineStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<EngineStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

impl Connection for EngineStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for EngineStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read
            && let Some(refusal) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>())
        {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
        }
        read
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<tokio::net::TcpStream> {
    let dial = tokio::net::TcpStream::connect((host, port));
    let stream = tokio::time::timeout(NEAR, dial).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> io::Result<Box<dyn Io>> {
    let dial = tokio::net::UnixStream::connect(path);
    Ok(Box::new(tokio::time::timeout(NEAR, dial).await.map_err(|_| io::ErrorKind::TimedOut)??))
}

#[cfg(not(unix))]
async fn unix(_: &std::path::Path) -> io::Result<Box<dyn Io>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system's engines have no unix sockets; npipe:// is their address",
    ))
}

/// A pipe all of whose instances are busy is tried again (ERROR_PIPE_BUSY, winerror.h).
#[cfg(windows)]
async fn pipe(path: &str) -> io::Result<Box<dyn Io>> {
    const ERROR_PIPE_BUSY: i32 = 231;
    let end = tokio::time::Instant::now() + NEAR;
    loop {
        match tokio::net::windows::named_pipe::ClientOptions::new().open(path) {
            Ok(pipe) => return Ok(Box::new(pipe)),
            Err(error)
                if error.raw_os_error() == Some(ERROR_PIPE_BUSY) && tokio::time::Instant::now() < end =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(not(windows))]
async fn pipe(_: &str) -> io::Result<Box<dyn Io>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "named pipes are Windows' own; unix:// is the address here",
    ))
}
