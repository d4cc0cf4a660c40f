//! The way out to an editor: bounded in messages and in bytes, so that one which stops reading costs no memory.

use std::sync::Arc;

use pepo_wire::dap::{Message, encode_frame};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

/// The most messages under way.
const MESSAGES: usize = 256;
/// The most bytes under way, in KiB.
const KIB: u32 = 32 << 10;

/// The editor is gone, or this side is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// The sending end. Numbers what it sends.
pub(crate) struct Queue {
    frames: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    stop: CancellationToken,
    seq: i64,
}

impl Queue {
    /// A queue whose frames a task of its own writes to `writer`; it ends with the queue, or with the first write that fails.
    pub(crate) fn new(
        mut writer: impl AsyncWrite + Send + Unpin + 'static,
        stop: CancellationToken,
    ) -> Queue {
        let (frames, mut queued) = mpsc::channel::<(Vec<u8>, OwnedSemaphorePermit)>(MESSAGES);
        tokio::spawn(async move {
            while let Some((frame, _room)) = queued.recv().await {
                let written = async {
                    writer.write_all(&frame).await?;
                    writer.flush().await
                };
                if written.await.is_err() {
                    return;
                }
            }
            // The other end is told; if it went first, nobody minds.
            let _ = writer.shutdown().await;
        });
        Queue { frames, room: Arc::new(Semaphore::new(KIB as usize)), stop, seq: 0 }
    }

    /// Sends a message under the next number, which it returns. Waits while the editor does not read.
    pub(crate) async fn send(&mut self, mut message: Message) -> Result<i64, Gone> {
        self.seq += 1;
        message.set_seq(self.seq);
        let frame = encode_frame(&message.to_bytes());
        let need = u32::try_from(frame.len() / 1024 + 1).unwrap_or(KIB).min(KIB);
        let send = async {
            let room = self.room.clone().acquire_many_owned(need).await.map_err(|_| Gone)?;
            self.frames.send((frame, room)).await.map_err(|_| Gone)
        };
        tokio::select! {
            sent = send => sent.map(|()| self.seq),
            () = self.stop.cancelled() => Err(Gone),
        }
    }

    /// As [`Queue::send`], for the last words on the way out, when the stop has come already: waits a moment at most.
    pub(crate) async fn send_last(&mut self, message: Message) {
        self.stop = CancellationToken::new();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), self.send(message)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_editor_that_does_not_read_holds_the_sender_not_the_memory() {
        let (editor, here) = tokio::io::duplex(16);
        let stop = CancellationToken::new();
        let mut queue = Queue::new(here, stop.clone());
        let big = Message::event(0, "output", serde_json::json!({"output": "x".repeat(1 << 20)}));
        let fill = async {
            let mut sent = 0;
            while queue.send(big.clone()).await.is_ok() {
                sent += 1;
            }
            sent
        };
        let (sent, ()) = tokio::join!(fill, async {
            // Long enough for the sender to run into the bound; it ends by the stop, not by time.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            stop.cancel();
        });
        assert!(sent <= 33, "{sent} messages of 1 MiB were taken");
        drop(editor);
    }
}
