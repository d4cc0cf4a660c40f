//! The Firefox Profiler's processed profile, made by a crate of its own people, and read whoever made it.

/// Read again.
mod reader;

use std::time::{Duration, SystemTime};

use fxprof_processed_profile::{
    CategoryColor, CategoryPairHandle, CpuDelta, Frame, FrameFlags, FrameInfo, Profile, ReferenceTimestamp,
    SamplingInterval, ThreadHandle, Timestamp, WeightType,
};

pub(super) use self::reader::{is, read};
use crate::{Capture, FrameId, Kind, Sample, Unit};

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    let meta = &capture.meta;
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(meta.started_millis);
    let interval = SamplingInterval::from_hz(if meta.rate == 0 { 1000.0 } else { meta.rate as f32 });
    let mut profile = Profile::new(&capture.summary(), ReferenceTimestamp::from(started), interval);
    profile.set_symbolicated(true);
    let categories = categories(&mut profile);
    let threads = threads(&mut profile, capture);
    let weighed_by = if capture.weighs_alike() {
        WeightType::Samples
    } else if meta.unit == Unit::Bytes {
        WeightType::Bytes
    } else {
        WeightType::TracingMs
    };
    for thread in &threads {
        profile.set_thread_samples_weight_type(*thread, weighed_by.clone());
    }
    let unknown = Frame::Label(profile.intern_string("[unknown]"));
    let mut labels: Vec<_> = Vec::with_capacity(capture.frames.len());
    for index in 0..capture.frames.len() {
        let label = profile.intern_string(&capture.label(FrameId::at(index)));
        labels.push((Frame::Label(label), categories(capture.frames[index].kind)));
    }
    let mut ordered: Vec<(usize, &Sample)> = capture.samples.iter().enumerate().collect();
    ordered.sort_by_key(|(_, sample)| sample.at_nanos);
    for (index, sample) in ordered {
        let Some(thread) = threads.get(sample.thread.index()).copied() else { continue };
        let shown = |(frame, category_pair)| FrameInfo { frame, category_pair, flags: FrameFlags::empty() };
        let mut frames: Vec<_> =
            capture.frames_of(sample.stack).map(|frame| shown(labels[frame.index()].clone())).collect();
        // A sample without a stack would be one of an idle thread.
        if frames.is_empty() {
            frames.push(shown((unknown.clone(), categories(Kind::Remark))));
        }
        let stack = profile.intern_stack_frames(thread, frames.into_iter());
        // Captures without times still have an order.
        let at = if sample.at_nanos > 0 { sample.at_nanos } else { index as u64 * 1_000_000 };
        let cpu =
            if meta.unit == Unit::CpuNanos { CpuDelta::from_nanos(sample.weight) } else { CpuDelta::ZERO };
        let weight = match weighed_by {
            WeightType::Samples => sample.count,
            WeightType::Bytes => sample.weight,
            WeightType::TracingMs => sample.weight.div_ceil(1_000_000),
        };
        let weight = i32::try_from(weight).unwrap_or(i32::MAX);
        profile.add_sample(thread, Timestamp::from_nanos_since_reference(at), stack, cpu, weight);
    }
    serde_json::to_vec(&profile).unwrap_or_default()
}

/// The categories, chosen by the kind of code.
fn categories(profile: &mut Profile) -> impl Fn(Kind) -> CategoryPairHandle + use<> {
    let mut make = |name, color| CategoryPairHandle::from(profile.add_category(name, color));
    let native = make("Native", CategoryColor::Blue);
    let kernel = make("Kernel", CategoryColor::Orange);
    let managed = make("Managed", CategoryColor::Green);
    let remark = make("Remark", CategoryColor::Gray);
    move |kind| match kind {
        Kind::Native => native,
        Kind::Kernel => kernel,
        Kind::Managed => managed,
        Kind::Remark => remark,
    }
}

fn threads(profile: &mut Profile, capture: &Capture) -> Vec<ThreadHandle> {
    let start = Timestamp::from_nanos_since_reference(0);
    let processes: Vec<_> = capture
        .processes
        .iter()
        .map(|process| {
            let name = format!("{} {}", process.target, process.name);
            profile.add_process(name.trim_start(), process.pid, start)
        })
        .collect();
    let mut threads = Vec::new();
    for thread in &capture.threads {
        let Some(process) = processes.get(thread.process.index()) else { continue };
        // The main thread is called as its process is, whatever its name.
        let process_is = &capture.processes[thread.process.index()];
        let main = process_is.pid == thread.tid && process_is.name == thread.name;
        let handle = profile.add_thread(*process, thread.tid, start, main);
        profile.set_thread_name(handle, &thread.name);
        threads.push(handle);
    }
    threads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::example;

    #[test]
    fn the_profile_has_the_threads_and_all_the_samples() {
        let value: serde_json::Value = serde_json::from_slice(&write(&example())).unwrap();
        assert_eq!(
            value["meta"]["preprocessedProfileVersion"].as_u64().map(|version| version > 40),
            Some(true)
        );
        let threads = value["threads"].as_array().unwrap();
        let mut told: Vec<_> = threads
            .iter()
            .map(|one| (one["name"].as_str().unwrap(), one["samples"]["length"].as_u64().unwrap()))
            .collect();
        told.sort_unstable();
        assert_eq!(told, [("shop", 7), ("worker", 3)]);
        assert!(value.to_string().contains("warm<int"));
    }
}
