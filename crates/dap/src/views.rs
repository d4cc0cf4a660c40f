//! Lenient views of the messages that are read here: every field may be missing, unknown ones are kept where a view is sent on.
//!
//! No strict model of DAP holds against real adapters (gdb's `process` event lacks its name, lldb-dap 19 answers
//! `setVariable` without a value), so a view is only ever a reading aid beside the untouched message.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The most elements read from one list of a message.
const MAX_ITEMS: usize = 100_000;

/// Reads a value as a view; what does not fit at all becomes the view's default.
#[must_use]
pub fn view<T: DeserializeOwned + Default>(value: &Value) -> T {
    let fits = T::deserialize(value).or_else(|_| T::deserialize(without_nulls(value)));
    fits.unwrap_or_else(|error| {
        tracing::debug!(%error, "a message does not fit its view");
        T::default()
    })
}

/// Some adapters write `null` where they have nothing.
fn without_nulls(value: &Value) -> Value {
    let Some(fields) = value.as_object() else { return value.clone() };
    fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Reads the elements of the list `name` in `body`, each by itself.
#[must_use]
pub fn items<T: DeserializeOwned + Default>(body: &Value, name: &str) -> Vec<T> {
    let list = body.get(name).and_then(Value::as_array);
    list.map(|list| list.iter().take(MAX_ITEMS).map(view).collect()).unwrap_or_default()
}

/// What an adapter says it can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capabilities(pub Map<String, Value>);

impl Capabilities {
    /// From the body of an `initialize` response.
    #[must_use]
    pub fn from_body(body: &Value) -> Capabilities {
        Capabilities(body.as_object().cloned().unwrap_or_default())
    }

    /// Is the named ability there?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Takes what a `capabilities` event adds.
    pub fn merge(&mut self, more: &Value) {
        if let Some(more) = more.as_object() {
            self.0.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    /// The names of all abilities that are there.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(_, value)| value.as_bool() == Some(true))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The exception filters by name, and whether each is on by itself.
    #[must_use]
    pub fn exception_filters(&self) -> Vec<(String, bool)> {
        let filters = self.0.get("exceptionBreakpointFilters").and_then(Value::as_array);
        let one = |filter: &Value| {
            let on = filter.get("default").and_then(Value::as_bool).unwrap_or(false);
            Some((filter.get("filter")?.as_str()?.to_owned(), on))
        };
        filters.map(|filters| filters.iter().filter_map(one).collect()).unwrap_or_default()
    }
}

/// A request that only some adapters know, and the ability which says so. What is not here is known to all.
const NEEDS: &[(&str, &str)] = &[
    ("breakpointLocations", "supportsBreakpointLocationsRequest"),
    ("cancel", "supportsCancelRequest"),
    ("completions", "supportsCompletionsRequest"),
    ("configurationDone", "supportsConfigurationDoneRequest"),
    ("dataBreakpointInfo", "supportsDataBreakpoints"),
    ("disassemble", "supportsDisassembleRequest"),
    ("exceptionInfo", "supportsExceptionInfoRequest"),
    ("goto", "supportsGotoTargetsRequest"),
    ("gotoTargets", "supportsGotoTargetsRequest"),
    ("loadedSources", "supportsLoadedSourcesRequest"),
    ("modules", "supportsModulesRequest"),
    ("readMemory", "supportsReadMemoryRequest"),
    ("restart", "supportsRestartRequest"),
    ("restartFrame", "supportsRestartFrame"),
    ("reverseContinue", "supportsStepBack"),
    ("setDataBreakpoints", "supportsDataBreakpoints"),
    ("setExpression", "supportsSetExpression"),
    ("setFunctionBreakpoints", "supportsFunctionBreakpoints"),
    ("setInstructionBreakpoints", "supportsInstructionBreakpoints"),
    ("setVariable", "supportsSetVariable"),
    ("stepBack", "supportsStepBack"),
    ("stepInTargets", "supportsStepInTargetsRequest"),
    ("terminate", "supportsTerminateRequest"),
    ("terminateThreads", "supportsTerminateThreadsRequest"),
    ("writeMemory", "supportsWriteMemoryRequest"),
];

/// The ability an adapter must announce before it may be sent `command`; `None` when all know it or nobody says.
///
/// A request an adapter does not know can end its session (rdbg 1.4), so those are never sent.
#[must_use]
pub fn needed_for(command: &str) -> Option<&'static str> {
    NEEDS.iter().find(|(name, _)| *name == command).map(|(_, ability)| *ability)
}

/// Where code came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Source {
    /// Short name.
    pub name: Option<String>,
    /// Path as its sender sees it.
    pub path: Option<String>,
    /// Above 0: the content is had by a `source` request.
    pub source_reference: Option<i64>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StackFrame {
    /// What other requests name it by.
    pub id: i64,
    /// Function.
    pub name: String,
    /// Where.
    pub source: Option<Source>,
    /// From 1; 0 when there is none.
    pub line: i64,
    /// From 1; 0 when there is none.
    pub column: i64,
    /// An address, as the adapter writes it.
    pub instruction_pointer_reference: Option<String>,
    /// `subtle` frames are not the user's code.
    pub presentation_hint: Option<String>,
}

/// One thread.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// What other requests name it by.
    pub id: i64,
    /// For people.
    pub name: String,
}

/// A group of variables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Scope {
    /// For people.
    pub name: String,
    /// What `variables` is asked with.
    pub variables_reference: i64,
    /// Large or slow.
    pub expensive: bool,
    /// `arguments`, `locals`, `registers`.
    pub presentation_hint: Option<String>,
}

