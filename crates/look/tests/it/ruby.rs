//! Stacks and recordings of Ruby programs, with every interpreter of this machine.

use pepo_testkit::{Life as _, Ruby, Running, clean::Snapshot, rubies};
use pepo_wire::{
    Code,
    agent::{Frame, StackRequest, StackResponse, StartLook, Thread},
};

use crate::{python::open, sampling::record};

/// More than the known shares need to be seen.
const SAMPLES: u64 = 1200;

fn stack(target: &Running, request: &StackRequest) -> StackResponse {
    pepo_look::stack(&open(target), request).unwrap()
}

fn all() -> Vec<Ruby> {
    let all = rubies();
    assert!(all.len() >= 2, "{all:?}: cargo xtask setup");
    all
}

/// Method, and the text of the line it is at, outermost first, of the program's own frames.
fn told(ruby: &Ruby, thread: &Thread) -> Vec<(String, String)> {
    let source = include_str!("../../../../fixtures/hot/hot.rb");
    let line = |frame: &Frame| match frame.file.as_str() {
        "[C]" => "in C".to_owned(),
        file if file.ends_with("/hot.rb") => {
            assert!(frame.line > 0, "{ruby:?}: {thread:#?}");
            source.lines().nth(frame.line as usize - 1).unwrap_or("no such line").trim().to_owned()
        }
        _ => "elsewhere".to_owned(),
    };
    for frame in &thread.frames {
        assert_eq!(frame.language, "ruby", "{ruby:?}: {frame:?}");
    }
    thread.frames.iter().rev().map(|frame| (frame.function.clone(), line(frame))).collect()
}

#[test]
fn every_version_shows_its_threads_by_name_and_where_each_is() {
    for ruby in all() {
        let target = ruby.hot("threads");
        let before = Snapshot::take(target.pid());
        for _ in 0..20 {
            let stack = stack(&target, &StackRequest::default());
            assert_eq!(stack.longest_pause_micros, 0, "{ruby:?}");
            let named = |name: &str| {
                let named: Vec<&Thread> =
                    stack.threads.iter().filter(|thread| thread.given_name.starts_with(name)).collect();
                named.into_iter().map(|thread| told(&ruby, thread)).collect::<Vec<_>>()
            };
            let idle = named("idle-");
            assert_eq!(idle.len(), 3, "{ruby:?}: {stack:#?}");
            for chain in idle {
                let last: Vec<(&str, &str)> =
                    chain.iter().rev().take(2).map(|(name, line)| (&name[..], &line[..])).collect();
                assert!(last.len() == 2, "{ruby:?}: {:#?}", stack.threads);
                assert_eq!(last[0], ("sleep", "in C"), "{ruby:?}: {chain:?}");
                assert!(last[1].0.ends_with("idle_for_ever"), "{ruby:?}: {chain:?}");
                assert_eq!(last[1].1, "sleep(1) while true", "{ruby:?}: {chain:?}");
            }
            let [beat] = &named("beat")[..] else { panic!("{ruby:?}: {stack:#?}") };
            assert!(beat.iter().any(|(name, _)| name.ends_with("beat_for_ever")), "{ruby:?}: {beat:?}");
            let main = stack.threads.iter().find(|thread| thread.agent_tid == target.pid()).unwrap();
            is_possible(&ruby, &told(&ruby, main));
        }
        target.assert_goes_on();
        before.assert_same();
    }
}

/// Can the main thread be there? By what the source says: who calls whom, and at which line.
fn is_possible(ruby: &Ruby, chain: &[(String, String)]) {
    let names: Vec<&str> = chain.iter().map(|(name, _)| name.rsplit(['#', ' ']).next().unwrap()).collect();
    let calls: Vec<&str> = chain.iter().map(|(_, line)| line.as_str()).collect();
    let work = names.iter().position(|name| *name == "work");
    assert_eq!(&names[..2], ["<main>", "each"], "{ruby:?}: {chain:?}");
    assert_eq!(calls[0], "[1].each do |_|", "{ruby:?}: {chain:?}");
    let Some(work) = work else { return };
    assert_eq!(calls[work - 1], "else work", "{ruby:?}: {chain:?}");
    if let Some(called) = names.get(work + 1).filter(|name| ["hot", "warm", "cool"].contains(name)) {
        assert_eq!(calls[work], format!("{called}(unit)"), "{ruby:?}: {chain:?}");
    }
}

