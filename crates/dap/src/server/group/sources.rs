//! Paths of sources in messages, and sources that are only in the target: those get numbers of ours, under which the editor
//! asks for their content.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::{
    server::member::Member,
    source_map::{paths::Parts, rewrite::each_source},
};

/// Where our numbers begin: far from those of any adapter.
const FIRST: i64 = 0x7000_0000;
/// The most sources numbered.
const MAX: usize = 65_536;

/// Numbers for sources that are only in a target.
#[derive(Debug, Default)]
pub(super) struct References {
    known: HashMap<i64, (usize, String)>,
    numbers: HashMap<(usize, String), i64>,
}

impl References {
    fn number(&mut self, member: usize, path: &str) -> Option<i64> {
        let key = (member, path.to_owned());
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        if self.known.len() >= MAX {
            return None;
        }
        let number = FIRST + self.known.len() as i64;
        self.known.insert(number, key.clone());
        self.numbers.insert(key, number);
        Some(number)
    }

    /// The source that a request of the editor's asks for, if it is one of ours: (member, path in the target).
    pub(super) fn asked(&self, arguments: &Value) -> Option<(usize, String)> {
        let number = |value: &Value| value.get("sourceReference").and_then(Value::as_i64);
        let number = number(arguments)
            .filter(|number| *number >= FIRST)
            .or_else(|| number(arguments.get("source")?))?;
        self.known.get(&number).cloned()
    }

    /// In a message from a member: paths as they are here.
    pub(super) fn incoming(&mut self, index: usize, member: &mut Member, value: &mut Value) {
        each_source(value, &mut |source| {
            let Some(path) = source.get("path").and_then(Value::as_str).map(str::to_owned) else { return };
            if let Some(local) = member.map.to_local(&path) {
                source.insert("path".into(), local.into());
                // The file is here: nobody need ask for it.
                source.remove("sourceReference");
                return;
            }
            let own = source.get("sourceReference").and_then(Value::as_i64).unwrap_or(0);
            if own == 0
                && member.files.is_some()
                && Parts::of(&path).rooted
                && let Some(number) = self.number(index, &path)
            {
                source.insert("sourceReference".into(), number.into());
            }
        });
    }

    /// In a message to a member: paths as they are there. Gives the paths of which nothing is known.
    pub(super) fn outgoing(&self, member: &mut Member, value: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        each_source(value, &mut |source| {
            if self.take_ours(source) {
                return;
            }
            let Some(path) = source.get("path").and_then(Value::as_str).map(str::to_owned) else { return };
            let remote = member.map.to_remote(&path);
            let tail = || member.quirks.paths_by_suffix.then(|| member.map.tail_in_folder(&path)).flatten();
            match remote.or_else(tail) {
                Some(remote) => drop(source.insert("path".into(), remote.into())),
                None => unknown.push(path),
            }
        });
        unknown
    }

    /// A source with a number of ours: its path is the target's already.
    fn take_ours(&self, source: &mut Map<String, Value>) -> bool {
        let number = source.get("sourceReference").and_then(Value::as_i64).unwrap_or(0);
        let Some((_, path)) = self.known.get(&number) else { return false };
        source.insert("path".into(), path.as_str().into());
        source.remove("sourceReference");
        true
    }
}
