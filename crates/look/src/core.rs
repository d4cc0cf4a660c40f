//! A process as a core file (core(5)): its memory and the registers of its threads, read from outside and sent in pieces.
//!
//! Tasks: the caller's thread compresses and sends; a thread of its own stops the target, reads, and lets go. Between the two stands
//! a channel of some MiB: the target does not stand still while little is compressed, and a slow way home slows the reading down. The
//! pause budget is kept by the reader alone, whoever else hangs.
//! Nothing is written into the target: when this process dies, the kernel lets its threads go as they are.

/// Registers as debuggers know them.
#[cfg(target_arch = "x86_64")]
mod extended;
/// The file's beginning: ELF header, program headers, notes.
mod layout;
/// Which memory is in it.
mod mappings;
/// Memory in pieces.
mod pieces;
/// Threads that stand still together.
mod stop;

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use pepo_process::{Process, headroom::Headroom, list};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{CoreEnded, CoreEvent, CorePiece, CorePlan, StartCore, core_event::Kind},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use self::{
    mappings::Mapping,
    pieces::{Piece, Reader, Window},
    stop::Stopped,
};

/// Memory that this needs where it runs, in bytes: pieces under way, and the compressor's.
const OWN_MEMORY: u64 = 32 << 20;

/// Tells the plan, waits until it is `accepted`, and sends the file. `emit` says whether anybody listens still.
///
/// # Errors
/// The process cannot be read or stopped, has ended, or the pause budget is spent. It runs on.
pub fn core(
    process: &Process,
    request: &StartCore,
    accepted: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(CoreEvent) -> bool,
) -> Result<(), Failure> {
    layout::supported(process)?;
    let budget = request.grant.as_ref().and_then(|grant| grant.pause_budget_millis).unwrap_or_default();
    let budget = if request.no_stop { 0 } else { budget };
    let mappings = mappings::read(process, request.all)?;
    headroom(process, &mappings)?;
    let plan = CorePlan {
        process: list::describe(process).ok(),
        memory_bytes: mappings.iter().map(Mapping::to_read).sum(),
        file_bytes: mappings.iter().map(|mapping| mapping.dumped).sum(),
        pause_budget_millis: budget,
    };
    if !emit(event(Kind::Plan(plan))) || !accepted() {
        return Ok(());
    }
    let (pieces, come) = mpsc::channel::<Piece>();
    let window = &Window::default();
    let limit = (budget > 0).then(|| Duration::from_millis(budget));
    let ended = std::thread::scope(|scope| {
        let reading = scope.spawn(move || read(process, request, limit, (pieces, window)));
        for piece in &come {
            let length = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
            let frame = compress_to_vec(piece.bytes.as_slice(), CompressionLevel::Fastest);
            window.leaves(piece.bytes.len());
            if !emit(event(Kind::Piece(CorePiece { offset: piece.offset, length, frame }))) {
                break;
            }
        }
        drop(come);
        window.open();
        reading.join().unwrap_or_else(|_| Err(Failure::new(Code::Internal, "reading the core failed")))
    })?;
    emit(event(Kind::Ended(ended)));
    Ok(())
}

/// Stops, reads, lets go. Runs in a thread that ends right after: with it ends whatever it still holds.
fn read(
    process: &Process,
    request: &StartCore,
    limit: Option<Duration>,
    pieces: (mpsc::Sender<Piece>, &Window),
) -> Result<CoreEnded, Failure> {
    let begun = Instant::now();
    let mut stopped = match request.no_stop {
        true => Stopped::running(process)?,
        false => Stopped::stop(process, limit)?,
    };
    // As they are now.
    let mappings = mappings::read(process, request.all)?;
    let mut reader = Reader::new(process, pieces, limit.map(|limit| begun + limit))?;
    let beginning = layout::beginning(process, &stopped.threads, &mappings)?;
    let mut sent = reader.bytes(0, &beginning.bytes);
    for (mapping, &offset) in mappings.iter().zip(&beginning.offsets) {
        sent = sent.and_then(|()| reader.mapping(mapping, offset));
    }
    let threads = u32::try_from(stopped.threads.len()).unwrap_or(u32::MAX);
    let mut notes = std::mem::take(&mut stopped.notes);
    stopped.let_go();
    let stood_still = if request.no_stop { Duration::ZERO } else { begun.elapsed() };
    sent.map_err(|error| error.failure(process, stood_still))?;
    if request.no_stop {
        notes.push("it was read while it ran: the file is not of one moment".to_owned());
    }
    Ok(CoreEnded {
        file_bytes: beginning.end,
        threads,
        stood_still_micros: u64::try_from(stood_still.as_micros()).unwrap_or(u64::MAX),
        unreadable_bytes: reader.unreadable,
        notes,
    })
}

/// Reading brings back what was swapped out, into the target's own limit; the rest is ours.
fn headroom(process: &Process, mappings: &[Mapping]) -> Result<(), Failure> {
    let needed = [
        (
            Headroom::of(process),
            mappings.iter().map(|mapping| mapping.swapped).sum(),
            "what the target has swapped out",
        ),
        (Process::own().and_then(|own| Headroom::of(&own)), OWN_MEMORY, "the compressor"),
    ];
    for (room, needed, what) in needed {
        let room = room.map_err(|error| error.failure())?;
        if needed > room.free {
            return Err(Failure::new(Code::NoHeadroom, format!("there is no memory for {what}"))
                .because(format!("{} MiB are needed, {} MiB are free", needed >> 20, room.free >> 20))
                .hint("raise the limit, or read it from outside of the container"));
        }
    }
    Ok(())
}

fn event(kind: Kind) -> CoreEvent {
    CoreEvent { kind: Some(kind) }
}
