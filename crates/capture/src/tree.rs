//! Stacks as one tree: what flame graphs are drawn from. Calls of the same function from the same place are one node.

use std::collections::HashMap;

use crate::capture::{Capture, FrameId, Kind, Sample};

/// A tree of calls; node 0 is the root, parents stand before children.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The names that nodes have.
    pub names: Vec<Name>,
    by_name: HashMap<Name, usize>,
    children: HashMap<(usize, usize), usize>,
}

/// What a node stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Name {
    /// The function, or a remark.
    pub label: String,
    /// The module's short name; empty when unknown.
    pub module: String,
    /// The kind of code.
    pub kind: Kind,
}

/// A function called from a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Index of its name.
    pub name: usize,
    /// Index of its caller; the root's is itself.
    pub parent: usize,
    /// Its callees, by index.
    pub children: Vec<usize>,
    /// Weight of the samples that end here.
    pub own: u64,
    /// Weight of those and of all below.
    pub total: u64,
    /// Its weight, with all below, in the capture that this one is compared with.
    pub before: u64,
}

impl Tree {
    /// The tree of a capture; with `threads`, each thread has a branch of its own.
    #[must_use]
    pub fn of(capture: &Capture, threads: bool) -> Tree {
        let mut tree = Tree::default();
        tree.grow(capture, threads, |node, sample| node.own += sample.weight);
        tree.sum();
        tree
    }

    /// The tree of two captures: in `before` stands what the first one has.
    #[must_use]
    pub fn of_both(before: &Capture, after: &Capture) -> Tree {
        let mut tree = Tree::default();
        tree.grow(after, false, |node, sample| node.own += sample.weight);
        tree.grow(before, false, |node, sample| node.before += sample.weight);
        tree.sum();
        tree
    }

    fn grow(&mut self, capture: &Capture, threads: bool, mut count: impl FnMut(&mut Node, &Sample)) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
            self.name(Name { label: "all".to_owned(), kind: Kind::Remark, ..Name::default() });
        }
        let names: Vec<usize> =
            (0..capture.frames.len()).map(|index| self.name(name(capture, FrameId::at(index)))).collect();
        let mut known: HashMap<(usize, crate::StackId), usize> = HashMap::new();
        for sample in &capture.samples {
            let mut root = 0;
            for label in branches(capture, sample, threads) {
                let name = self.name(Name { label, kind: Kind::Remark, ..Name::default() });
                root = self.child(root, name);
            }
            let leaf = *known.entry((root, sample.stack)).or_insert_with(|| {
                capture
                    .frames_of(sample.stack)
                    .fold(root, |node, frame| self.child(node, names[frame.index()]))
            });
            count(&mut self.nodes[leaf], sample);
        }
    }

    fn name(&mut self, name: Name) -> usize {
        *self.by_name.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() - 1
        })
    }

    fn child(&mut self, parent: usize, name: usize) -> usize {
        if let Some(child) = self.children.get(&(parent, name)) {
            return *child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node { name, parent, ..Node::default() });
        self.nodes[parent].children.push(child);
        self.children.insert((parent, name), child);
        child
    }

    /// What ends at a node counts for all its callers too; children are sorted by their names.
    fn sum(&mut self) {
        for index in (0..self.nodes.len()).rev() {
            let Node { parent, own, before, .. } = self.nodes[index];
            self.nodes[index].total += own;
            if index > 0 {
                let total = self.nodes[index].total;
                self.nodes[parent].total += total;
                self.nodes[parent].before += before;
            }
        }
        for index in 0..self.nodes.len() {
            let mut children = std::mem::take(&mut self.nodes[index].children);
            children.sort_by(|a, b| {
                self.name_of(&self.nodes[*a]).label.cmp(&self.name_of(&self.nodes[*b]).label)
            });
            self.nodes[index].children = children;
        }
    }

    /// The name of a node.
    #[must_use]
    pub fn name_of(&self, node: &Node) -> &Name {
        &self.names[node.name]
    }
}

/// The branches a sample stands in: its process, where there are several, and its thread, when asked for.
fn branches(capture: &Capture, sample: &Sample, threads: bool) -> Vec<String> {
    let Some(thread) = capture.threads.get(sample.thread.index()) else { return Vec::new() };
    let mut branches = Vec::new();
    if capture.processes.len() > 1
        && let Some(process) = capture.processes.get(thread.process.index())
    {
        branches.push(process_label(process));
    }
    branches.extend(threads.then(|| format!("{} ({})", thread.name, thread.tid)));
    branches
}

/// `docker/shop worker (7)`.
pub(crate) fn process_label(process: &crate::Process) -> String {
    let named = format!("{} ({})", process.name, process.pid);
    if process.target.is_empty() { named } else { format!("{} {named}", process.target) }
}

fn name(capture: &Capture, frame: FrameId) -> Name {
    let one = &capture.frames[frame.index()];
    Name { label: capture.label(frame), module: capture.module_name(one.module).to_owned(), kind: one.kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::example;

    fn outline(tree: &Tree) -> Vec<String> {
        let line = |node: &Node| format!("{} {} {}", tree.name_of(node).label, node.own, node.total);
        tree.nodes.iter().map(line).collect()
    }

    #[test]
    fn each_call_chain_is_a_branch_and_callers_sum_up_what_they_call() {
        let tree = Tree::of(&example(), false);
        assert_eq!(
            outline(&tree),
            [
                "all 0 1000",
                "main 0 1000",
                "work 0 900",
                "hot 600 600",
                "warm<int, \"a\"> 300 300",
                "[libc.so.6] 100 100"
            ]
        );
    }

    #[test]
    fn threads_and_several_processes_have_branches_of_their_own() {
        let mut capture = example();
        let labels = |capture: &Capture, threads: bool| {
            let tree = Tree::of(capture, threads);
            tree.nodes[0]
                .children
                .iter()
                .map(|child| tree.names[tree.nodes[*child].name].label.clone())
                .collect()
        };
        let by_thread: Vec<String> = labels(&capture, true);
        assert_eq!(by_thread, ["shop (7)", "worker (8)"]);
        capture.processes.push(crate::Process { pid: 9, name: "child".into(), target: String::new() });
        let by_process: Vec<String> = labels(&capture, false);
        assert_eq!(by_process, ["shop (7)"]);
    }
}
