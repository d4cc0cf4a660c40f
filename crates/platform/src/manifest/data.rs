//! A node as data: what a scalar without quotes is, is as in YAML's core schema.

use granit_parser::ScalarStyle;
use pepo_wire::{Code, Failure};
use serde_json::{Map, Number, Value};

use super::tree::{Kind, Node};

/// The node and all in it.
///
/// # Errors
/// [`Code::Usage`] for what data of one kind with JSON cannot be: an alias, a key that is no text.
pub(super) fn of(node: &Node) -> Result<Value, Failure> {
    match &node.kind {
        Kind::Scalar { text, style: ScalarStyle::Plain } => Ok(plain(text)),
        Kind::Scalar { text, .. } => Ok(Value::String(text.clone())),
        Kind::List { items, .. } => items.iter().map(of).collect(),
        Kind::Map { entries, .. } => {
            let mut map = Map::new();
            for (key, value) in entries {
                let Kind::Scalar { text, .. } = &key.kind else { return Err(unfit("a key that is no text")) };
                if map.insert(text.clone(), of(value)?).is_some() {
                    return Err(unfit(&format!("`{text}` twice")));
                }
            }
            Ok(Value::Object(map))
        }
        Kind::Alias => Err(unfit("an alias")),
    }
}

fn unfit(what: &str) -> Failure {
    Failure::new(Code::Usage, format!("it has {what}, which cannot be read here"))
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let octal = text.strip_prefix("0o").and_then(|digits| i64::from_str_radix(digits, 8).ok());
    let hexadecimal = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    let whole = octal.or(hexadecimal).or_else(|| text.parse::<i64>().ok());
    whole.map(Number::from).or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::manifest::data;

    #[test]
    fn a_text_is_what_yaml_says_that_it_is() {
        let text = "a: 1\nb: '1'\nc: [true, ~, -2.5, 1.2.3, 0x10, x]\nd:\n- e: |\n    f\n";
        let told = json!({"a": 1, "b": "1", "c": [true, null, -2.5, "1.2.3", 16, "x"], "d": [{"e": "f\n"}]});
        assert_eq!(data(text).unwrap(), told);
        assert_eq!(data(&told.to_string()).unwrap(), told, "JSON is YAML");
    }

    #[test]
    fn what_is_no_data_is_refused() {
        for text in ["", "a: 1\n---\nb: 1\n", "a: &x 1\nb: *x\n", "? [a]\n: 1\n", "a: 1\na: 2\n", "a: [\n"] {
            data(text).expect_err(text);
        }
    }
}
