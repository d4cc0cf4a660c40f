//! Bytes packed with gzip, and a capture packed as text, to stand within a picture.

use std::io::{Read as _, Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};

use super::{FormatError, json};
use crate::{Capture, Sample};

/// The most that is unpacked, in bytes.
const MOST: u64 = 1 << 30;

pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Neither of both can fail: what is written to is memory.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(MOST)
        .read_to_end(&mut unpacked)
        .map_err(|error| FormatError::damaged("file of gzip", error))?;
    Ok(unpacked)
}

/// The capture as text without any sign of XML; what was seen alike in a thread is one sample, without its times.
pub(super) fn to_text(capture: &Capture) -> String {
    let samples = capture.sums().into_iter().map(|((stack, thread), (count, weight))| Sample {
        stack,
        thread,
        at_nanos: 0,
        count,
        weight,
    });
    let summed = Capture { samples: samples.collect(), ..capture.clone() };
    BASE64_STANDARD.encode(pack(&json::write(&summed)))
}

pub(super) fn from_text(text: &str) -> Result<Capture, FormatError> {
    let packed = BASE64_STANDARD.decode(text.trim()).map_err(|error| FormatError::damaged(PICTURE, error))?;
    let value = serde_json::from_slice(&unpack(&packed)?);
    json::read(value.map_err(|error| FormatError::damaged(PICTURE, error))?)
}

const PICTURE: &str = "picture of Pepo";
