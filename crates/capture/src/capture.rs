//! The model: samples of stacks, and what the stacks are made of. Everything is stored once and named by its index.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::By;

/// The most that is believed of anything that is counted: 36 years in nanoseconds.
const MOST: u64 = 1 << 60;

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// Its place in the capture's list.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }

            /// The name of what lies at this place.
            #[must_use]
            pub fn at(index: usize) -> $name {
                $name(u32::try_from(index).unwrap_or(u32::MAX))
            }
        }
    )+};
}

ids! {
    /// A process of a capture.
    ProcessId;
    /// A thread of a capture.
    ThreadId;
    /// A module (program, library) of a capture.
    ModuleId;
    /// A frame of a capture.
    FrameId;
    /// A location of a capture.
    LocationId;
    /// A stack of a capture.
    StackId;
}

/// What a look brought home.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capture {
    /// What, when, where, how.
    pub meta: Meta,
    /// The processes that were looked at.
    pub processes: Vec<Process>,
    /// Their threads.
    pub threads: Vec<Thread>,
    /// The files their code comes from.
    pub modules: Vec<Module>,
    /// Functions at lines.
    pub frames: Vec<Frame>,
    /// Addresses, each with the frames that stand for it.
    pub locations: Vec<Location>,
    /// Stacks.
    pub stacks: Vec<Stack>,
    /// What was seen.
    pub samples: Vec<Sample>,
}

/// What, when, where, how; how many samples, how many lost. Each file of ours says it in itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The target as `pepo ps` names it.
    pub target: String,
    /// The machine whose command made the capture, and the program's version.
    pub made_by: String,
    /// Milliseconds since 1970 when it began; 0 when unknown.
    pub started_millis: u64,
    /// How long was looked, in nanoseconds; 0 when unknown.
    pub duration_nanos: u64,
    /// How samples were taken, in words: "perf, CPU time".
    pub sampler: String,
    /// What a sample's weight counts.
    pub unit: Unit,
    /// Samples a second that were asked for; 0 when unknown.
    pub rate: u32,
    /// Samples a second of CPU (or wall) time that were taken; 0 when unknown.
    pub achieved_rate: f64,
    /// CPU time the target used meanwhile, in nanoseconds; 0 when unknown.
    pub cpu_nanos: u64,
    /// Samples that were taken but did not arrive.
    pub lost: u64,
    /// How long threads of the target were held; nothing where nothing was held.
    pub pauses: Option<Pauses>,
    /// What the reader should know, in words.
    pub notes: Vec<String>,
}

/// How long threads were held to be sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    /// How many times a thread was held.
    pub count: u64,
    /// The longest, in nanoseconds.
    pub longest_nanos: u64,
    /// All of them, in nanoseconds.
    pub total_nanos: u64,
}

impl Pauses {
    /// Both together.
    pub(crate) fn and(self, other: Pauses) -> Pauses {
        Pauses {
            count: self.count + other.count,
            longest_nanos: self.longest_nanos.max(other.longest_nanos),
            total_nanos: self.total_nanos + other.total_nanos,
        }
    }
}

/// What a sample's weight counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Samples alone: no time is known.
    #[default]
    Samples,
    /// Nanoseconds of CPU time.
    CpuNanos,
    /// Nanoseconds of time on the wall.
    WallNanos,
    /// Bytes of memory.
    Bytes,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// As seen in the container; 0 when unknown.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The target it belongs to, where several were looked at.
    pub target: String,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// The process it belongs to.
    pub process: ProcessId,
    /// As seen in the container; 0 when unknown.
    pub tid: u32,
    /// Its name.
    pub name: String,
}

/// A file that code comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Module {
    /// As the target sees it; `[vdso]` and the like for what is no file.
    pub path: String,
    /// Lower-case hexadecimal digits; empty when it has none.
    pub build_id: String,
}

impl Module {
    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// What kind of code a frame stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Compiled ahead of time.
    #[default]
    Native,
    /// The kernel's.
    Kernel,
    /// Of an interpreter or a just-in-time compiler.
    Managed,
    /// No code, but a remark: a stack that was cut off.
    Remark,
}

