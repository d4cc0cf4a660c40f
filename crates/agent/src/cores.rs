//! Core files that are under way: from the client's stream to the reader and back.
//!
//! Tasks, for each: a thread that reads and sends, and ends with it; a task that waits for the client's word, then for its end. When
//! either stream ends nobody listens any more, and the target is let go; the pause budget is kept by the reader itself.

use futures::stream::BoxStream;
use pepo_debug::session::PauseBudget;
use pepo_process::find;
use pepo_wire::{
    Code, Failure,
    agent::{CoreEvent, CoreRequest, Grant, Right, StartCore, core_request::Kind},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{Bounds, bounds::held};

/// Events under way before the reader has to wait.
const WINDOW: usize = 4;

/// What the client has said after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Nothing,
    Accepted,
    Gone,
}

/// Takes the client's stream; its first message says of what.
pub(crate) async fn start(
    mut incoming: Streaming<CoreRequest>,
    bounds: Option<&Bounds>,
) -> Result<BoxStream<'static, Result<CoreEvent, Status>>, Failure> {
    let first = incoming.message().await.map_err(|status| Failure::from_status(&status))?;
    let Some(CoreRequest { kind: Some(Kind::Start(request)) }) = first else {
        return Err(Failure::new(Code::Usage, "a core begins with `start`"));
    };
    let mut request = held(request, bounds)?;
    granted(&mut request)?;
    let (events, outgoing) = mpsc::channel(WINDOW);
    let (said, word) = watch::channel(Word::Nothing);
    tokio::spawn(async move {
        while let Ok(Some(message)) = incoming.message().await {
            if matches!(message.kind, Some(Kind::Accept(_))) {
                said.send_replace(Word::Accepted);
            }
        }
        said.send_replace(Word::Gone);
    });
    tokio::task::spawn_blocking(move || run(request, word, &events));
    Ok(Box::pin(ReceiverStream::new(outgoing)))
}

/// A stop needs the right to it, and has a budget.
fn granted(request: &mut StartCore) -> Result<(), Failure> {
    let grant: &mut Grant = request.grant.get_or_insert_default();
    if !request.no_stop && !grant.rights.contains(&Right::Stop.into()) {
        return Err(Failure::new(Code::NotGranted, "the grant does not include `stop`"));
    }
    let usual = u64::try_from(PauseBudget::DEFAULT.limit.as_millis()).unwrap_or(u64::MAX);
    grant.pause_budget_millis.get_or_insert(usual);
    Ok(())
}

fn run(
    mut request: StartCore,
    word: watch::Receiver<Word>,
    events: &mpsc::Sender<Result<CoreEvent, Status>>,
) {
    let target =
        request.target.take().ok_or_else(|| Failure::new(Code::Usage, "the request names no target"));
    let accepted = || {
        let mut word = word.clone();
        let said = Handle::current()
            .block_on(async move { word.wait_for(|word| *word != Word::Nothing).await.map(|word| *word) });
        said.is_ok_and(|word| word == Word::Accepted)
    };
    let read = target.and_then(|target| find::program(&target)).and_then(|process| {
        pepo_look::core(&process, &request, &accepted, &mut |event| {
            *word.borrow() != Word::Gone && events.blocking_send(Ok(event)).is_ok()
        })
    });
    if let Err(failure) = read {
        let _ = events.blocking_send(Err(failure.into_status()));
    }
}
