//! Our own format: a capture as it is. Fields are only ever added.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::FormatError;
use crate::{Capture, Diff};

/// What the file says it is.
const NAME: &str = "pepo-capture";

#[derive(Serialize, Deserialize)]
struct File<C> {
    format: String,
    version: u32,
    #[serde(flatten)]
    capture: C,
}

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    let file = File { format: NAME.to_owned(), version: 1, capture };
    serde_json::to_vec(&file).unwrap_or_default()
}

pub(super) fn write_diff(diff: &Diff) -> Vec<u8> {
    let changes = json!({ "before": diff.before, "after": diff.after, "changes": diff.changes });
    format!("{changes:#}\n").into_bytes()
}

pub(super) fn read(bytes: &[u8]) -> Result<Capture, FormatError> {
    let damaged = |source| FormatError::Damaged { format: "JSON of Pepo", source: Some(Box::new(source)) };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
    if value["format"] != NAME {
        return Err(FormatError::NotReadable);
    }
    serde_json::from_value::<File<Capture>>(value).map(|file| file.capture).map_err(damaged)
}
