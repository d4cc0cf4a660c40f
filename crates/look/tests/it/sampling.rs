//! Recordings of Python programs, with every interpreter of this machine, at work with known shares and with calls as short as can be.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use pepo_process::Process;
use pepo_testkit::{
    Language, Life as _, Python, Running, Variant, clean::Snapshot, fixtures, pythons, spawn,
};
use pepo_wire::agent::{LookBatch, LookEnded, LookStarted, StartLook, look_event::Kind};

use crate::python::{Source, Told, fixture, hot, open};

/// As many as the known shares need to be seen.
const SAMPLES: u64 = 1200;

/// All that a recording said.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) started: LookStarted,
    pub(crate) ended: LookEnded,
    /// With how often each was seen, or what it weighs.
    pub(crate) chains: HashMap<Vec<Told>, u64>,
    /// Names of threads, by number; and the processes.
    pub(crate) threads: HashMap<u32, String>,
    processes: HashSet<u32>,
}

/// Records until there is enough; a busy machine takes longer for it.
pub(crate) fn record(target: &Running, request: StartLook, enough: impl Fn(u64) -> bool + Sync) -> Recorded {
    record_process(&open(target), request, enough)
}

pub(crate) fn record_process(
    process: &Process,
    request: StartLook,
    enough: impl Fn(u64) -> bool + Sync,
) -> Recorded {
    let request = StartLook { duration_millis: 120_000, ..request };
    let (mut recorded, seen) = (Recorded::default(), AtomicU64::new(0));
    let enough = || enough(seen.load(Ordering::Relaxed));
    pepo_look::record(process, &request, &enough, &mut |event| {
        match event.kind.unwrap() {
            Kind::Started(started) => recorded.started = started,
            Kind::Batch(batch) => {
                seen.fetch_add(batch.samples.iter().map(|one| one.count.max(1)).sum(), Ordering::Relaxed);
                recorded.take(&batch);
            }
            Kind::Ended(ended) => recorded.ended = ended,
        }
        true
    })
    .unwrap();
    recorded
}

impl Recorded {
    fn take(&mut self, batch: &LookBatch) {
        for thread in &batch.threads {
            self.threads.insert(thread.agent_tid, thread.name.clone());
            self.processes.insert(thread.agent_pid);
        }
        for sample in &batch.samples {
            let stack = &batch.stacks[sample.stack as usize].locations;
            let told = stack.iter().map(|index| {
                let at = &batch.locations[*index as usize];
                let name = if at.remark.is_empty() { &at.function } else { &at.remark };
                Told { function: name.clone(), file: at.file.clone(), line: at.line }
            });
            let weight = if sample.weight > 0 { sample.weight } else { sample.count.max(1) };
            *self.chains.entry(told.collect()).or_default() += weight;
        }
    }

    /// Share of the samples in which this function was passed.
    pub(crate) fn share(&self, function: &str) -> f64 {
        let passes =
            |chain: &[Told]| chain.iter().any(|one| one.function.rsplit('.').next() == Some(function));
        let passing: u64 =
            self.chains.iter().filter(|(chain, _)| passes(chain)).map(|(_, count)| count).sum();
        passing as f64 / self.chains.values().sum::<u64>() as f64
    }

    /// Within twelve points of a hundred: on a busy machine a program stands still for milliseconds, and several samples show one place.
    fn assert_known_shares(&self, python: &Python) {
        for (function, known, tolerance) in [("hot", 0.6, 0.12), ("warm", 0.3, 0.12), ("cool", 0.1, 0.07)] {
            let found = self.share(function);
            assert!((found - known).abs() < tolerance, "{python:?}: {function} {found} in {:?}", self.ended);
        }
    }

    fn assert_possible(&self, source: &Source, python: &Python) {
        for (chain, count) in &self.chains {
            source.check(chain).unwrap_or_else(|why| panic!("{python:?}: {count} times {why}: {chain:#?}"));
        }
    }

    /// Less than one of a thousand is impossible: a machine that is too busy interrupts a copy in the middle without being noticed.
    fn assert_nearly_all_possible(&self, source: &Source, python: &Python) {
        let wrong = |chain: &[Told]| source.check(chain).err();
        let found: Vec<_> =
            self.chains.iter().filter_map(|(chain, count)| Some((wrong(chain)?, chain, count))).collect();
        let impossible: u64 = found.iter().map(|(.., count)| **count).sum();
        assert!(impossible * 1000 < self.ended.samples, "{python:?}: {found:#?}");
    }
}

