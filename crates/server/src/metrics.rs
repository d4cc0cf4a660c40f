//! What a server counts, as Prometheus reads it (its text format, version 0.0.4). Numbers alone: no name of a person, node or target.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Open now.
    pub(crate) connections: Level,
    pub(crate) streams: Level,
    pub(crate) held: Level,
    /// Since the start.
    pub(crate) handshakes_failed: Count,
    pub(crate) unknown_callers: Count,
    pub(crate) node_links: Count,
    pub(crate) streams_opened: Count,
    pub(crate) streams_refused: Count,
    pub(crate) bytes_to_targets: Count,
    pub(crate) bytes_from_targets: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub(crate) struct Level(AtomicU64);

impl Level {
    /// One more, until what is given is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(&self.0)
    }
}

/// One of a [`Level`].
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a AtomicU64);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// The page; nodes and targets are those that are here.
    pub(crate) fn page(&self, nodes: usize, targets: usize) -> String {
        let level = |level: &Level| level.0.load(Ordering::Relaxed);
        let mut page = format!(
            "# HELP pepo_build_info The version that runs.\n# TYPE pepo_build_info gauge\npepo_build_info{{version=\"{}\"}} 1\n",
            env!("CARGO_PKG_VERSION")
        );
        for (name, kind, help, value) in [
            ("nodes", "gauge", "Nodes that are here.", nodes as u64),
            ("targets", "gauge", "Containers on these nodes.", targets as u64),
            ("connections", "gauge", "Connections.", level(&self.connections)),
            ("streams", "gauge", "Streams to agents.", level(&self.streams)),
            ("held_calls", "gauge", "Calls that proxies hold.", level(&self.held)),
            (
                "streams_opened_total",
                "counter",
                "Streams to agents that were opened.",
                self.streams_opened.now(),
            ),
            (
                "streams_refused_total",
                "counter",
                "Streams that the policy refused.",
                self.streams_refused.now(),
            ),
            ("node_links_total", "counter", "Times a node joined.", self.node_links.now()),
            (
                "unknown_callers_total",
                "counter",
                "Calls without a token that is known.",
                self.unknown_callers.now(),
            ),
            (
                "handshakes_failed_total",
                "counter",
                "TLS handshakes that failed.",
                self.handshakes_failed.now(),
            ),
            ("to_targets_bytes_total", "counter", "Bytes carried to agents.", self.bytes_to_targets.now()),
            (
                "from_targets_bytes_total",
                "counter",
                "Bytes carried from agents.",
                self.bytes_from_targets.now(),
            ),
        ] {
            // Writing into a String does not fail.
            let _ =
                writeln!(page, "# HELP pepo_{name} {help}\n# TYPE pepo_{name} {kind}\npepo_{name} {value}");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_help_and_its_type_and_stands_once() {
        let metrics = Metrics::default();
        metrics.bytes_to_targets.add(70_000);
        let one = metrics.streams.enter();
        drop(metrics.streams.enter());
        let page = metrics.page(2, 300);
        drop(one);
        for line in
            ["pepo_nodes 2", "pepo_targets 300", "pepo_streams 1", "pepo_to_targets_bytes_total 70000"]
        {
            assert_eq!(page.lines().filter(|one| *one == line).count(), 1, "{line} in\n{page}");
        }
        assert!(metrics.page(0, 0).contains("\npepo_streams 0\n"));
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let is_counter = page.contains(&format!("# TYPE {name} counter\n"));
            assert_eq!(is_counter, name.ends_with("_total"), "{name}");
            assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        }
    }
}
