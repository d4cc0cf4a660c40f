//! What a client may say to an adapter: every request of DAP, and what right it needs.
//!
//! `evaluate` is code execution where the adapter runs, and so are conditions, log messages with expressions, and anything we
//! do not know: they need `modify`. A debugger's own command language needs `raw`. Nothing may start or kill a program.

use pepo_wire::{
    agent::Right,
    dap::{Message, MessageKind},
};
use serde_json::Value;

use crate::debugger::DebuggerFacts;

/// The rights of a session's grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Breakpoints, stack, variables.
    pub stop: bool,
    /// Everything that can run code or change state.
    pub modify: bool,
    /// The debugger's own command language.
    pub raw: bool,
}

impl Rights {
    /// Reads the list of a grant; what is not known is not granted.
    #[must_use]
    pub fn of(rights: &[i32]) -> Rights {
        let has = |right: Right| rights.contains(&(right as i32));
        Rights { stop: has(Right::Stop), modify: has(Right::Modify), raw: has(Right::Raw) }
    }
}

/// What becomes of a client's message.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Goes to the adapter as it is.
    Pass,
    /// Is `attach`: goes to the adapter with the agent's own arguments.
    Attach,
    /// Ends the session; never reaches the adapter in the client's words.
    Disconnect,
    /// Is answered with a refusal in these words.
    Refuse(String),
}

/// Requests that only look, or only stop and go on.
const STOP: &[&str] = &[
    "initialize",
    "configurationDone",
    "setExceptionBreakpoints",
    "setDataBreakpoints",
    "setInstructionBreakpoints",
    "dataBreakpointInfo",
    "breakpointLocations",
    "continue",
    "next",
    "stepIn",
    "stepOut",
    "pause",
    "stackTrace",
    "scopes",
    "variables",
    "source",
    "threads",
    "modules",
    "loadedSources",
    "exceptionInfo",
    "readMemory",
    "disassemble",
    "locations",
    "stepInTargets",
    "gotoTargets",
    "cancel",
    "completions",
    // Of pydevd's own: these only tell.
    "pydevdSystemInfo",
    "debugpySystemInfo",
    "setDebuggerProperty",
];

/// Requests that change the target, or run code there.
const MODIFY: &[&str] = &[
    "goto",
    "restartFrame",
    "reverseContinue",
    "setExpression",
    "setVariable",
    "stepBack",
    "writeMemory",
    // LLDB's own.
    "compileUnits",
];

/// Requests that would start or end a program.
const NEVER: &[(&str, &str)] = &[
    ("launch", "Pepo attaches to running processes and starts none"),
    ("restart", "the process belongs to its container and is not restarted"),
    ("terminate", "the process belongs to its container and is not ended; use `disconnect`"),
    ("terminateThreads", "threads of the target are not ended"),
];

/// Decides about one message from the client.
#[must_use]
pub fn judge(message: &Message, rights: Rights, facts: &DebuggerFacts) -> Decision {
    if message.kind() != Some(MessageKind::Request) {
        // Responses to the adapter's reverse requests (`runInTerminal`) would start programs; the engine answers those itself.
        return Decision::Refuse("only requests are taken from a client".into());
    }
    let command = message.command().unwrap_or_default();
    if let Some((_, why)) = NEVER.iter().find(|(name, _)| *name == command) {
        return Decision::Refuse((*why).into());
    }
    match command {
        "attach" => Decision::Attach,
        "disconnect" => Decision::Disconnect,
        "evaluate" => evaluate(message.arguments(), rights, facts),
        "setBreakpoints" | "setFunctionBreakpoints" => breakpoints(message.arguments(), rights, facts),
        _ if STOP.contains(&command) => {
            need(rights.stop, "stop", command).unwrap_or_else(|| expressions(message, rights, facts))
        }
        _ if facts.ends_at_unknown && !MODIFY.contains(&command) => {
            Decision::Refuse(format!("{} does not know `{command}`", facts.name))
        }
        _ => need(rights.modify, "modify", command).unwrap_or_else(|| expressions(message, rights, facts)),
    }
}

/// A refusal unless the right is there.
fn need(granted: bool, right: &str, what: &str) -> Option<Decision> {
    (!granted).then(|| {
        Decision::Refuse(format!("`{what}` needs the right `{right}`, which this session was not granted"))
    })
}

fn evaluate(arguments: &Value, rights: Rights, facts: &DebuggerFacts) -> Decision {
    if let Some(refusal) = need(rights.modify, "modify", "evaluate") {
        return refusal;
    }
    let expression = arguments.get("expression").and_then(Value::as_str).unwrap_or_default();
    let context = arguments.get("context").and_then(Value::as_str).unwrap_or_default();
    // Adapters treat a missing or unknown context as they like, some as `repl`.
    let plain = matches!(context, "watch" | "hover" | "variables" | "clipboard");
    if (facts.repl_is_raw && !plain) || is_raw(expression, facts) {
        return need(rights.raw, "raw", "the debugger's own commands").unwrap_or(Decision::Pass);
    }
    Decision::Pass
}

/// Breakpoints are `stop`; their conditions and messages are expressions.
fn breakpoints(arguments: &Value, rights: Rights, facts: &DebuggerFacts) -> Decision {
    if let Some(refusal) = need(rights.stop, "stop", "breakpoints") {
        return refusal;
    }
    let list = arguments.get("breakpoints").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for breakpoint in list {
        for field in ["condition", "hitCondition", "logMessage"] {
            let Some(text) = breakpoint.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
            else {
                continue;
            };
            let harmless = match field {
                "hitCondition" => text.chars().all(|c| c.is_ascii_digit() || " <>=%".contains(c)),
                "logMessage" => !text.contains('{'),
                _ => false,
            };
            if harmless {
                continue;
            }
            if let Some(refusal) = need(rights.modify, "modify", field) {
                return refusal;
            }
            if is_raw(text, facts)
                && let Some(refusal) = need(rights.raw, "raw", field)
            {
                return refusal;
            }
        }
    }
    Decision::Pass
}

