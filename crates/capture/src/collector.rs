//! From what an agent says of a look to a capture.

use std::collections::HashMap;

use pepo_wire::agent::{LookBatch, LookEnded, LookStarted, LookThread};

use crate::{
    Builder, Capture, Frame, Kind, LocationId, Meta, Module, ModuleId, Pauses, Process, Sample, StackId,
    Thread, ThreadId, Unit,
};

/// The most that is believed of one sample.
const MOST: u64 = 1 << 50;

/// A look being brought home.
#[derive(Debug, Default)]
pub struct Collector {
    builder: Builder,
    /// The agent's numbers, and ours.
    modules: HashMap<u32, ModuleId>,
    threads: HashMap<u32, ThreadId>,
    weight: u64,
    /// How many samples have come, those that were forgotten too.
    taken: u64,
    /// Does every stack begin with its thread?
    by_thread: bool,
}

impl Collector {
    /// Begins with what the agent said first; `meta` says what the agent does not know: target, time, who made it.
    #[must_use]
    pub fn new(started: &LookStarted, meta: Meta) -> Collector {
        let mut collector =
            Collector { weight: 1_000_000_000 / u64::from(started.rate.max(1)), ..Collector::default() };
        let sampler = match started.sampler.as_str() {
            "hold" if started.mode == "off-cpu" => "stacks read from memory".to_owned(),
            "hold" if started.mode == "wall" => "stacks read, of running threads held for it".to_owned(),
            "perf" => "CPU time by the kernel's timer".to_owned(),
            "hold" => "running threads, held for each sample".to_owned(),
            "python" => "frames of Python, read from memory".to_owned(),
            "ruby" => "frames of Ruby, read from memory".to_owned(),
            "node" => "frames of JavaScript, by V8's own profiler".to_owned(),
            "async-profiler" => "frames of Java, by async-profiler".to_owned(),
            "jfr" => "frames of Java, by the JVM's own recorder (JFR)".to_owned(),
            other => other.to_owned(),
        };
        let is_wall = matches!(started.sampler.as_str(), "python" | "ruby" | "node");
        let (unit, of) = match started.mode.as_str() {
            "alloc" => (Unit::Bytes, ", of memory that is allocated"),
            "lock" => (Unit::WallNanos, ", of time that threads wait for locks"),
            "off-cpu" => (Unit::WallNanos, ", of time that threads wait"),
            "wall" => (Unit::WallNanos, ", of time, whatever threads do"),
            _ if is_wall => (Unit::WallNanos, ""),
            _ => (Unit::CpuNanos, ""),
        };
        let sampler = sampler + of;
        *collector.builder.meta() =
            Meta { sampler, unit, rate: started.rate, notes: started.notes.clone(), ..meta };
        collector
    }

    /// Lets every stack begin with the thread it was seen in.
    #[must_use]
    pub fn by_thread(self, by_thread: bool) -> Collector {
        Collector { by_thread, ..self }
    }

