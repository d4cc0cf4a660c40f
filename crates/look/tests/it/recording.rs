//! Recordings of programs that spend 60, 30 and 10 parts of a hundred of their time in three functions. What they are called is
//! looked up here by addresses of the program's own symbol table.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use object::{Object as _, ObjectSymbol as _};
use pepo_process::{AgentPid, Process};
use pepo_testkit::{
    Fixture, Language, Life as _, Running, Symbols, Variant, clean::Snapshot, fixtures, spawn,
};
use pepo_wire::agent::{LookBatch, LookEnded, LookStarted, StartLook, look_event::Kind};

/// As many as the known shares need to be seen.
const SAMPLES: u64 = 900;

/// All that a recording said.
#[derive(Default)]
struct Told {
    started: LookStarted,
    batches: Vec<LookBatch>,
    ended: LookEnded,
}

fn fixture(language: Language, variant: Variant) -> Fixture {
    fixtures::build(language, "hot", variant)
}

/// Records until there are so many samples; a busy machine takes longer for them.
fn record(target: &Running, sampler: &str, samples: u64) -> Told {
    record_of(target, sampler, "", samples)
}

/// The same, of something else than usual.
fn record_of(target: &Running, sampler: &str, mode: &str, samples: u64) -> Told {
    let request = StartLook {
        rate: 997,
        duration_millis: 60_000,
        sampler: sampler.into(),
        mode: mode.into(),
        ..StartLook::default()
    };
    let process = Process::open(AgentPid::new(target.pid()).unwrap()).unwrap();
    let (mut told, seen) = (Told::default(), AtomicU64::new(0));
    pepo_look::record(&process, &request, &|| seen.load(Ordering::Relaxed) >= samples, &mut |event| {
        match event.kind.unwrap() {
            Kind::Started(started) => told.started = started,
            Kind::Batch(batch) => {
                seen.fetch_add(batch.samples.len() as u64, Ordering::Relaxed);
                told.batches.push(batch);
            }
            Kind::Ended(ended) => told.ended = ended,
        }
        true
    })
    .unwrap();
    told
}

/// What is known of a program: its functions, by address.
struct Names(Vec<(u64, u64, String)>);

impl Names {
    fn of(fixture: &Fixture) -> Names {
        let bytes = std::fs::read(&fixture.path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let name =
            |one: &object::Symbol<'_, '_>| format!("{:#}", rustc_demangle::demangle(one.name().unwrap()));
        let mut all: Vec<_> = file.symbols().map(|one| (one.address(), one.size(), name(&one))).collect();
        all.retain(|(_, size, _)| *size > 0);
        all.sort();
        Names(all)
    }

    fn at(&self, address: u64) -> &str {
        let found = self.0.iter().rfind(|(start, size, _)| (*start..start + size).contains(&address));
        let name = found.map_or("?", |(.., name)| name.as_str());
        name.rsplit(['.', ':']).next().unwrap()
    }
}

/// Call chains as words, outermost first, with how often each was seen.
fn chains(told: &Told, names: &Names, program: &str) -> HashMap<Vec<String>, u64> {
    let mut modules = HashMap::new();
    let mut chains = HashMap::new();
    for batch in &told.batches {
        modules.extend(batch.modules.iter().map(|one| (one.id, one.path.clone())));
        for sample in &batch.samples {
            let stack = &batch.stacks[sample.stack as usize].locations;
            let word = |index: &u32| {
                let at = &batch.locations[*index as usize];
                let ours = modules.get(&at.module).is_some_and(|path| path.ends_with(program));
                if ours { names.at(at.address).to_owned() } else { at.remark.clone() }
            };
            *chains.entry(stack.iter().rev().map(word).collect()).or_default() += 1;
        }
    }
    chains
}

/// Shares of the samples that passed these functions.
fn shares(chains: &HashMap<Vec<String>, u64>, functions: &[&str]) -> Vec<f64> {
    let whole: u64 = chains.values().sum();
    let part = |function: &&str| {
        let passing = chains.iter().filter(|(chain, _)| chain.iter().any(|one| one == function));
        passing.map(|(_, count)| *count).sum::<u64>() as f64 / whole as f64
    };
    functions.iter().map(part).collect()
}

/// Within six points of a hundred: four standard deviations of the largest share are that far with 900 samples.
fn assert_known_shares(chains: &HashMap<Vec<String>, u64>) {
    let found = shares(chains, &["hot", "warm", "cool"]);
    let right = found.iter().zip([0.6, 0.3, 0.1]).all(|(found, known)| (found - known).abs() < 0.06);
    assert!(right, "{found:?} in {} samples", chains.values().sum::<u64>());
}

/// No chain that the program cannot have: whatever is hot was called by work, and that by its caller.
fn assert_possible(chains: &HashMap<Vec<String>, u64>, above: &str) {
    for (chain, count) in chains {
        if let Some(index) = chain.iter().position(|one| ["hot", "warm", "cool"].contains(&one.as_str())) {
            let callers = &chain[index.saturating_sub(2)..index];
            assert_eq!(callers, [above, "work"], "{count} times {chain:?}");
        }
    }
}

/// A virtual machine that waits for its own processor misses some; more than were asked for there can't be.
fn assert_samples_of_the_time(told: &Told) {
    let asked = told.ended.cpu_nanos as f64 / 1e9 * f64::from(told.started.rate);
    let taken = (told.ended.samples + told.ended.lost) as f64;
    assert!(taken > 0.6 * asked && taken < 1.05 * asked + 10.0, "{taken} of {asked}");
    let counted: usize = told.batches.iter().map(|batch| batch.samples.len()).sum();
    assert_eq!((told.ended.held, counted as u64), (0, told.ended.samples));
}

#[test]
fn programs_of_c_rust_and_go_show_their_known_shares_whole_chains_and_no_impossible_one() {
    let c = fixture(Language::C, Variant::release());
    let rust = fixture(Language::Rust, Variant::release());
    let go = fixture(Language::Go, Variant::release());
    for (fixture, above) in [(c, "work_for_ever"), (rust, "main"), (go, "main")] {
        let target = spawn(&fixture, &[]);
        target.wait_started();
        let before = Snapshot::take(target.pid());
        let told = record(&target, "perf", SAMPLES);
        let chains = chains(&told, &Names::of(&fixture), "/hot");
        assert_eq!((told.started.sampler.as_str(), told.ended.reason.as_str()), ("perf", "stopped"));
        assert_samples_of_the_time(&told);
        assert_known_shares(&chains);
        // In C the caller may itself be compiled into main.
        let above = if fixture.language == Language::C { c_caller(&chains) } else { above };
        assert_possible(&chains, above);
        target.assert_goes_on();
        before.assert_same();
    }
}

fn c_caller(chains: &HashMap<Vec<String>, u64>) -> &'static str {
    let inlined = !chains.keys().any(|chain| chain.iter().any(|one| one == "work_for_ever"));
    if inlined { "main" } else { "work_for_ever" }
}

