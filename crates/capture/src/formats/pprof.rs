//! pprof's protobuf (github.com/google/pprof, profile.proto), compressed with gzip.

use std::collections::HashMap;

use prost::Message as _;

use super::{FormatError, packed::pack};
use crate::{Builder, Capture, FrameId, Kind, Meta, ModuleId, Sample, ThreadId, Unit};

/// The messages, by their published field numbers; made from `proto/profile.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/perftools.profiles.rs"));
}

/// A string that begins so is our meta data, as JSON. Nothing refers to it: other tools would show it to people.
const META: &str = "pepo-meta ";

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    pack(&Writer::new(capture).profile().encode_to_vec())
}

struct Writer<'a> {
    capture: &'a Capture,
    strings: Vec<String>,
    known: HashMap<String, i64>,
}

impl<'a> Writer<'a> {
    fn new(capture: &'a Capture) -> Writer<'a> {
        let mut writer = Writer { capture, strings: Vec::new(), known: HashMap::new() };
        writer.string("");
        writer
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        let index = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }

    fn profile(mut self) -> proto::Profile {
        let meta = &self.capture.meta;
        let (word, unit) = match meta.unit {
            Unit::Samples => ("samples", "count"),
            Unit::CpuNanos => ("cpu", "nanoseconds"),
            Unit::WallNanos => ("wall", "nanoseconds"),
            Unit::Bytes => ("space", "bytes"),
        };
        let mut sample_type = vec![self.value_type("samples", "count")];
        let period_type = self.value_type(word, unit);
        if meta.unit != Unit::Samples {
            sample_type.push(period_type);
        }
        let said = serde_json::to_string(meta).unwrap_or_default();
        self.string(&format!("{META}{said}"));
        let comment = vec![self.string(&self.capture.summary())];
        let period = if meta.rate > 0 { 1_000_000_000 / i64::from(meta.rate) } else { 0 };
        let (time_nanos, duration_nanos) =
            (meta.started_millis as i64 * 1_000_000, meta.duration_nanos as i64);
        let mapping = self.mappings();
        let (function, ids) = self.functions();
        let location = self.locations(&ids);
        let sample = self.samples();
        proto::Profile {
            sample_type,
            sample,
            mapping,
            location,
            function,
            string_table: self.strings,
            time_nanos,
            duration_nanos,
            period_type: Some(period_type),
            period,
            comment,
        }
    }

    fn value_type(&mut self, word: &str, unit: &str) -> proto::ValueType {
        proto::ValueType { r#type: self.string(word), unit: self.string(unit) }
    }

    fn mappings(&mut self) -> Vec<proto::Mapping> {
        let capture = self.capture;
        let mapping = |(index, module): (usize, &crate::Module)| proto::Mapping {
            id: index as u64 + 1,
            // Each module has addresses of its own: as no two share any, the readers keep them apart.
            memory_start: base(index),
            memory_limit: base(index + 1),
            filename: self.string(&module.path),
            build_id: self.string(&module.build_id),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
            ..proto::Mapping::default()
        };
        capture.modules.iter().enumerate().map(mapping).collect()
    }

    /// The functions, and which of them each frame is.
    fn functions(&mut self) -> (Vec<proto::Function>, Vec<u64>) {
        let mut functions = Vec::new();
        let mut known: HashMap<(String, &str), u64> = HashMap::new();
        let mut ids = Vec::new();
        for (index, frame) in self.capture.frames.iter().enumerate() {
            let label = self.capture.label(FrameId::at(index));
            let next = functions.len() as u64 + 1;
            let id = *known.entry((label.clone(), frame.file.as_str())).or_insert(next);
            if id == next {
                let (name, filename) = (self.string(&label), self.string(&frame.file));
                functions.push(proto::Function { id, name, system_name: name, filename, start_line: 0 });
            }
            ids.push(id);
        }
        (functions, ids)
    }

    fn locations(&self, functions: &[u64]) -> Vec<proto::Location> {
        let line = |frame: &FrameId| proto::Line {
            function_id: functions[frame.index()],
            line: i64::from(self.capture.frames[frame.index()].line),
        };
        let location = |(index, at): (usize, &crate::Location)| proto::Location {
            id: index as u64 + 1,
            mapping_id: at.module.map_or(0, |module| module.index() as u64 + 1),
            address: at.module.map_or(at.address, |module| base(module.index()).wrapping_add(at.address)),
            line: at.frames.iter().map(line).collect(),
        };
        self.capture.locations.iter().enumerate().map(location).collect()
    }

    fn samples(&mut self) -> Vec<proto::Sample> {
        let capture = self.capture;
        let keys = ["thread", "thread_id", "process", "process_id", "target"].map(|key| self.string(key));
        let sums = capture.sums();
        sums.into_iter()
            .map(|((stack, thread), (count, weight))| proto::Sample {
                location_id: capture.stacks[stack.index()].0.iter().map(|at| at.index() as u64 + 1).collect(),
                value: match capture.meta.unit {
                    Unit::Samples => vec![count as i64],
                    _ => vec![count as i64, weight as i64],
                },
                label: self.labels(thread, keys),
            })
            .collect()
    }

    fn labels(&mut self, thread: ThreadId, keys: [i64; 5]) -> Vec<proto::Label> {
        let thread = &self.capture.threads[thread.index()];
        let process = &self.capture.processes[thread.process.index()];
        let mut labels = Vec::new();
        for (key, text) in [(keys[0], &thread.name), (keys[2], &process.name), (keys[4], &process.target)] {
            if !text.is_empty() {
                labels.push(proto::Label { key, str: self.string(text), ..proto::Label::default() });
            }
        }
        for (key, num) in [(keys[1], thread.tid), (keys[3], process.pid)] {
            labels.push(proto::Label { key, num: i64::from(num), ..proto::Label::default() });
        }
        labels
    }
}

/// Where the addresses of a module begin in the file.
fn base(module: usize) -> u64 {
    (module as u64).wrapping_mul(1 << 44)
}

pub(super) fn read(bytes: &[u8]) -> Result<Capture, FormatError> {
    let profile = proto::Profile::decode(bytes).map_err(|_| FormatError::NotReadable)?;
    if profile.sample_type.is_empty() || profile.string_table.is_empty() {
        return Err(FormatError::NotReadable);
    }
    PprofReader { profile: &profile, builder: Builder::new() }
        .capture()
        .ok_or(FormatError::Damaged { format: "profile of pprof", source: None })
}

struct PprofReader<'a> {
    profile: &'a proto::Profile,
    builder: Builder,
}

impl<'a> PprofReader<'a> {
    fn string(&self, index: i64) -> &'a str {
        let index = usize::try_from(index).ok();
        index.and_then(|index| self.profile.string_table.get(index)).map_or("", String::as_str)
    }