    /// Number of samples so far.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.builder.so_far().samples.len()
    }

    /// Takes over a batch; what in it leads nowhere is left out.
    pub fn batch(&mut self, batch: &LookBatch) {
        for module in &batch.modules {
            let ours = Module { path: module.path.clone(), build_id: module.build_id.clone() };
            self.modules.insert(module.id, self.builder.module(ours));
        }
        for thread in &batch.threads {
            let ours = self.thread(thread);
            self.threads.insert(thread.id, ours);
        }
        let locations: Vec<LocationId> = batch.locations.iter().map(|at| self.location(at)).collect();
        let mut stacks = Vec::with_capacity(batch.stacks.len());
        for stack in &batch.stacks {
            let known = stack.locations.iter().filter_map(|index| locations.get(*index as usize).copied());
            stacks.push(self.builder.stack(known.collect()));
        }
        for sample in &batch.samples {
            let stack = stacks.get(sample.stack as usize).copied();
            let thread = self.threads.get(&sample.thread).copied();
            if let (Some(stack), Some(thread)) = (stack, thread) {
                let stack = if self.by_thread { self.below_thread(stack, thread) } else { stack };
                let (at_nanos, count) = (sample.at_nanos, sample.count.clamp(1, MOST));
                let usual = self.weight.saturating_mul(count);
                let weight = if sample.weight > 0 { sample.weight } else { usual }.min(MOST);
                self.taken += count;
                self.builder.sample(Sample { stack, thread, at_nanos, count, weight });
            }
        }
        self.builder.meta().lost += batch.lost;
        self.builder.meta().duration_nanos = batch.until_nanos;
        self.spent(batch.cpu_nanos, batch.rounds, self.taken);
    }

    /// Takes over what the target has used, and so how many samples of its time were taken: where all threads are looked at once in
    /// each round, of the time on the wall; else of the time that the target used.
    fn spent(&mut self, cpu_nanos: u64, rounds: u64, samples: u64) {
        let meta = self.builder.meta();
        meta.cpu_nanos = cpu_nanos;
        let (taken, of) = if rounds > 0 { (rounds, meta.duration_nanos) } else { (samples, cpu_nanos) };
        // Samples of other things than time that threads run do not go by it.
        if of > 0 && (rounds > 0 || meta.unit == Unit::CpuNanos) {
            meta.achieved_rate = taken as f64 * 1e9 / of as f64;
        }
    }

    fn below_thread(&mut self, stack: StackId, thread: ThreadId) -> StackId {
        let capture = self.builder.so_far();
        let mut locations = capture.stacks[stack.index()].0.clone();
        let name = capture.threads.get(thread.index()).map(|one| format!("{} ({})", one.name, one.tid));
        let name = name.unwrap_or_default();
        locations.push(self.builder.remark(&name, Kind::Remark));
        self.builder.stack(locations)
    }

    fn thread(&mut self, thread: &LookThread) -> ThreadId {
        let name = thread.process_name.clone();
        let process =
            self.builder.process(Process { pid: thread.container_pid, name, target: String::new() });
        self.builder.thread(Thread { process, tid: thread.container_tid, name: thread.name.clone() })
    }

    fn location(&mut self, at: &pepo_wire::agent::LookLocation) -> LocationId {
        if !at.remark.is_empty() {
            let kind = if at.remark == "[kernel]" { Kind::Kernel } else { Kind::Remark };
            return self.builder.remark(&at.remark, kind);
        }
        if !at.function.is_empty() {
            let (function, file) = (at.function.clone(), at.file.clone());
            let (line, column, kind) = (at.line, at.column, Kind::Managed);
            let frame = Frame { function, file, line, column, kind, ..Frame::default() };
            let frame = self.builder.frame(frame);
            return self.builder.location(None, 0, vec![frame]);
        }
        self.builder.location(self.modules.get(&at.module).copied(), at.address, Vec::new())
    }

    /// Takes over what the agent said last.
    pub fn ended(&mut self, ended: &LookEnded) {
        let meta = self.builder.meta();
        meta.duration_nanos = ended.duration_nanos;
        meta.lost = ended.lost;
        meta.pauses = (ended.held > 0).then_some(Pauses {
            count: ended.held,
            longest_nanos: ended.longest_hold_nanos,
            total_nanos: ended.total_hold_nanos,
        });
        for note in &ended.notes {
            if !meta.notes.contains(note) {
                meta.notes.push(note.clone());
            }
        }
        if let Some(failure) = &ended.failure {
            meta.notes.push(format!("ended early: {failure}"));
        }
        self.spent(ended.cpu_nanos, ended.rounds, ended.samples);
    }

    /// What is being made: to note something, or to name addresses.
    pub fn builder(&mut self) -> &mut Builder {
        &mut self.builder
    }

    /// The capture.
    #[must_use]
    pub fn finish(self) -> Capture {
        self.builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::agent::{LookLocation, LookModule, LookSample, LookStack};

    use super::*;

    #[test]
    fn what_an_agent_says_becomes_a_capture_and_what_leads_nowhere_is_left_out() {
        let started = LookStarted { sampler: "perf".into(), rate: 100, ..LookStarted::default() };
        let mut collector =
            Collector::new(&started, Meta { target: "docker/shop".into(), ..Meta::default() });
        let thread = LookThread { id: 1, container_tid: 9, container_pid: 7, ..LookThread::default() };
        let at = |module, address, remark: &str| LookLocation {
            module,
            address,
            remark: remark.into(),
            ..LookLocation::default()
        };
        let batch = LookBatch {
            modules: vec![LookModule { id: 1, path: "/app/shop".into(), build_id: "ab".into() }],
            threads: vec![thread],
            locations: vec![at(1, 0x10, ""), at(0, 0x7f00, ""), at(0, 0, "[kernel]")],
            stacks: vec![LookStack { locations: vec![2, 0, 1, 99] }],
            samples: vec![
                LookSample { stack: 0, thread: 1, at_nanos: 5, ..LookSample::default() },
                LookSample { stack: 9, thread: 1, at_nanos: 6, ..LookSample::default() },
                LookSample { stack: 0, thread: 9, at_nanos: 7, ..LookSample::default() },
            ],
            lost: 3,
            until_nanos: 10,
            ..LookBatch::default()
        };
        collector.batch(&batch);
        let ended =
            LookEnded { samples: 50, cpu_nanos: 1_000_000_000, lost: 3, held: 2, ..LookEnded::default() };
        collector.ended(&ended);
        let capture = collector.finish();
        assert!(capture.is_sound());
        assert_eq!((capture.sample_count(), capture.total_weight()), (1, 10_000_000));
        let labels: Vec<_> =
            capture.frames_of(capture.samples[0].stack).map(|frame| capture.label(frame)).collect();
        assert_eq!(labels, ["[unknown]", "[shop]", "[kernel]"]);
        assert_eq!((capture.meta.achieved_rate, capture.meta.pauses.unwrap().count), (50.0, 2));
    }

    #[test]
    fn frames_of_python_have_names_of_their_own_count_time_and_may_begin_with_their_thread() {
        let started = LookStarted { sampler: "python".into(), rate: 100, ..LookStarted::default() };
        let mut collector = Collector::new(&started, Meta::default()).by_thread(true);
        let at = LookLocation {
            function: "Shop.price".into(),
            file: "/app/shop.py".into(),
            line: 7,
            ..LookLocation::default()
        };
        let batch = LookBatch {
            threads: vec![LookThread {
                id: 1,
                container_tid: 9,
                name: "worker".into(),
                ..LookThread::default()
            }],
            locations: vec![at],
            stacks: vec![LookStack { locations: vec![0] }],
            samples: vec![LookSample { stack: 0, thread: 1, at_nanos: 5, ..LookSample::default() }; 3],
            until_nanos: 500_000_000,
            cpu_nanos: 100,
            rounds: 49,
            ..LookBatch::default()
        };
        collector.batch(&batch);
        // Known before the end.
        assert_eq!(collector.builder().so_far().meta.achieved_rate, 98.0);
        let capture = collector.finish();
        assert_eq!((capture.meta.unit, capture.total_weight()), (Unit::WallNanos, 30_000_000));
        let frames = capture.frames_of(capture.samples[0].stack);
        let labels: Vec<_> = frames.map(|frame| capture.label(frame)).collect();
        assert_eq!(labels, ["worker (9)", "Shop.price"]);
        let frame = capture.frames.iter().find(|frame| frame.kind == Kind::Managed).unwrap();
        assert_eq!((frame.file.as_str(), frame.line), ("/app/shop.py", 7));
    }
}
