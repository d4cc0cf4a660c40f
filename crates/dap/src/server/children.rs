//! Sessions that belong together: when the one that opened them goes, all go. Editors forget about children whose parent is
//! disconnected, and their targets would stand still.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The field of a child's attach arguments which names its parent.
pub(crate) const FIELD: &str = "__pepoParent";

/// All parents of one server.
#[derive(Debug, Default)]
pub(crate) struct Children {
    parents: Mutex<HashMap<String, Parent>>,
}

#[derive(Debug)]
struct Parent {
    stop: CancellationToken,
    count: watch::Sender<Count>,
}

/// How many children there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Now.
    pub(crate) now: usize,
    /// Ever.
    pub(crate) ever: usize,
}

impl Children {
    /// Notes a parent; its children are stopped by the token.
    pub(crate) fn add_parent(&self, name: &str) -> (CancellationToken, watch::Receiver<Count>) {
        let stop = CancellationToken::new();
        let (count, counts) = watch::channel(Count::default());
        let parent = Parent { stop: stop.clone(), count };
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), parent);
        (stop, counts)
    }

    /// Forgets a parent.
    pub(crate) fn remove_parent(&self, name: &str) {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Notes a child; it holds what it is given for as long as it lives. None when there is no such parent (any more).
    pub(crate) fn add_child(&self, name: &str) -> Option<Child> {
        let parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = parents.get(name)?;
        let count = parent.count.clone();
        count.send_modify(|count| *count = Count { now: count.now + 1, ever: count.ever + 1 });
        Some(Child { stop: parent.stop.clone(), count })
    }
}

/// One child.
#[derive(Debug)]
pub(crate) struct Child {
    /// Cancelled when the parent goes.
    pub(crate) stop: CancellationToken,
    count: watch::Sender<Count>,
}

impl Drop for Child {
    fn drop(&mut self) {
        self.count.send_modify(|count| count.now = count.now.saturating_sub(1));
    }
}
