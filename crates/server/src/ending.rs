//! The end of a server: first nothing new begins, then what is open has some time, then it is ended, and every target runs.

use std::time::Duration;

use pepo_wire::{Code, Failure};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How long open streams may take to end by themselves, unless it is said otherwise.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);
/// How often they are counted meanwhile.
const COUNT: Duration = Duration::from_millis(100);

/// How far a server is on the way to its end.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    begun: CancellationToken,
    over: CancellationToken,
}

impl Ending {
    /// Refuses what would begin now.
    ///
    /// # Errors
    /// [`Code::NotReachable`] when the server is about to end.
    pub(crate) fn nothing_new(&self) -> Result<(), Failure> {
        match self.begun.is_cancelled() {
            false => Ok(()),
            true => Err(Failure::new(Code::NotReachable, "the server is about to end")
                .because("it opens no new stream")
                .hint("try again when the next one runs")),
        }
    }

    /// Whether its end has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Begins it, and comes back when no stream is open any more, or `at_most` is over.
    pub(crate) async fn drain(&self, metrics: &Metrics, at_most: Duration) {
        self.begun.cancel();
        let none_open = async {
            while metrics.streams.now() > 0 {
                tokio::time::sleep(COUNT).await;
            }
        };
        if tokio::time::timeout(at_most, none_open).await.is_err() {
            tracing::info!(left = metrics.streams.now(), "streams were still open at the end");
        }
    }

    /// Ends what is still open.
    pub(crate) fn finish(&self) {
        self.begun.cancel();
        self.over.cancel();
    }

    /// Comes to an end when what is open is to end.
    pub(crate) async fn is_over(&self) {
        self.over.cancelled().await;
    }
}