fn python_at(rate: u32) -> StartLook {
    StartLook { rate, ..StartLook::default() }
}

#[test]
fn every_version_shows_its_known_shares_whole_chains_and_is_not_held() {
    for python in pythons() {
        let (fixture, target) = hot(&python, "steady");
        let before = Snapshot::take(target.pid());
        let ticks = || target.last_beat().map_or(0, |beat| beat.ticks);
        let begun = ticks();
        // A program that is seldom let run shows the same place again and again: so much it must have done.
        let recorded =
            record(&target, python_at(997), |samples| samples >= SAMPLES && ticks() >= begun + 500);
        assert_eq!((recorded.started.sampler.as_str(), recorded.ended.held), ("python", 0));
        recorded.assert_known_shares(&python);
        recorded.assert_possible(&Source::of(&fixture), &python);
        assert!(recorded.chains.keys().all(|chain| chain.len() >= 3), "{:?}", recorded.chains.keys());
        // Rounds at the rate that was asked for are the most there can be.
        let seconds = recorded.ended.duration_nanos as f64 / 1e9;
        let rounds = recorded.ended.rounds as f64;
        assert!(rounds > 0.0 && rounds < seconds * 997.0 * 1.01 + 10.0, "{rounds} in {seconds} s");
        target.assert_goes_on();
        before.assert_same();
    }
}

#[test]
fn of_calls_as_short_as_can_be_every_chain_is_possible_and_most_are_seen() {
    for python in pythons() {
        let (fixture, target) = hot(&python, "calls");
        let recorded = record(&target, python_at(5000), |samples| samples >= 4000);
        recorded.assert_nearly_all_possible(&Source::of(&fixture), &python);
        let LookEnded { samples, lost, .. } = recorded.ended;
        assert!(lost < samples / 2, "{python:?}: {lost} lost, {samples} seen");
        assert!(recorded.share("call_for_ever") > 0.9, "{python:?}");
        target.assert_goes_on();
    }
}

#[test]
fn threads_that_wait_are_seen_when_they_are_wanted_and_only_the_one_with_the_lock_when_that_is() {
    for python in pythons() {
        let (fixture, target) = hot(&python, "threads");
        let source = Source::of(&fixture);
        let all = record(&target, StartLook { idle: true, ..python_at(99) }, |samples| samples >= 1000);
        all.assert_possible(&source, &python);
        let names: HashSet<&str> = all.threads.values().map(String::as_str).collect();
        assert!(names.len() == 23 && names.contains("idle-7") && names.contains("beat"), "{names:?}");
        assert!((all.share("idle_for_ever") - 20.0 / 23.0).abs() < 0.03, "{python:?}");
        let running = record(&target, python_at(499), |samples| samples >= 300);
        assert_eq!(running.share("idle_for_ever"), 0.0, "{python:?}");
        let waiting = StartLook { mode: "off-cpu".to_owned(), ..python_at(99) };
        let waiting = record(&target, waiting, |samples| samples >= 1000);
        assert_eq!(waiting.started.mode, "off-cpu");
        assert!(waiting.share("idle_for_ever") > 0.8, "{python:?}: {}", waiting.share("idle_for_ever"));
        let holder = StartLook { lock_holder: true, ..python_at(499) };
        let holder = record(&target, holder, |samples| samples >= 300);
        assert_eq!(holder.share("idle_for_ever"), 0.0, "{python:?}");
        // Only one holds it at a time.
        assert!(holder.ended.samples <= holder.ended.rounds, "{:?}", holder.ended);
        assert!(["MainThread", "worker"].iter().all(|name| holder.threads.values().any(|one| one == name)));
        target.assert_goes_on();
    }
}

#[test]
fn children_are_followed_when_they_are_wanted() {
    let python = Python::of_the_system();
    let (_, target) = hot(&python, "fork");
    let pid = target.pid();
    let alone = record(&target, StartLook { idle: true, ..python_at(199) }, |samples| samples >= 200);
    assert_eq!(alone.processes, HashSet::from([pid]));
    let request = StartLook { subprocesses: true, idle: true, ..python_at(199) };
    let family = record(&target, request, |samples| samples >= 2000);
    // Only children work; how much of it is seen depends on how soon each is found.
    assert!(family.processes.len() > 2 && family.share("work") > 0.0, "{:?}", family.processes);
    target.assert_goes_on();
}