/// One variable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Variable {
    /// Name in its scope.
    pub name: String,
    /// As the adapter writes it.
    pub value: String,
    /// Type, when known.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Above 0: it has parts.
    pub variables_reference: i64,
    /// An expression that yields it.
    pub evaluate_name: Option<String>,
}

/// The answer of `evaluate`, `setVariable` and `setExpression`; `value` and `result` are the same field to us.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Evaluated {
    /// As the adapter writes it.
    #[serde(alias = "value")]
    pub result: Option<String>,
    /// Type, when known.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Above 0: it has parts.
    pub variables_reference: i64,
}

/// A breakpoint as the adapter knows it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Breakpoint {
    /// What events name it by.
    pub id: Option<i64>,
    /// Is it in place?
    pub verified: bool,
    /// Why not, or else a remark.
    pub message: Option<String>,
    /// Where it really is.
    pub source: Option<Source>,
    /// From 1.
    pub line: Option<i64>,
}

/// The body of a `stopped` event.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Stopped {
    /// `breakpoint`, `step`, `pause`, `exception`, …
    pub reason: String,
    /// For people.
    pub description: Option<String>,
    /// The thread that stopped.
    pub thread_id: Option<i64>,
    /// More words, as an exception's.
    pub text: Option<String>,
    /// Do all threads stand still?
    pub all_threads_stopped: bool,
    /// The breakpoints that were met.
    pub hit_breakpoint_ids: Vec<i64>,
}

/// The answer of `dataBreakpointInfo`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DataBreakpointInfo {
    /// What `setDataBreakpoints` is asked with; none when it cannot be watched.
    pub data_id: Option<String>,
    /// For people.
    pub description: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_real_adapters_leave_out_does_no_harm() {
        assert_eq!(view::<Evaluated>(&json!({"type": "int", "variablesReference": 0})).result, None);
        assert_eq!(view::<Evaluated>(&json!({"value": "7"})).result.as_deref(), Some("7"));
        assert_eq!(view::<Stopped>(&json!({"reason": "step"})).thread_id, None);
        assert_eq!(view::<Breakpoint>(&Value::Null), Breakpoint::default());
        assert_eq!(
            view::<Variable>(&json!({"name": "a", "value": null, "variablesReference": null})).name,
            "a"
        );
        let threads: Vec<Thread> =
            items(&json!({"threads": [{"id": 1, "name": "a"}, {"id": "x"}, 7]}), "threads");
        assert_eq!(threads.len(), 3);
        assert_eq!(threads[0].name, "a");
    }

    #[test]
    fn requests_that_some_do_not_know_have_their_ability() {
        assert_eq!(needed_for("setVariable"), Some("supportsSetVariable"));
        assert_eq!(needed_for("threads"), None);
        let capabilities = Capabilities::from_body(&json!({"supportsSetVariable": true, "x": 1}));
        assert!(capabilities.has("supportsSetVariable") && !capabilities.has("x"));
    }
}
