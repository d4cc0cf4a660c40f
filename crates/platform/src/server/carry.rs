//! Bytes between a stream of messages and a byte stream, both ways, each held by the other's window.

use futures::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

/// Bytes of one message at most: with its head it fits an HTTP/2 frame of the usual size.
const CHUNK: usize = 16_000;

/// Carries until both sides have ended: what ends one way is told to the other side, which then ends its own.
pub async fn carry<I>(io: I, incoming: impl Stream<Item = Vec<u8>>, outgoing: mpsc::Sender<Vec<u8>>)
where
    I: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(io);
    let down = async move {
        let mut incoming = std::pin::pin!(incoming);
        while let Some(bytes) = incoming.next().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // Whoever reads there may be gone already.
        let _ = writer.shutdown().await;
    };
    let up = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            if outgoing.send(buffer[..length].to_vec()).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(down, up);
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_end_is_told() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let (outgoing, mut sent) = mpsc::channel(1);
        let sender = tokio::spawn(carry(ours, stream::iter([b"to ".to_vec(), b"them".to_vec()]), outgoing));
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "to them");
        theirs.write_all(b"back").await.unwrap();
        drop(theirs);
        let mut back = Vec::new();
        while let Some(bytes) = sent.recv().await {
            back.extend(bytes);
        }
        assert_eq!(back, b"back");
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_sender_and_costs_no_memory() {
        let (ours, mut theirs) = tokio::io::duplex(CHUNK);
        let (outgoing, mut sent) = mpsc::channel(1);
        let carrying = tokio::spawn(carry(ours, stream::pending(), outgoing));
        let mut written = 0;
        // One message in the channel, one that waits to be sent, and what the pipe itself holds.
        let all = async {
            while theirs.write(&[0; CHUNK]).await.is_ok_and(|length| {
                written += length;
                length > 0
            }) {}
        };
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(300), all).await.is_err(),
            "it is held"
        );
        assert!(written <= 4 * CHUNK, "{written}");
        assert!(sent.recv().await.is_some());
        carrying.abort();
    }
}
