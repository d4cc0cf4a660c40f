//! Every guarded cell a few times; `cargo xtask safety` runs them all often enough for figures.

use pepo_trials::cells::{By, Cell};

/// Rounds of each cell.
const ROUNDS: u32 = 3;

async fn guarded(debugger: &str) {
    let mut lost = Vec::new();
    for cell in Cell::all().into_iter().filter(|cell| cell.debugger == debugger && cell.by == By::Guarded) {
        let outcome = cell.run(ROUNDS).await.unwrap_or_else(|error| panic!("{error:?}"));
        if outcome.lived < outcome.rounds {
            lost.push(format!("{cell}: {:?}", outcome.others));
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_of_lldb_live_whatever_dies() {
    guarded("lldb").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_of_gdb_live_whatever_dies() {
    guarded("gdb").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_of_delve_live_whatever_dies() {
    guarded("delve").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_of_the_python_debugger_live_whatever_dies() {
    guarded("python").await;
}
