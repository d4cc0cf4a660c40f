//! Reads a file as the target sees it, through its own root, in bounded pieces.

use std::{fs::File, io::Read, path::Path};

use futures::stream::BoxStream;
use pepo_process::Process;
use pepo_wire::{Code, Failure, FailureExt as _, agent::FileChunk};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The largest file given out when the client does not say, in bytes.
const LIMIT: u64 = 256 << 20;
/// Bytes a message.
const CHUNK: usize = 64 << 10;

/// An open file, and how much of it is given out.
pub(crate) struct Opened {
    file: File,
    size: u64,
}

/// Opens a regular file below the target's root.
pub(crate) fn open(process: &Process, path: &str, limit: u64) -> Result<Opened, Failure> {
    let file = process.open_in_root(Path::new(path)).map_err(|error| error.failure())?;
    let cannot = |error: std::io::Error| {
        Failure::new(Code::FileDenied, format!("cannot read {path}")).because_of(&error)
    };
    let size = file.metadata().map_err(cannot)?.len();
    let limit = if limit == 0 { LIMIT } else { limit.min(LIMIT) };
    if size > limit {
        return Err(Failure::new(Code::TooLarge, format!("{path} has {size} bytes, more than {limit}")));
    }
    Ok(Opened { file, size })
}

/// The file's bytes as they are read; a file that shrinks ends early, one that grows is cut at its first size.
pub(crate) fn chunks(opened: Opened) -> BoxStream<'static, Result<FileChunk, Status>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut file = opened.file.take(opened.size);
        let mut first = true;
        loop {
            let size = if first { opened.size } else { 0 };
            let chunk = read(&mut file, size);
            let more = chunk.as_ref().is_ok_and(|chunk| !chunk.data.is_empty());
            if (more || first || chunk.is_err())
                && sender.blocking_send(chunk.map_err(Failure::into_status)).is_err()
            {
                return;
            }
            if !more {
                return;
            }
            first = false;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

fn read(file: &mut impl Read, size: u64) -> Result<FileChunk, Failure> {
    let mut data = vec![0; CHUNK];
    let cannot = |error| Failure::new(Code::FileDenied, "the file could not be read on").because_of(&error);
    let count = file.read(&mut data).map_err(cannot)?;
    data.truncate(count);
    Ok(FileChunk { data, size })
}