/// A function at a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// Demangled; empty when nothing is known.
    pub function: String,
    /// The source file; empty when unknown.
    pub file: String,
    /// From 1; 0 when unknown.
    pub line: u32,
    /// From 1; 0 when unknown: where a function of JavaScript begins, of which a line may have many.
    #[serde(skip_serializing_if = "is_unknown")]
    pub column: u32,
    /// Where the code comes from.
    pub module: Option<ModuleId>,
    /// What kind of code it is.
    pub kind: Kind,
    /// Was it compiled into its caller?
    pub inlined: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_unknown(number: &u32) -> bool {
    *number == 0
}

/// An address, and the frames that stand for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Location {
    /// Where it lies, when that is known.
    pub module: Option<ModuleId>,
    /// As the module's file counts addresses; without a module, as the process counts them. Of a caller, an address inside its
    /// call, not after it.
    pub address: u64,
    /// Innermost first: all but the last were compiled into the next. Empty before symbols are looked up.
    pub frames: Vec<FrameId>,
}

/// Locations, the innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stack(pub Vec<LocationId>);

/// What was seen at one moment in one thread (or, read from formats without time, how often something was seen).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Where the thread was.
    pub stack: StackId,
    /// Which thread.
    pub thread: ThreadId,
    /// Nanoseconds after the capture's beginning; 0 in all of them when unknown.
    pub at_nanos: u64,
    /// How many samples this stands for.
    pub count: u64,
    /// What they weigh, in the capture's unit.
    pub weight: u64,
}

