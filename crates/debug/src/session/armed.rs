//! What the client has armed, so that it can be cleared when the budget is spent.

use std::collections::BTreeMap;

use pepo_wire::dap::Message;
use serde_json::{Value, json};

/// Sources remembered at most; beyond it a client's further sources are refused by the engine.
pub(crate) const MAX_SOURCES: usize = 4096;

/// Breakpoints by the request that set them.
#[derive(Debug, Default)]
pub(crate) struct Armed {
    /// By source, as its JSON text: the source and how many.
    sources: BTreeMap<String, (Value, usize)>,
    /// By command, for the kinds that replace their whole list with each request.
    lists: BTreeMap<&'static str, usize>,
}

/// Kinds other than source breakpoints: command and the field that holds the list.
const LISTS: &[(&str, &str)] = &[
    ("setFunctionBreakpoints", "breakpoints"),
    ("setDataBreakpoints", "breakpoints"),
    ("setInstructionBreakpoints", "breakpoints"),
    ("setExceptionBreakpoints", "filters"),
];

impl Armed {
    /// Takes note of a request that goes to the adapter. `false`: there are too many sources.
    pub(crate) fn note(&mut self, request: &Message) -> bool {
        let command = request.command().unwrap_or_default();
        let arguments = request.arguments();
        if command == "setBreakpoints" {
            let source = arguments.get("source").cloned().unwrap_or(Value::Null);
            // `lines` is the old form of the same list.
            let count = length(arguments, "breakpoints").max(length(arguments, "lines"));
            let key = source.to_string();
            if count == 0 {
                self.sources.remove(&key);
            } else if self.sources.len() < MAX_SOURCES || self.sources.contains_key(&key) {
                self.sources.insert(key, (source, count));
            } else {
                return false;
            }
        } else if let Some((name, field)) = LISTS.iter().find(|(name, _)| *name == command) {
            self.lists.insert(name, length(arguments, field));
        }
        true
    }

    /// The requests that clear all of it, as (command, arguments), and how many breakpoints that are. Forgets them.
    pub(crate) fn clear(&mut self) -> (Vec<(&'static str, Value)>, usize) {
        let count =
            self.sources.values().map(|(_, count)| count).sum::<usize>() + self.lists.values().sum::<usize>();
        let mut requests = Vec::new();
        for (source, _) in std::mem::take(&mut self.sources).into_values() {
            requests.push(("setBreakpoints", json!({"source": source, "breakpoints": [], "lines": []})));
        }
        for (name, count) in std::mem::take(&mut self.lists) {
            if count > 0
                && let Some((_, field)) = LISTS.iter().find(|(command, _)| *command == name)
            {
                requests.push((name, json!({(*field): []})));
            }
        }
        (requests, count)
    }
}

fn length(arguments: &Value, field: &str) -> usize {
    arguments.get(field).and_then(Value::as_array).map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(armed: &mut Armed, command: &str, arguments: Value) {
        assert!(armed.note(&Message::request(1, command, arguments)));
    }

    #[test]
    fn everything_armed_is_cleared_once() {
        let mut armed = Armed::default();
        set(
            &mut armed,
            "setBreakpoints",
            json!({"source": {"path": "a"}, "breakpoints": [{"line": 1}, {"line": 2}]}),
        );
        set(&mut armed, "setBreakpoints", json!({"source": {"path": "b"}, "breakpoints": [{"line": 1}]}));
        set(&mut armed, "setBreakpoints", json!({"source": {"path": "b"}, "breakpoints": []}));
        set(&mut armed, "setFunctionBreakpoints", json!({"breakpoints": [{"name": "f"}]}));
        set(&mut armed, "setExceptionBreakpoints", json!({"filters": []}));
        let (requests, count) = armed.clear();
        assert_eq!(count, 3);
        let commands: Vec<_> = requests.iter().map(|(command, _)| *command).collect();
        assert_eq!(commands, ["setBreakpoints", "setFunctionBreakpoints"]);
        assert_eq!(requests[0].1["source"]["path"], "a");
        assert_eq!(armed.clear(), (vec![], 0));
    }
}