/// Looks through every string of any other request for words of the debugger's own language.
fn expressions(message: &Message, rights: Rights, facts: &DebuggerFacts) -> Decision {
    if rights.raw || !any_string(message.arguments(), &|text| is_raw(text, facts)) {
        return Decision::Pass;
    }
    need(false, "raw", "the debugger's own commands").unwrap_or(Decision::Pass)
}

fn is_raw(text: &str, facts: &DebuggerFacts) -> bool {
    facts.raw_words.iter().any(|word| text.contains(word))
}

fn any_string(value: &Value, found: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => found(text),
        Value::Array(items) => items.iter().any(|item| any_string(item, found)),
        Value::Object(fields) => fields.values().any(|item| any_string(item, found)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debugger::{GuardChoice, Stands};
    use serde_json::json;

    const FACTS: DebuggerFacts = DebuggerFacts {
        name: "x",
        summary: "",
        languages: &[],
        tool: None,
        memory: 0,
        guard: GuardChoice::On,
        repl_is_raw: true,
        ends_at_unknown: true,
        raw_words: &["$_shell"],
        stands: Stands::ByThreadState,
    };
    const NONE: Rights = Rights { stop: false, modify: false, raw: false };
    const STOPS: Rights = Rights { stop: true, modify: false, raw: false };
    const MODIFIES: Rights = Rights { stop: true, modify: true, raw: false };
    const RAW: Rights = Rights { stop: true, modify: true, raw: true };

    fn check(command: &str, arguments: Value, rights: Rights, passes: bool) {
        let message = Message::request(1, command, arguments);
        let decision = judge(&message, rights, &FACTS);
        assert_eq!(decision == Decision::Pass, passes, "{message:?} with {rights:?}: {decision:?}");
    }

    #[test]
    fn looking_at_a_stopped_process_needs_stop() {
        for command in STOP {
            check(command, json!({}), STOPS, true);
            check(command, json!({}), NONE, false);
        }
    }

    #[test]
    fn what_runs_code_needs_modify() {
        for (command, arguments) in [
            ("evaluate", json!({"expression": "1", "context": "watch"})),
            ("setVariable", json!({"name": "x", "value": "1"})),
            ("setExpression", json!({"expression": "x", "value": "1"})),
            ("writeMemory", json!({})),
            ("goto", json!({})),
            ("setBreakpoints", json!({"breakpoints": [{"line": 1, "condition": "f()"}]})),
            ("setBreakpoints", json!({"breakpoints": [{"line": 1, "logMessage": "{f()}"}]})),
            ("setBreakpoints", json!({"breakpoints": [{"line": 1, "hitCondition": "f()"}]})),
            ("setFunctionBreakpoints", json!({"breakpoints": [{"name": "f", "condition": "f()"}]})),
        ] {
            check(command, arguments.clone(), MODIFIES, true);
            check(command, arguments, STOPS, false);
        }
    }

    #[test]
    fn what_is_not_of_dap_needs_modify_and_reaches_no_adapter_that_ends_at_it() {
        let unknown = Message::request(1, "someUnknownRequest", json!({}));
        assert!(
            matches!(judge(&unknown, RAW, &FACTS), Decision::Refuse(why) if why.contains("does not know"))
        );
        let bears_it = DebuggerFacts { ends_at_unknown: false, ..FACTS };
        assert_eq!(judge(&unknown, MODIFIES, &bears_it), Decision::Pass);
        assert_ne!(judge(&unknown, STOPS, &bears_it), Decision::Pass);
    }

    #[test]
    fn plain_breakpoints_counts_and_messages_need_only_stop() {
        for breakpoint in [
            json!({"line": 1}),
            json!({"line": 1, "hitCondition": ">= 10"}),
            json!({"line": 1, "logMessage": "here"}),
        ] {
            check("setBreakpoints", json!({"breakpoints": [breakpoint]}), STOPS, true);
        }
    }

    #[test]
    fn the_debuggers_own_language_needs_raw() {
        for (command, arguments) in [
            ("evaluate", json!({"expression": "info", "context": "repl"})),
            ("evaluate", json!({"expression": "info"})),
            ("evaluate", json!({"expression": "$_shell(\"id\")", "context": "hover"})),
            ("setVariable", json!({"name": "x", "value": "$_shell(\"id\")"})),
            ("setDataBreakpoints", json!({"breakpoints": [{"condition": "$_shell(\"id\")"}]})),
            ("setBreakpoints", json!({"breakpoints": [{"line": 1, "condition": "$_shell(\"id\")"}]})),
        ] {
            check(command, arguments.clone(), RAW, true);
            check(command, arguments, MODIFIES, false);
        }
    }

    #[test]
    fn nothing_starts_or_kills_a_program_whatever_was_granted() {
        for (command, _) in NEVER {
            check(command, json!({}), RAW, false);
        }
        let mut answer = Message::request(1, "runInTerminal", Value::Null);
        answer.fields.insert("type".into(), "response".into());
        assert!(matches!(judge(&answer, RAW, &FACTS), Decision::Refuse(_)));
    }

    #[test]
    fn attach_and_disconnect_are_the_agents_own() {
        assert_eq!(judge(&Message::request(1, "attach", json!({"pid": 1})), NONE, &FACTS), Decision::Attach);
        assert_eq!(
            judge(&Message::request(1, "disconnect", Value::Null), NONE, &FACTS),
            Decision::Disconnect
        );
    }
}
