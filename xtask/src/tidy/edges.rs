//! Who may use whom: the walls between the rooms, as data, held against what cargo says.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths;
use crate::run::cmd;

/// What one crate may use of ours, and what from outside it must not know.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
    /// Used on Linux alone: the rest of the crate builds for the user's other systems.
    only_on_linux: &'static [&'static str],
    must_not_know: &'static [&'static str],
}

const ENGINES: &[&str] = &["bollard", "kube"];

const ROOMS: &[Room] = &[
    room("pepo-wire", &[], &["tokio", "rustix", "bollard", "clap", "anyhow"]),
    room("pepo-client", &["pepo-wire"], &["bollard", "rustix", "clap", "anyhow"]),
    room("pepo-capture", &["pepo-wire"], &["tokio", "tonic", "rustix", "libc", "bollard", "clap", "anyhow"]),
    room("pepo-dap", &["pepo-wire", "pepo-client"], &["bollard", "hyper-util", "tonic", "object", "anyhow"]),
    room("pepo-platform", &["pepo-wire", "pepo-client"], &["object", "gimli", "framehop", "clap", "anyhow"]),
    room("pepo-process", &["pepo-wire"], &["tokio", "tonic", "bollard", "hyper-util", "clap", "anyhow"]),
    room("pepo-look", &["pepo-wire", "pepo-process"], &["tokio", "tonic", "bollard", "clap", "anyhow"]),
    room("pepo-debug", &["pepo-wire", "pepo-process"], &["bollard", "hyper-util", "tonic", "clap", "anyhow"]),
    room(
        "pepo-agent",
        &["pepo-wire", "pepo-process", "pepo-look", "pepo-debug"],
        &["bollard", "clap", "anyhow"],
    ),
    room(
        "pepo-entry",
        &[],
        &["tokio", "tonic", "prost", "bollard", "hyper", "hyper-util", "clap", "anyhow", "serde", "tracing"],
    ),
    room("pepo-server", &["pepo-wire"], &["bollard", "kube", "rustix", "clap", "anyhow"]),
    room(
        "pepo-node",
        &["pepo-wire", "pepo-client", "pepo-platform", "pepo-agent"],
        &["bollard", "kube", "clap", "anyhow", "serde"],
    ),
    Room {
        name: "pepo",
        may_use: &["pepo-wire", "pepo-client", "pepo-capture", "pepo-dap", "pepo-platform"],
        only_on_linux: &[
            "pepo-agent",
            "pepo-debug",
            "pepo-entry",
            "pepo-look",
            "pepo-node",
            "pepo-process",
            "pepo-server",
        ],
        must_not_know: ENGINES,
    },
    room(TESTKIT, ALL_BUT_PEPO, &[]),
    room("pepo-trials", ALL_BUT_PEPO, &[]),
    room(
        "pepo-fuzz",
        &["pepo-wire", "pepo-capture", "pepo-process", "pepo-entry", "pepo-look"],
        &["tokio", "bollard", "clap", "anyhow"],
    ),
    room("xtask", &[], &["tokio", "clap"]),
];

/// What the trials and the test kit may use.
const ALL_BUT_PEPO: &[&str] = &[
    "pepo-wire",
    "pepo-client",
    "pepo-capture",
    "pepo-dap",
    "pepo-platform",
    "pepo-process",
    "pepo-look",
    "pepo-debug",
    "pepo-agent",
    "pepo-entry",
    TESTKIT,
];

/// Every room's tests may use it, and what it may use.
const TESTKIT: &str = "pepo-testkit";

const fn room(
    name: &'static str,
    may_use: &'static [&'static str],
    must_not_know: &'static [&'static str],
) -> Room {
    Room { name, may_use, only_on_linux: &[], must_not_know }
}

/// One dependency as cargo tells it.
struct Edge<'a> {
    to: &'a str,
    for_tests: bool,
    target: Option<&'a str>,
}

/// Every edge that crosses a wall, and every crate that has no room in the table.
pub(crate) fn check() -> Result<Vec<String>> {
    let metadata = cmd("cargo").args(["metadata", "--no-deps", "--format-version=1"]).dir(&paths::root());
    let metadata: Value = serde_json::from_str(&metadata.output()?).context("cargo prints JSON")?;
    let packages = metadata["packages"].as_array().context("cargo lists packages")?;
    Ok(packages.iter().flat_map(judge_package).collect())
}

fn judge_package(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return vec![format!("{name}: not in the table of rooms (xtask/src/tidy/edges.rs)")];
    };
    let edges = package["dependencies"].as_array().into_iter().flatten().filter_map(edge);
    edges.filter_map(|edge| judge(room, &edge)).collect()
}

fn edge(dependency: &Value) -> Option<Edge<'_>> {
    let for_tests = dependency["kind"] == "dev";
    Some(Edge { to: dependency["name"].as_str()?, for_tests, target: dependency["target"].as_str() })
}

/// What is wrong with one edge, if anything.
fn judge(room: &Room, edge: &Edge<'_>) -> Option<String> {
    let (name, to) = (room.name, edge.to);
    let linux = edge.target == Some("cfg(target_os = \"linux\")");
    let ours = ROOMS.iter().any(|room| room.name == to);
    if edge.for_tests || room.may_use.contains(&to) {
        return None;
    }
    if room.must_not_know.contains(&to) {
        return Some(format!("{name}: must not know {to}"));
    }
    match room.only_on_linux.contains(&to) {
        true if linux => None,
        true => Some(format!("{name}: may use {to} only on Linux")),
        false if ours => Some(format!("{name}: may not use {to}")),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(from: &str, to: &str, for_tests: bool, target: Option<&str>) -> Option<String> {
        let room = ROOMS.iter().find(|room| room.name == from).unwrap();
        judge(room, &Edge { to, for_tests, target })
    }

    #[test]
    fn walls_hold() {
        assert_eq!(verdict("pepo-client", "pepo-wire", false, None), None);
        assert_eq!(verdict("pepo-dap", TESTKIT, true, None), None);
        assert_eq!(verdict("pepo", "pepo-agent", false, Some("cfg(target_os = \"linux\")")), None);
        for (from, to) in [
            ("pepo-wire", "pepo-process"),
            ("pepo-process", "tokio"),
            ("pepo-dap", "pepo-debug"),
            ("pepo", "pepo-agent"),
            ("pepo-agent", TESTKIT),
        ] {
            assert!(verdict(from, to, false, None).is_some(), "{from} → {to}");
        }
    }

    #[test]
    fn no_room_uses_one_that_uses_it() {
        for room in ROOMS {
            for used in room.may_use.iter().filter(|used| **used != room.name) {
                let other = ROOMS.iter().find(|other| other.name == *used).unwrap();
                assert!(!other.may_use.contains(&room.name), "{} and {used}", room.name);
            }
        }
    }
}
