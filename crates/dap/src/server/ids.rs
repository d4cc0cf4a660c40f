//! Numbers of several adapters in one session: each side keeps its own, and every message is translated.
//!
//! With a single adapter all numbers pass as they are. The tables are bounded: what is oldest is forgotten first.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value};

/// The most numbers of one kind that are remembered.
const MAX: usize = 65_536;
/// Deeper than any message of the protocol.
const MAX_DEPTH: usize = 64;

/// What a number names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Thread,
    Frame,
    Variables,
    Source,
    Breakpoint,
    Target,
    Location,
}

/// Fields that hold a number, wherever they stand.
const NUMBERS: &[(&str, Kind)] = &[
    ("threadId", Kind::Thread),
    ("frameId", Kind::Frame),
    ("variablesReference", Kind::Variables),
    ("sourceReference", Kind::Source),
    ("targetId", Kind::Target),
    ("locationReference", Kind::Location),
    ("valueLocationReference", Kind::Location),
    ("declarationLocationReference", Kind::Location),
];

/// Lists (and single objects) whose elements name themselves by `id`.
const NAMED: &[(&str, Kind)] = &[
    ("threads", Kind::Thread),
    ("stackFrames", Kind::Frame),
    ("breakpoints", Kind::Breakpoint),
    ("breakpoint", Kind::Breakpoint),
    ("targets", Kind::Target),
];

/// Fields that hold a list of numbers.
const LISTS: &[(&str, Kind)] = &[("hitBreakpointIds", Kind::Breakpoint), ("threadIds", Kind::Thread)];

/// Fields that hold a name of the adapter's own, as text.
const TEXTS: &[&str] =
    &["memoryReference", "instructionPointerReference", "instructionReference", "dataId", "progressId"];

/// One kind of number.
#[derive(Debug, Default)]
struct Table {
    theirs: HashMap<i64, (usize, i64)>,
    ours: HashMap<(usize, i64), i64>,
    order: VecDeque<i64>,
    last: i64,
}

impl Table {
    fn our(&mut self, member: usize, their: i64) -> i64 {
        if let Some(our) = self.ours.get(&(member, their)) {
            return *our;
        }
        if self.order.len() >= MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(key) = self.theirs.remove(&oldest)
        {
            self.ours.remove(&key);
        }
        // Ours stay far below 2^31, which some editors' numbers end at; after that they begin anew.
        self.last = self.last % 0x3fff_ffff + 1;
        self.theirs.insert(self.last, (member, their));
        self.ours.insert((member, their), self.last);
        self.order.push_back(self.last);
        self.last
    }
}

/// All kinds.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    single: bool,
    tables: HashMap<Kind, Table>,
}

impl Ids {
    /// For a session with one adapter (`single`), or more.
    pub(crate) fn new(single: bool) -> Ids {
        Ids { single, tables: HashMap::new() }
    }

    /// Our number for one of a member's.
    pub(crate) fn our(&mut self, kind: Kind, member: usize, their: i64) -> i64 {
        if self.single { their } else { self.tables.entry(kind).or_default().our(member, their) }
    }

    /// Whose number it is, and what he calls it.
    pub(crate) fn their(&self, kind: Kind, our: i64) -> Option<(usize, i64)> {
        if self.single { Some((0, our)) } else { self.tables.get(&kind)?.theirs.get(&our).copied() }
    }

    /// Makes a member's number one more name of something that we number `our` already.
    pub(crate) fn alias(&mut self, kind: Kind, member: usize, their: i64, our: i64) {
        if !self.single {
            let table = self.tables.entry(kind).or_default();
            if table.ours.len() < 2 * MAX {
                table.ours.insert((member, their), our);
            }
        }
    }

    /// Translates everything in a message from a member.
    pub(crate) fn incoming(&mut self, member: usize, value: &mut Value) {
        if !self.single {
            walk(value, 0, &mut |kind, number| Some(self.our(kind, member, number)), &|text| {
                format!("{member}:{text}")
            });
        }
    }

    /// Translates everything in a message to a member. Numbers of others and unknown ones become 0, which names nothing.
    pub(crate) fn outgoing(&self, member: usize, value: &mut Value) {
        if !self.single {
            let their = |kind, number| match self.their(kind, number) {
                Some((owner, their)) if owner == member => Some(their),
                _ => Some(0),
            };
            walk(value, 0, &mut { their }, &|text| {
                text.strip_prefix(&format!("{member}:")).unwrap_or(text).to_owned()
            });
        }
    }

