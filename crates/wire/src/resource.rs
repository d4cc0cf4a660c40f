//! The control plane's resources, as REST, stores and the command all have them: shaped as Kubernetes' own are.
//!
//! Defined here once, with their schemas (`schema.rs`), so that what is served, what is written down and what is documented cannot
//! differ.

/// A session through a server, and what became of it.
mod attachment;
/// A debugger that waits for the next container.
mod request;
/// Types that describe themselves.
mod schema;
/// Points in time.
mod time;

use std::fmt::Debug;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::schema::described;
pub use self::{
    attachment::{
        AttachmentSpec, AttachmentStatus, Impossible, LONGEST_HOLD, PodContainer, Reason, State, Transition,
        Why,
    },
    request::{Next, RequestSpec, RequestState, RequestStatus},
    schema::{Described, Part},
    time::Time,
};

/// Group and version of all resources, as objects carry it.
pub const API_VERSION: &str = "pepo.dev/v1";

/// What an attachment is: a session through the server on one target, from the first wish to its end.
pub type DebugAttachment = Object<AttachmentSpec>;
/// What a request is: a wish for the next container that fits, bound to exactly one.
pub type DebugRequest = Object<RequestSpec>;

/// A kind of resource, named by its spec.
pub trait Kind: Described + Clone + Debug + Serialize + DeserializeOwned {
    /// What happened to it.
    type Status: Described + Clone + Debug + Default + Serialize + DeserializeOwned;
    /// As objects carry it: `DebugAttachment`.
    const KIND: &'static str;
    /// As Kubernetes lists it: `debugattachments`.
    const PLURAL: &'static str;
    /// As REST and the command name it: `attachments`.
    const SHORT: &'static str;
}

/// One object.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", bound = "S: Kind")]
pub struct Object<S: Kind> {
    /// [`API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// [`Kind::KIND`].
    #[serde(default)]
    pub kind: String,
    /// Its name and its version.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wished.
    pub spec: S,
    /// What is.
    #[serde(default)]
    pub status: S::Status,
}

impl<S: Kind> Object<S> {
    /// A new one, which no store has seen.
    #[must_use]
    pub fn new(name: impl Into<String>, spec: S, now: Time) -> Object<S> {
        Object {
            api_version: API_VERSION.to_owned(),
            kind: S::KIND.to_owned(),
            metadata: Metadata { name: name.into(), creation_timestamp: now, ..Metadata::default() },
            spec,
            status: S::Status::default(),
        }
    }
}

impl<S: Kind> Described for Object<S> {
    fn schema() -> Value {
        let constant = |value: &str| json!({ "type": "string", "enum": [value] });
        json!({
            "type": "object",
            "required": ["apiVersion", "kind", "metadata", "spec", "status"],
            "properties": {
                "apiVersion": constant(API_VERSION),
                "kind": constant(S::KIND),
                "metadata": Metadata::schema(),
                "spec": S::schema(),
                "status": S::Status::schema(),
            },
        })
    }
}

described! {
    /// Names an object and tells one state of it from the next.
    pub struct Metadata {
        /// Unique among the objects of its kind.
        pub name: String,
        /// Where the store has namespaces.
        pub namespace: Option<String>,
        /// When it was made.
        pub creation_timestamp: Time,
        /// Changes with each change of the object; what it is made of is the store's business.
        pub resource_version: String,
    }
    /// One aspect of an object's state, as `kubectl wait --for=condition=…` reads it.
    pub struct Condition {
        /// Which aspect: `Attached`, `Ended`, `Bound`.
        pub r#type: String,
        /// `True`, `False` or `Unknown`.
        pub status: String,
        /// When that last changed.
        pub last_transition_time: Time,
        /// Why, in one word for programs.
        pub reason: String,
        /// Why, for people.
        pub message: String,
    }
}

/// Sets a condition; its time changes with its status alone.
fn set(conditions: &mut Vec<Condition>, r#type: &str, is_so: bool, now: Time, why: (&str, &str)) {
    let status = if is_so { "True" } else { "False" };
    let new = |last_transition_time| Condition {
        r#type: r#type.to_owned(),
        status: status.to_owned(),
        last_transition_time,
        reason: why.0.to_owned(),
        message: why.1.to_owned(),
    };
    match conditions.iter_mut().find(|one| one.r#type == r#type) {
        Some(one) if one.status == status => {}
        Some(one) => *one = new(now),
        None => conditions.push(new(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_shaped_as_kubernetes_has_them() {
        let spec =
            AttachmentSpec { target: "docker/shop@a".into(), who: "ann".into(), ..AttachmentSpec::default() };
        let mut object = DebugAttachment::new("x1", spec, Time::from_millis(1_000));
        object.metadata.resource_version = "7".to_owned();
        let data = serde_json::to_value(&object).unwrap();
        assert_eq!(
            data,
            json!({
                "apiVersion": "pepo.dev/v1", "kind": "DebugAttachment",
                "metadata": { "name": "x1", "creationTimestamp": "1970-01-01T00:00:01Z", "resourceVersion": "7" },
                "spec": { "target": "docker/shop@a", "node": "", "containerId": "", "image": "", "who": "ann" },
                "status": { "state": "requested", "leaseUntil": "1970-01-01T00:00:00Z" },
            })
        );
        assert_eq!(serde_json::from_value::<DebugAttachment>(data).unwrap(), object);
    }

    #[test]
    fn what_a_newer_side_adds_is_harmless() {
        let text = r#"{"metadata": {"name": "x", "later": 1}, "spec": {"later": {}}, "later": []}"#;
        let object: DebugRequest = serde_json::from_str(text).unwrap();
        assert_eq!((object.metadata.name.as_str(), object.status.state), ("x", RequestState::Waiting));
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let mut conditions = Vec::new();
        let at = Time::from_millis;
        set(&mut conditions, "Ended", false, at(1), ("A", ""));
        set(&mut conditions, "Ended", false, at(2), ("B", ""));
        assert_eq!((conditions[0].last_transition_time, conditions[0].reason.as_str()), (at(1), "A"));
        set(&mut conditions, "Ended", true, at(3), ("C", "over"));
        assert_eq!(conditions.len(), 1);
        assert_eq!((conditions[0].last_transition_time, conditions[0].status.as_str()), (at(3), "True"));
    }
}
