//! What an archive is, by its content: compressed by one of four, a zip, or tar itself.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use super::side::read_ahead;

/// As much is read at once.
const BUFFER: usize = 128 * 1024;
/// As often may one be within another (a `.tar.gz` that a server compresses once more).
const DEEPEST: usize = 2;
/// As much memory may a zstd frame ask for.
const WINDOW: u64 = 256 << 20;

/// What was recognised.
pub(crate) enum Content {
    /// The bytes of a tar.
    Tar(Box<dyn Read>),
    /// The bytes of a zip.
    Zip(Box<dyn Read>),
    /// Neither; in words.
    Other(&'static str),
}

/// Recognises what `bytes` are; decompresses them where needed. The second is what it was, in words.
pub(crate) fn recognise(bytes: Box<dyn Read + Send>) -> io::Result<(Content, String)> {
    let mut bytes: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(BUFFER, bytes));
    let mut name = String::new();
    for _ in 0..=DEEPEST {
        let begin = peek(&mut bytes)?;
        bytes = match begin.as_slice() {
            [0x1f, 0x8b, ..] => decoded(&mut name, "gz", MultiGzDecoder::new(bytes)),
            [b'B', b'Z', b'h', ..] => decoded(&mut name, "bz2", MultiBzDecoder::new(bytes)),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => decoded(&mut name, "xz", XzReader::new(bytes, true)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                decoded(&mut name, "zst", Frames::new(bytes))
            }
            [b'P', b'K', 3 | 5, 4 | 6, ..] => return Ok((Content::Zip(Box::new(bytes)), "zip".to_owned())),
            begin => {
                let content = match is_tar(begin) {
                    true => Content::Tar(read_ahead(Box::new(bytes))),
                    false => Content::Other(words(begin)),
                };
                return Ok((content, format!("tar{name}")));
            }
        };
    }
    Ok((Content::Other("compressed too often"), name))
}

fn decoded(name: &mut String, kind: &str, reader: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
    name.insert_str(0, &format!(".{kind}"));
    Box::new(BufReader::with_capacity(BUFFER, reader))
}

/// The first block, or what there is of it, put before the rest again.
fn peek(bytes: &mut Box<dyn BufRead + Send>) -> io::Result<Vec<u8>> {
    let mut begin = Vec::new();
    bytes.by_ref().take(512).read_to_end(&mut begin)?;
    let rest = std::mem::replace(bytes, Box::new(io::empty()));
    *bytes = Box::new(BufReader::with_capacity(BUFFER, io::Cursor::new(begin.clone()).chain(rest)));
    Ok(begin)
}

/// A block whose checksum a tar would have, or an empty tar's first block.
fn is_tar(block: &[u8]) -> bool {
    if block.len() < 512 {
        return false;
    }
    if &block[257..262] == b"ustar" || block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let text: String = block[148..156].iter().map(|byte| char::from(*byte)).collect();
    let said = u32::from_str_radix(text.trim_matches(['\0', ' ']), 8).unwrap_or(0);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    said == sum
}

/// What is not an archive, in words.
fn words(begin: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(begin).trim_start().to_ascii_lowercase();
    match begin {
        [] => "empty",
        _ if text.starts_with("<!doctype html") || text.starts_with("<html") || text.contains("<head") => {
            "an HTML page"
        }
        _ if text.starts_with("<?xml") || text.starts_with('<') => "an XML text",
        _ if text.starts_with('{') => "a JSON text",
        [0x7f, b'E', b'L', b'F', ..] => "a program",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive, which is not supported",
        [b'R', b'a', b'r', b'!', ..] => "a RAR archive, which is not supported",
        _ => "something unknown",
    }
}

/// zstd's frames, one after the other; those to be skipped are.
struct Frames<R: BufRead> {
    state: State<R>,
}

enum State<R: BufRead> {
    Between(R),
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Over,
}

impl<R: BufRead> Frames<R> {
    fn new(input: R) -> Frames<R> {
        Frames { state: State::Between(input) }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Ok(0),
                State::Between(input) => begin(input)?,
                State::Within(mut decoder) => match decoder.read(buffer)? {
                    0 if !buffer.is_empty() => State::Between(decoder.into_inner()),
                    count => {
                        self.state = State::Within(decoder);
                        return Ok(count);
                    }
                },
            }
        }
    }
}

/// Begins the next frame, if there is one.
fn begin<R: BufRead>(mut input: R) -> io::Result<State<R>> {
    if input.fill_buf()?.is_empty() {
        return Ok(State::Over);
    }
    let mut magic = [0; 4];
    let mut peeked = 0;
    for (at, byte) in input.fill_buf()?.iter().take(4).enumerate() {
        magic[at] = *byte;
        peeked += 1;
    }
    if peeked == 4 && matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18]) {
        let mut head = [0; 8];
        input.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        io::copy(&mut (&mut input).take(length.into()), &mut io::sink())?;
        return Ok(State::Between(input));
    }
    let decoder = StreamingDecoder::new_with_max_window_size(input, WINDOW);
    decoder
        .map(|decoder| State::Within(Box::new(decoder)))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
