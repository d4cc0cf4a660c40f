//! A part of a container that the user lays over ours (`--custom`), as kubectl's debug has it.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use k8s_openapi::api::core::v1::EphemeralContainer;
use pepo_wire::{Code, Failure};
use serde_json::{Map, Value};

use super::helper::MARK;
use crate::manifest;

/// Fields that may be said.
const MAY: [&str; 7] = [
    "env",
    "envFrom",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
    "workingDir",
];
/// Fields that a flag says.
const FLAGS: [(&str, &str); 3] = [
    ("image", "--image"),
    ("imagePullPolicy", "--image-pull-policy"),
    ("targetContainerName", "--container"),
];
/// Fields that make the helper what it is.
const OURS: [&str; 6] = ["name", "command", "args", "stdin", "stdinOnce", "tty"];

/// What is laid over a helper's container.
#[derive(Clone, Debug, Default)]
pub(super) struct Custom {
    fields: Map<String, Value>,
}

impl Custom {
    /// Reads the file, if one is given.
    ///
    /// # Errors
    /// [`Code::Usage`] for what is no part of a container, or a field that may not be said; a file that cannot be read.
    pub(super) fn read(file: Option<&Path>) -> Result<Custom, Failure> {
        let Some(file) = file else { return Ok(Custom::default()) };
        let text = std::fs::read_to_string(file).map_err(|source| {
            let code = match source.kind() {
                std::io::ErrorKind::NotFound => Code::FileNotFound,
                _ => Code::FileDenied,
            };
            Failure::new(code, format!("{} cannot be read", file.display())).because_of(&source)
        })?;
        Custom::parse(&text)
            .map_err(|failure| Failure { what: format!("{}: {}", file.display(), failure.what), ..failure })
    }

    fn parse(text: &str) -> Result<Custom, Failure> {
        let Value::Object(fields) = manifest::data(text)? else {
            return Err(Failure::new(Code::Usage, "it is no part of a container")
                .hint("write fields of a container, as in `env: [{name: A, value: B}]`"));
        };
        for name in fields.keys() {
            allowed(name)?;
        }
        let sets_mark = |one: &Value| one.get("name").and_then(Value::as_str) == Some(MARK);
        let takes_mark = match fields.get("env") {
            Some(Value::Array(env)) => env.iter().any(sets_mark),
            env => env.is_some_and(Value::is_null),
        };
        if takes_mark {
            return Err(Failure::new(Code::Usage, format!("`env` changes {MARK}"))
                .because("by that the helper is found again"));
        }
        // What kind each value must be, the type of the container says.
        let custom = Custom { fields };
        match custom.over(EphemeralContainer::default()) {
            Ok(_) => Ok(custom),
            Err(error) => Err(Failure::new(Code::Usage, "it is no part of a container").because_of(&error)),
        }
    }

    /// The container with it laid over: objects by their fields, lists after ours.
    ///
    /// # Errors
    /// For a value of another kind than the field's, which is known since it was read.
    pub(super) fn over(&self, container: EphemeralContainer) -> serde_json::Result<EphemeralContainer> {
        if self.fields.is_empty() {
            return Ok(container);
        }
        let mut whole = serde_json::to_value(container)?;
        for (name, value) in &self.fields {
            let ours = &mut whole[name];
            match (&mut *ours, value) {
                (Value::Array(ours), Value::Array(theirs)) => ours.extend(theirs.iter().cloned()),
                _ => lay_over(ours, value),
            }
        }
        serde_json::from_value(whole)
    }

    /// What tells helpers apart that were made with other parts; empty without any.
    pub(super) fn mark(&self) -> String {
        if self.fields.is_empty() {
            return String::new();
        }
        let mut hasher = DefaultHasher::new();
        Value::Object(self.fields.clone()).to_string().hash(&mut hasher);
        format!(" {:016x}", hasher.finish())
    }
}

fn allowed(name: &str) -> Result<(), Failure> {
    let refused = |what: String| Err(Failure::new(Code::Usage, what));
    if let Some((_, flag)) = FLAGS.iter().find(|(field, _)| *field == name) {
        return refused(format!("`{name}` may not be said here"))
            .map_err(|failure| failure.hint(format!("say it with {flag}")));
    }
    if OURS.contains(&name) {
        return refused(format!("`{name}` may not be changed")).map_err(|failure| {
            failure.because("without it the helper is none: it waits, and an exec is the stream to it")
        });
    }
    if !MAY.contains(&name) {
        return refused(format!("`{name}` is no field that a helper can have"))
            .map_err(|failure| failure.because(format!("those are {}", MAY.join(", "))));
    }
    Ok(())
}

/// Objects by their fields, all else whole; `null` takes a field away.
fn lay_over(ours: &mut Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (name, value) in theirs {
                match value {
                    Value::Null => drop(ours.remove(name)),
                    value => lay_over(ours.entry(name.as_str()).or_insert(Value::Null), value),
                }
            }
        }
        (ours, theirs) => *ours = theirs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Capabilities, EnvVar, SecurityContext};
    use serde_json::json;

    use super::*;

    fn ours() -> EphemeralContainer {
        EphemeralContainer {
            name: "pepo-1".into(),
            env: Some(vec![EnvVar { name: MARK.into(), value: Some("1".into()), value_from: None }]),
            security_context: Some(SecurityContext {
                run_as_user: Some(7),
                run_as_non_root: Some(true),
                capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
                ..SecurityContext::default()
            }),
            ..EphemeralContainer::default()
        }
    }

    #[test]
    fn lists_are_added_to_and_objects_laid_over() {
        let text = "env: [{name: A, value: b}]\nvolumeMounts: [{name: v, mountPath: /v}]\n\
                    securityContext: {runAsGroup: 9, runAsNonRoot: null, capabilities: {add: [CHOWN]}}\n";
        let container = serde_json::to_value(Custom::parse(text).unwrap().over(ours()).unwrap()).unwrap();
        assert_eq!(container["env"], json!([{"name": MARK, "value": "1"}, {"name": "A", "value": "b"}]));
        assert_eq!(container["volumeMounts"], json!([{"name": "v", "mountPath": "/v"}]));
        let context =
            json!({"runAsUser": 7, "runAsGroup": 9, "capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}});
        assert_eq!(container["securityContext"], context);
    }

    #[test]
    fn what_would_break_the_helper_is_refused_by_its_name() {
        for (text, named) in [
            ("name: x", "`name`"),
            ("stdin: true", "`stdin`"),
            ("command: [sh]", "`command`"),
            ("image: x", "`image`"),
            ("targetContainerName: x", "`targetContainerName`"),
            ("resources: {}", "`resources`"),
            ("enV: []", "`enV`"),
            ("env: [{name: PEPO_HELPER, value: x}]", MARK),
            ("env: null", MARK),
            ("env: 7", "no part of a container"),
            ("[]", "no part of a container"),
        ] {
            let failure = Custom::parse(text).expect_err(text);
            assert!(failure.code() == Code::Usage && failure.what.contains(named), "{text}: {failure}");
        }
    }

    #[test]
    fn helpers_with_other_parts_are_told_apart() {
        let mark = |text: &str| Custom::parse(text).unwrap().mark();
        assert_eq!(mark("env: [{name: A}]"), mark("{\"env\": [{\"name\": \"A\"}]}"));
        assert_ne!(mark("env: [{name: A}]"), mark("env: [{name: B}]"));
        assert_eq!(Custom::default().mark(), "");
        let there = Custom::read(Some(Path::new("/nonexistent/x.yaml"))).unwrap_err();
        assert_eq!(there.code(), Code::FileNotFound);
    }
}
