//! Reading ahead: a thread of its own fetches and decodes what the first one judges and keeps.

use std::{
    io::{self, Read},
    mem,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

/// As much is handed over at once, in bytes.
const PIECE: usize = 256 * 1024;
/// So many pieces may wait.
const WAITING: usize = 4;

/// Bytes, of which the first so many are meant; none at the end.
type Piece = (Vec<u8>, usize);

/// What is read ahead.
struct Side {
    pieces: Receiver<io::Result<Piece>>,
    /// Where memory goes to be used again.
    used: Sender<Vec<u8>>,
    piece: Piece,
    /// So many bytes of it were read.
    at: usize,
    /// None once the end was read.
    reader: Option<JoinHandle<()>>,
}

/// The same bytes, read ahead by a thread; as they are where there may be none (a control group bounds processes, too). It has ended when the end
/// was read.
pub(super) fn read_ahead(bytes: Box<dyn Read + Send>) -> Box<dyn Read> {
    let (give, take) = channel::<Box<dyn Read + Send>>();
    let (pieces, taken) = sync_channel(WAITING);
    let (used, again) = channel();
    let reader = thread::Builder::new().spawn(move || {
        if let Ok(mut bytes) = take.recv() {
            hand_over(&mut bytes, &pieces, &again);
        }
    });
    let Ok(reader) = reader else { return bytes };
    match give.send(bytes) {
        Ok(()) => {
            Box::new(Side { pieces: taken, used, piece: Piece::default(), at: 0, reader: Some(reader) })
        }
        Err(unsent) => unsent.0,
    }
}

/// Reads up to the end or an error. It ends, too, when nobody takes any more.
fn hand_over(bytes: &mut dyn Read, pieces: &SyncSender<io::Result<Piece>>, again: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = again.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
        let (length, error) = fill(bytes, &mut piece);
        // What was read before an error comes before it.
        let over = length == 0;
        let mut sent = error.is_some() && over || pieces.send(Ok((piece, length))).is_ok();
        if let Some(error) = error {
            let _ = pieces.send(Err(error));
            sent = false;
        }
        if over || !sent {
            return;
        }
    }
}

/// Fills all of `piece` if there is so much. How much there was, and what was wrong.
fn fill(bytes: &mut dyn Read, piece: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut length = 0;
    while length < piece.len() {
        match bytes.read(&mut piece[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Some(error)),
        }
    }
    (length, None)
}

impl Read for Side {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.1 && self.reader.is_some() {
            let died = |_| io::Error::other("its decoder ended before it did");
            let (bytes, length) = self.pieces.recv().map_err(died)??;
            let used = mem::replace(&mut self.piece, (bytes, length)).0;
            self.at = 0;
            if !used.is_empty() {
                let _ = self.used.send(used);
            }
            if length == 0
                && let Some(reader) = self.reader.take()
            {
                reader.join().map_err(|_| io::Error::other("its decoder failed at the end"))?;
            }
        }
        let rest = &self.piece.0[self.at..self.piece.1];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives these bytes, in small pieces, then an error.
    struct Broken(io::Cursor<Vec<u8>>);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(999);
            match self.0.read(&mut buffer[..most])? {
                0 => Err(io::Error::new(io::ErrorKind::InvalidData, "broken here")),
                count => Ok(count),
            }
        }
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn all_bytes_come_in_order_and_the_end_stays_the_end() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE + 5] {
            let mut side = read_ahead(Box::new(io::Cursor::new(bytes(length))));
            let mut read = Vec::new();
            side.read_to_end(&mut read).unwrap();
            assert!(read == bytes(length), "{length}");
            assert_eq!(side.read(&mut [0]).unwrap(), 0, "{length}");
        }
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        for length in [0, 10, PIECE, PIECE + 10] {
            let mut side = read_ahead(Box::new(Broken(io::Cursor::new(bytes(length)))));
            let mut read = Vec::new();
            let error = side.read_to_end(&mut read).unwrap_err();
            assert_eq!(error.to_string(), "broken here");
            assert!(read == bytes(length), "{length}");
        }
    }

    #[test]
    fn what_nobody_reads_ends_its_thread() {
        struct Told(std::sync::mpsc::Sender<()>, io::Repeat);
        impl Read for Told {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1.read(buffer)
            }
        }
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (tell, told) = channel();
        let mut side = read_ahead(Box::new(Told(tell, io::repeat(7))));
        assert_eq!(side.read(&mut [0; 10]).unwrap(), 10);
        drop(side);
        told.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    }
}
