//! Types that describe themselves: what a macro makes of one definition is the type, how it is written, and its schema.
//!
//! The schema is the part of JSON Schema that both OpenAPI 3 and Kubernetes' structural schemas have.

use serde_json::{Map, Value, json};

/// A type with a schema.
pub trait Described {
    /// Its schema.
    fn schema() -> Value;

    /// May it be left out?
    #[must_use]
    fn is_optional() -> bool {
        false
    }

    /// Is this one left out where it is written?
    fn is_absent(&self) -> bool {
        false
    }
}

impl Described for String {
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Described for u64 {
    fn schema() -> Value {
        json!({ "type": "integer", "format": "int64", "minimum": 0 })
    }
}

impl<T: Described> Described for Option<T> {
    fn schema() -> Value {
        T::schema()
    }

    fn is_optional() -> bool {
        true
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Described> Described for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }

    fn is_optional() -> bool {
        true
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// A field of a type: how it is written, what is said of it, its schema, and whether it may be left out.
#[derive(Debug)]
pub struct Part {
    /// As Rust names it.
    pub field: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// Its type's schema.
    pub schema: Value,
    /// May it be left out?
    pub is_optional: bool,
}

/// The schema of a type with these parts.
pub(super) fn of_parts(doc: &str, parts: Vec<Part>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for Part { field, doc, mut schema, is_optional } in parts {
        let name = camel(field);
        schema["description"] = json!(doc.trim());
        if !is_optional {
            required.push(json!(name));
        }
        properties.insert(name, schema);
    }
    let mut schema = json!({ "type": "object", "description": doc.trim(), "properties": properties });
    if !required.is_empty() {
        schema["required"] = Value::Array(required);
    }
    schema
}

/// A field's name as serde writes it (`rename_all = "camelCase"`).
fn camel(field: &str) -> String {
    let mut words = field.trim_start_matches("r#").split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        name + &head.to_ascii_uppercase() + tail
    })
}

/// Defines types that are read leniently, written in camelCase, and have a schema. Words are written as
/// what stands before them says: `lowercase` or `PascalCase`.
macro_rules! described {
    ($($(#[doc = $doc:literal])+ pub struct $name:ident {
        $($(#[doc = $said:literal])+ pub $field:ident: $type:ty,)*
    })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, serde::Deserialize, PartialEq, Eq, Hash, serde::Serialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {$(
            $(#[doc = $said])+
            #[serde(skip_serializing_if = "crate::resource::Described::is_absent")]
            pub $field: $type,
        )*}

        impl crate::resource::Described for $name {
            fn schema() -> serde_json::Value {
                crate::resource::schema::of_parts(concat!($($doc),+), vec![$(crate::resource::Part {
                    field: stringify!($field),
                    doc: concat!($($said),+),
                    schema: <$type as crate::resource::Described>::schema(),
                    is_optional: <$type as crate::resource::Described>::is_optional(),
                },)*])
            }
        }
    )+};
    ($case:literal $(#[doc = $doc:literal])+ pub enum $name:ident {
        $($(#[doc = $said:literal])+ $variant:ident,)*
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default, serde::Deserialize, PartialEq, Eq, Hash, serde::Serialize)]
        #[serde(rename_all = $case)]
        pub enum $name {
            #[default]
            $($(#[doc = $said])+ $variant,)*
        }

        impl $name {
            /// Each of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// As it is written.
            #[must_use]
            pub fn word(self) -> String {
                let name = match self { $($name::$variant => stringify!($variant),)* };
                if $case == "lowercase" { name.to_ascii_lowercase() } else { name.to_owned() }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.word())
            }
        }

        impl crate::resource::Described for $name {
            fn schema() -> serde_json::Value {
                let words: Vec<String> = $name::ALL.iter().map(|one| one.word()).collect();
                serde_json::json!({ "type": "string", "enum": words })
            }
        }
    };
}
pub(super) use described;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro's types are public")]
mod tests {
    use super::*;

    described! {
        /// A thing.
        pub struct Thing {
            /// Its name.
            pub first_name: String,
            /// More of it.
            pub some_more: Vec<u64>,
            /// Its kind.
            pub r#type: Option<Word>,
        }
    }

    described! {
        "lowercase"
        /// A word.
        pub enum Word {
            /// One.
            One,
            /// Two.
            Two,
        }
    }

    #[test]
    fn one_definition_is_the_type_how_it_is_written_and_its_schema() {
        assert_eq!(
            Thing::schema(),
            json!({
                "type": "object", "description": "A thing.", "required": ["firstName"],
                "properties": {
                    "firstName": { "type": "string", "description": "Its name." },
                    "someMore": {
                        "type": "array", "description": "More of it.",
                        "items": { "type": "integer", "format": "int64", "minimum": 0 },
                    },
                    "type": { "type": "string", "enum": ["one", "two"], "description": "Its kind." },
                },
            })
        );
        let thing = Thing { first_name: "x".into(), some_more: vec![3], r#type: Some(Word::Two) };
        assert_eq!(
            serde_json::to_value(&thing).unwrap(),
            json!({ "firstName": "x", "someMore": [3], "type": "two" })
        );
        assert_eq!(serde_json::to_value(Thing::default()).unwrap(), json!({ "firstName": "" }));
        for &word in Word::ALL {
            assert_eq!(serde_json::to_value(word).unwrap(), json!(word.word()));
        }
    }
}
