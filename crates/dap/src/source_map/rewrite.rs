//! `source` objects inside messages: their paths are translated wherever they stand, everything else is left as it is.

use serde_json::{Map, Value};

/// Fields that hold one source (`location` in an instruction of `disassemble`).
const ONE: &[&str] = &["source", "location"];
/// Fields that hold a list of sources.
const MANY: &[&str] = &["sources"];
/// Deeper than any message of the protocol; what is deeper is left alone.
const MAX_DEPTH: usize = 64;

/// Calls `change` with every source inside `value`.
pub fn each_source(value: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    walk(value, change, 0);
}

fn walk(value: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>), depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Array(list) => list.iter_mut().for_each(|one| walk(one, change, depth + 1)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                walk(value, change, depth + 1);
                match value {
                    Value::Object(source) if ONE.contains(&name.as_str()) => change_source(source, change),
                    Value::Array(list) if MANY.contains(&name.as_str()) => {
                        list.iter_mut()
                            .filter_map(Value::as_object_mut)
                            .for_each(|source| change_source(source, change));
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// A source names itself by a path or a reference; other objects in such fields are something else.
fn change_source(source: &mut Map<String, Value>, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    let path = source.get("path").is_some_and(Value::is_string);
    if path || source.get("sourceReference").is_some_and(Value::is_i64) {
        change(source);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_source_is_met_and_nothing_else() {
        let mut body = json!({
            "path": "/not/this",
            "stackFrames": [{"id": 1, "source": {"path": "/a", "name": "a", "$ext": 1}}, {"id": 2, "source": null}],
            "breakpoints": [{"source": {"path": "/b"}}, {"source": "text"}],
            "sources": [{"path": "/c", "sources": [{"path": "/d"}]}],
            "instructions": [{"location": {"path": "/e"}}],
            "source": {"sourceReference": 4},
            "location": {"line": 7},
        });
        let mut met = Vec::new();
        each_source(&mut body, &mut |source| {
            met.push(source.get("path").and_then(Value::as_str).unwrap_or("-").to_owned());
            source.insert("path".into(), "x".into());
        });
        met.sort();
        assert_eq!(met, ["-", "/a", "/b", "/c", "/d", "/e"]);
        assert_eq!(body["path"], "/not/this");
        assert_eq!(body["stackFrames"][0]["source"]["$ext"], 1);
    }
}
