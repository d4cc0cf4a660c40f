//! The end of a server: first nothing new begins, then what is open has some time, then it is ended, and every target runs.

use std::time::Duration;

use pepo_wire::{Code, Failure};
use tokio::time::timeout;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// How long open streams may take to end by themselves, unless it is said otherwise.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);
/// How long they may take when they are ended.
const CLOSING: Duration = Duration::from_secs(5);

/// How far a server is on the way to its end.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    streams: TaskTracker,
    begun: CancellationToken,
    over: CancellationToken,
}

impl Ending {
    /// Counts a stream as open while what this gives is kept.
    ///
    /// # Errors
    /// [`Code::NotReachable`] when the server is about to end.
    pub(crate) fn open(&self) -> Result<TaskTrackerToken, Failure> {
        // Counted first: either it is seen by the end, or it sees it.
        let open = self.streams.token();
        match self.has_begun() {
            false => Ok(open),
            true => Err(Failure::new(Code::NotReachable, "the server is about to end")
                .because("it opens no new stream")
                .hint("try again when the next one runs")),
        }
    }

    /// Whether its end has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Begins it, and comes back when no stream is open any more.
    pub(crate) async fn drain(&self) {
        self.begun.cancel();
        self.streams.close();
        self.streams.wait().await;
    }

    /// Ends what is still open, and waits until it is written down.
    pub(crate) async fn finish(&self) {
        self.over.cancel();
        if timeout(CLOSING, self.drain()).await.is_err() {
            tracing::info!(left = self.streams.len(), "streams were still open at the end");
        }
    }

    /// Comes to an end when its end begins.
    pub(crate) async fn begins(&self) {
        self.begun.cancelled().await;
    }

    /// Comes to an end when what is open is to end.
    pub(crate) async fn is_over(&self) {
        self.over.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_open_is_waited_for_and_nothing_new_begins() {
        let ending = Ending::default();
        let open = ending.open().unwrap();
        assert!(ending.drain().now_or_never().is_none() && ending.has_begun());
        assert_eq!(ending.open().unwrap_err().code(), Code::NotReachable);
        assert!(ending.is_over().now_or_never().is_none());
        drop(open);
        ending.drain().await;
    }
}