#[test]
fn every_version_shows_its_known_shares_and_no_impossible_stack() {
    for ruby in all() {
        let target = ruby.hot("steady");
        let before = Snapshot::take(target.pid());
        let request = StartLook { rate: 499, ..StartLook::default() };
        let recorded = record(&target, request, |samples| samples >= SAMPLES);
        assert_eq!((recorded.started.sampler.as_str(), recorded.ended.held), ("ruby", 0), "{ruby:?}");
        for (function, known) in [("hot", 0.6), ("warm", 0.3), ("cool", 0.1)] {
            let found = recorded.share(function);
            assert!((found - known).abs() < 0.08, "{ruby:?}: {function} {found} in {:?}", recorded.ended);
        }
        let source = include_str!("../../../../fixtures/hot/hot.rb");
        for chain in recorded.chains.keys() {
            for (inner, outer) in chain.iter().zip(chain.iter().skip(1)) {
                let plain = inner.function.rsplit('#').next().unwrap();
                if outer.file.ends_with("/hot.rb") && ["hot", "warm", "cool", "work"].contains(&plain) {
                    let line = source.lines().nth(outer.line as usize - 1).unwrap();
                    assert!(line.contains(plain), "{ruby:?}: {line} does not call {plain}: {chain:?}");
                }
            }
        }
        target.assert_goes_on();
        before.assert_same();
    }
}

#[test]
fn of_calls_as_short_as_can_be_nearly_every_chain_is_possible() {
    for ruby in all() {
        let target = ruby.hot("short");
        let request = StartLook { rate: 997, ..StartLook::default() };
        let recorded = record(&target, request, |samples| samples >= 3 * SAMPLES);
        let (mut in_c, mut wrong) = (0, Vec::new());
        for (chain, count) in &recorded.chains {
            for (inner, outer) in chain.iter().zip(chain.iter().skip(1)) {
                let Some(called) = outer.function.rsplit('#').next().unwrap().strip_prefix("of_") else {
                    continue;
                };
                in_c += count;
                if inner.file != "[C]" || inner.function.rsplit('#').next() != Some(called) {
                    wrong.push((count, format!("{} in {}", inner.function, outer.function)));
                }
            }
        }
        let impossible: u64 = wrong.iter().map(|(count, _)| **count).sum();
        assert!(in_c > 100, "{ruby:?}: {:?}", recorded.chains);
        // Before 3.0 a call is current before it says what it is of.
        let of = if ruby.version < (3, 0) { 100 } else { 1000 };
        assert!(impossible * of < recorded.ended.samples, "{ruby:?}: {wrong:#?}");
        target.assert_goes_on();
    }
}

#[test]
fn a_recursion_of_seven_hundred_calls_is_cut_off_and_says_so() {
    for ruby in all() {
        let target = ruby.hot("deep");
        let deep = (0..200).find_map(|_| {
            let stack = stack(&target, &StackRequest { thread: target.pid(), ..StackRequest::default() });
            let names: Vec<String> = stack.threads[0].frames.iter().map(|one| one.function.clone()).collect();
            (names.last().is_some_and(|last| last == "[cut off]")).then_some(names)
        });
        let deep = deep.unwrap_or_else(|| panic!("{ruby:?}: never deep"));
        assert!(deep.iter().filter(|name| name.ends_with("deep")).count() > 400, "{ruby:?}: {deep:?}");
        target.assert_goes_on();
    }
}

#[test]
fn what_is_not_there_for_ruby_is_said() {
    let ruby = all().remove(0);
    let target = ruby.hot("threads");
    let locals = stack(&target, &StackRequest { locals: true, ..StackRequest::default() });
    assert!(locals.notes.iter().any(|note| note.contains("variables of Ruby")), "{:?}", locals.notes);
    let request = StartLook { lock_holder: true, ..StartLook::default() };
    let refused = pepo_look::record(&open(&target), &request, &|| true, &mut |_| true).unwrap_err();
    assert_eq!(refused.code(), Code::NotOffered, "{refused}");
    assert!(refused.why.iter().any(|why| why.contains("Ruby's lock")), "{refused:?}");
    let native = stack(&target, &StackRequest { native: true, ..StackRequest::default() });
    let languages = native.threads.iter().flat_map(|thread| &thread.frames);
    assert!(languages.clone().count() > 0 && languages.clone().all(|frame| frame.language.is_empty()));
    target.assert_goes_on();
}
