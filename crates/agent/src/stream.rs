//! The byte stream as a server's only connection: the server ends when the stream does.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tonic::transport::server::Connected;

/// A stream which tells when the server has dropped it.
pub(crate) struct OnlyConnection<I> {
    io: I,
    _dropped: oneshot::Sender<()>,
}

/// The stream, and as a list of connections: itself, then nothing until it is gone, then the end.
pub(crate) fn only_connection<I>(io: I) -> impl futures::Stream<Item = io::Result<OnlyConnection<I>>> {
    use futures::{FutureExt as _, StreamExt as _};
    let (dropped, gone) = oneshot::channel();
    let first = futures::stream::iter([Ok(OnlyConnection { io, _dropped: dropped })]);
    let end = gone.map(|_| futures::stream::empty()).flatten_stream();
    first.chain(end)
}

impl<I> Connected for OnlyConnection<I> {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl<I: AsyncRead + Unpin> AsyncRead for OnlyConnection<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for OnlyConnection<I> {
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