#[test]
fn joined_with_native_frames_running_threads_are_held_and_it_is_owned_up_to() {
    for python in pythons() {
        let (fixture, target) = hot(&python, "native");
        let before = Snapshot::take(target.pid());
        let request = StartLook { native: true, ..python_at(49) };
        let recorded = record(&target, request, |samples| samples >= 60);
        assert!(recorded.ended.held >= 60 && recorded.ended.longest_hold_nanos > 0, "{:?}", recorded.ended);
        let source = Source::of(&fixture);
        let mut joined = 0;
        for (chain, count) in &recorded.chains {
            let of_python: Vec<Told> = chain.iter().filter(|one| !one.file.is_empty()).cloned().collect();
            if of_python.is_empty() {
                continue;
            }
            source.check(&of_python).unwrap_or_else(|why| panic!("{python:?}: {why}: {chain:#?}"));
            // What has no file of its own is native, named later: `pack` calls it, and something calls the first of Python.
            let at_ends = chain[0].file.is_empty() && chain[chain.len() - 1].file.is_empty();
            let known = chain.iter().all(|one| !one.function.starts_with("[native"));
            joined += if at_ends && known { *count } else { 0 };
        }
        assert!(joined * 2 > recorded.ended.samples, "{python:?}: {joined} of {}", recorded.ended.samples);
        target.assert_goes_on();
        before.assert_same();
    }
}

#[test]
fn a_deep_recursion_keeps_its_shares_and_its_innermost_frames() {
    for python in pythons() {
        let (_, target) = hot(&python, "deep");
        let recorded = record(&target, python_at(199), |samples| samples >= 400);
        // Before 3.11 each frame lies elsewhere, so that a long function is copied whole more often than a short one.
        let tolerance = if python.version < (3, 11) { 0.35 } else { 0.2 };
        // Of those at work: the calls on the way are there as well.
        for (function, known) in [("hot", 0.6), ("warm", 0.3), ("cool", 0.1)] {
            let share = recorded.share(function) / recorded.share("work");
            assert!((share - known).abs() < tolerance, "{python:?}: {function} {share}");
        }
        target.assert_goes_on();
    }
}

#[test]
fn a_program_that_becomes_another_is_followed_and_one_that_ends_leaves_what_was_seen() {
    let python = Python::of_the_system();
    let target = spawn(&fixture(&python), &["exec"]);
    target.wait_for_line("first program", Duration::from_secs(20));
    let recorded = record(&target, python_at(499), |_| target.last_beat().is_some_and(|beat| beat.beat > 10));
    recorded.assert_known_shares(&python);
    assert_eq!(recorded.processes.len(), 1);
    let target = spawn(&fixture(&python), &["short"]);
    // The interpreter may not have begun yet.
    let request = StartLook { sampler: "python".into(), ..python_at(997) };
    pepo_testkit::wait::until("an interpreter", Duration::from_secs(20), || {
        let process = open(&target);
        let runs = pepo_process::runtime::detect(&process).python.is_some();
        if runs { Ok(()) } else { Err("none yet".to_owned()) }
    });
    let recorded = record(&target, request, |_| false);
    assert_eq!(recorded.ended.reason, "target exited");
    // Of less than a second, in which a busy machine lets it stand for long.
    let [hot, warm, cool] = ["hot", "warm", "cool"].map(|function| recorded.share(function));
    assert!(hot > warm && warm > cool && cool > 0.0, "{hot} {warm} {cool} in {:?}", recorded.ended);
    assert!(!target.is_alive());
}

#[test]
fn what_is_only_known_of_python_is_one_clear_error_elsewhere() {
    let target = spawn(&fixtures::build(Language::C, "hot", Variant::release()), &["steady"]);
    let process = open(&target);
    for request in [
        StartLook { idle: true, ..StartLook::default() },
        StartLook { lock_holder: true, ..StartLook::default() },
        StartLook { sampler: "python".into(), ..StartLook::default() },
    ] {
        let error = pepo_look::record(&process, &request, &|| false, &mut |_| true).unwrap_err();
        assert_eq!(error.code(), pepo_wire::Code::NotOffered);
    }
    target.assert_goes_on();
}
