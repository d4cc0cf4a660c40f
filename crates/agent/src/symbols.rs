//! Debug files from the user's side, before a session is opened.

use std::time::Duration;

use pepo_debug::session::Symbols;
use pepo_wire::{
    Code, Failure,
    agent::{SessionRequest, SymbolsPart, session_event::Kind as Event, session_request::Kind as Request},
};
use tokio::sync::mpsc;
use tonic::Streaming;

/// How long a client may be silent while it is asked; it sends heartbeats where it takes longer.
const SILENCE: Duration = Duration::from_secs(20);

/// Asks the client for what is wanted, and takes what comes.
///
/// # Errors
/// [`Code::StreamBroken`], [`Code::LeaseLost`] when the client falls silent, [`Code::Interrupted`] when it gives up; and what
/// [`Symbols::take`] says.
pub(crate) async fn bring(
    mut symbols: Symbols,
    incoming: &mut Streaming<SessionRequest>,
    events: &mpsc::Sender<Event>,
) -> Result<Symbols, Failure> {
    if symbols.wanted().modules.is_empty() {
        return Ok(symbols);
    }
    let gone = || Failure::new(Code::StreamBroken, "the client went away while it brought debug files");
    events.send(Event::SymbolsWanted(symbols.wanted().clone())).await.map_err(|_| gone())?;
    let mut more = true;
    while more {
        let silent = |_| {
            Failure::new(
                Code::LeaseLost,
                format!("no debug file and no word from the client for {SILENCE:?}"),
            )
        };
        let message = tokio::time::timeout(SILENCE, incoming.message()).await.map_err(silent)?;
        match message.map_err(|status| Failure::from_status(&status))?.ok_or_else(gone)?.kind {
            Some(Request::Symbols(part)) => (symbols, more) = take(symbols, part).await?,
            Some(Request::Close(_)) => {
                return Err(Failure::new(Code::Interrupted, "the session was closed before it was open"));
            }
            _ => {}
        }
    }
    Ok(symbols)
}

/// Writes away from the threads that carry messages.
async fn take(mut symbols: Symbols, part: SymbolsPart) -> Result<(Symbols, bool), Failure> {
    let taken = tokio::task::spawn_blocking(move || symbols.take(part).map(|more| (symbols, more))).await;
    taken
        .map_err(|error| Failure::new(Code::Internal, "a debug file could not be taken").because_of(&error))?
}
