//! The file of a core on this side: pieces as they come, as they are or opened, with holes where it is zero.

use std::{io::Read as _, path::Path};

use pepo_wire::{Code, Failure, agent::CorePiece};
use ruzstd::{
    decoding::StreamingDecoder,
    encoding::{CompressionLevel, compress_to_vec},
};

use crate::new_file::NewFile;

/// Zeros of one frame.
const ZEROS: u64 = 1 << 20;
/// What is zero for so long becomes a hole.
const BLOCK: usize = 4096;
/// Larger pieces come from no agent.
const LARGEST: u32 = 16 << 20;

/// The file being made; dropped before its end, it was never there.
#[derive(Debug)]
pub(super) struct CoreFile {
    file: NewFile,
    /// Frames stay as they come.
    pub(super) compressed: bool,
    /// Bytes of the core so far.
    at: u64,
    /// Bytes that were written.
    pub(super) written: u64,
}

impl CoreFile {
    /// Compressed when its name ends in `.zst`.
    pub(super) fn begin(path: &Path) -> Result<CoreFile, Failure> {
        let compressed = path.extension().is_some_and(|ending| ending == "zst");
        Ok(CoreFile { file: NewFile::begin(path)?, compressed, at: 0, written: 0 })
    }

    /// What comes next of it.
    pub(super) fn piece(&mut self, piece: &CorePiece) -> Result<(), Failure> {
        if piece.offset < self.at || piece.length > LARGEST {
            return Err(confused("a piece is not where it can be"));
        }
        self.zeros(piece.offset - self.at)?;
        if self.compressed {
            self.write(&piece.frame)?;
        } else {
            let bytes = opened(piece)?;
            for block in bytes.chunks(BLOCK) {
                match block.iter().any(|&byte| byte != 0) {
                    true => self.write(block)?,
                    false => self.hole(block.len() as u64)?,
                }
            }
        }
        self.at = piece.offset + u64::from(piece.length);
        Ok(())
    }

    /// Its end: puts it in its place.
    pub(super) fn finish(mut self, length: u64) -> Result<(), Failure> {
        let missing = length.checked_sub(self.at).ok_or_else(|| confused("it is longer than its end"))?;
        self.zeros(missing)?;
        self.file.finish(&[])
    }

    fn zeros(&mut self, mut length: u64) -> Result<(), Failure> {
        if !self.compressed {
            return self.hole(length);
        }
        let mut frame = Vec::new();
        while length > 0 {
            let part = length.min(ZEROS);
            if part < ZEROS || frame.is_empty() {
                frame = compress_to_vec(vec![0; part as usize].as_slice(), CompressionLevel::Fastest);
            }
            self.write(&frame)?;
            length -= part;
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), Failure> {
        if self.file.is_regular() {
            return self.file.hole(length);
        }
        let block = [0; BLOCK];
        let mut left = length;
        while left > 0 {
            let part = left.min(BLOCK as u64);
            self.write(&block[..part as usize])?;
            left -= part;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.written += bytes.len() as u64;
        self.file.write(bytes)
    }
}

/// The bytes of a piece, no more than it says.
fn opened(piece: &CorePiece) -> Result<Vec<u8>, Failure> {
    let broken = || confused("a piece cannot be opened");
    let mut bytes = Vec::new();
    let decoder = StreamingDecoder::new(piece.frame.as_slice()).map_err(|_| broken())?;
    decoder.take(u64::from(piece.length) + 1).read_to_end(&mut bytes).map_err(|_| broken())?;
    match bytes.len() as u64 == u64::from(piece.length) {
        true => Ok(bytes),
        false => Err(broken()),
    }
}

fn confused(why: &str) -> Failure {
    Failure::new(Code::StreamBroken, "the core came broken").because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, bytes: &[u8]) -> CorePiece {
        let frame = compress_to_vec(bytes, CompressionLevel::Fastest);
        CorePiece { offset, length: bytes.len() as u32, frame }
    }

    #[test]
    fn a_file_is_the_same_with_holes_and_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = vec![0; 3 << 20];
        expected[..3].copy_from_slice(b"ELF");
        expected[(2 << 20) + 5000] = 7;
        for name in ["a.core", "a.core.zst"] {
            let path = folder.path().join(name);
            let mut file = CoreFile::begin(&path).unwrap();
            file.piece(&piece(0, b"ELF")).unwrap();
            file.piece(&piece(2 << 20, &expected[2 << 20..(2 << 20) + 9000])).unwrap();
            file.finish(3 << 20).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            if name.ends_with(".zst") {
                let (mut rest, mut whole) = (bytes.as_slice(), Vec::new());
                while !rest.is_empty() {
                    StreamingDecoder::new(&mut rest).unwrap().read_to_end(&mut whole).unwrap();
                }
                bytes = whole;
            }
            assert!(bytes == expected, "{name}");
        }
    }

    #[test]
    fn pieces_that_cannot_be_are_one_clear_error_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.core");
        for bad in [
            piece(0, b"x"),
            CorePiece { offset: 9, length: 9, frame: b"no frame".to_vec() },
            CorePiece { length: 2, ..piece(9, b"xyz") },
            CorePiece { length: u32::MAX, ..piece(9, b"x") },
        ] {
            let mut file = CoreFile::begin(&path).unwrap();
            file.piece(&piece(0, b"head")).unwrap();
            assert_eq!(file.piece(&bad).unwrap_err().code(), Code::StreamBroken);
            drop(file);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
