//! Recordings of JavaScript by the profiler in Node, and what is left of it.

use pepo_process::{AgentPid, Process};
use pepo_testkit::{
    Life as _, Variant,
    clean::Snapshot,
    fixtures,
    node::{hot_node, hot_node_here, hot_node_isolated, node_that_stands, node_with_workers, program},
    spawn, wait,
};
use pepo_wire::{
    Code,
    agent::{StackRequest, StackResponse, StartLook, Thread},
};

use crate::{
    python::open,
    sampling::{record, record_process},
};

/// More than is seen of a second.
const SAMPLES: u64 = 1500;

fn node_at(rate: u32) -> StartLook {
    StartLook { rate, ..StartLook::default() }
}

#[test]
fn javascript_shows_its_known_shares_and_its_port_is_closed_again() {
    let target = hot_node(&[]);
    let before = Snapshot::take(target.pid());
    let recorded = record(&target, node_at(997), |samples| samples >= SAMPLES);
    assert_eq!(
        (recorded.started.sampler.as_str(), recorded.ended.held),
        ("node", 0),
        "{:?}",
        recorded.started
    );
    assert!(recorded.started.notes.iter().any(|note| note.contains("port 9229")), "{:?}", recorded.started);
    for (function, known, tolerance) in [("hot", 0.6, 0.12), ("warm", 0.3, 0.12), ("cool", 0.1, 0.07)] {
        let found = recorded.share(function);
        assert!((found - known).abs() < tolerance, "{function} {found} in {:?}", recorded.ended);
    }
    let source = std::fs::read_to_string(program()).unwrap();
    let begins = source.lines().position(|line| line.starts_with("function work(")).unwrap() as u32 + 1;
    let work = recorded.chains.keys().flatten().find(|frame| frame.function == "work").unwrap();
    assert!(work.file.ends_with("/hot.js") && work.line == begins, "{work:?}");
    assert!(recorded.ended.notes.is_empty(), "{:?}", recorded.ended);
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn javascript_in_a_network_of_its_own_is_reached() {
    let (outer, inner) = hot_node_isolated();
    let process = Process::open(AgentPid::new(inner).unwrap()).unwrap();
    let recorded = record_process(&process, node_at(997), |samples| samples >= SAMPLES);
    assert_eq!(recorded.started.sampler, "node", "{:?}", recorded.started);
    assert!(recorded.share("hot") > 0.4, "{:?}", recorded.ended);
    assert!(recorded.ended.notes.is_empty(), "{:?}", recorded.ended);
    outer.assert_goes_on();
}

#[test]
fn an_inspector_that_was_open_stays_open() {
    let target = hot_node_here(&["--inspect=127.0.0.1:9339"]);
    let recorded = record(&target, node_at(997), |samples| samples >= SAMPLES);
    assert_eq!((recorded.started.sampler.as_str(), recorded.started.notes.len()), ("node", 0));
    wait::until("it still listens", std::time::Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", 9339)).map(drop)
    });
    target.assert_goes_on();
}

#[test]
fn what_does_not_catch_the_signal_is_not_sent_it() {
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let request = StartLook { sampler: "node".to_owned(), ..StartLook::default() };
    let refused = pepo_look::record(&open(&target), &request, &|| true, &mut |_| true).unwrap_err();
    assert_eq!(refused.code(), Code::NotOffered, "{refused}");
    assert!(refused.why.iter().any(|why| why.contains("SIGUSR1")), "{refused:?}");
    target.assert_goes_on();
}

/// The thread of this name, and its functions, innermost first.
fn named<'s>(stack: &'s StackResponse, name: &str) -> (&'s Thread, Vec<&'s str>) {
    let thread = stack.threads.iter().find(|thread| thread.given_name == name);
    let thread = thread.unwrap_or_else(|| panic!("no {name} in {stack:?}"));
    (thread, thread.frames.iter().map(|frame| frame.function.as_str()).collect())
}