    fn capture(mut self) -> Option<Capture> {
        *self.builder.meta() = self.meta();
        let modules: HashMap<u64, ModuleId> = self
            .profile
            .mapping
            .iter()
            .map(|one| {
                let path = self.string(one.filename).to_owned();
                let module = crate::Module { path, build_id: self.string(one.build_id).to_owned() };
                (one.id, self.builder.module(module))
            })
            .collect();
        let functions: HashMap<u64, &proto::Function> =
            self.profile.function.iter().map(|one| (one.id, one)).collect();
        let mut locations = HashMap::new();
        for one in &self.profile.location {
            locations.insert(one.id, self.location(one, &modules, &functions));
        }
        for sample in &self.profile.sample {
            let stack =
                sample.location_id.iter().map(|id| locations.get(id).copied()).collect::<Option<_>>()?;
            let stack = self.builder.stack(stack);
            let (count, weight) = self.values(sample);
            let thread = self.thread(sample);
            self.builder.sample(Sample { stack, thread, at_nanos: 0, count, weight });
        }
        Some(self.builder.finish())
    }

    fn location(
        &mut self,
        location: &proto::Location,
        modules: &HashMap<u64, ModuleId>,
        functions: &HashMap<u64, &proto::Function>,
    ) -> crate::LocationId {
        let module = modules.get(&location.mapping_id).copied();
        let last = location.line.len();
        let mut frames = Vec::new();
        for (index, line) in location.line.iter().enumerate() {
            let function = functions.get(&line.function_id);
            let label = function.map_or("", |function| self.string(function.name));
            let unnamed = label.starts_with('[') && label.ends_with(']');
            let kind = if label.starts_with("[kernel") { Kind::Kernel } else { Kind::Native };
            frames.push(self.builder.frame(crate::Frame {
                function: if unnamed && module.is_some() { String::new() } else { label.to_owned() },
                file: function.map_or("", |function| self.string(function.filename)).to_owned(),
                line: u32::try_from(line.line).unwrap_or(0),
                column: 0,
                module,
                kind,
                inlined: index + 1 < last,
            }));
        }
        let start = self.profile.mapping.iter().find(|one| one.id == location.mapping_id);
        let address = location.address.wrapping_sub(start.map_or(0, |one| one.memory_start));
        self.builder.location(module, address, frames)
    }

