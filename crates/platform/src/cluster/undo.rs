//! What was changed in an object of JSON, taken back, with everything that others changed since left as they want it.

use serde_json::{Map, Value};

/// `live` with the way from `before` to `after` gone back.
///
/// # Errors
/// Where somebody else changed the very same field, as in `spec.containers[app].command`.
pub(super) fn undo(before: &Value, after: &Value, live: &Value) -> Result<Value, Vec<String>> {
    let mut clashes = Vec::new();
    let undone = undo_at("template", Some(before), Some(after), Some(live), &mut clashes);
    match undone {
        Some(undone) if clashes.is_empty() => Ok(undone),
        _ => Err(clashes),
    }
}

fn undo_at(
    path: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    live: Option<&Value>,
    clashes: &mut Vec<String>,
) -> Option<Value> {
    if before == after || live == before {
        return live.cloned();
    }
    if live == after {
        return before.cloned();
    }
    let undone = match live {
        Some(Value::Object(live)) => maps(path, before, after, live, clashes).map(Some),
        Some(Value::Array(live)) => lists(path, before, after, live, clashes),
        _ => None,
    };
    undone.unwrap_or_else(|| {
        clashes.push(path.to_owned());
        live.cloned()
    })
}

/// Key by key; nothing where one of them is no map.
fn maps(
    path: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    live: &Map<String, Value>,
    clashes: &mut Vec<String>,
) -> Option<Value> {
    let after = after?.as_object()?;
    let none = Map::new();
    let before = before.map_or(Some(&none), Value::as_object)?;
    let mut keys: Vec<&String> = live.keys().collect();
    keys.extend(before.keys().filter(|key| !live.contains_key(*key)));
    let mut all = Map::new();
    for key in keys {
        let path = format!("{path}.{key}");
        if let Some(value) = undo_at(&path, before.get(key), after.get(key), live.get(key), clashes) {
            all.insert(key.clone(), value);
        }
    }
    Some(all.into())
}

/// Item by item, by their names, in the order of now; nothing where an item has none. What is left may be no list at all.
fn lists(
    path: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    live: &[Value],
    clashes: &mut Vec<String>,
) -> Option<Option<Value>> {
    let (after, none) = (named(after?.as_array()?)?, Vec::new());
    let before = named(before.map_or(Some(&none), Value::as_array)?)?;
    let live = named(live)?;
    let find = |list: &[(String, Value)], name: &str| {
        list.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    };
    let mut all = Vec::new();
    let gone = before.iter().filter(|(name, _)| find(&live, name).is_none());
    for (name, _) in live.iter().chain(gone) {
        let (before, after) = (find(&before, name), find(&after, name));
        if before.is_none() && after.is_some() {
            // What was added goes with all that others set in it, as `kubectl set env` does in each container.
            continue;
        }
        let now = find(&live, name);
        let path = format!("{path}[{name}]");
        all.extend(undo_at(&path, before.as_ref(), after.as_ref(), now.as_ref(), clashes));
    }
    // An empty list that was not there before is none.
    Some((!all.is_empty() || !before.is_empty()).then(|| all.into()))
}

/// Items with what Kubernetes tells them apart by.
fn named(list: &[Value]) -> Option<Vec<(String, Value)>> {
    let key = |item: &Value| {
        let key = item.get("mountPath").or_else(|| item.get("name"))?;
        key.as_str().map(str::to_owned)
    };
    let named: Vec<_> = list.iter().map(|item| Some((key(item)?, item.clone()))).collect::<Option<_>>()?;
    let mut names: Vec<_> = named.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    (names.len() == named.len()).then_some(named)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn before() -> Value {
        json!({"spec": {
            "containers": [{"name": "app", "image": "shop:1", "command": ["/app"]}, {"name": "side", "image": "x"}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }})
    }

    fn after() -> Value {
        let mut after = before();
        after["spec"]["containers"][0]["command"] = json!(["/pepo/pepo-entry", "--", "/app"]);
        after["spec"]["containers"][0]["env"] = json!([{"name": "PEPO_DEBUG", "value": "wait"}]);
        after["spec"]["initContainers"] = json!([{"name": "pepo-entry"}]);
        after["spec"]["volumes"] =
            json!([{"name": "data", "emptyDir": {}}, {"name": "pepo-entry", "emptyDir": {}}]);
        after
    }

    #[test]
    fn what_nobody_touched_is_as_before_to_the_letter() {
        assert_eq!(undo(&before(), &after(), &after()).unwrap().to_string(), before().to_string());
        assert_eq!(undo(&before(), &after(), &before()).unwrap(), before());
    }

    #[test]
    fn what_others_changed_stays() {
        let mut live = after();
        live["metadata"] = json!({"labels": {"new": "1"}});
        live["spec"]["containers"][0]["image"] = "shop:2".into();
        live["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(json!({"name": "A", "value": "b"}));
        live["spec"]["containers"].as_array_mut().unwrap().remove(1);
        live["spec"]["containers"][0]["env"][0]["value"] = "verbose".into();
        live["spec"]["initContainers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
        let mut expected = before();
        expected["metadata"] = json!({"labels": {"new": "1"}});
        expected["spec"]["containers"] = json!([{"name": "app", "image": "shop:2", "command": ["/app"],
            "env": [{"name": "A", "value": "b"}]}]);
        assert_eq!(undo(&before(), &after(), &live).unwrap(), expected);
        live["spec"]["initContainers"].as_array_mut().unwrap().push(json!({"name": "first"}));
        expected["spec"]["initContainers"] = json!([{"name": "first"}]);
        assert_eq!(undo(&before(), &after(), &live).unwrap(), expected);
    }

    #[test]
    fn the_same_field_changed_is_told_with_its_place() {
        let mut live = after();
        live["spec"]["containers"][0]["command"] = json!(["/pepo/pepo-entry", "--", "/app", "--new"]);
        assert_eq!(undo(&before(), &after(), &live).unwrap_err(), ["template.spec.containers[app].command"]);
    }
}
