//! Reading on another thread, a few pieces ahead of whoever takes them.

use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

/// As large is a piece.
const PIECE: usize = 64 * 1024;
/// So many wait at most.
const AHEAD: usize = 8;

/// Has a thread read `bytes`; without one they are read as they are asked for. The thread ends with the bytes, at an error, or
/// when what is returned is dropped and it comes to know.
pub(super) fn read(bytes: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
    let (sender, pieces) = sync_channel(AHEAD);
    let shared = Arc::new(Mutex::new(Some(bytes)));
    let theirs = Arc::clone(&shared);
    let started = thread::Builder::new().spawn(move || {
        let Some(mut bytes) = taken(&theirs) else { return };
        loop {
            let mut piece = vec![0; PIECE];
            let read = bytes.read(&mut piece);
            let ends = !matches!(read, Ok(1..));
            let sent = sender.send(read.map(|count| {
                piece.truncate(count);
                piece
            }));
            if ends || sent.is_err() {
                return;
            }
        }
    });
    match started {
        Ok(_) => Box::new(Pieces { pieces, piece: io::Cursor::default(), over: false }),
        Err(_) => taken(&shared).unwrap_or_else(|| Box::new(io::empty())),
    }
}

type Shared = Mutex<Option<Box<dyn Read + Send>>>;

fn taken(shared: &Shared) -> Option<Box<dyn Read + Send>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What the thread has read.
struct Pieces {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    /// The end was told, or an error.
    over: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if self.over {
                return Ok(0);
            }
            let piece = self.pieces.recv().map_err(|_| io::Error::other("reading ended without a word"))?;
            self.over = !matches!(&piece, Ok(piece) if !piece.is_empty());
            self.piece = io::Cursor::new(piece?);
        }
    }
}
