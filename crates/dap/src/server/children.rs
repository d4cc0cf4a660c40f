//! Sessions that belong together: when the one that opened them goes, all go. Editors forget about children whose parent is
//! disconnected, and their targets would stand still.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
    siblings: Arc<Siblings>,
}

/// The children of one parent, of which perhaps only the first that stops is kept.
#[derive(Debug, Default)]
struct Siblings {
    first: bool,
    /// Each child's own end; none when one has stopped.
    ends: Mutex<Option<Vec<CancellationToken>>>,
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
    /// Notes a parent; its children are stopped by the token. `first`: so are they when another one of them stops.
    pub(crate) fn add_parent(&self, name: &str, first: bool) -> (CancellationToken, watch::Receiver<Count>) {
        let stop = CancellationToken::new();
        let (count, counts) = watch::channel(Count::default());
        let siblings = Arc::new(Siblings { first, ends: Mutex::new(Some(Vec::new())) });
        let parent = Parent { stop: stop.clone(), count, siblings };
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), parent);
        (stop, counts)
    }

    /// Forgets a parent.
    pub(crate) fn remove_parent(&self, name: &str) {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Notes a child; it holds what it is given for as long as it lives. None when there is no such parent (any more), or
    /// another child is kept.
    pub(crate) fn add_child(&self, name: &str) -> Option<Child> {
        let parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = parents.get(name)?;
        let stop = parent.stop.child_token();
        let siblings = Arc::clone(&parent.siblings);
        let number = {
            let mut ends = siblings.ends.lock().unwrap_or_else(PoisonError::into_inner);
            let ends = ends.as_mut()?;
            ends.push(stop.clone());
            ends.len() - 1
        };
        let count = parent.count.clone();
        count.send_modify(|count| *count = Count { now: count.now + 1, ever: count.ever + 1 });
        Some(Child { stop, number, count, siblings })
    }
}

/// One child.
#[derive(Debug)]
pub(crate) struct Child {
    /// Cancelled when the parent goes, or when another child is kept.
    pub(crate) stop: CancellationToken,
    number: usize,
    count: watch::Sender<Count>,
    siblings: Arc<Siblings>,
}

impl Child {
    /// Its target has stopped: where only the first is kept, and it is that, the others end.
    pub(crate) fn has_stopped(&self) {
        if !self.siblings.first || self.stop.is_cancelled() {
            return;
        }
        let ends = self.siblings.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        let others = ends.iter().flatten().enumerate().filter(|(number, _)| *number != self.number);
        others.for_each(|(_, end)| end.cancel());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.count.send_modify(|count| count.now = count.now.saturating_sub(1));
    }
}
