//! V8's profile (`Profiler.Profile` of the Chrome DevTools Protocol): a tree of calls, and which of its nodes was seen when.

use std::collections::HashMap;

use serde_json::Value;

use crate::python::Spot;

/// The deepest call chain that is told.
const DEEPEST: usize = 512;
/// What V8 calls the time in which nothing runs, and the root of its tree.
const IDLE: &str = "(idle)";
const ROOT: &str = "(root)";

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// By the kernel's clock (CLOCK_MONOTONIC), in nanoseconds.
    pub(crate) at: u64,
    /// Innermost first; nothing while the program waits.
    pub(crate) chain: Vec<Spot>,
    /// Are there more, further out?
    pub(crate) is_cut: bool,
}

/// A node of the tree.
struct Node {
    spot: Spot,
    parent: Option<u64>,
}

/// The samples of a profile; nothing for what is none.
pub(crate) fn samples(profile: &Value) -> Option<Vec<Sample>> {
    let mut nodes: HashMap<u64, Node> = HashMap::new();
    let list = profile["nodes"].as_array()?;
    for node in list {
        nodes.insert(node["id"].as_u64()?, Node { spot: spot(&node["callFrame"]), parent: None });
    }
    for node in list {
        for child in node["children"].as_array().into_iter().flatten() {
            nodes.get_mut(&child.as_u64()?)?.parent = node["id"].as_u64();
        }
    }
    let mut at = profile["startTime"].as_u64()?.checked_mul(1000)?;
    let seen = profile["samples"].as_array()?;
    let deltas = profile["timeDeltas"].as_array()?;
    let mut samples = Vec::with_capacity(seen.len());
    for (node, delta) in seen.iter().zip(deltas) {
        // In microseconds; clocks of two processors may differ.
        at = at.saturating_add_signed(delta.as_i64()?.saturating_mul(1000));
        let (chain, is_cut) = chain(&nodes, node.as_u64()?)?;
        samples.push(Sample { at, chain, is_cut });
    }
    Some(samples)
}

/// From a node outwards.
fn chain(nodes: &HashMap<u64, Node>, first: u64) -> Option<(Vec<Spot>, bool)> {
    let mut chain = Vec::new();
    let mut next = Some(first);
    while let Some(id) = next {
        let node = nodes.get(&id)?;
        if chain.len() == DEEPEST {
            return Some((chain, true));
        }
        match &*node.spot.function {
            IDLE => return Some((Vec::new(), false)),
            ROOT => {}
            _ => chain.push(node.spot.clone()),
        }
        next = node.parent;
    }
    Some((chain, false))
}

/// A function, where it begins. V8 counts lines and columns from 0.
pub(super) fn spot(frame: &Value) -> Spot {
    let text = |name: &str| frame[name].as_str().unwrap_or_default();
    let function = if text("functionName").is_empty() { "(anonymous)" } else { text("functionName") };
    let file = text("url");
    let file = file.strip_prefix("file://").unwrap_or(file);
    let number = |name: &str| match frame[name].as_u64().and_then(|number| u32::try_from(number).ok()) {
        Some(number) if !file.is_empty() => number.saturating_add(1),
        _ => 0,
    };
    let (line, column) = (number("lineNumber"), number("columnNumber"));
    Spot { function: function.into(), file: file.into(), line, column }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_is_read_from_the_inside_out() {
        let frame = |name: &str, url: &str, line: i64| json!({"functionName": name, "url": url, "lineNumber": line, "columnNumber": 2 * line});
        let mut profile = json!({
            "nodes": [
                {"id": 1, "callFrame": frame("(root)", "", -1), "children": [2, 4]},
                {"id": 2, "callFrame": frame("", "file:///app/main.mjs", 0), "children": [3]},
                {"id": 3, "callFrame": frame("hot", "/app/hot.js", 9)},
                {"id": 4, "callFrame": frame("(idle)", "", -1)},
            ],
            "startTime": 1000, "endTime": 2000, "samples": [3, 4, 2], "timeDeltas": [5, 10, -3],
        });
        let spot = |function: &str, file: &str, line, column| Spot {
            function: function.into(),
            file: file.into(),
            line,
            column,
        };
        let main = spot("(anonymous)", "/app/main.mjs", 1, 1);
        let hot = spot("hot", "/app/hot.js", 10, 19);
        let sample = |at, chain| Sample { at, chain, is_cut: false };
        assert_eq!(
            samples(&profile).unwrap(),
            [
                sample(1_005_000, vec![hot, main.clone()]),
                sample(1_015_000, vec![]),
                sample(1_012_000, vec![main])
            ]
        );
        // A circle ends; what is missing is no profile.
        profile["nodes"][2]["children"] = json!([2]);
        let around = samples(&profile).unwrap();
        assert!(around[0].is_cut && around[0].chain.len() == DEEPEST);
        profile["samples"][0] = json!(9);
        assert_eq!(samples(&profile), None);
        assert_eq!(samples(&json!({"nodes": 1})), None);
    }
}
