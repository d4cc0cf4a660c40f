//! A container's input and output as one byte stream.
//!
//! While a container has no terminal, the engine sends its output in frames: one byte of kind (1 output, 2 errors, 3 the engine's
//! own error), three zero bytes, the length as 32 bits big-endian, the bytes (Docker Engine API, "ContainerAttach", "Stream
//! format"). Input goes the other way as it is. Closing our side for writing closes the container's input.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much of what a helper or ssh says on stderr is kept, in bytes.
const TAIL: usize = 2048;

/// A container's or program's last words on stderr.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords(Arc<Mutex<Vec<u8>>>);

impl LastWords {
    /// As text, its last lines.
    pub(crate) fn text(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&words).trim().to_owned()
    }

    pub(crate) fn add(&self, bytes: &[u8]) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(bytes);
        let surplus = words.len().saturating_sub(TAIL);
        words.drain(..surplus);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Output,
    Errors,
    /// The engine's own error: it ends the stream.
    Engine,
}

/// Where in the frames the stream stands.
#[derive(Debug)]
enum Place {
    Header { bytes: [u8; 8], filled: usize },
    Payload { kind: Kind, left: u32 },
}

/// The demultiplexed stream. Reads give the container's output alone; its errors are kept as [`LastWords`].
#[derive(Debug)]
pub(crate) struct Attached<S> {
    stream: S,
    place: Place,
    words: LastWords,
}

const START: Place = Place::Header { bytes: [0; 8], filled: 0 };

impl<S> Attached<S> {
    pub(crate) fn new(stream: S) -> Attached<S> {
        Attached { stream, place: START, words: LastWords::default() }
    }

    /// What the container says on stderr, filled in as the stream is read.
    pub(crate) fn last_words(&self) -> LastWords {
        self.words.clone()
    }

    /// The stream ended: between frames that is its end.
    fn end(&self) -> io::Result<()> {
        if !matches!(self.place, Place::Header { filled: 0, .. }) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the engine's stream ended inside a frame",
            ));
        }
        tracing::debug!(stderr = self.words.text(), "a container's stream ended");
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Attached<S> {
    /// Reads on in the header. `Ok(false)`: the stream ended.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Place::Header { bytes, filled } = &mut self.place else { return Poll::Ready(Ok(true)) };
        while *filled < bytes.len() {
            let mut buf = ReadBuf::new(&mut bytes[*filled..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            let read = buf.filled().len();
            if read == 0 {
                return Poll::Ready(self.end().map(|()| false));
            }
            *filled += read;
        }
        let bytes = *bytes;
        self.place = payload(bytes)?;
        Poll::Ready(Ok(true))
    }

    /// Reads on in a payload that is not output.
    fn poll_aside(&mut self, cx: &mut Context<'_>, kind: Kind, left: u32) -> Poll<io::Result<()>> {
        let mut scratch = [0; 512];
        let room = scratch.len().min(left as usize);
        let mut buf = ReadBuf::new(&mut scratch[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(self.end());
        }
        self.words.add(buf.filled());
        self.advance(kind, left, buf.filled().len());
        if kind == Kind::Engine && matches!(self.place, Place::Header { .. }) {
            return Poll::Ready(Err(io::Error::other(format!(
                "the engine broke the stream: {}",
                self.words.text()
            ))));
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, kind: Kind, left: u32, read: usize) {
        let left = left.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
        self.place = if left == 0 { START } else { Place::Payload { kind, left } };
    }
}

/// What a header announces.
fn payload(header: [u8; 8]) -> io::Result<Place> {
    let [kind, zeros @ .., a, b, c, d] = header;
    let kind = match (kind, zeros) {
        (0 | 1, [0, 0, 0]) => Kind::Output,
        (2, [0, 0, 0]) => Kind::Errors,
        (3, [0, 0, 0]) => Kind::Engine,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the engine's stream is not framed as it should be: {header:02x?}"),
            ));
        }
    };
    let left = u32::from_be_bytes([a, b, c, d]);
    Ok(if left == 0 { START } else { Place::Payload { kind, left } })
}

