//! What those lose who have fewer rights than they would like, and that it is told: one user without capabilities, to whom system calls
//! are refused as a distribution's kernel or a container's filter refuses them.

use std::fs;

use pepo_testkit::{Language, Life as _, Running, Variant, clean::Snapshot, fixtures, spawn_command};

use super::{assert_clear, assert_results, each_verb};
use crate::{
    profiles::{assert_known_shares, folded, name},
    support::Surroundings,
};

/// System calls by their numbers: ptrace, perf_event_open, process_vm_readv.
#[cfg(target_arch = "x86_64")]
const CALLS: [u32; 3] = [101, 298, 310];
#[cfg(target_arch = "aarch64")]
const CALLS: [u32; 3] = [117, 241, 270];
const PTRACE: u32 = CALLS[0];
const PERF: u32 = CALLS[1];
const READ: u32 = CALLS[2];
const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// A program of known shares in these surroundings.
fn hot(surroundings: &Surroundings) -> Running {
    let fixture = fixtures::build(Language::C, "hot", Variant::release());
    let program = fixture.copied_to(surroundings.folder()).unwrap().path;
    let target = spawn_command(&mut surroundings.other(program.to_str().unwrap(), &["steady"]));
    target.wait_started();
    target
}

/// As `kernel.perf_event_paranoid` of 3 and 4 does on Debian and Ubuntu.
#[test]
fn without_perf_events_running_threads_are_held_and_it_is_told() {
    let surroundings = Surroundings::new().of_nobody();
    let target = hot(&surroundings);
    let before = Snapshot::take(target.pid());
    let surroundings = surroundings.refused(&[(PERF, EACCES)]);
    assert_results(each_verb(&surroundings, &name(&target)));
    let name = name(&target);
    let record = ["record", &name, "-d", "8", "-o", "a.folded"];
    let told = surroundings.run(&record).ok().stderr;
    assert!(told.contains("threads held") && told.contains("perf_event_paranoid is "), "{told}");
    let (stacks, samples) = folded(&fs::read_to_string(surroundings.path("a.folded")).unwrap());
    assert_known_shares(&stacks, samples);
    let refused = surroundings.run(&[&record[..], &["--sampler", "perf"]].concat()).fails(4);
    assert_clear(&refused);
    assert!(refused.stderr.contains("no CAP_PERFMON"), "{}", refused.stderr);
    target.assert_goes_on();
    before.assert_same();
}

/// As some filters of containers do.
#[test]
fn without_ptrace_nothing_can_be_held_and_what_is_lost_is_told() {
    let surroundings = Surroundings::new().of_nobody();
    let target = hot(&surroundings);
    let before = Snapshot::take(target.pid());
    let surroundings = surroundings.refused(&[(PTRACE, EPERM), (PERF, EPERM), (READ, EPERM)]);
    let [stack, others @ ..] = each_verb(&surroundings, &name(&target));
    for told in ["tid ", "running", "beat_for_ever", "Operation not permitted"] {
        assert!(stack.stdout.contains(told), "no {told:?} in {}", stack.snapshot());
    }
    for run in others {
        let run = run.fails(4);
        assert!(run.stderr.contains("Operation not permitted"), "{}", run.stderr);
    }
    let core = surroundings.run(&["core", &name(&target), "--no-stop", "-o", "a.core"]).ok();
    assert!(core.stderr.contains("not stopped"), "{}", core.stderr);
    target.assert_goes_on();
    before.assert_same();
}
