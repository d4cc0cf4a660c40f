//! The end of a Python session: the code inside takes itself away when its stream ends; here it is proven that it did.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use pepo_process::Process;

use super::channel::{self, Control, Word};
use crate::debugger::{Hold, LetGo};

/// Longest wait for the code inside: pydevd's threads look every 0.1 to 0.5 s whether they should end.
const LIMIT: Duration = Duration::from_secs(12);
/// Longest wait for a thread of ours to be gone after its last word.
const LAST: Duration = Duration::from_secs(2);

/// What is needed to prove the end.
#[derive(Debug)]
pub(super) struct PythonHold {
    pub(super) process: Process,
    pub(super) control: Control,
    /// The thread inside, as numbered in the process's namespace.
    pub(super) thread: u32,
    /// What could not be taken back before.
    pub(super) left: Vec<String>,
}

#[async_trait]
impl Hold for PythonHold {
    async fn let_go(mut self: Box<Self>) -> LetGo {
        let prove = tokio::task::spawn_blocking(move || self.prove());
        let left_behind =
            prove.await.unwrap_or_else(|_| vec!["unknown: the proof was not finished".to_owned()]);
        LetGo { repairs: Vec::new(), left_behind }
    }
}

impl PythonHold {
    /// Waits for the code inside to end, and looks at the process from outside.
    pub(super) fn prove(&mut self) -> Vec<String> {
        let mut left = std::mem::take(&mut self.left);
        if !self.process.alive() {
            return left;
        }
        let last = self.control.wait(Instant::now() + LIMIT, |word| match word {
            Word::Stopped { left, threads } => Some((left, threads)),
            _ => None,
        });
        let mut threads = BTreeSet::from([self.thread]);
        match last {
            Some((trouble, pydevd)) => {
                left.extend(trouble);
                threads.extend(pydevd);
            }
            None if !self.process.alive() => return left,
            None => left.push("the code inside did not end".to_owned()),
        }
        let end = Instant::now() + LAST;
        loop {
            let seen = self.seen(&threads);
            if seen.is_empty() || Instant::now() >= end || !self.process.alive() {
                left.extend(seen);
                return left;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Threads, memfds and mappings of ours that can be seen from outside.
    fn seen(&self, ours: &BTreeSet<u32>) -> Vec<String> {
        let mut seen = Vec::new();
        let threads = self.process.threads().unwrap_or_default();
        let threads = threads.iter().filter(|thread| ours.contains(&thread.container_tid));
        seen.extend(threads.map(|thread| format!("thread {} ({})", thread.tid, thread.name)));
        seen.extend(channel::our_memfds(&self.process).into_iter().map(|name| format!("descriptor {name}")));
        let maps = self.process.maps().unwrap_or_default();
        let maps = maps.iter().filter_map(|map| map.path.as_deref()?.to_str());
        seen.extend(
            maps.filter(|path| path.starts_with("/memfd:pepo-")).map(|path| format!("mapping {path}")),
        );
        seen.dedup();
        seen
    }
}
