//! A profile of the Firefox Profiler read again: tables of columns, in each thread or shared by all.

use std::rc::Rc;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::super::{FormatError, Frames, whole};
use crate::{
    Builder, Capture, Frame, Kind, LocationId, Meta, Process, Sample, StackId, Thread, ThreadId, Unit,
};

const WHAT: &str = "profile of the Firefox Profiler";

pub(in super::super) fn is(value: &Value) -> bool {
    value["meta"]["preprocessedProfileVersion"].is_u64() && value["threads"].is_array()
}

#[derive(Deserialize)]
struct StackTable {
    /// The caller's stack; nothing for the outermost frame. It always stands before.
    prefix: Vec<Option<usize>>,
    frame: Vec<usize>,
}

#[derive(Deserialize)]
struct FrameTable {
    func: Vec<usize>,
    #[serde(default)]
    line: Vec<Option<u32>>,
    #[serde(default)]
    category: Vec<Option<usize>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FuncTable {
    name: Vec<usize>,
    #[serde(default)]
    file_name: Vec<Option<usize>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SampleTable {
    stack: Vec<Option<usize>>,
    #[serde(default)]
    time: Option<Vec<f64>>,
    #[serde(default)]
    time_deltas: Option<Vec<f64>>,
    #[serde(default)]
    weight: Option<Vec<f64>>,
    #[serde(default)]
    weight_type: Option<String>,
}

pub(in super::super) fn read(mut value: Value) -> Result<Capture, FormatError> {
    let shared = value["shared"].take();
    let Value::Array(threads) = value["threads"].take() else { return Err(FormatError::NotReadable) };
    let said = value["meta"]["product"].as_str().unwrap_or_default();
    let mut builder = Builder::new();
    *builder.meta() = Meta {
        // Of ours, the target stands before all else that is said.
        target: said.split(" · ").next().unwrap_or_default().to_owned(),
        started_millis: value["meta"]["startTime"].as_f64().map_or(0, whole),
        sampler: "Firefox Profiler".to_owned(),
        ..Meta::default()
    };
    let categories = value["meta"]["categories"].as_array();
    let kinds = categories.into_iter().flatten().map(|one| kind(one["name"].as_str().unwrap_or_default()));
    let mut reader =
        Reader { builder, shared, kinds: kinds.collect(), frames: Frames::default(), shared_tables: None };
    for thread in threads {
        reader.thread(thread)?;
    }
    Ok(reader.builder.finish())
}

fn kind(category: &str) -> Kind {
    match category {
        "Kernel" => Kind::Kernel,
        "Managed" | "JavaScript" => Kind::Managed,
        "Remark" => Kind::Remark,
        _ => Kind::Native,
    }
}

fn broken() -> FormatError {
    FormatError::Damaged { format: WHAT, source: None }
}

struct Reader {
    builder: Builder,
    shared: Value,
    kinds: Vec<Kind>,
    frames: Frames,
    /// Of a thread that has none of its own, once they were read.
    shared_tables: Option<Rc<Tables>>,
}

/// What the stacks of a thread are made of.
struct Tables {
    stacks: StackTable,
    /// What each frame is.
    locations: Vec<LocationId>,
}

/// The tables that [`Tables`] are made of.
const TABLES: [&str; 4] = ["stackTable", "frameTable", "funcTable", "stringArray"];

impl Reader {
    /// Those of a thread; what all share is read once.
    fn tables(&mut self, thread: &mut Value) -> Result<Rc<Tables>, FormatError> {
        let has_own = TABLES.iter().any(|name| !thread[*name].is_null());
        if let Some(tables) = self.shared_tables.as_ref().filter(|_| !has_own) {
            return Ok(Rc::clone(tables));
        }
        let stacks = self.table(thread, "stackTable")?;
        let tables = Rc::new(Tables { stacks, locations: self.locations(thread)? });
        if !has_own {
            self.shared_tables = Some(Rc::clone(&tables));
        }
        Ok(tables)
    }

    /// A table of the thread, else that of all threads.
    fn table<T: DeserializeOwned>(&self, thread: &mut Value, name: &str) -> Result<T, FormatError> {
        let own = thread[name].take();
        let table = if own.is_null() { self.shared[name].clone() } else { own };
        serde_json::from_value(table).map_err(|error| FormatError::damaged(WHAT, error))
    }

    fn thread(&mut self, mut value: Value) -> Result<(), FormatError> {
        let thread = self.named(&value);
        let samples: SampleTable = self.table(&mut value, "samples")?;
        let tables = self.tables(&mut value)?;
        let times = times(&samples);
        let unit = match samples.weight_type.as_deref() {
            Some("bytes") => Unit::Bytes,
            Some("tracing-ms") => Unit::WallNanos,
            _ => Unit::Samples,
        };
        self.builder.meta().unit = unit;
        let mut known: Vec<Option<StackId>> = vec![None; tables.stacks.prefix.len()];
        for (index, stack) in samples.stack.iter().enumerate() {
            // Nothing was at work.
            let Some(stack) = *stack else { continue };
            let place = known.get_mut(stack).ok_or_else(broken)?;
            let id = match *place {
                Some(id) => id,
                None => self.stack(&tables, stack)?,
            };
            *place = Some(id);
            let weight = samples.weight.as_ref().map_or(Some(1.0), |all| all.get(index).copied());
            let weight = weight.ok_or_else(broken)?;
            let (count, weight) = match unit {
                Unit::Samples => (whole(weight), whole(weight)),
                Unit::Bytes => (1, whole(weight)),
                _ => (1, whole(weight * 1e6)),
            };
            let at_nanos = times.get(index).copied().unwrap_or(0);
            self.builder.sample(Sample { stack: id, thread, at_nanos, count, weight });
        }
        Ok(())
    }

    fn named(&mut self, value: &Value) -> ThreadId {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        // Versions differ in whether numbers are text; a second thread of the same number is `7.1`.
        let number = |name: &str| match &value[name] {
            Value::String(text) => text.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0),
            other => other.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
        };
        let process = Process { pid: number("pid"), name: text("processName"), ..Process::default() };
        let process = self.builder.process(process);
        self.builder.thread(Thread { process, tid: number("tid"), name: text("name") })
    }

    /// What each frame of a thread is.
    fn locations(&mut self, value: &mut Value) -> Result<Vec<LocationId>, FormatError> {
        let frames: FrameTable = self.table(value, "frameTable")?;
        let functions: FuncTable = self.table(value, "funcTable")?;
        let texts: Vec<String> = self.table(value, "stringArray")?;
        let text = |index: usize| texts.get(index).cloned().ok_or_else(broken);
        let mut locations = Vec::with_capacity(frames.func.len());
        for (index, function) in frames.func.iter().enumerate() {
            let name = functions.name.get(*function).ok_or_else(broken)?;
            let file = functions.file_name.get(*function).copied().flatten();
            let category = frames.category.get(index).copied().flatten();
            let frame = self.builder.frame(Frame {
                function: text(*name)?,
                file: file.map(text).transpose()?.unwrap_or_default(),
                line: frames.line.get(index).copied().flatten().unwrap_or(0),
                kind: category.and_then(|one| self.kinds.get(one).copied()).unwrap_or_default(),
                ..Frame::default()
            });
            locations.push(self.builder.location(None, 0, vec![frame]));
        }
        Ok(locations)
    }

    fn stack(&mut self, tables: &Tables, innermost: usize) -> Result<StackId, FormatError> {
        let Tables { stacks, locations } = tables;
        let (mut stack, mut at) = (Vec::new(), Some(innermost));
        while let Some(index) = at {
            let frame = stacks.frame.get(index).ok_or_else(broken)?;
            stack.push(*locations.get(*frame).ok_or_else(broken)?);
            let caller = *stacks.prefix.get(index).ok_or_else(broken)?;
            // So it ends.
            if caller.is_some_and(|caller| caller >= index) {
                return Err(broken());
            }
            at = caller;
        }
        self.frames.add(stack.len())?;
        Ok(self.builder.stack(stack))
    }
}

/// When each sample was taken, in nanoseconds.
fn times(samples: &SampleTable) -> Vec<u64> {
    let nanos = |millis: f64| whole(millis * 1e6);
    match (&samples.time, &samples.time_deltas) {
        (Some(times), _) => times.iter().copied().map(nanos).collect(),
        (None, Some(deltas)) => deltas
            .iter()
            .scan(0.0, |at, delta| {
                *at += delta;
                Some(nanos(*at))
            })
            .collect(),
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{By, rows};

    /// As later versions have it: tables that all threads share.
    fn shared(prefix: &Value) -> Value {
        json!({
            "meta": { "preprocessedProfileVersion": 58, "categories": [{ "name": "JavaScript" }] },
            "shared": {
                "stringArray": ["main", "hot", "a.js"],
                "funcTable": { "name": [0, 1], "fileName": [2, null] },
                "frameTable": { "func": [0, 1], "line": [3, null], "category": [0, null] },
                "stackTable": { "prefix": prefix, "frame": [0, 1] },
            },
            "threads": [{
                "name": "worker", "tid": 8, "pid": "7", "processName": "shop",
                "samples": { "stack": [1, null, 0, 1], "time": [1.5, 2, 3, 4], "weight": null },
            }],
        })
    }

    #[test]
    fn tables_that_all_threads_share_are_read_and_idle_samples_are_none() {
        let capture = crate::read(shared(&json!([null, 0])).to_string().as_bytes()).unwrap();
        let lines: Vec<_> = rows(&capture, By::Line);
        let lines: Vec<_> =
            lines.iter().map(|row| (row.label.as_str(), row.place.as_str(), row.own)).collect();
        assert_eq!(lines, [("hot", "", 2), ("main", "a.js:3", 1)]);
        assert_eq!((capture.samples[0].at_nanos, capture.threads[0].tid), (1_500_000, 8));
        assert_eq!((capture.frames[0].kind, capture.processes[0].pid), (Kind::Managed, 7));
    }

    #[test]
    fn a_stack_that_is_its_own_caller_is_refused() {
        for prefix in [json!([null, 1]), json!([1, 0]), json!([null, 9])] {
            let read = crate::read(shared(&prefix).to_string().as_bytes());
            assert!(matches!(read, Err(FormatError::Damaged { .. })), "{read:?}");
        }
    }
}