#[test]
fn stripped_programs_are_unwound_as_well() {
    for language in [Language::C, Language::Go] {
        let whole = fixture(language, Variant::release());
        let stripped = fixture(language, Variant::release().symbols(Symbols::Stripped));
        let target = spawn(&stripped, &[]);
        target.wait_started();
        let told = record(&target, "perf", SAMPLES);
        // Go's linker places what it strips a little differently, so only depth is compared there.
        if language == Language::C {
            assert_known_shares(&chains(&told, &Names::of(&whole), "/hot"));
        }
        let depth = |batch: &LookBatch| batch.stacks.iter().map(|one| one.locations.len()).max();
        let deepest = told.batches.iter().filter_map(depth).max().unwrap();
        assert!(deepest >= 4, "{deepest}");
    }
}

#[test]
fn where_perf_is_not_used_running_threads_are_held_and_it_is_owned_up_to() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &[]);
    target.wait_started();
    let before = Snapshot::take(target.pid());
    let told = record(&target, "hold", 200);
    assert_eq!((told.started.sampler.as_str(), told.started.rate), ("hold", 49));
    assert!(told.ended.held >= 200 && told.ended.longest_hold_nanos > 0, "{:?}", told.ended);
    assert!(told.ended.total_hold_nanos >= told.ended.longest_hold_nanos);
    let chains = chains(&told, &Names::of(&fixture), "/hot");
    let found = shares(&chains, &["hot", "warm", "cool"]);
    // 200 samples: within four standard deviations.
    assert!((found[0] - 0.6).abs() < 0.14 && (found[2] - 0.1).abs() < 0.085, "{found:?}");
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn a_recursion_of_ten_thousand_calls_is_cut_off_and_says_so() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &["deep"]);
    target.wait_started();
    let told = record(&target, "perf", SAMPLES);
    let chains = chains(&told, &Names::of(&fixture), "/hot");
    assert_known_shares(&chains);
    // On the way there and back the stack is short; at work it is as deep as it gets.
    let deep: Vec<_> = chains.keys().filter(|chain| chain.iter().any(|one| one == "work")).collect();
    assert!(!deep.is_empty() && deep.iter().all(|chain| chain[0] == "[cut off]"));
    target.assert_goes_on();
}

#[test]
fn one_working_thread_among_two_thousand_is_found() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &["threads"]);
    target.wait_started();
    let told = record(&target, "perf", SAMPLES);
    assert_known_shares(&chains(&told, &Names::of(&fixture), "/hot"));
    assert_samples_of_the_time(&told);
    target.assert_goes_on();
}

#[test]
fn one_working_thread_among_two_thousand_is_held_and_no_other() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &["threads"]);
    target.wait_started();
    let told = record(&target, "hold", 20);
    let chains = chains(&told, &Names::of(&fixture), "/hot");
    let [idle] = shares(&chains, &["idle_for_ever"])[..] else { panic!("one share") };
    assert!(told.ended.held >= 20 && idle == 0.0, "{idle} of {:?}", told.ended);
    target.assert_goes_on();
}

