//! Programs of Go whose goroutines are known to do one thing each.

use std::{collections::HashMap, time::Duration};

use pepo_testkit::{
    Fixture, Language, Life as _, Running, Symbols, Variant, clean::Snapshot, fixtures, spawn,
};
use pepo_wire::agent::{Goroutine, GoroutineStack, StackRequest, StackResponse};

use crate::python::open;

/// What each function of the fixture waits for, in the words of a dump of Go's own.
const KNOWN: [(&str, &[&str]); 10] = [
    ("receive", &["chan receive"]),
    ("receiveNothing", &["chan receive (nil chan)"]),
    ("send", &["chan send"]),
    ("choose", &["select"]),
    ("lock", &["sync.Mutex.Lock"]),
    ("waitForSignal", &["sync.Cond.Wait"]),
    ("sleep", &["sleep"]),
    ("accept", &["IO wait"]),
    ("call", &["syscall"]),
    ("own", &["chan receive"]),
];

fn waits(variant: Variant, arguments: &[&str]) -> (Fixture, Running) {
    let fixture = fixtures::build(Language::Go, "waits", variant);
    let target = spawn(&fixture, arguments);
    target.wait_for_line("beat 3 ", Duration::from_secs(20));
    (fixture, target)
}

fn stack(target: &Running) -> StackResponse {
    pepo_look::stack(&open(target), &StackRequest::default()).unwrap()
}

/// Frames of a goroutine, innermost first.
fn told<'a>(stack: &'a StackResponse, goroutine: &Goroutine) -> &'a GoroutineStack {
    &stack.goroutine_stacks[goroutine.stack as usize]
}

/// How many goroutines are in which state, and how deep they are; without those of the runtime itself, which come and go.
fn states(stack: &StackResponse) -> HashMap<(String, usize), usize> {
    let mut states = HashMap::new();
    for goroutine in stack.goroutines.iter().filter(|one| one.created_by == 1) {
        let depth = told(stack, goroutine).frames.len();
        *states.entry((goroutine.state.clone(), depth)).or_default() += 1;
    }
    states.retain(|(state, depth), _| {
        *depth > 5 && KNOWN.iter().any(|(_, known)| known.contains(&state.as_str()))
    });
    states
}

#[test]
fn goroutines_that_wait_are_told_with_their_reasons_and_frames_and_nothing_is_held() {
    let names_only = Variant::release().symbols(Symbols::NamesOnly);
    for variant in [Variant::debug(), Variant::release(), names_only, Variant::release().linked_with_c()] {
        let (_, target) = waits(variant, &[]);
        let before = Snapshot::take(target.pid());
        let mut stack = stack(&target);
        // The main goroutine says something now and then: only then its thread is held.
        pepo_testkit::wait::until("a stack for which nothing is held", Duration::from_secs(20), || {
            stack = self::stack(&target);
            if stack.longest_pause_micros == 0 { Ok(()) } else { Err(stack.longest_pause_micros.to_string()) }
        });
        for (function, states) in KNOWN {
            let name = format!("main.{function}");
            let of = |one: &&Goroutine| told(&stack, one).frames.iter().any(|frame| frame.function == name);
            let found: Vec<_> = stack.goroutines.iter().filter(of).collect();
            assert_eq!(found.len(), 1, "{variant:?}: {name}: {found:?} {:?}", stack.notes);
            let goroutine = found[0];
            assert!(states.contains(&goroutine.state.as_str()), "{variant:?}: {name}: {goroutine:?}");
            assert_eq!((goroutine.created_by, goroutine.locked_to_thread), (1, function == "own"));
            assert!(goroutine.waited_seconds.is_some_and(|seconds| seconds < 600), "{goroutine:?}");
            assert_eq!(goroutine.container_tid != 0, function == "call");
            let told = told(&stack, goroutine);
            let names: Vec<_> = told.frames.iter().map(|frame| frame.function.as_str()).collect();
            let deep = names.iter().filter(|name| **name == "main.deep").count();
            assert_eq!(
                (deep, names.last().map(|last| last.trim_end_matches(".abi0"))),
                (4, Some("runtime.goexit")),
                "{names:?}"
            );
            assert_eq!(told.created_at.as_ref().unwrap().function, "main.main");
            assert!(told.entry.as_ref().unwrap().function.starts_with("main."), "{told:?}");
        }
        target.assert_goes_on();
        before.assert_same();
    }
}

#[test]
fn a_stripped_program_shows_the_same_goroutines() {
    let whole = stack(&waits(Variant::release(), &[]).1);
    let (_, target) = waits(Variant::release().symbols(Symbols::Stripped), &[]);
    let stripped = stack(&target);
    assert!(
        stripped.goroutine_stacks.iter().flat_map(|one| &one.frames).all(|frame| frame.function.is_empty())
    );
    assert_eq!(states(&stripped), states(&whole));
    assert_eq!(states(&stripped).values().sum::<usize>(), KNOWN.len());
    target.assert_goes_on();
}

#[test]
fn a_goroutine_that_runs_is_seen_by_its_thread_which_is_held_for_a_moment() {
    let (_, target) = waits(Variant::release(), &["busy"]);
    let spinning = || {
        let stack = stack(&target);
        let running = stack.goroutines.iter().find(|one| {
            one.state == "running"
                && told(&stack, one).frames.iter().any(|frame| frame.function == "main.spin")
        });
        let Some(running) = running else { return Err(format!("{:?} {:?}", stack.goroutines, stack.notes)) };
        assert!(stack.longest_pause_micros > 0);
        assert!(stack.threads.iter().any(|thread| thread.container_tid == running.container_tid));
        Ok(())
    };
    // A collection lets it wait now and then.
    pepo_testkit::wait::until("the goroutine that runs", Duration::from_secs(20), spinning);
    target.assert_goes_on();
}

#[test]
fn many_goroutines_are_few_stacks_and_those_beyond_the_most_are_counted() {
    let (_, target) = waits(Variant::release(), &["many", "100500"]);
    let stack = stack(&target);
    assert_eq!(stack.goroutines.len(), 100_000, "{:?}", stack.notes);
    assert!(
        stack.notes.iter().any(|note| note.ends_with("only the first 100000 are read")),
        "{:?}",
        stack.notes
    );
    assert!(stack.goroutine_stacks.len() < 40, "{}", stack.goroutine_stacks.len());
    let mut counts: HashMap<u32, usize> = HashMap::new();
    stack.goroutines.iter().for_each(|one| *counts.entry(one.stack).or_default() += 1);
    let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count).unwrap();
    let names: Vec<_> =
        stack.goroutine_stacks[most as usize].frames.iter().map(|one| &one.function).collect();
    // Busy with itself, the program may keep a few from being seen.
    assert!(count > 90_000 && names.iter().any(|name| *name == "main.receive"), "{count} {names:?}");
    target.assert_goes_on();
}
