//! The way out to an editor: bounded in messages and in bytes, so that one which stops reading costs no memory.

use std::{sync::Arc, time::Duration};

use pepo_wire::dap::{Message, encode_frame};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// The most messages under way.
const MESSAGES: usize = 256;
/// The most bytes under way, in KiB.
const KIB: u32 = 32 << 10;

/// How long the last words may take to be written.
const LAST: Duration = Duration::from_secs(1);

/// The editor is gone, or this side is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// The sending end. Numbers what it sends.
pub(crate) struct Queue {
    frames: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    stop: CancellationToken,
    seq: i64,
    /// The only events that the editor takes, where it does not take any.
    events: Option<&'static [&'static str]>,
    writing: JoinHandle<()>,
}

impl Queue {
    /// A queue whose frames a task of its own writes to `writer`; it ends with the queue, or with the first write that fails.
    pub(crate) fn new(
        mut writer: impl AsyncWrite + Send + Unpin + 'static,
        stop: CancellationToken,
    ) -> Queue {
        let (frames, mut queued) = mpsc::channel::<(Vec<u8>, OwnedSemaphorePermit)>(MESSAGES);
        let writing = tokio::spawn(async move {
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
        Queue { frames, room: Arc::new(Semaphore::new(KIB as usize)), stop, seq: 0, events: None, writing }
    }

    /// From now on no other event is sent: the editor would end the session at one that it does not know.
    pub(crate) fn send_only(&mut self, events: &'static [&'static str]) {
        self.events = Some(events);
    }

    /// Sends a message under the next number, which it returns. Waits while the editor does not read.
    pub(crate) async fn send(&mut self, mut message: Message) -> Result<i64, Gone> {
        if let (Some(events), Some(name)) = (self.events, message.event_name())
            && !events.contains(&name)
        {
            return Ok(self.seq);
        }
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
        let _ = tokio::time::timeout(Duration::from_millis(500), self.send(message)).await;
    }

    /// Waits until all that was sent is written: after the last words the process may end at once. An editor that does not read
    /// loses them.
    pub(crate) async fn finish(self) {
        drop(self.frames);
        let _ = tokio::time::timeout(LAST, self.writing).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_sent_is_written_when_it_is_finished() {
        use tokio::io::AsyncReadExt as _;
        let (mut editor, here) = tokio::io::duplex(4096);
        let mut queue = Queue::new(here, CancellationToken::new());
        queue.send(Message::event(0, "terminated", serde_json::Value::Null)).await.unwrap();
        queue.finish().await;
        let mut said = String::new();
        // Nothing runs any more that could still write it.
        tokio::time::timeout(Duration::ZERO, editor.read_to_string(&mut said)).await.unwrap().unwrap();
        assert!(said.contains("terminated"), "{said:?}");
    }

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
