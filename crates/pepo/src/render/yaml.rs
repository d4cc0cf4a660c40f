//! Objects as YAML, in the block style that kubectl prints.

use serde_json::Value;

/// Words that YAML 1.1, which Kubernetes reads, takes for something else than text.
const NO_TEXT: [&str; 10] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null", "~"];

/// An object's text.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    put(value, 0, &mut out);
    out
}

/// A value from where it begins; maps and lists by lines of this depth.
fn put(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    indent(depth, out);
                }
                *out += &scalar(key);
                out.push(':');
                beneath(value, depth, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    indent(depth, out);
                }
                *out += "- ";
                put(value, depth + 1, out);
            }
        }
        Value::Object(_) => *out += "{}\n",
        Value::Array(_) => *out += "[]\n",
        Value::String(text) => *out += &(scalar(text) + "\n"),
        other => *out += &format!("{other}\n"),
    }
}

/// What stands after a key: a list as deep as the key is, a map deeper.
fn beneath(value: &Value, depth: usize, out: &mut String) {
    let depth = match value {
        Value::Object(map) if !map.is_empty() => depth + 1,
        Value::Array(list) if !list.is_empty() => depth,
        _ => {
            out.push(' ');
            return put(value, depth, out);
        }
    };
    out.push('\n');
    indent(depth, out);
    put(value, depth, out);
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Plain where nobody can take it for something else, else as JSON, which is YAML.
fn scalar(text: &str) -> String {
    let begins = |first: char| first.is_ascii_alphabetic() || first == '/';
    let goes_on = |one: char| one.is_ascii_alphanumeric() || "/._-".contains(one);
    let lower = text.to_ascii_lowercase();
    let is_plain =
        text.starts_with(begins) && text.chars().all(goes_on) && !NO_TEXT.contains(&lower.as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;

    #[test]
    fn objects_are_written_as_kubectl_does() {
        let object = json!({
            "kind": "Deployment",
            "metadata": {"annotations": {"a.b/c": "1", "on": "true"}, "name": "shop"},
            "spec": {"empty": {}, "list": [], "replicas": 2, "containers": [
                {"args": ["a: b", "-x", "/app"], "name": "app"}, {"name": "side", "ready": true, "none": null},
            ], "nested": [[1, 2], []]},
        });
        assert_eq!(
            text(&object),
            r#"kind: Deployment
metadata:
  annotations:
    a.b/c: "1"
    "on": "true"
  name: shop
spec:
  empty: {}
  list: []
  replicas: 2
  containers:
  - args:
    - "a: b"
    - "-x"
    - /app
    name: app
  - name: side
    ready: true
    none: null
  nested:
  - - 1
    - 2
  - []
"#
        );
    }
}