    /// Ours says all in a string; of others' the little that the form has for it.
    fn meta(&self) -> Meta {
        let ours = self.profile.string_table.iter().find_map(|text| text.strip_prefix(META));
        if let Some(meta) = ours.and_then(|json| serde_json::from_str(json).ok()) {
            return meta;
        }
        let last = self.profile.sample_type.last();
        let unit = match last.map(|kind| self.string(kind.unit)) {
            Some("nanoseconds") => Unit::CpuNanos,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Samples,
        };
        Meta {
            started_millis: u64::try_from(self.profile.time_nanos / 1_000_000).unwrap_or(0),
            duration_nanos: u64::try_from(self.profile.duration_nanos).unwrap_or(0),
            unit,
            sampler: "pprof".to_owned(),
            ..Meta::default()
        }
    }

    /// The count, where there is one, and the last value, which is what pprof shows by default.
    fn values(&self, sample: &proto::Sample) -> (u64, u64) {
        let positive = |value: Option<&i64>| value.and_then(|value| u64::try_from(*value).ok());
        let counted = self.profile.sample_type.iter().position(|kind| self.string(kind.unit) == "count");
        let weight = positive(sample.value.last()).unwrap_or(0);
        (counted.and_then(|index| positive(sample.value.get(index))).unwrap_or(1), weight)
    }

    fn thread(&mut self, sample: &proto::Sample) -> ThreadId {
        let label = |name: &str| sample.label.iter().find(|label| self.string(label.key) == name);
        let text = |name: &str| label(name).map_or("", |label| self.string(label.str)).to_owned();
        let number = |name: &str| label(name).and_then(|label| u32::try_from(label.num).ok()).unwrap_or(0);
        let process =
            crate::Process { pid: number("process_id"), name: text("process"), target: text("target") };
        let thread = (number("thread_id"), text("thread"));
        let process = self.builder.process(process);
        self.builder.thread(crate::Thread { process, tid: thread.0, name: thread.1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::{example, pprof_says};

    #[test]
    fn a_profile_of_ours_keeps_its_meta_data_modules_lines_and_threads() {
        let one = example();
        let again = crate::read(&write(&one)).unwrap();
        assert_eq!((&again.meta, &again.modules), (&one.meta, &one.modules));
        assert_eq!(again.threads.iter().map(|one| one.tid).collect::<Vec<_>>(), [7, 8]);
        let lines = |capture: &Capture| crate::rows(capture, crate::By::Line);
        assert_eq!(lines(&again), lines(&one));
    }

    #[test]
    fn the_pprof_tool_reads_it() {
        let text = pprof_says(&["-top", "-nodecount=10"], &write(&example()));
        for line in ["Type: cpu", "600ns 60.00%", "300ns 30.00%", "hot (inline)", "warm", "[libc.so.6]"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
