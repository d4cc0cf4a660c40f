//! Trees of files that are under way, out of a target and into it.
//!
//! Tasks, for each: a thread that reads or writes and ends with it, or when nobody takes or sends any more; what was begun is gone then.
//! The end of an agent waits for those that write.

use std::sync::Arc;

use futures::stream::BoxStream;
use pepo_process::{
    find,
    tree::{Destination, Owner, source},
};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{
        ReadTreeRequest, Right, StartWriteTree, TreePart, WriteTreeRequest, WriteTreeResponse,
        write_tree_request::Kind,
    },
    tree::{Build, Part, Place, Wanted, is_name, place, walk},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use crate::{Bounds, bounds::held, service::named};

/// Parts under way before the other side has to wait.
const WINDOW: usize = 8;

/// Reads a tree of the target's; `who` it is for, where somebody gave the stream away.
pub(crate) fn read(
    request: ReadTreeRequest,
    who: Option<String>,
) -> BoxStream<'static, Result<TreePart, Status>> {
    let (parts, outgoing) = mpsc::channel(WINDOW);
    if let Some(who) = who {
        tracing::info!(who, path = request.path, "files of the target are read");
    }
    tokio::task::spawn_blocking(move || {
        let mut say = |part| parts.blocking_send(Ok(TreePart { kind: Some(part) })).is_ok();
        let done = sent(request, &mut say);
        if let Err(failure) = done {
            let _ = parts.blocking_send(Err(failure.into_status()));
        }
    });
    Box::pin(ReceiverStream::new(outgoing))
}

fn sent(request: ReadTreeRequest, say: &mut dyn FnMut(Part) -> bool) -> Result<(), Failure> {
    let path = request.path;
    let process = find::resolve(&named(request.target)?)?;
    let found = source(&process, &path, request.follow).map_err(|error| error.failure())?;
    walk(found, say).map(|_| ()).map_err(|failure| about(&path, failure))
}

/// Puts a tree into the target; the client's first message says where.
pub(crate) async fn write(
    mut incoming: Streaming<WriteTreeRequest>,
    bounds: Option<&Bounds>,
    writing: &TaskTracker,
) -> Result<WriteTreeResponse, Failure> {
    let first = incoming.message().await.map_err(|status| Failure::from_status(&status))?;
    let Some(WriteTreeRequest { kind: Some(Kind::Start(start)) }) = first else {
        return Err(Failure::new(Code::Usage, "files begin with `start`"));
    };
    let start = held(start, bounds)?;
    let grant = start.grant.clone().unwrap_or_default();
    if !grant.rights.contains(&Right::Modify.into()) {
        return Err(Failure::new(Code::NotGranted, "the grant does not include `modify`"));
    }
    tracing::info!(who = grant.who, path = start.path, "files of the target are written");
    let (parts, taken) = mpsc::channel(WINDOW);
    let writer = writing.spawn_blocking(move || put(start, taken));
    loop {
        // Whoever writes and wants no more has a reason, which is told below, also where nothing more comes.
        let message = tokio::select! {
            message = incoming.message() => message.map_err(|status| Failure::from_status(&status))?,
            () = parts.closed() => break,
        };
        let Some(message) = message else { break };
        let Some(Kind::Part(TreePart { kind: Some(part) })) = message.kind else { continue };
        if parts.send(part).await.is_err() {
            break;
        }
    }
    drop(parts);
    writer
        .await
        .map_err(|error| Failure::new(Code::Internal, "the files could not be written").because_of(&error))?
}

fn put(start: StartWriteTree, mut parts: mpsc::Receiver<Part>) -> Result<WriteTreeResponse, Failure> {
    let process = find::resolve(&named(start.target)?)?;
    let destination = Destination::find(&process, &start.path).map_err(|error| error.failure())?;
    let wanted = Wanted { is_folder: start.is_folder, contents: start.contents };
    let place = place(wanted, &start.path, destination.existing)?;
    let owner = Arc::new(Owner::of(&process).map_err(|error| error.failure())?);
    let (folder, last) = destination.open(Arc::clone(&owner)).map_err(|error| {
        Failure::new(Code::FileDenied, format!("cannot write to {}", start.path)).because(error)
    })?;
    let name = match place {
        Place::Itself => last.map(String::into_bytes),
        Place::Inside if is_name(&start.name) => Some(start.name),
        Place::Inside => {
            return Err(Failure::new(Code::Usage, "the source has no name that a file can have"));
        }
        Place::Contents => None,
    };
    let mut build = Build::new(folder, name);
    while let Some(part) = parts.blocking_recv() {
        build.take(part).map_err(|failure| about(&start.path, failure))?;
    }
    let tally = build.finish()?;
    let mut notes = Vec::new();
    if owner.kept() {
        notes.push(
            "some new files are the agent's own user's, who may not give them to the target's".to_owned(),
        );
    }
    let (files, folders, links, bytes) = (tally.files, tally.folders, tally.links, tally.bytes);
    Ok(WriteTreeResponse { files, folders, links, bytes, notes })
}

/// The failure of something below a path.
fn about(path: &str, failure: Failure) -> Failure {
    let what = format!("{path}: {}", failure.what);
    Failure { what, ..failure }
}
