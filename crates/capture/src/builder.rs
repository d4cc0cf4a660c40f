//! Captures made piece by piece, each thing stored once.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use crate::{
    SourceMap, Symbols,
    capture::{
        Capture, Frame, FrameId, Kind, Location, LocationId, Meta, Module, ModuleId, Process, ProcessId,
        Sample, Stack, StackId, Thread, ThreadId,
    },
};

/// A capture being made.
#[derive(Debug, Default)]
pub struct Builder {
    capture: Capture,
    processes: HashMap<Process, usize>,
    threads: HashMap<Thread, usize>,
    modules: HashMap<Module, usize>,
    frames: HashMap<Frame, usize>,
    locations: HashMap<(Option<ModuleId>, u64, Vec<FrameId>), usize>,
    stacks: HashMap<Stack, usize>,
}

/// The place of `value`, which is added when it is new.
fn place<T: Clone + Eq + Hash>(known: &mut HashMap<T, usize>, list: &mut Vec<T>, value: T) -> usize {
    *known.entry(value).or_insert_with_key(|value| {
        list.push(value.clone());
        list.len() - 1
    })
}

impl Builder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The meta data, to be filled in.
    pub fn meta(&mut self) -> &mut Meta {
        &mut self.capture.meta
    }

    /// A process.
    pub fn process(&mut self, process: Process) -> ProcessId {
        ProcessId::at(place(&mut self.processes, &mut self.capture.processes, process))
    }

    /// A thread.
    pub fn thread(&mut self, thread: Thread) -> ThreadId {
        ThreadId::at(place(&mut self.threads, &mut self.capture.threads, thread))
    }

    /// A module.
    pub fn module(&mut self, module: Module) -> ModuleId {
        ModuleId::at(place(&mut self.modules, &mut self.capture.modules, module))
    }

    /// A frame.
    pub fn frame(&mut self, frame: Frame) -> FrameId {
        FrameId::at(place(&mut self.frames, &mut self.capture.frames, frame))
    }

    /// A location; without frames, its symbols are looked up later.
    pub fn location(&mut self, module: Option<ModuleId>, address: u64, frames: Vec<FrameId>) -> LocationId {
        let list = &mut self.capture.locations;
        let index = *self.locations.entry((module, address, frames)).or_insert_with_key(
            |(module, address, frames)| {
                list.push(Location { module: *module, address: *address, frames: frames.clone() });
                list.len() - 1
            },
        );
        LocationId::at(index)
    }

    /// A location that is a remark, as "[cut off]".
    pub fn remark(&mut self, text: &str, kind: Kind) -> LocationId {
        let frame = self.frame(Frame { function: text.to_owned(), kind, ..Frame::default() });
        self.location(None, 0, vec![frame])
    }

    /// A stack, innermost first.
    pub fn stack(&mut self, locations: Vec<LocationId>) -> StackId {
        StackId::at(place(&mut self.stacks, &mut self.capture.stacks, Stack(locations)))
    }

    /// A sample.
    pub fn sample(&mut self, sample: Sample) {
        self.capture.samples.push(sample);
    }

    /// Forgets the samples taken before that many nanoseconds after the beginning.
    pub fn forget_before(&mut self, nanos: u64) {
        self.capture.samples.retain(|sample| sample.at_nanos >= nanos);
    }

    /// What has been made so far.
    #[must_use]
    pub fn so_far(&self) -> &Capture {
        &self.capture
    }

    /// Names every address of a module that has no name yet.
    pub fn name(&mut self, module: ModuleId, symbols: &Symbols) {
        for location in self.capture.without_symbols().remove(&module).unwrap_or_default() {
            let address = self.capture.locations[location.index()].address;
            let named = symbols.frames(address);
            let innermost_of = named.len();
            let frames = named.into_iter().enumerate().map(|(index, named)| Frame {
                function: named.function,
                file: named.file,
                line: named.line,
                column: 0,
                module: Some(module),
                kind: Kind::Native,
                inlined: index + 1 < innermost_of,
            });
            let frames = frames.map(|frame| self.frame(frame)).collect();
            self.capture.locations[location.index()].frames = frames;
        }
    }

    /// Scripts that may have been made from others: files of frames whose column is known.
    #[must_use]
    pub fn scripts(&self) -> BTreeSet<&str> {
        let frames = self.capture.frames.iter().filter(|frame| frame.column > 0);
        frames.map(|frame| frame.file.as_str()).collect()
    }

    /// Names the functions of a script as they were written, in `folder`. Frames that come later are named by calling it again.
    pub fn map(&mut self, script: &str, map: &SourceMap, folder: &str) {
        for frame in self.capture.frames.iter_mut().filter(|frame| frame.column > 0 && frame.file == script) {
            let Some(original) = map.function(frame.line, frame.column, &frame.function) else { continue };
            frame.file = below(folder, &original.source);
            (frame.line, frame.column) = (original.line, 0);
            frame.function = original.name.unwrap_or_else(|| std::mem::take(&mut frame.function));
        }
    }

    /// Gives every address that still has no name a frame that says where it lies: nothing more will be known of it.
    pub fn settle(&mut self) {
        for index in 0..self.capture.locations.len() {
            if self.capture.locations[index].frames.is_empty() {
                let module = self.capture.locations[index].module;
                let frame = self.frame(Frame { module, ..Frame::default() });
                self.capture.locations[index].frames = vec![frame];
            }
        }
    }

    /// The capture, in which every address has a frame.
    #[must_use]
    pub fn finish(mut self) -> Capture {
        self.settle();
        self.capture
    }

    /// Adds another capture; its samples keep their distance in time. What both say alike stays, the rest is told.
    pub fn add(&mut self, other: &Capture) {
        let shift = self.merge_meta(other);
        let processes: Vec<_> = other.processes.iter().map(|process| self.process(process.clone())).collect();
        let threads: Vec<_> = other
            .threads
            .iter()
            .map(|thread| {
                self.thread(Thread { process: processes[thread.process.index()], ..thread.clone() })
            })
            .collect();
        let modules: Vec<_> = other.modules.iter().map(|module| self.module(module.clone())).collect();
        let module = |module: Option<ModuleId>| module.map(|one| modules[one.index()]);
        let frames: Vec<_> = other
            .frames
            .iter()
            .map(|frame| self.frame(Frame { module: module(frame.module), ..frame.clone() }))
            .collect();
        let mut locations = Vec::with_capacity(other.locations.len());
        for location in &other.locations {
            let named = location.frames.iter().map(|frame| frames[frame.index()]).collect();
            locations.push(self.location(module(location.module), location.address, named));
        }
        let mut stacks = Vec::with_capacity(other.stacks.len());
        for stack in &other.stacks {
            stacks.push(self.stack(stack.0.iter().map(|at| locations[at.index()]).collect()));
        }
        for sample in &other.samples {
            self.sample(Sample {
                stack: stacks[sample.stack.index()],
                thread: threads[sample.thread.index()],
                at_nanos: if sample.at_nanos > 0 { sample.at_nanos + shift } else { 0 },
                ..*sample
            });
        }
    }

    /// Returns by how much the other began later, in nanoseconds.
    fn merge_meta(&mut self, other: &Capture) -> u64 {
        let first = self.capture.samples.is_empty() && self.capture.meta == Meta::default();
        let meta = &mut self.capture.meta;
        if first {
            *meta = other.meta.clone();
            return 0;
        }
        let shift = match (meta.started_millis, other.meta.started_millis) {
            (0, _) | (_, 0) => 0,
            (ours, theirs) => theirs.saturating_sub(ours) * 1_000_000,
        };
        if meta.target != other.meta.target {
            meta.target = [meta.target.as_str(), &other.meta.target].join(" + ");
        }
        if meta.sampler != other.meta.sampler {
            meta.sampler = [meta.sampler.as_str(), &other.meta.sampler].join(" + ");
        }
        if meta.unit != other.meta.unit {
            meta.notes.push("the captures count in different units".to_owned());
        }
        meta.duration_nanos = meta.duration_nanos.max(other.meta.duration_nanos + shift);
        meta.lost += other.meta.lost;
        let cpu = meta.cpu_nanos + other.meta.cpu_nanos;
        if cpu > 0 {
            let taken = meta.achieved_rate * meta.cpu_nanos as f64;
            meta.achieved_rate =
                (taken + other.meta.achieved_rate * other.meta.cpu_nanos as f64) / cpu as f64;
        }
        meta.cpu_nanos = cpu;
        meta.pauses = match (meta.pauses, other.meta.pauses) {
            (Some(ours), Some(theirs)) => Some(ours.and(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        for note in &other.meta.notes {
            if !meta.notes.contains(note) {
                meta.notes.push(note.clone());
            }
        }
        shift
    }
}

/// A source as its map names it: an address, a path, or a path from the map's folder.
fn below(folder: &str, source: &str) -> String {
    if source.starts_with('/') || source.contains("://") {
        return source.to_owned();
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::example;

    #[test]
    fn a_capture_merged_with_itself_has_everything_once_and_twice_the_samples() {
        let one = example();
        let mut builder = Builder::new();
        builder.add(&one);
        builder.add(&one);
        let both = builder.finish();
        assert!(both.is_sound());
        assert_eq!((both.frames.len(), both.stacks.len()), (one.frames.len(), one.stacks.len()));
        assert_eq!(both.sample_count(), 2 * one.sample_count());
        assert_eq!(both.total_weight(), 2 * one.total_weight());
        assert_eq!(both.meta.lost, 2 * one.meta.lost);
        assert!((both.meta.achieved_rate - one.meta.achieved_rate).abs() < 1e-9);
    }

    #[test]
    fn captures_of_two_targets_keep_theirs_apart_and_their_distance_in_time() {
        let one = example();
        let mut other = example();
        other.meta.target = "docker/other".into();
        other.meta.started_millis += 2000;
        other.processes[0].target = "docker/other".into();
        let mut builder = Builder::new();
        builder.add(&one);
        builder.add(&other);
        let both = builder.finish();
        assert_eq!(both.meta.target, "docker/shop + docker/other");
        assert_eq!(both.processes.len(), 2);
        let last = both.samples.last().unwrap();
        assert_eq!(last.at_nanos, other.samples.last().unwrap().at_nanos + 2_000_000_000);
    }

    #[test]
    fn what_has_no_name_says_where_it_lies() {
        let mut builder = Builder::new();
        let module = builder.module(Module { path: "/lib/libc.so.6".into(), ..Module::default() });
        let known = builder.location(Some(module), 16, Vec::new());
        let unknown = builder.location(None, 16, Vec::new());
        let stack = builder.stack(vec![known, unknown]);
        let capture = builder.finish();
        let labels: Vec<_> = capture.frames_of(stack).map(|frame| capture.label(frame)).collect();
        assert_eq!(labels, ["[unknown]", "[libc.so.6]"]);
    }
}
