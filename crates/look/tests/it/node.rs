//! Recordings of JavaScript by the profiler in Node, and what is left of it.

use pepo_process::{AgentPid, Process};
use pepo_testkit::{
    Life as _, Variant,
    clean::Snapshot,
    fixtures,
    node::{hot_node, hot_node_isolated, program},
    spawn, wait,
};
use pepo_wire::{Code, agent::StartLook};

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
    assert!(recorded.ended.notes.iter().all(|note| note.contains("main one")), "{:?}", recorded.ended);
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
    assert!(recorded.ended.notes.iter().all(|note| note.contains("main one")), "{:?}", recorded.ended);
    outer.assert_goes_on();
}

#[test]
fn an_inspector_that_was_open_stays_open() {
    let target = hot_node(&["--inspect=127.0.0.1:9339"]);
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
