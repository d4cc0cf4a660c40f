//! The terminal's words with each real adapter, and what is known to differ between them.

use std::{path::Path, time::Duration};

use pepo_dap::{
    SourceMap,
    console::{Console, ConsoleOptions, output::Output, plain},
};
use pepo_testkit::{Fixture, Life as _, Running, Variant, fixtures};
use pepo_wire::Failure;

use crate::adapters::{Adapter, lives_on};

fn options(fixture: &Fixture) -> ConsoleOptions {
    ConsoleOptions {
        target: "loop".into(),
        source_map: SourceMap::new(Vec::new(), fixture.source.parent()),
        wait: Some(Duration::from_secs(20)),
        ..ConsoleOptions::default()
    }
}

/// Runs lines and gives what was said, and how it ended.
async fn script(
    adapter: Adapter,
    fixture: &Fixture,
    pid: u32,
    lines: &[String],
) -> (Vec<Output>, Result<(), Failure>) {
    let (link, opened) = adapter.open(fixture, pid).await;
    let mut said = Vec::new();
    let result = match Console::start(link, &opened, options(fixture), &mut |output| said.push(output)).await
    {
        Ok(mut console) => console.run_script(lines, &mut |output| said.push(output)).await,
        Err(failure) => Err(failure),
    };
    (said, result)
}

fn told(said: &[Output]) -> String {
    said.iter().map(plain).collect()
}

