//! Threads by the numbers that they have where their process is.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use pepo_process::{AgentTid, Process, threads};

/// What each is here. Who has ended stays known.
#[derive(Debug, Default)]
pub(super) struct Tids(HashMap<u32, u32>);

impl Tids {
    /// Takes in threads that were not known yet.
    pub(super) fn list(&mut self, process: &Process) {
        let known: HashSet<u32> = self.0.values().copied().collect();
        let folder = process.proc_path().join("task");
        let listed = threads::list(process).unwrap_or_default();
        for tid in listed.into_iter().map(AgentTid::get).filter(|tid| !known.contains(tid)) {
            let status = fs::read(folder.join(format!("{tid}/status"))).unwrap_or_default();
            self.0.extend(threads::innermost(&status).map(|theirs| (theirs, tid)));
        }
    }

    /// The numbers that are theirs.
    pub(super) fn theirs(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }

    /// Its number in the agent's `/proc`.
    pub(super) fn here(&self, theirs: u32) -> Option<u32> {
        self.0.get(&theirs).copied()
    }
}