#[test]
fn threads_that_wait_are_read_without_being_touched() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &["threads"]);
    target.wait_started();
    let told = record_of(&target, "", "off-cpu", 6000);
    assert_eq!((told.started.mode.as_str(), told.ended.held), ("off-cpu", 0), "{:?}", told.ended);
    let [idle, work] = shares(&chains(&told, &Names::of(&fixture), "/hot"), &["idle_for_ever", "work"])[..]
    else {
        panic!("two shares")
    };
    assert!(idle > 0.99 && work == 0.0, "{idle} {work}");
    let told = record_of(&target, "", "wall", 10_000);
    let chains = chains(&told, &Names::of(&fixture), "/hot");
    let [idle, work] = shares(&chains, &["idle_for_ever", "work"])[..] else { panic!("two shares") };
    assert!(idle > 0.99 && work > 0.0 && told.ended.held > 0, "{idle} {work} {:?}", told.ended);
    target.assert_goes_on();
}

#[test]
fn what_there_is_not_for_a_language_is_one_clear_error() {
    for (language, mode) in [(Language::C, "alloc"), (Language::Go, "off-cpu")] {
        let target = spawn(&fixture(language, Variant::release()), &[]);
        let process = Process::open(AgentPid::new(target.pid()).unwrap()).unwrap();
        let request = StartLook { mode: mode.into(), ..StartLook::default() };
        let refused = pepo_look::record(&process, &request, &|| true, &mut |_| true).unwrap_err();
        assert_eq!(refused.code(), pepo_wire::Code::NotOffered, "{refused:?}");
        assert!(refused.why.iter().any(|why| why.contains("`--cpu`")), "{refused:?}");
        target.assert_goes_on();
    }
}

#[test]
fn children_and_threads_that_are_born_meanwhile_are_followed() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &["fork"]);
    target.wait_started();
    let told = record(&target, "perf", SAMPLES);
    assert_known_shares(&chains(&told, &Names::of(&fixture), "/hot"));
    let threads: Vec<_> = told.batches.iter().flat_map(|batch| &batch.threads).collect();
    assert!(threads.iter().any(|one| one.agent_pid != target.pid()), "no child in {threads:?}");
    assert!(threads.iter().any(|one| one.agent_pid == target.pid() && one.agent_tid != target.pid()));
    target.assert_goes_on();
}

#[test]
fn a_process_that_becomes_another_program_is_followed() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &["exec"]);
    target.wait_for_line("first program", std::time::Duration::from_secs(20));
    let (started, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let request = StartLook { rate: 199, ..StartLook::default() };
    let process = Process::open(AgentPid::new(target.pid()).unwrap()).unwrap();
    let mut told = Told::default();
    // Until the second program has been at work for some time, and the shares can be told.
    let enough =
        || target.last_beat().is_some_and(|beat| beat.beat > 10) && seen.load(Ordering::Relaxed) > 900;
    pepo_look::record(&process, &request, &enough, &mut |event| {
        match event.kind.unwrap() {
            Kind::Batch(batch) => {
                seen.fetch_add(batch.samples.len(), Ordering::Relaxed);
                told.batches.push(batch);
            }
            Kind::Ended(ended) => told.ended = ended,
            Kind::Started(_) => drop(started.fetch_add(1, Ordering::Relaxed)),
        }
        true
    })
    .unwrap();
    assert_eq!((started.into_inner(), told.ended.reason.as_str()), (1, "stopped"));
    let chains = chains(&told, &Names::of(&fixture), "/hot");
    assert_known_shares(&chains);
    // The second lies elsewhere in memory: what was known of the first would name nothing.
    let last = Told { batches: told.batches.split_off(told.batches.len() - 3), ..Told::default() };
    assert!(last.batches.iter().any(|batch| !batch.samples.is_empty()));
}

#[test]
fn a_process_that_ends_meanwhile_ends_the_recording_with_what_it_has() {
    let fixture = fixture(Language::C, Variant::release());
    let target = spawn(&fixture, &["short"]);
    let told = record(&target, "", u64::MAX);
    assert_eq!(told.ended.reason, "target exited");
    assert_known_shares(&chains(&told, &Names::of(&fixture), "/hot"));
    assert!(!target.is_alive());
}

#[test]
fn more_samples_than_anyone_needs_are_refused_with_one_clear_error() {
    let target = spawn(&fixture(Language::C, Variant::release()), &[]);
    let process = Process::open(AgentPid::new(target.pid()).unwrap()).unwrap();
    let request = StartLook { rate: 100_000, ..StartLook::default() };
    let error = pepo_look::record(&process, &request, &|| false, &mut |_| true).unwrap_err();
    assert_eq!(error.code(), pepo_wire::Code::TooLarge);
}