fn lines(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The same words for every language: stop, look, change a variable, let go.
async fn the_same_words(adapter: Adapter) {
    let Some((fixture, mut running)) = adapter.target() else { return };
    let at = format!("break {}:{}", fixture.source_name(), fixture.line("BREAK"));
    let words = [
        at.as_str(),
        "continue",
        "bt",
        "locals",
        "print counter",
        "watch factor",
        "set factor = 5",
        "print factor",
        "info breakpoints",
        "delete",
        "next",
        "print answer",
        "up",
        "down",
        "threads",
        "list",
        "info session",
        "detach",
    ];
    let (said, result) = script(adapter, &fixture, running.pid(), &lines(&words)).await;
    let text = told(&said);
    println!("{text}");
    assert_eq!(result, Ok(()), "{text}");
    let stop = said.iter().find_map(|one| if let Output::Stopped(stop) = one { Some(stop) } else { None });
    let stop = stop.unwrap_or_else(|| panic!("no stop: {text}"));
    assert_eq!(stop.breakpoints, [1], "{text}");
    let place = stop.place.as_ref().expect("a place");
    assert!(place.frame.function.contains("tick"), "{text}");
    assert_eq!(place.frame.local.as_deref().map(Path::new), Some(fixture.source.as_path()), "{text}");
    assert!(place.lines.as_ref().expect("source").lines.iter().any(|line| line.contains("BREAK")), "{text}");
    for wanted in ["counter", "factor = 5", "answer = "] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
    if adapter == Adapter::Gdb || adapter == Adapter::Python {
        // Compilers of Go and Rust may have folded the variable into the answer.
        running.wait_for_answer(105);
    }
    lives_on(&mut running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_words_drive_delve() {
    the_same_words(Adapter::Delve).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_words_drive_gdb() {
    the_same_words(Adapter::Gdb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_words_drive_lldb() {
    the_same_words(Adapter::Lldb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_words_drive_python() {
    the_same_words(Adapter::Python).await;
}

/// Functions, conditions, log messages, places for once, and steps into and out of a call.
async fn every_kind_of_breakpoint(adapter: Adapter) {
    let Some((fixture, mut running)) = adapter.target() else { return };
    let (file, at, next) = (fixture.source_name(), fixture.line("BREAK"), fixture.line("NEXT"));
    let words = [
        format!("tbreak {}", fixture.tick()),
        "continue".into(),
        format!("until {next}"),
        "step".into(),
        "out".into(),
        format!("break {file}:{at} log \"counter is {{counter}}\""),
        format!("tbreak {file}:{next} if counter % 20 == 0"),
        "continue".into(),
        "print counter".into(),
        "info breakpoints".into(),
    ];
    let (said, result) = script(adapter, &fixture, running.pid(), &words).await;
    let text = told(&said);
    println!("{text}");
    assert_eq!(result, Ok(()), "{text}");
    let stops: Vec<_> = said
        .iter()
        .filter_map(|one| if let Output::Stopped(stop) = one { Some(stop) } else { None })
        .collect();
    let frame = |at: usize| {
        stops[at].place.as_ref().map(|place| (place.frame.function.as_str(), place.frame.line)).unwrap()
    };
    assert_eq!(stops.len(), 5, "{text}");
    assert!(frame(0).0.contains("tick"), "{text}");
    assert_eq!(frame(1).1, i64::from(next), "{text}");
    if adapter != Adapter::Lldb {
        // In Rust the first call of that line is one of the standard library's.
        assert!(frame(2).0.contains("rice"), "{text}");
    }
    assert!(frame(3).0.contains("tick"), "{text}");
    let counter = said
        .iter()
        .find_map(|one| if let Output::Value(value) = one { value.value.parse::<i64>().ok() } else { None });
    assert_eq!(counter.map(|counter| counter % 20), Some(0), "{text}");
    assert!(text.contains("counter is "), "{text}");
    let left = said
        .iter()
        .find_map(|one| if let Output::Breakpoints { points } = one { Some(points) } else { None });
    assert!(left.unwrap().iter().all(|point| !point.temporary), "those for once are gone: {text}");
    lives_on(&mut running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delve_takes_every_kind_of_breakpoint() {
    every_kind_of_breakpoint(Adapter::Delve).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gdb_takes_every_kind_of_breakpoint() {
    every_kind_of_breakpoint(Adapter::Gdb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lldb_takes_every_kind_of_breakpoint() {
    every_kind_of_breakpoint(Adapter::Lldb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_takes_every_kind_of_breakpoint() {
    every_kind_of_breakpoint(Adapter::Python).await;
}

/// Where the adapter can, the target stops when a variable changes: here the counter of the caller's loop.
async fn a_data_breakpoint(adapter: Adapter, fixture: &Fixture, mut running: Running) {
    let words = [
        format!("tbreak {}:{}", fixture.source_name(), fixture.line("CALL")),
        "continue".into(),
        "watch -d n".into(),
        "continue".into(),
        "delete".into(),
    ];
    let (said, result) = script(adapter, fixture, running.pid(), &words).await;
    let text = told(&said);
    println!("{text}");
    assert_eq!(result, Ok(()), "{text}");
    let stops: Vec<_> = said
        .iter()
        .filter_map(|one| if let Output::Stopped(stop) = one { Some(stop) } else { None })
        .collect();
    assert_eq!(stops.len(), 2, "{text}");
    assert_eq!(stops[1].breakpoints, [2], "{text}");
    lives_on(&mut running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delve_stops_at_a_change() {
    let Some((fixture, running)) = Adapter::Delve.target() else { return };
    a_data_breakpoint(Adapter::Delve, &fixture, running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lldb_stops_at_a_change() {
    if Adapter::Lldb.target().is_none() {
        return;
    }
    let fixture = fixtures::c(Variant::debug());
    let running = pepo_testkit::spawn(&fixture, &["1000"]);
    a_data_breakpoint(Adapter::Lldb, &fixture, running).await;
}

/// What an adapter cannot do is said, and nothing is sent that it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_says_that_it_cannot_stop_at_a_change() {
    let Some((fixture, mut running)) = Adapter::Python.target() else { return };
    let at = format!("tbreak {}:{}", fixture.source_name(), fixture.line("BREAK"));
    let words = lines(&[&at, "continue", "watch -d answer"]);
    let (said, result) = script(Adapter::Python, &fixture, running.pid(), &words).await;
    let failure = result.expect_err("an adapter without data breakpoints");
    assert_eq!(failure.code(), pepo_wire::Code::NotInDebugger, "{}", told(&said));
    lives_on(&mut running);
}
