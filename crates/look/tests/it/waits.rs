//! Threads that are known to wait for one thing each.

use std::time::Duration;

use pepo_testkit::{Fixture, Language, Life as _, Running, Variant, clean::Snapshot, fixtures, spawn};
use pepo_wire::agent::{StackRequest, StackResponse, Thread};

use crate::python::open;

const LIMIT: Duration = Duration::from_secs(20);

fn fixture() -> Fixture {
    fixtures::build(Language::C, "waits", Variant::release())
}

fn named<'a>(stack: &'a StackResponse, name: &str) -> &'a Thread {
    stack.threads.iter().find(|thread| thread.name == name).unwrap_or_else(|| panic!("no {name}: {stack:?}"))
}

/// The first stack of which this can be said: threads take their time until they wait.
fn stack_with(target: &Running, what: &str, is: impl Fn(&StackResponse) -> bool) -> StackResponse {
    let mut found = None;
    pepo_testkit::wait::until(what, LIMIT, || {
        let stack = pepo_look::stack(&open(target), &StackRequest::default()).unwrap();
        if !is(&stack) {
            return Err(format!("{:?}", stack.threads));
        }
        found = Some(stack);
        Ok(())
    });
    found.unwrap()
}

/// All threads of the fixture wait.
fn all_wait(stack: &StackResponse) -> bool {
    let names = [
        "holds-first",
        "holds-second",
        "joiner",
        "reader",
        "poller",
        "events",
        "receiver",
        "sleeper",
        "acceptor",
    ];
    names.iter().all(|name| {
        stack
            .threads
            .iter()
            .any(|thread| thread.name == *name && thread.state == "S" && !thread.syscall.is_empty())
    })
}

#[test]
fn calls_are_told_with_what_their_arguments_mean_and_nothing_is_held() {
    let target = spawn(&fixture(), &[]);
    stack_with(&target, "threads that wait", all_wait);
    let before = Snapshot::take(target.pid());
    // The main thread says something now and then: only then it is held.
    let stack = stack_with(&target, "threads that all wait, and none held", |stack| {
        all_wait(stack) && stack.longest_pause_micros == 0
    });
    let port = port(&target);
    for (name, known) in [
        ("reader", "read(3: pipe:["),
        ("reader", "], 1 byte)"),
        ("poller", "poll([3: pipe:["),
        ("poller", ", 6: unix], 3600 s)"),
        ("events", ": anon_inode:[eventpoll], no time limit)"),
        ("receiver", "recvfrom(5: unix, 1 byte)"),
        ("sleeper", "nanosleep(3600 s)"),
        ("acceptor", &format!(": tcp 127.0.0.1:{port} (listen))")),
    ] {
        let told = &named(&stack, name).syscall;
        assert!(told.contains(known), "{name}: {told}");
    }
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn who_holds_a_lock_is_told_and_that_two_wait_for_each_other() {
    let target = spawn(&fixture(), &[]);
    let stack = stack_with(&target, "threads that wait", |stack| {
        all_wait(stack) && named(stack, "joiner").waits_for.is_some()
    });
    let tid = |name: &str| named(&stack, name).container_tid;
    for (name, other, what) in [
        ("holds-first", "holds-second", "lock"),
        ("holds-second", "holds-first", "lock"),
        ("joiner", "holds-first", "end"),
    ] {
        let waits_for = named(&stack, name).waits_for.as_ref().unwrap_or_else(|| panic!("{name}: {stack:?}"));
        let told = (waits_for.name.as_str(), waits_for.container_tid, waits_for.what.as_str());
        assert_eq!(told, (other, tid(other), what), "{name}");
    }
    // It holds the other end of the pair itself.
    let pair = named(&stack, "receiver").sockets[0].other_end.as_ref().unwrap();
    assert_eq!((pair.agent_pid, pair.name.as_str()), (target.pid(), "waits"));
    let others = stack.threads.iter().filter(|thread| thread.waits_for.is_some()).count();
    assert_eq!(others, 3, "{:?}", stack.threads);
    let (low, high) =
        (tid("holds-first").min(tid("holds-second")), tid("holds-first").max(tid("holds-second")));
    let note = format!("deadlock: threads {low}, {high} wait for each other's locks");
    assert!(stack.notes.contains(&note), "{:?}", stack.notes);
    target.assert_goes_on();
}

fn port(target: &Running) -> String {
    let line = target.wait_for_line("port=", LIMIT);
    line.rsplit("port=").next().unwrap().trim_end_matches('.').to_owned()
}

#[test]
fn a_socket_is_told_with_the_process_at_its_other_end() {
    let server = spawn(&fixture(), &[]);
    let port = port(&server);
    let client = spawn(&fixture(), &["connect", &port]);
    for (target, name, other) in [(&client, "client", &server), (&server, "server", &client)] {
        let connected = |stack: &StackResponse| {
            stack.threads.iter().any(|thread| thread.name == name && thread.syscall.contains(" → "))
        };
        let stack = stack_with(target, "a connection", connected);
        let socket = &named(&stack, name).sockets[0];
        assert_eq!((socket.protocol.as_str(), socket.state.as_str()), ("tcp", "established"));
        let end = if name == "client" { &socket.peer } else { &socket.local };
        assert_eq!(*end, format!("127.0.0.1:{port}"));
        let at_other_end = socket.other_end.as_ref().unwrap();
        assert_eq!((at_other_end.agent_pid, at_other_end.name.as_str()), (other.pid(), "waits"));
        target.assert_goes_on();
    }
}