#[test]
fn every_thread_of_javascript_says_where_it_is_and_the_port_is_closed_again() {
    let target = node_with_workers();
    let before = Snapshot::take(target.pid());
    let file = program().with_file_name("workers.js");
    let source = std::fs::read_to_string(&file).unwrap();
    let line_of = |text: &str| source.lines().position(|line| line.contains(text)).unwrap() as u32 + 1;
    let read = || pepo_look::stack(&open(&target), &StackRequest::default()).unwrap();
    // Workers begin one after the other.
    let stack = wait::until("workers at work", std::time::Duration::from_secs(60), || {
        let stack = read();
        let is_there =
            |name: &str| stack.threads.iter().any(|one| one.given_name == name && !one.frames.is_empty());
        if is_there("cruncher") && is_there("standing") { Ok(stack) } else { Err(format!("{stack:?}")) }
    });
    let (cruncher, functions) = named(&stack, "cruncher");
    let crunch = functions.iter().position(|one| *one == "crunch").unwrap();
    assert!(crunch == 0 || functions[..crunch] == ["hot"], "{functions:?}");
    let frame = &cruncher.frames[crunch];
    assert_eq!((frame.file.as_str(), frame.line), (file.to_str().unwrap(), line_of("for (;;)")));
    let (standing, functions) = named(&stack, "standing");
    assert_eq!((functions[0], standing.frames[0].line), ("stand", line_of("Atomics.wait")));
    assert_eq!(standing.frames[0].language, "javascript");
    // Each is told of the thread that it is.
    assert_eq!(cruncher.state, "R", "{cruncher:?}");
    assert!(!standing.state.starts_with('R') && standing.container_tid != cruncher.container_tid);
    let (main, functions) = named(&stack, "main");
    assert_eq!((main.container_tid, functions.len()), (target.pid(), 0), "{main:?}");
    assert!(stack.notes.iter().any(|note| note.contains("port 9229")), "{:?}", stack.notes);
    assert!(stack.longest_pause_micros > 0);
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn the_stack_of_a_busy_main_thread_has_the_lines_it_is_at() {
    let target = hot_node(&["--inspect=127.0.0.1:9349"]);
    let stack = pepo_look::stack(&open(&target), &StackRequest::default()).unwrap();
    let (main, functions) = named(&stack, "main");
    // Between two rounds it waits for a moment.
    let source = std::fs::read_to_string(program()).unwrap();
    for frame in main.frames.iter().filter(|frame| frame.file.ends_with("/hot.js")) {
        let above: Vec<&str> = source.lines().take(frame.line as usize).collect();
        let function = above.iter().rev().find_map(|line| line.split_once("function ")?.1.split_once('('));
        assert_eq!(function.map(|(name, _)| name), Some(frame.function.as_str()), "{functions:?}");
    }
    assert!(!stack.notes.iter().any(|note| note.contains("was opened")), "{:?}", stack.notes);
    let native = StackRequest { native: true, ..StackRequest::default() };
    let stack = pepo_look::stack(&open(&target), &native).unwrap();
    assert!(stack.threads.iter().flat_map(|thread| &thread.frames).all(|frame| frame.language.is_empty()));
    target.assert_goes_on();
}

#[test]
fn a_program_that_is_stopped_is_not_asked() {
    let target = hot_node(&[]);
    let stopped = rustix::process::Pid::from_raw(target.pid().cast_signed()).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    wait::until("a program that is stopped", std::time::Duration::from_secs(10), || {
        let process = open(&target);
        let state = process.status().unwrap().state;
        if state.is_stopped() { Ok(()) } else { Err(state.to_string()) }
    });
    let stack = pepo_look::stack(&open(&target), &StackRequest::default()).unwrap();
    assert!(stack.notes.iter().any(|note| note == "native frames only: it is stopped"), "{:?}", stack.notes);
    assert!(stack.threads.iter().any(|thread| !thread.frames.is_empty()));
    rustix::process::kill_process(stopped, rustix::process::Signal::CONT).unwrap();
    target.assert_goes_on();
}

#[test]
fn a_program_that_stands_in_a_call_is_asked_neither_for_its_stack_nor_for_a_profile() {
    let (target, folder) = node_that_stands();
    let stack = wait::until("a program that stands", std::time::Duration::from_secs(60), || {
        let stack = pepo_look::stack(&open(&target), &StackRequest::default()).unwrap();
        let note = "native frames only: its main thread stands in a call of the system";
        if stack.notes.iter().any(|one| one.starts_with(note)) {
            Ok(stack)
        } else {
            Err(format!("{stack:?}"))
        }
    });
    assert!(stack.threads.iter().any(|thread| !thread.frames.is_empty()));
    let recorded = record(&target, StartLook::default(), |_| true);
    assert_ne!(recorded.started.sampler, "node");
    let note = "native frames only: its main thread stands in a call of the system";
    assert!(recorded.started.notes.iter().any(|one| one.starts_with(note)), "{:?}", recorded.started);
    std::fs::write(folder.path().join("fifo"), "").unwrap();
    target.assert_goes_on();
    assert!(!target.output().contains("Debugger listening"), "{}", target.output());
}

#[test]
fn worker_threads_are_profiled_by_their_names() {
    let target = node_with_workers();
    let before = Snapshot::take(target.pid());
    let recorded = record(&target, node_at(499), |samples| samples >= SAMPLES / 2);
    assert_eq!(recorded.started.sampler, "node", "{:?}", recorded.started);
    // One is at work as far as it is given a processor, the other stands in a call of its own all the time; two wait for events.
    let (crunch, stand) = (recorded.share("crunch"), recorded.share("stand"));
    assert!(crunch > 0.05 && stand > 0.3 && crunch + stand > 0.95, "{crunch} {stand} {:?}", recorded.ended);
    for worker in ["cruncher", "standing"] {
        assert!(recorded.threads.values().any(|name| name == worker), "{:?}", recorded.threads);
    }
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn timers_are_not_touched_in_the_middle_of_the_programs_work() {
    let guard = program().with_file_name("timers.js");
    let target = hot_node(&["-r", guard.to_str().unwrap()]);
    record(&target, node_at(997), |samples| samples >= 2 * SAMPLES);
    wait::until("a timer that was taken back", std::time::Duration::from_secs(60), || {
        let said = target.output();
        let at = said.rfind("timers: setTimeout").unwrap_or(said.len());
        said[at..].contains("timers: clearTimeout").then_some(()).ok_or(said)
    });
    assert!(!target.output().contains("under work"), "{}", target.output());
    target.assert_goes_on();
}
