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

/// Is this a capture of ours?
pub(super) fn is(value: &serde_json::Value) -> bool {
    value["format"] == NAME
}

/// Is this what [`write_diff`] has written?
pub(super) fn is_diff(value: &serde_json::Value) -> bool {
    value["before"].is_string() && value["after"].is_string() && value["changes"].is_array()
}

pub(super) fn read(value: serde_json::Value) -> Result<Capture, FormatError> {
    serde_json::from_value::<File<Capture>>(value)
        .map(|file| file.capture)
        .map_err(|error| FormatError::damaged("JSON of Pepo", error))
}
