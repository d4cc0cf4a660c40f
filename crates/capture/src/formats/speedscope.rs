//! speedscope's JSON: a sampled profile for each thread.

use serde_json::{Value, json};

use crate::{Capture, FrameId, ThreadId, Unit};

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    let frames: Vec<Value> =
        (0..capture.frames.len()).map(|index| frame(capture, FrameId::at(index))).collect();
    let profiles: Vec<Value> =
        (0..capture.threads.len()).filter_map(|index| profile(capture, ThreadId::at(index))).collect();
    let file = json!({
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": capture.meta.made_by,
        "name": capture.summary(),
        "activeProfileIndex": 0,
        "shared": { "frames": frames },
        "profiles": profiles,
    });
    serde_json::to_vec(&file).unwrap_or_default()
}

fn frame(capture: &Capture, id: FrameId) -> Value {
    let frame = &capture.frames[id.index()];
    let mut value = json!({ "name": capture.label(id) });
    if !frame.file.is_empty() {
        value["file"] = json!(frame.file);
    }
    if frame.line > 0 {
        value["line"] = json!(frame.line);
    }
    value
}

/// A thread that was never seen at work has no profile.
fn profile(capture: &Capture, id: ThreadId) -> Option<Value> {
    let thread = &capture.threads[id.index()];
    let samples: Vec<_> = capture.samples.iter().filter(|sample| sample.thread == id).collect();
    if samples.is_empty() {
        return None;
    }
    let stacks: Vec<Vec<u32>> =
        samples.iter().map(|one| capture.frames_of(one.stack).map(|frame| frame.0).collect()).collect();
    let weights: Vec<u64> = samples.iter().map(|sample| sample.weight).collect();
    let unit = match capture.meta.unit {
        Unit::Samples => "none",
        Unit::Bytes => "bytes",
        Unit::CpuNanos | Unit::WallNanos => "nanoseconds",
    };
    let target = capture.process_of(id).map_or("", |process| process.target.as_str());
    Some(json!({
        "type": "sampled",
        "name": format!("{target} {} ({})", thread.name, thread.tid).trim_start(),
        "unit": unit,
        "startValue": 0,
        "endValue": weights.iter().sum::<u64>(),
        "samples": stacks,
        "weights": weights,
    }))
}
