//! speedscope's JSON: a sampled profile for each thread. Others' may be evented: when functions begin and end.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{FormatError, Frames, whole};
use crate::{
    Builder, Capture, Frame, FrameId, LocationId, Meta, Process, ProcessId, Sample, Thread, ThreadId, Unit,
};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    let frames: Vec<Value> =
        (0..capture.frames.len()).map(|index| frame(capture, FrameId::at(index))).collect();
    let profiles: Vec<Value> =
        (0..capture.threads.len()).filter_map(|index| profile(capture, ThreadId::at(index))).collect();
    let file = json!({
        "$schema": SCHEMA,
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

pub(super) fn is(value: &Value) -> bool {
    value["$schema"] == SCHEMA
}

/// The file, as its schema has it.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    exporter: Option<String>,
    shared: Shared,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Shared {
    frames: Vec<SharedFrame>,
}

#[derive(Deserialize)]
struct SharedFrame {
    name: String,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    line: Option<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Profile {
    /// Stacks, the outermost frame first, and what each weighs.
    Sampled { name: String, unit: Scale, samples: Vec<Vec<usize>>, weights: Vec<f64> },
    /// Frames that were entered and left.
    #[serde(rename_all = "camelCase")]
    Evented { name: String, unit: Scale, start_value: f64, events: Vec<Event> },
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Turn,
    at: f64,
    frame: usize,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
enum Turn {
    #[serde(rename = "O")]
    Open,
    #[serde(rename = "C")]
    Close,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scale {
    None,
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    Bytes,
}

impl Scale {
    /// What is counted, and by how much a weight is to be multiplied.
    fn unit(self) -> (Unit, f64) {
        match self {
            Scale::None => (Unit::Samples, 1.0),
            Scale::Nanoseconds => (Unit::CpuNanos, 1.0),
            Scale::Microseconds => (Unit::CpuNanos, 1e3),
            Scale::Milliseconds => (Unit::CpuNanos, 1e6),
            Scale::Seconds => (Unit::CpuNanos, 1e9),
            Scale::Bytes => (Unit::Bytes, 1.0),
        }
    }
}

const WHAT: &str = "file of speedscope";

pub(super) fn read(value: Value) -> Result<Capture, FormatError> {
    let file: File = serde_json::from_value(value).map_err(|error| FormatError::damaged(WHAT, error))?;
    let mut builder = Builder::new();
    let said = file.name.unwrap_or_default();
    *builder.meta() = Meta {
        // Of ours, the target stands before all else that is said.
        target: said.split(" · ").next().unwrap_or_default().to_owned(),
        made_by: file.exporter.unwrap_or_default(),
        sampler: "speedscope".to_owned(),
        unit: file.profiles.first().map_or(Unit::Samples, |one| one.scale().unit().0),
        ..Meta::default()
    };
    let process = builder.process(Process::default());
    let locations = file.shared.frames.into_iter().map(|one| location(&mut builder, one)).collect();
    let mut reader = Reader { builder, process, locations, frames: Frames::default() };
    for profile in file.profiles {
        reader.profile(profile)?;
    }
    Ok(reader.builder.finish())
}

fn location(builder: &mut Builder, frame: SharedFrame) -> LocationId {
    let line = frame.line.map_or(0, |line| u32::try_from(whole(line)).unwrap_or(0));
    let frame =
        Frame { function: frame.name, file: frame.file.unwrap_or_default(), line, ..Frame::default() };
    let frame = builder.frame(frame);
    builder.location(None, 0, vec![frame])
}

impl Profile {
    fn scale(&self) -> Scale {
        match self {
            Profile::Sampled { unit, .. } | Profile::Evented { unit, .. } => *unit,
        }
    }
}

struct Reader {
    builder: Builder,
    process: ProcessId,
    locations: Vec<LocationId>,
    frames: Frames,
}

impl Reader {
    fn profile(&mut self, profile: Profile) -> Result<(), FormatError> {
        let times = profile.scale().unit().1;
        match profile {
            Profile::Sampled { name, samples, weights, .. } => {
                let thread = self.thread(&name);
                if samples.len() != weights.len() {
                    return Err(FormatError::Damaged { format: WHAT, source: None });
                }
                for (stack, weight) in samples.iter().zip(weights) {
                    self.sample(thread, stack, weight * times)?;
                }
            }
            Profile::Evented { name, start_value, events, .. } => {
                let thread = self.thread(&name);
                let (mut stack, mut since) = (Vec::new(), start_value);
                for event in events {
                    if event.at > since && !stack.is_empty() {
                        self.sample(thread, &stack, (event.at - since) * times)?;
                    }
                    since = event.at;
                    match event.kind {
                        Turn::Open => stack.push(event.frame),
                        Turn::Close if stack.pop() == Some(event.frame) => {}
                        Turn::Close => return Err(FormatError::Damaged { format: WHAT, source: None }),
                    }
                }
            }
        }
        Ok(())
    }

    /// Ours end with the thread's number.
    fn thread(&mut self, name: &str) -> ThreadId {
        let numbered = name.strip_suffix(')').and_then(|name| name.rsplit_once(" ("));
        let numbered = numbered.and_then(|(name, tid)| Some((name, tid.parse().ok()?)));
        let (name, tid) = numbered.unwrap_or((name, 0));
        self.builder.thread(Thread { process: self.process, tid, name: name.to_owned() })
    }

    fn sample(&mut self, thread: ThreadId, stack: &[usize], weight: f64) -> Result<(), FormatError> {
        self.frames.add(stack.len())?;
        let stack = stack.iter().rev().map(|frame| self.locations.get(*frame).copied());
        let stack =
            stack.collect::<Option<_>>().ok_or(FormatError::Damaged { format: WHAT, source: None })?;
        let stack = self.builder.stack(stack);
        self.builder.sample(Sample { stack, thread, at_nanos: 0, count: 1, weight: whole(weight) });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{By, rows};

    #[test]
    fn when_functions_begin_and_end_is_what_they_weigh() {
        let file = json!({
            "$schema": SCHEMA,
            "shared": { "frames": [{ "name": "main", "file": "a.js", "line": 3 }, { "name": "hot" }] },
            "profiles": [{
                "type": "evented", "name": "a thread", "unit": "microseconds", "startValue": 10, "endValue": 110,
                "events": [
                    { "type": "O", "at": 10, "frame": 0 }, { "type": "O", "at": 30, "frame": 1 },
                    { "type": "C", "at": 90.5, "frame": 1 }, { "type": "C", "at": 110, "frame": 0 },
                ],
            }],
        });
        let capture = crate::read(file.to_string().as_bytes()).unwrap();
        let rows: Vec<_> =
            rows(&capture, By::Function).into_iter().map(|row| (row.label, row.own, row.total)).collect();
        assert_eq!(rows, [("hot".to_owned(), 60_500, 60_500), ("main".to_owned(), 39_500, 100_000)]);
        assert_eq!((capture.meta.unit, capture.frames[0].line), (Unit::CpuNanos, 3));
    }

    #[test]
    fn frames_that_are_none_of_the_files_are_refused() {
        let file = json!({
            "$schema": SCHEMA,
            "shared": { "frames": [] },
            "profiles": [{ "type": "sampled", "name": "", "unit": "none", "samples": [[0]], "weights": [1] }],
        });
        assert!(matches!(crate::read(file.to_string().as_bytes()), Err(FormatError::Damaged { .. })));
    }
}
