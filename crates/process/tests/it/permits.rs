//! Verdicts, against what the kernel really says: every prediction stands beside an attempt by the same process.

use pepo_process::permits::{self, DAC_OVERRIDE, DAC_READ_SEARCH, Denial, SYS_PTRACE};

use crate::helper::{self, Helper, NOBODY, With};

/// `judging` must say this of `target`: codes or `yes` for look and stop, and the kernel must agree with each.
fn check(judging: With, target: &Helper, look: &str, stop: &str) {
    let said = Helper::judging(judging, target.pid());
    let really = |word: &str| if word == "yes" { "yes" } else { "no" };
    assert_eq!(said, format!("{look} {stop} {} {}", really(look), really(stop)), "{judging:?}");
}

macro_rules! needs_root {
    () => {
        if !helper::is_root() {
            pepo_testkit::skip("process-permits-root", "not root: the condition cannot be made");
            return;
        }
    };
}

#[test]
fn with_all_capabilities_everything_is_allowed() {
    needs_root!();
    check(With::default(), &Helper::waiting(With::default()), "yes", "yes");
    check(With::default(), &Helper::waiting(With::user(NOBODY)), "yes", "yes");
    check(With::default(), &Helper::untouchable(With::user(NOBODY)), "yes", "yes");
}

#[test]
fn another_users_process_is_refused_and_ones_own_is_not() {
    needs_root!();
    check(With::user(NOBODY), &Helper::waiting(With::default()), "OtherUser", "OtherUser");
    check(With::user(NOBODY), &Helper::waiting(With::user(NOBODY - 1)), "OtherUser", "OtherUser");
    check(With::user(NOBODY), &Helper::waiting(With::user(NOBODY)), "yes", "yes");
}

#[test]
fn a_process_that_is_not_dumpable_is_refused() {
    needs_root!();
    check(With::user(NOBODY), &Helper::untouchable(With::user(NOBODY)), "NotDumpable", "NotDumpable");
}

#[test]
fn root_without_the_capability_is_refused_by_what_others_have_more() {
    needs_root!();
    let less = With { dropped: &[SYS_PTRACE], ..With::default() };
    check(less, &Helper::waiting(With::default()), "NeedsCapability", "NeedsCapability");
    check(less, &Helper::waiting(With::user(NOBODY)), "NeedsCapability", "NeedsCapability");
    check(less, &Helper::waiting(less), "yes", "yes");
}

#[test]
fn the_right_to_trace_alone_does_not_open_the_files_of_another_user() {
    needs_root!();
    let nobodys = Helper::waiting(With::user(NOBODY));
    let traces = With { dropped: &[DAC_OVERRIDE, DAC_READ_SEARCH], ..With::default() };
    check(traces, &nobodys, "NeedsCapability", "NeedsCapability");
    check(traces, &Helper::waiting(With::default()), "yes", "yes");
    // To read is not to write.
    let reads = With { dropped: &[DAC_OVERRIDE], ..With::default() };
    check(reads, &nobodys, "yes", "NeedsCapability");
    let writes = With { dropped: &[DAC_READ_SEARCH], ..With::default() };
    check(writes, &nobodys, "yes", "yes");
}

#[test]
fn user_namespaces_are_judged_from_both_sides() {
    needs_root!();
    let inside = With { user: Some(NOBODY), user_namespace: true, ..With::default() };
    check(With::default(), &Helper::waiting(inside), "yes", "yes");
    // Whoever made the namespace has all capabilities in it.
    check(With::user(NOBODY), &Helper::waiting(inside), "yes", "yes");
    check(With::user(NOBODY - 1), &Helper::waiting(inside), "OtherUser", "OtherUser");
    check(inside, &Helper::waiting(With::user(NOBODY)), "NeedsCapability", "NeedsCapability");
}

#[test]
fn a_filter_of_ours_is_noticed_without_touching_the_target() {
    needs_root!();
    let filtered = With { no_ptrace: true, ..With::default() };
    check(filtered, &Helper::waiting(With::default()), "yes", "Seccomp");
    // The target's own filter does not matter.
    check(With::default(), &Helper::waiting(filtered), "yes", "yes");
}

#[test]
fn a_process_that_is_traced_is_told_with_its_tracer() {
    needs_root!();
    let target = Helper::waiting(With::default());
    assert!(helper::seize(target.pid()));
    check(With::default(), &target, "yes", "AlreadyTraced");
    let verdict = permits::judge_stop(&target.process());
    let Some(Denial::AlreadyTraced { tracer, name, .. }) = verdict.denial() else { panic!("{verdict:?}") };
    // The kernel names the thread that traces.
    assert!(*tracer > 0 && !name.is_empty(), "{tracer} {name}");
    helper::release(target.pid());
    assert!(permits::judge_stop(&target.process()).is_yes());
}

#[test]
fn what_has_ended_is_told_with_the_parent_that_should_collect_it() {
    let mut target = Helper::waiting(With::default());
    target.end();
    let verdict = permits::judge_look(&target.process());
    assert_eq!(verdict.denial(), Some(&Denial::Ended { pid: target.pid(), parent: std::process::id() }));
}

#[test]
fn nobody_stops_himself() {
    let own = pepo_process::Process::own().unwrap();
    assert!(permits::judge_look(&own).is_yes());
    assert_eq!(permits::judge_stop(&own).denial(), Some(&Denial::Itself));
}
