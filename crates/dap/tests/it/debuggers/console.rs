//! The terminal's words with each real adapter, and what is known to differ between them.

use std::{path::Path, time::Duration};

use pepo_dap::{
    SourceMap,
    console::{
        Console, ConsoleOptions,
        group::Group,
        output::{Output, Stop},
        plain,
    },
};
use pepo_testkit::{Fixture, Life as _, Running, Variant, fixtures};
use pepo_wire::{Code, Failure};

use crate::adapters::{Adapter, lives_on};

/// The body of this name as one test for each adapter, in a module of the body's name.
macro_rules! with_each_adapter {
    ($body:ident) => {
        mod $body {
            use crate::adapters::Adapter;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn delve() {
                super::$body(Adapter::Delve).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn gdb() {
                super::$body(Adapter::Gdb).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn lldb() {
                super::$body(Adapter::Lldb).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn python() {
                super::$body(Adapter::Python).await;
            }
        }
    };
}

with_each_adapter!(the_same_words);
with_each_adapter!(every_kind_of_breakpoint);
with_each_adapter!(a_stop_at_a_change);

/// What a script said, and how it ended.
struct Told {
    said: Vec<Output>,
    text: String,
    result: Result<(), Failure>,
}

impl Told {
    /// Runs these lines on a target, which afterwards must live on.
    async fn by(adapter: Adapter, fixture: &Fixture, running: &mut Running, lines: &[String]) -> Told {
        let (link, opened) = adapter.open(fixture, running.pid()).await;
        let options = ConsoleOptions {
            target: "loop".into(),
            source_map: SourceMap::new(Vec::new(), fixture.source.parent()),
            wait: Some(Duration::from_secs(20)),
            ..ConsoleOptions::default()
        };
        let mut said = Vec::new();
        let started = Console::start(link, &opened, options, &mut |output| said.push(output)).await;
        let result = match started {
            Ok(console) => Group::from(console).run_script(lines, &mut |output| said.push(output)).await,
            Err(failure) => Err(failure),
        };
        let text: String = said.iter().map(plain).collect();
        println!("{text}");
        lives_on(running);
        Told { said, text, result }
    }

    /// Nothing went wrong.
    #[track_caller]
    fn ok(self) -> Told {
        assert_eq!(self.result, Ok(()), "{}", self.text);
        self
    }

    fn stops(&self) -> Vec<&Stop> {
        let stops = self.said.iter();
        stops.filter_map(|one| if let Output::Stopped(stop) = one { Some(stop) } else { None }).collect()
    }
}

fn lines(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Stop, look, change a variable, let go.
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
    let told = Told::by(adapter, &fixture, &mut running, &lines(&words)).await.ok();
    let (text, stop) = (&told.text, told.stops()[0]);
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
    let told = Told::by(adapter, &fixture, &mut running, &words).await.ok();
    let (text, stops) = (&told.text, told.stops());
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
    let counter = told
        .said
        .iter()
        .find_map(|one| if let Output::Value(value) = one { value.value.parse::<i64>().ok() } else { None });
    assert_eq!(counter.map(|counter| counter % 20), Some(0), "{text}");
    assert!(text.contains("counter is "), "{text}");
    let left = told
        .said
        .iter()
        .find_map(|one| if let Output::Breakpoints { points } = one { Some(points) } else { None });
    assert!(left.unwrap().iter().all(|point| !point.temporary), "those for once are gone: {text}");
}

/// Where the adapter can, the target stops when a variable changes: here the counter of the caller's loop. Where it cannot, that
/// is said, and nothing is sent that it does not know.
async fn a_stop_at_a_change(adapter: Adapter) {
    let Some((mut fixture, mut running)) = adapter.target() else { return };
    if adapter == Adapter::Lldb {
        fixture = fixtures::c(Variant::debug());
        running = pepo_testkit::spawn(&fixture, &["1000"]);
    }
    let at = format!("tbreak {}:{}", fixture.source_name(), fixture.line("CALL"));
    let words = lines(&[&at, "continue", "watch -d n", "continue", "delete"]);
    let told = Told::by(adapter, &fixture, &mut running, &words).await;
    if matches!(adapter, Adapter::Gdb | Adapter::Python) {
        let failure = told.result.expect_err("an adapter without data breakpoints");
        assert_eq!(failure.code(), Code::NotInDebugger, "{}", told.text);
        return;
    }
    let told = told.ok();
    let stops = told.stops();
    assert_eq!(stops.len(), 2, "{}", told.text);
    assert_eq!(stops[1].breakpoints, [2], "{}", told.text);
}

/// What the adapter makes of a place is told: the line it moved it to, and a function that it took without looking for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_tells_what_became_of_a_place() {
    let Some((fixture, mut running)) = Adapter::Python.target() else { return };
    let far = format!("break {}:999", fixture.source_name());
    let told = Told::by(Adapter::Python, &fixture, &mut running, &lines(&["break nosuch", &far, "detach"]))
        .await
        .ok();
    let points = told
        .said
        .iter()
        .filter_map(|one| if let Output::Breakpoint(point) = one { Some(point) } else { None });
    let remarks: Vec<_> = points.map(|point| point.message.clone().unwrap_or_default()).collect();
    assert_eq!(remarks.len(), 2, "{}", told.text);
    assert!(remarks[0].contains("by name alone"), "{}", told.text);
    assert_eq!(remarks[1], "moved here from line 999", "{}", told.text);
}

/// gdb tells a call as if the target had gone on and stopped; to a person it stood still all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gdb_calls_functions_one_after_the_other() {
    if Adapter::Gdb.target().is_none() {
        return;
    }
    let fixture = fixtures::c(Variant::debug());
    let mut running = pepo_testkit::spawn(&fixture, &["1000"]);
    let at = format!("break {}:{}", fixture.source_name(), fixture.line("BREAK"));
    let words = lines(&[
        &at,
        "continue",
        "delete",
        "up",
        "print tick(n)",
        "print tick(n)",
        "print tick(n)",
        "print n",
        "detach",
    ]);
    let told = Told::by(Adapter::Gdb, &fixture, &mut running, &words).await.ok();
    let values: Vec<_> = told
        .said
        .iter()
        .filter_map(|one| if let Output::Value(value) = one { Some(&value.value) } else { None })
        .collect();
    assert_eq!(values[..3], ["42"; 3], "{}", told.text);
    assert!(values[3].parse::<i64>().is_ok(), "the caller's own variable: {}", told.text);
    assert_eq!(told.stops().len(), 1, "{}", told.text);
}
