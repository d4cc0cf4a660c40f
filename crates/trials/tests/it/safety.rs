//! Every guarded cell a few times; `cargo xtask safety` runs them all often enough for figures.

use std::sync::atomic::AtomicBool;

use pepo_trials::cells::Cell;

/// Rounds of each cell, all at once.
const ROUNDS: u32 = 3;

fn guarded(debugger: &str) {
    let mut lost = Vec::new();
    for cell in Cell::all().into_iter().filter(|cell| cell.debugger == debugger && cell.is_promised()) {
        let outcome = cell.run(ROUNDS, ROUNDS, &AtomicBool::new(false));
        let outcome = outcome.unwrap_or_else(|error| panic!("{error:?}")).expect("nobody stops it");
        if outcome.lived < outcome.rounds {
            lost.push(format!("{cell}: {:?}", outcome.details));
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

#[test]
fn targets_of_lldb_live_whatever_dies() {
    guarded("lldb");
}

#[test]
fn targets_of_gdb_live_whatever_dies() {
    guarded("gdb");
}

#[test]
fn targets_of_delve_live_whatever_dies() {
    guarded("delve");
}

#[test]
fn targets_of_the_python_debugger_live_whatever_dies() {
    guarded("python");
}