impl<S: AsyncRead + Unpin> AsyncRead for Attached<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.place {
                Place::Header { .. } => {
                    if !ready!(this.poll_header(cx))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Place::Payload { kind: Kind::Output, left } => {
                    // The announced length bounds the read, never an allocation.
                    let room = buf.remaining().min(left as usize);
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
                    let read = part.filled().len();
                    if read == 0 {
                        return Poll::Ready(this.end());
                    }
                    buf.advance(read);
                    this.advance(Kind::Output, left, read);
                    return Poll::Ready(Ok(()));
                }
                Place::Payload { kind, left } => ready!(this.poll_aside(cx, kind, left))?,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Attached<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(bytes);
        frame
    }

    /// What comes out when `bytes` come in, in pieces of `piece` bytes.
    async fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, String, Option<io::ErrorKind>) {
        let (mut engine, ours) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move { engine.write_all(&bytes).await });
        let mut attached = Attached::new(ours);
        let mut out = Vec::new();
        let result = attached.read_to_end(&mut out).await;
        let words = attached.last_words().text();
        drop(attached);
        let _ = writer.await;
        (out, words, result.err().map(|error| error.kind()))
    }

    #[tokio::test]
    async fn output_is_joined_and_errors_are_kept_apart_whatever_the_pieces() {
        let bytes = [
            frame(1, b"one "),
            frame(2, b"oh "),
            frame(1, b""),
            frame(0, b"two "),
            frame(2, b"dear"),
            frame(1, b"three"),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 8, 9, 1000] {
            let (out, words, error) = read(&bytes, piece).await;
            assert_eq!(
                (out.as_slice(), words.as_str(), error),
                (&b"one two three"[..], "oh dear", None),
                "pieces of {piece}"
            );
        }
    }

    #[tokio::test]
    async fn a_hostile_length_allocates_nothing_and_ends_as_an_error() {
        for kind in [1, 2, 3] {
            let bytes = [&[kind, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], b"abc"].concat();
            let (out, _, error) = read(&bytes, 64).await;
            assert!(out.len() <= 3 && out.capacity() < 1 << 16);
            assert_eq!(error, Some(io::ErrorKind::UnexpectedEof), "kind {kind}");
        }
    }

    #[tokio::test]
    async fn unknown_kinds_and_bytes_that_are_no_frames_are_refused() {
        for bytes in
            [&[4, 0, 0, 0, 0, 0, 0, 1, 65][..], &[1, 0, 9, 0, 0, 0, 0, 1, 65], b"HTTP/1.1 200 OK\r\n\r\n"]
        {
            assert_eq!(read(bytes, 64).await.2, Some(io::ErrorKind::InvalidData));
        }
        assert_eq!(read(&[1, 0, 0], 64).await.2, Some(io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn endless_empty_frames_do_not_hold_up_the_end() {
        let (out, _, error) = read(&frame(1, b"").repeat(10_000), 4096).await;
        assert_eq!((out.len(), error), (0, None));
    }

    #[tokio::test]
    async fn the_engines_own_error_ends_the_stream_in_its_words() {
        let (mut engine, ours) = tokio::io::duplex(256);
        engine.write_all(&frame(3, b"out of logs")).await.unwrap();
        let error = Attached::new(ours).read_u8().await.unwrap_err();
        assert!(error.to_string().contains("out of logs"), "{error}");
    }

    #[tokio::test]
    async fn the_last_words_are_bounded() {
        let (_, words, _) = read(&frame(2, &[b'x'; 100_000]), 4096).await;
        assert_eq!(words.len(), TAIL);
    }

    #[tokio::test]
    async fn input_passes_as_it_is_and_can_be_closed_alone() {
        let (mut engine, ours) = tokio::io::duplex(256);
        let mut attached = Attached::new(ours);
        attached.write_all(b"to the helper").await.unwrap();
        attached.shutdown().await.unwrap();
        let mut seen = Vec::new();
        engine.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"to the helper");
        engine.write_all(&frame(1, b"answer")).await.unwrap();
        drop(engine);
        let mut answer = Vec::new();
        attached.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }
}
