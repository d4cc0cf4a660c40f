//! Looks that are under way: from the client's stream to the sampler and back.
//!
//! Tasks, for each look: a thread that samples, and a task that waits for the client to say that it has enough. The thread ends
//! when the look does, or within a quarter of a second after nobody listens any more; the task ends with the client's stream.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::stream::BoxStream;
use pepo_process::find;
use pepo_wire::{
    Code, Failure,
    agent::{LookEvent, LookRequest, StartLook, look_request::Kind},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{Bounds, bounds::held};

/// Events under way before the sampler has to wait.
const WINDOW: usize = 8;

/// Takes the client's stream; its first message says what to look at.
pub(crate) async fn start(
    mut incoming: Streaming<LookRequest>,
    bounds: Option<&Bounds>,
) -> Result<BoxStream<'static, Result<LookEvent, Status>>, Failure> {
    let first = incoming.message().await.map_err(|status| Failure::from_status(&status))?;
    let Some(LookRequest { kind: Some(Kind::Start(mut request)) }) = first else {
        return Err(Failure::new(Code::Usage, "a look begins with `start`"));
    };
    request.target = held(request.target, bounds)?;
    let (events, outgoing) = mpsc::channel(WINDOW);
    let enough = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&enough);
    tokio::spawn(async move {
        // Whatever else it says, or its end: the client wants no more.
        let _ = incoming.message().await;
        said.store(true, Ordering::Relaxed);
    });
    tokio::task::spawn_blocking(move || look(request, &enough, &events));
    Ok(Box::pin(ReceiverStream::new(outgoing)))
}

fn look(mut request: StartLook, enough: &AtomicBool, events: &mpsc::Sender<Result<LookEvent, Status>>) {
    let target =
        request.target.take().ok_or_else(|| Failure::new(Code::Usage, "the request names no target"));
    let looked = target.and_then(|target| find::program(&target)).and_then(|process| {
        pepo_look::record(&process, &request, &|| enough.load(Ordering::Relaxed), &mut |event| {
            events.blocking_send(Ok(event)).is_ok()
        })
    });
    if let Err(failure) = looked {
        let _ = events.blocking_send(Err(failure.into_status()));
    }
}
