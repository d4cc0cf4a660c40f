//! The nodes that are here, what they have, and what was asked of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pepo_wire::{
    Code, Failure,
    agent::Target,
    server::{CarryRequest, CarryResponse, NodeOrder, NodeTarget, TargetsChanged},
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

/// More targets of one node than this are not kept.
const MAX_TARGETS: usize = 20_000;
/// Orders that one node has not answered yet.
const MAX_WAITING: usize = 256;

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    linked: Mutex<BTreeMap<String, Linked>>,
    waiting: Mutex<HashMap<String, Waiting>>,
    serial: AtomicU64,
}

/// A node that is here.
#[derive(Debug)]
struct Linked {
    /// Which of the links under this name.
    serial: u64,
    orders: mpsc::Sender<Result<NodeOrder, Status>>,
    targets: BTreeMap<String, NodeTarget>,
    has_reported: bool,
}

fn runs(target: &NodeTarget) -> bool {
    target.state == "running"
}

/// Somebody who waits for a stream from a node.
#[derive(Debug)]
struct Waiting {
    node: String,
    answer: oneshot::Sender<Result<Carried, Failure>>,
}

/// The node's end of a stream.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) target: Target,
    pub(crate) from_node: Streaming<CarryRequest>,
    pub(crate) to_node: mpsc::Sender<Result<CarryResponse, Status>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nodes {
    /// A node is here. An older link under its name ends: the node has dialled again before its death was noticed.
    pub(crate) fn link(&self, node: &str, orders: mpsc::Sender<Result<NodeOrder, Status>>) -> u64 {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        lock(&self.linked).insert(
            node.to_owned(),
            Linked { serial, orders, targets: BTreeMap::new(), has_reported: false },
        );
        serial
    }

    /// It is gone, unless it is here again by a newer link.
    pub(crate) fn unlink(&self, node: &str, serial: u64) {
        let mut linked = lock(&self.linked);
        if linked.get(node).is_some_and(|one| one.serial == serial) {
            linked.remove(node);
        }
        drop(linked);
        // Nobody will answer these any more.
        lock(&self.waiting).retain(|_, waiting| waiting.node != node);
    }

    /// What a node has, changed; gives those that have started since it was last told. What its first report holds was there before.
    pub(crate) fn changed(
        &self,
        node: &str,
        serial: u64,
        changed: TargetsChanged,
    ) -> Result<Vec<NodeTarget>, Failure> {
        let mut linked = lock(&self.linked);
        let Some(one) = linked.get_mut(node).filter(|one| one.serial == serial) else {
            return Err(Failure::new(Code::StreamBroken, format!("node {node} is here by a newer link")));
        };
        for id in &changed.gone {
            one.targets.remove(id);
        }
        let is_first = !std::mem::replace(&mut one.has_reported, true);
        let mut started = Vec::new();
        for target in changed.put {
            let before = one.targets.get(&target.container_id);
            if !is_first && runs(&target) && !before.is_some_and(runs) {
                started.push(target.clone());
            }
            one.targets.insert(target.container_id.clone(), target);
        }
        if one.targets.len() > MAX_TARGETS {
            return Err(Failure::new(
                Code::TooLarge,
                format!("node {node} has more than {MAX_TARGETS} targets"),
            ));
        }
        Ok(started)
    }

    /// How many nodes are here, and how many targets they have.
    pub(crate) fn numbers(&self) -> (usize, usize) {
        let linked = lock(&self.linked);
        (linked.len(), linked.values().map(|one| one.targets.len()).sum())
    }

    /// All targets that `shown` lets pass, by node and name.
    pub(crate) fn targets(
        &self,
        mut shown: impl FnMut(&str, &NodeTarget) -> bool,
    ) -> Vec<(String, NodeTarget)> {
        let linked = lock(&self.linked);
        let all =
            linked.iter().flat_map(|(node, one)| one.targets.values().map(move |target| (node, target)));
        let mut all: Vec<_> = all
            .filter(|(node, target)| shown(node, target))
            .map(|(node, target)| (node.clone(), target.clone()))
            .collect();
        all.sort_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
        all
    }

    /// One target of a node.
    pub(crate) fn target(&self, node: &str, container_id: &str) -> Option<NodeTarget> {
        lock(&self.linked).get(node)?.targets.get(container_id).cloned()
    }

    /// Asks a node for a stream; what comes of it arrives at the receiver, or nothing when the node goes away.
    pub(crate) fn order(
        &self,
        node: &str,
        name: &str,
        order: NodeOrder,
    ) -> Result<oneshot::Receiver<Result<Carried, Failure>>, Failure> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        waiting.retain(|_, one| !one.answer.is_closed());
        if waiting.values().filter(|one| one.node == node).count() >= MAX_WAITING {
            return Err(Failure::new(Code::TooLarge, format!("node {node} has too much to do"))
                .because(format!("{MAX_WAITING} streams were asked of it and are not there yet")));
        }
        waiting.insert(name.to_owned(), Waiting { node: node.to_owned(), answer });
        drop(waiting);
        let sent = lock(&self.linked).get(node).is_some_and(|one| one.orders.try_send(Ok(order)).is_ok());
        if sent {
            return Ok(answered);
        }
        lock(&self.waiting).remove(name);
        Err(Failure::new(Code::NotReachable, format!("node {node} is away"))
            .hint("its agent dials again by itself; see its log if it does not"))
    }

    /// A node answers one of its orders; an answer that nobody of this node waits for is refused.
    pub(crate) fn answer(
        &self,
        node: &str,
        order: &str,
        answer: Result<Carried, Failure>,
    ) -> Result<(), Failure> {
        let unknown = || Failure::new(Code::NotGranted, "nobody waits for this stream");
        let mut waiting = lock(&self.waiting);
        if waiting.get(order).is_none_or(|one| one.node != node) {
            return Err(unknown());
        }
        let one = waiting.remove(order).ok_or_else(unknown)?;
        one.answer.send(answer).map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::server::node_order::Kind;

    use super::*;

    fn changed(put: &[&str], gone: &[&str]) -> TargetsChanged {
        let put = put.iter().map(|id| NodeTarget {
            name: format!("docker/{id}"),
            container_id: (*id).to_owned(),
            ..NodeTarget::default()
        });
        TargetsChanged { put: put.collect(), gone: gone.iter().map(|id| (*id).to_owned()).collect() }
    }

    fn names(nodes: &Nodes) -> Vec<String> {
        nodes
            .targets(|_, _| true)
            .into_iter()
            .map(|(node, target)| format!("{}@{node}", target.name))
            .collect()
    }

    #[test]
    fn what_a_node_has_is_known_by_its_changes_and_goes_with_it() {
        let nodes = Nodes::default();
        let (orders, _here) = mpsc::channel(1);
        let serial = nodes.link("a", orders.clone());
        nodes.changed("a", serial, changed(&["x", "y"], &[])).unwrap();
        nodes.changed("a", serial, changed(&["z"], &["x"])).unwrap();
        assert_eq!(names(&nodes), ["docker/y@a", "docker/z@a"]);
        let newer = nodes.link("a", orders);
        assert_eq!(names(&nodes), Vec::<String>::new());
        assert!(nodes.changed("a", serial, changed(&["old"], &[])).is_err(), "the older link has no say");
        nodes.unlink("a", serial);
        nodes.changed("a", newer, changed(&["x"], &[])).unwrap();
        nodes.unlink("a", newer);
        assert_eq!(names(&nodes), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_order_is_answered_by_its_own_node_once_or_ends_with_it() {
        let nodes = Nodes::default();
        let (orders, mut here) = mpsc::channel(1);
        let serial = nodes.link("a", orders);
        let order = || NodeOrder { kind: Some(Kind::Welcome(Default::default())) };
        let answered = nodes.order("a", "1", order()).unwrap();
        assert!(here.recv().await.is_some());
        let failed = || Err(Failure::new(Code::NotRunning, "it has ended"));
        assert_eq!(nodes.answer("b", "1", failed()).unwrap_err().code(), Code::NotGranted);
        nodes.answer("a", "1", failed()).unwrap();
        assert_eq!(nodes.answer("a", "1", failed()).unwrap_err().code(), Code::NotGranted);
        assert_eq!(answered.await.unwrap().unwrap_err().code(), Code::NotRunning);

        let answered = nodes.order("a", "2", order()).unwrap();
        nodes.unlink("a", serial);
        assert!(answered.await.is_err());
        assert_eq!(nodes.order("a", "3", order()).unwrap_err().code(), Code::NotReachable);
        assert!(lock(&nodes.waiting).is_empty());
    }
}
