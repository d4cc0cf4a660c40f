//! The protocol's own JSON schema (draft 4), as debugpy's wheel ships it, and as much of a validator as it needs.

use std::sync::OnceLock;

use serde_json::Value;

use crate::adapters::from_wheel;

const PATH: &str = "debugpy/_vendored/pydevd/_pydevd_bundle/_debug_adapter/debugProtocol.json";

/// The schema; none where the wheel is not on this machine.
fn schema() -> Option<&'static Value> {
    static SCHEMA: OnceLock<Option<Value>> = OnceLock::new();
    SCHEMA.get_or_init(|| serde_json::from_str(&from_wheel(PATH)?).ok()).as_ref()
}

/// What is wrong with a message, by the definition that fits its type and name; events and requests that the schema does not
/// know (newer ones, custom ones) need only be well-formed messages. None without a schema.
pub(crate) fn complaints(message: &Value) -> Option<Vec<String>> {
    let root = schema()?;
    let name = match message["type"].as_str().unwrap_or_default() {
        "event" => definition(message["event"].as_str().unwrap_or_default(), "Event"),
        "request" => definition(message["command"].as_str().unwrap_or_default(), "Request"),
        "response" if message["success"] == true => {
            definition(message["command"].as_str().unwrap_or_default(), "Response")
        }
        "response" => "ErrorResponse".to_owned(),
        other => return Some(vec![format!("a message of the type {other:?}")]),
    };
    let name = if root["definitions"].get(&name).is_some() { name } else { "ProtocolMessage".to_owned() };
    let mut complaints = Vec::new();
    check(root, &root["definitions"][&name], message, &name, &mut complaints);
    Some(complaints)
}

fn definition(name: &str, kind: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect::<String>() + kind
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, complaints: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        check(root, &root["definitions"][name], value, at, complaints);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(root, part, value, at, complaints);
    }
    if let Some(options) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = |option: &&Value| {
            let mut none = Vec::new();
            check(root, option, value, at, &mut none);
            none.is_empty()
        };
        if !options.iter().any(|option| fits(&option)) {
            complaints.push(format!("{at}: {value} fits none of the options"));
        }
    }
    if !kind_fits(&schema["type"], value) {
        complaints.push(format!("{at}: {value} is not of the type {}", schema["type"]));
    }
    if let Some(options) = schema["enum"].as_array()
        && !options.contains(value)
    {
        complaints.push(format!("{at}: {value} is not one of {options:?}"));
    }
    check_object(root, schema, value, at, complaints);
    for (index, one) in value.as_array().into_iter().flatten().enumerate() {
        if schema["items"].is_object() {
            check(root, &schema["items"], one, &format!("{at}[{index}]"), complaints);
        }
    }
}

fn check_object(root: &Value, schema: &Value, value: &Value, at: &str, complaints: &mut Vec<String>) {
    let Some(fields) = value.as_object() else { return };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            complaints.push(format!("{at}: no {required}"));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = fields.get(name) {
            check(root, property, value, &format!("{at}.{name}"), complaints);
        }
    }
}

fn kind_fits(kind: &Value, value: &Value) -> bool {
    let one = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => true,
    };
    match kind {
        Value::String(kind) => one(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(one),
        _ => true,
    }
}

#[test]
fn the_validator_sees_what_is_wrong() {
    let Some(good) = complaints(
        &serde_json::json!({"seq": 1, "type": "event", "event": "stopped", "body": {"reason": "step"}}),
    ) else {
        return pepo_testkit::skip(
            "dap-schema",
            "the wheel with the protocol's schema is not here (cargo xtask setup)",
        );
    };
    assert_eq!(good, Vec::<String>::new());
    for bad in [
        serde_json::json!({"seq": 1, "type": "event", "event": "stopped", "body": {}}),
        serde_json::json!({"seq": 1, "type": "event", "event": "stopped"}),
        serde_json::json!({"seq": "1", "type": "event", "event": "initialized"}),
        serde_json::json!({"type": "response", "seq": 1, "success": true, "command": "threads", "request_seq": 1, "body": {"threads": [{"id": 1}]}}),
    ] {
        assert!(!complaints(&bad).unwrap().is_empty(), "{bad}");
    }
}