impl Capture {
    /// How many samples there are.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.samples.iter().map(|sample| sample.count).sum()
    }

    /// The weight of all samples.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        self.samples.iter().map(|sample| sample.weight).sum()
    }

    /// How often each stack was seen in each thread, and what that weighs.
    pub(crate) fn sums(&self) -> BTreeMap<(StackId, ThreadId), (u64, u64)> {
        let mut sums: BTreeMap<(StackId, ThreadId), (u64, u64)> = BTreeMap::new();
        for sample in &self.samples {
            let sum = sums.entry((sample.stack, sample.thread)).or_default();
            *sum = (sum.0 + sample.count, sum.1 + sample.weight);
        }
        sums
    }

    /// Does each sample weigh the same, so that counting them tells all?
    pub(crate) fn weighs_alike(&self) -> bool {
        let Some(first) = self.samples.first() else { return true };
        let product = |one: u64, other: u64| u128::from(one) * u128::from(other);
        let alike = |one: &Sample| product(one.weight, first.count) == product(first.weight, one.count);
        self.samples.iter().all(alike)
    }

    /// Does it tell by what is asked for? Formats leave out what they have no room for.
    #[must_use]
    pub fn tells(&self, by: By) -> bool {
        match by {
            By::Function => true,
            By::Line => self.frames.iter().any(|frame| frame.line > 0),
            By::Thread => self.threads.iter().any(|thread| thread.tid > 0 || !thread.name.is_empty()),
            By::Process => self.processes.iter().any(|process| process.pid > 0 || !process.name.is_empty()),
        }
    }

    /// The frames of a stack, outermost first. An address without a name has one frame of an empty function.
    pub fn frames_of(&self, stack: StackId) -> impl DoubleEndedIterator<Item = FrameId> + '_ {
        let stack = self.stacks.get(stack.index()).map_or(&[][..], |stack| &stack.0);
        let locations = stack.iter().rev().filter_map(|location| self.locations.get(location.index()));
        locations.flat_map(|location| location.frames.iter().rev().copied())
    }

    /// What a frame is called: its function, else the module in brackets.
    #[must_use]
    pub fn label(&self, frame: FrameId) -> String {
        let Some(frame) = self.frames.get(frame.index()) else { return "[unknown]".to_owned() };
        match self.module_name(frame.module) {
            _ if !frame.function.is_empty() => frame.function.clone(),
            "" => "[unknown]".to_owned(),
            name if name.starts_with('[') => name.to_owned(),
            name => format!("[{name}]"),
        }
    }

    /// The process that a thread belongs to.
    #[must_use]
    pub fn process_of(&self, thread: ThreadId) -> Option<&Process> {
        let thread = self.threads.get(thread.index())?;
        self.processes.get(thread.process.index())
    }

    /// The short name of a module; empty for none.
    #[must_use]
    pub fn module_name(&self, module: Option<ModuleId>) -> &str {
        module.and_then(|module| self.modules.get(module.index())).map_or("", Module::name)
    }

    /// Do the samples say when they were taken?
    #[must_use]
    pub fn has_times(&self) -> bool {
        self.samples.iter().any(|sample| sample.at_nanos > 0)
    }

    /// The addresses of each module that have no frames yet.
    #[must_use]
    pub fn without_symbols(&self) -> BTreeMap<ModuleId, Vec<LocationId>> {
        let mut wanted: BTreeMap<ModuleId, Vec<LocationId>> = BTreeMap::new();
        for (index, location) in self.locations.iter().enumerate() {
            if let (Some(module), true) = (location.module, location.frames.is_empty()) {
                wanted.entry(module).or_default().push(LocationId::at(index));
            }
        }
        wanted
    }

    /// Does every index lead somewhere, and can what is counted be added up? What is read from files is not believed before.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.leads_somewhere() && self.adds_up()
    }

    fn adds_up(&self) -> bool {
        let sum = |of: fn(&Sample) -> u64| {
            let sum = self.samples.iter().try_fold(0_u64, |sum, sample| sum.checked_add(of(sample)));
            sum.is_some_and(|sum| sum <= MOST)
        };
        let meta = &self.meta;
        let counts = [meta.started_millis, meta.duration_nanos, meta.cpu_nanos, meta.lost];
        sum(|sample| sample.weight)
            && sum(|sample| sample.count)
            && counts.iter().all(|count| *count <= MOST)
            && self.samples.iter().all(|sample| sample.at_nanos <= MOST)
    }

    fn leads_somewhere(&self) -> bool {
        let module = |module: Option<ModuleId>| module.is_none_or(|one| one.index() < self.modules.len());
        self.threads.iter().all(|thread| thread.process.index() < self.processes.len())
            && self.frames.iter().all(|frame| module(frame.module))
            && self.locations.iter().all(|location| {
                module(location.module)
                    && !location.frames.is_empty()
                    && location.frames.iter().all(|frame| frame.index() < self.frames.len())
            })
            && self.stacks.iter().flat_map(|stack| &stack.0).all(|at| at.index() < self.locations.len())
            && self.samples.iter().all(|sample| {
                sample.stack.index() < self.stacks.len() && sample.thread.index() < self.threads.len()
            })
    }

    /// The words under every picture: what, when, how long, how, how many.
    #[must_use]
    pub fn summary(&self) -> String {
        let meta = &self.meta;
        let mut parts = Vec::new();
        parts.extend((!meta.target.is_empty()).then(|| meta.target.clone()));
        parts.extend((meta.started_millis > 0).then(|| utc(meta.started_millis)));
        parts.extend((meta.duration_nanos > 0).then(|| format!("{:.1} s", meta.duration_nanos as f64 / 1e9)));
        parts.extend((!meta.sampler.is_empty()).then(|| meta.sampler.clone()));
        parts.extend((meta.cpu_nanos > 0).then(|| format!("{:.1} s CPU", meta.cpu_nanos as f64 / 1e9)));
        if meta.rate > 0 {
            // How many were taken is known at the end.
            let taken = (meta.achieved_rate > 0.0).then(|| format!(", {:.0} Hz taken", meta.achieved_rate));
            parts.push(format!("{} Hz asked{}", meta.rate, taken.unwrap_or_default()));
        }
        parts.push(format!("{} samples", self.sample_count()));
        parts.extend((meta.rate > 0 || meta.lost > 0).then(|| format!("{} lost", meta.lost)));
        parts.extend(meta.pauses.map(|pauses| {
            let (longest, total) = (pauses.longest_nanos as f64 / 1e6, pauses.total_nanos as f64 / 1e6);
            format!("threads held {} times, {longest:.2} ms at most, {total:.1} ms in all", pauses.count)
        }));
        parts.join(" · ")
    }
}

/// `2026-11-25 13:45:11 UTC`, by the calendar's arithmetic (days from civil, H. Hinnant).
fn utc(millis: u64) -> String {
    let (days, second) = (millis / 86_400_000, millis / 1000 % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_right_at_the_edges_of_years_and_months() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (1_764_078_311, "2025-11-25 13:45:11 UTC"),
        ] {
            assert_eq!(utc(seconds * 1000), text);
        }
    }

    #[test]
    fn a_capture_whose_indexes_lead_nowhere_is_not_sound() {
        let mut capture = crate::formats::tests::example();
        assert!(capture.is_sound());
        capture.samples[0].stack = StackId(99);
        assert!(!capture.is_sound());
    }
}