    /// The member that a request is meant for, by the numbers in its arguments.
    pub(crate) fn member_of(&self, arguments: &Value) -> Option<usize> {
        if self.single {
            return Some(0);
        }
        let fields = arguments.as_object()?;
        let number = |(name, kind): &(&str, Kind)| {
            self.their(*kind, fields.get(*name)?.as_i64()?).map(|(member, _)| member)
        };
        let text = |name: &&str| fields.get(*name)?.as_str()?.split_once(':')?.0.parse().ok();
        let source = || fields.get("source").and_then(|source| self.member_of(source));
        NUMBERS.iter().find_map(number).or_else(|| TEXTS.iter().find_map(text)).or_else(source)
    }
}

fn walk(
    value: &mut Value,
    depth: usize,
    number: &mut dyn FnMut(Kind, i64) -> Option<i64>,
    text: &dyn Fn(&str) -> String,
) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Array(list) => list.iter_mut().for_each(|one| walk(one, depth + 1, number, text)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                walk(value, depth + 1, number, text);
                field(name, value, number, text);
            }
        }
        _ => {}
    }
}

fn field(
    name: &str,
    value: &mut Value,
    number: &mut dyn FnMut(Kind, i64) -> Option<i64>,
    text: &dyn Fn(&str) -> String,
) {
    let kind = |list: &[(&str, Kind)]| list.iter().find(|(field, _)| *field == name).map(|(_, kind)| *kind);
    let mut change = |kind: Kind, value: &mut Value| {
        // 0 means "none" for all of them but frames, where gdb and pydevd count from 0.
        if let Some(old) =
            value.as_i64().filter(|old| *old != 0 || matches!(kind, Kind::Frame | Kind::Breakpoint))
            && let Some(new) = number(kind, old)
        {
            *value = new.into();
        }
    };
    if let Some(kind) = kind(NUMBERS) {
        change(kind, value);
    }
    if let Some(kind) = kind(LISTS) {
        value.as_array_mut().into_iter().flatten().for_each(|one| change(kind, one));
    }
    if let Some(kind) = kind(NAMED) {
        let mut named = |fields: &mut Map<String, Value>| {
            if let Some(id) = fields.get_mut("id") {
                change(kind, id);
            }
        };
        match value {
            Value::Array(list) => list.iter_mut().filter_map(Value::as_object_mut).for_each(named),
            Value::Object(fields) => named(fields),
            _ => {}
        }
    }
    if TEXTS.contains(&name)
        && let Value::String(old) = value
    {
        *old = text(old);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_adapters_with_the_same_numbers_are_told_apart() {
        let mut ids = Ids::new(false);
        let body = || json!({"threads": [{"id": 1, "name": "main"}], "stackFrames": [{"id": 0, "memoryReference": "0x1"}]});
        let (mut one, mut two) = (body(), body());
        ids.incoming(0, &mut one);
        ids.incoming(1, &mut two);
        assert_ne!(one["threads"][0]["id"], two["threads"][0]["id"]);
        let mut back = json!({"threadId": two["threads"][0]["id"], "frameId": two["stackFrames"][0]["id"], "memoryReference": "1:0x1"});
        assert_eq!(ids.member_of(&back), Some(1));
        ids.outgoing(1, &mut back);
        assert_eq!(back, json!({"threadId": 1, "frameId": 0, "memoryReference": "0x1"}));
    }

    #[test]
    fn a_single_adapter_keeps_its_numbers() {
        let mut ids = Ids::new(true);
        let mut body = json!({"threadId": 77, "stackFrames": [{"id": 5}]});
        ids.incoming(0, &mut body);
        assert_eq!(body, json!({"threadId": 77, "stackFrames": [{"id": 5}]}));
    }

    #[test]
    fn tables_are_bounded_and_the_oldest_goes_first() {
        let mut ids = Ids::new(false);
        let first = ids.our(Kind::Variables, 0, 1);
        for number in 2..=(MAX as i64 + 1) {
            ids.our(Kind::Variables, 0, number);
        }
        assert_eq!(ids.their(Kind::Variables, first), None);
        assert_eq!(ids.tables[&Kind::Variables].theirs.len(), MAX);
        assert_eq!(ids.tables[&Kind::Variables].ours.len(), MAX);
    }

    #[test]
    fn there_and_back_is_the_same_whatever_stands_in_a_message() {
        let mut seed = 3_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let names = [
            "threadId",
            "frameId",
            "variablesReference",
            "id",
            "threads",
            "breakpoints",
            "x",
            "dataId",
            "source",
        ];
        for _ in 0..2000 {
            let mut value = json!(random(5));
            for _ in 0..random(6) {
                let name = names[random(names.len() as u64) as usize];
                value = match random(3) {
                    0 => json!([value, random(9)]),
                    1 => json!({name: value}),
                    _ => json!({name: random(9), "y": value}),
                };
            }
            let mut ids = Ids::new(false);
            let before = value.clone();
            ids.incoming(1, &mut value);
            ids.outgoing(1, &mut value);
            assert_eq!(value, before);
        }
    }
}
