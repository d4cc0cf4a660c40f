//! Looking at a target that stands still: threads, frames, variables, values, and changing them.

use serde_json::{Value as Json, json};

use super::{
    Console, Show,
    output::{Frame, Output, Place, Scope as ScopeOut, Thread as ThreadOut, Value},
};
use crate::{
    error::DapError,
    views::{Evaluated, Scope, StackFrame, Thread, Variable, items, view},
};

/// Frames asked for at first.
const FIRST_FRAMES: usize = 20;
/// The most frames of one stack.
const MAX_FRAMES: usize = 1000;
/// The most variables shown of a scope or of a value.
const MAX_VARIABLES: usize = 100;
/// The most parts of a value shown beside it.
const SUMMARISED: usize = 8;
/// Source lines before and behind a stop.
const AROUND: i64 = 2;

/// What is looked at.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    thread: Option<i64>,
    frames: Vec<StackFrame>,
    whole: bool,
    current: usize,
    names: Vec<String>,
}

impl Selection {
    /// The path in the target of the frame that is looked at.
    pub(crate) fn path(&self) -> Option<String> {
        self.frames.get(self.current)?.source.as_ref()?.path.clone()
    }

    /// The adapter's name for the frame that is looked at.
    pub(crate) fn frame_id(&self) -> Option<i64> {
        self.frames.get(self.current).map(|frame| frame.id)
    }

    /// The frame that is looked at.
    pub(crate) fn frame(&self) -> Option<&StackFrame> {
        self.frames.get(self.current)
    }

    /// Names of variables seen last, for completion.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The thread that is looked at.
    pub(crate) fn thread(&self) -> Option<i64> {
        self.thread
    }

    /// The target went on: nothing of this holds any more, but for the thread.
    pub(crate) fn went_on(&mut self) {
        self.frames.clear();
        self.whole = false;
        self.current = 0;
    }

    /// Looks at another thread.
    pub(crate) fn look_at(&mut self, thread: i64) {
        self.went_on();
        self.thread = Some(thread);
    }
}

impl Console {
    /// The thread that is looked at, when the target stands still.
    pub(super) fn standing_thread(&self) -> Result<i64, DapError> {
        let stopped = self.debuggee.stopped().ok_or(DapError::Running)?;
        Ok(self.selection.thread().or(stopped.thread_id).unwrap_or(1))
    }

    /// Reads the stack up to `count` frames.
    async fn read_frames(&mut self, count: usize) -> Result<(), DapError> {
        let thread = self.standing_thread()?;
        let have = self.selection.frames.len();
        if self.selection.whole || have >= count {
            return Ok(());
        }
        let levels = count - have;
        let arguments = json!({"threadId": thread, "startFrame": have, "levels": levels});
        let body = self.debuggee.request("stackTrace", arguments).await?;
        let mut frames: Vec<StackFrame> = items(&body, "stackFrames");
        // Some adapters always send the stack from its top.
        if have > 0
            && frames.first().map(|frame| frame.id) == self.selection.frames.first().map(|frame| frame.id)
        {
            frames.drain(..have.min(frames.len()));
        }
        self.selection.whole = frames.len() < levels;
        self.selection.thread = Some(thread);
        self.selection.frames.extend(frames);
        let paths = self.selection.frames.iter().filter_map(|frame| frame.source.as_ref()?.path.as_deref());
        self.source_map.know(paths);
        Ok(())
    }

    /// The adapter's name for the frame that is looked at.
    pub(super) async fn frame_id(&mut self) -> Result<i64, DapError> {
        self.read_frames(self.selection.current + 1).await?;
        self.selection
            .frame_id()
            .ok_or_else(|| DapError::not_there("the thread has no frames", "`threads` lists others"))
    }

    fn frame_out(&mut self, number: usize) -> Frame {
        let frame = self.selection.frames.get(number).cloned().unwrap_or_default();
        let path = frame.source.as_ref().and_then(|source| source.path.clone());
        Frame {
            number,
            function: function_name(&frame.name),
            local: path.as_deref().and_then(|path| self.source_map.to_local(path)),
            path,
            line: frame.line,
            address: frame.instruction_pointer_reference,
            current: number == self.selection.current,
        }
    }

    /// The frame that is looked at, with its source.
    pub(super) async fn place(&mut self) -> Result<Place, DapError> {
        self.frame_id().await?;
        let frame = self.frame_out(self.selection.current);
        let source = self.selection.frame().and_then(|frame| frame.source.clone()).unwrap_or_default();
        let lines = if frame.line > 0 {
            self.lines(&source, frame.line, AROUND, Some(frame.line)).await.ok()
        } else {
            None
        };
        Ok(Place { frame, lines })
    }

    /// The threads, as the adapter lists them.
    pub(super) async fn read_threads(&mut self) -> Result<Vec<ThreadOut>, DapError> {
        let body = self.debuggee.request("threads", Json::Null).await?;
        let threads: Vec<Thread> = items(&body, "threads");
        let current = self.standing_thread().ok();
        Ok(threads
            .into_iter()
            .map(|one| ThreadOut {
                current: Some(one.id) == current,
                id: one.id,
                name: thread_name(&one.name),
            })
            .collect())
    }

    pub(super) async fn threads(&mut self, show: Show<'_>) -> Result<(), DapError> {
        let threads = self.read_threads().await?;
        show(Output::Threads { threads });
        Ok(())
    }

    pub(super) async fn choose_thread(&mut self, id: i64, show: Show<'_>) -> Result<(), DapError> {
        self.standing_thread()?;
        if !self.read_threads().await?.iter().any(|thread| thread.id == id) {
            return Err(DapError::word(format!("there is no thread {id}"), "`threads` lists them"));
        }
        self.selection.look_at(id);
        let place = self.place().await?;
        show(Output::Frame(Box::new(place)));
        Ok(())
    }

    pub(super) async fn backtrace(&mut self, count: usize, show: Show<'_>) -> Result<(), DapError> {
        let thread = self.standing_thread()?;
        let wanted = if count == 0 { FIRST_FRAMES } else { count.min(MAX_FRAMES) };
        self.read_frames(wanted).await?;
        let have = self.selection.frames.len();
        let frames = (0..have.min(wanted)).map(|number| self.frame_out(number)).collect();
        show(Output::Stack { thread, frames, more: have > wanted || !self.selection.whole });
        Ok(())
    }

    pub(super) async fn climb(&mut self, by: i64, show: Show<'_>) -> Result<(), DapError> {
        let number = self.selection.current as i64 + by;
        if number < 0 {
            return Err(DapError::word("this is the innermost frame already", "`up` goes to the caller"));
        }
        self.choose_frame(Some(number as usize), show).await
    }

    pub(super) async fn choose_frame(
        &mut self,
        number: Option<usize>,
        show: Show<'_>,
    ) -> Result<(), DapError> {
        let number = number.unwrap_or(self.selection.current);
        self.read_frames((number + 1).min(MAX_FRAMES)).await?;
        if number >= self.selection.frames.len() {
            let last = self.selection.frames.len().saturating_sub(1);
            return Err(DapError::word(
                format!("there is no frame {number}"),
                format!("the outermost is {last}"),
            ));
        }
        self.selection.current = number;
        let place = self.place().await?;
        show(Output::Frame(Box::new(place)));
        Ok(())
    }

    /// The scopes of the frame, without registers.
    async fn scopes(&mut self) -> Result<Vec<Scope>, DapError> {
        let frame = self.frame_id().await?;
        let body = self.debuggee.request("scopes", json!({"frameId": frame})).await?;
        let mut scopes: Vec<Scope> = items(&body, "scopes");
        scopes.retain(|scope| {
            let hint = scope.presentation_hint.as_deref();
            hint != Some("registers") && !scope.name.eq_ignore_ascii_case("registers")
        });
        Ok(scopes)
    }

    async fn variables(&mut self, reference: i64) -> Result<Vec<Variable>, DapError> {
        if reference <= 0 {
            return Ok(Vec::new());
        }
        let body = self.debuggee.request("variables", json!({"variablesReference": reference})).await?;
        Ok(items(&body, "variables"))
    }

    pub(super) async fn locals(&mut self, show: Show<'_>) -> Result<(), DapError> {
        let mut shown = Vec::new();
        self.selection.names.clear();
        for scope in self.scopes().await? {
            let globals = matches!(
                scope.name.to_ascii_lowercase().as_str(),
                "globals" | "global" | "statics" | "static"
            );
            if scope.expensive || globals {
                continue;
            }
            let variables = self.variables(scope.variables_reference).await?;
            self.selection.names.extend(variables.iter().take(MAX_VARIABLES).map(|one| one.name.clone()));
            let more = variables.len() > MAX_VARIABLES;
            let mut values = Vec::new();
            for variable in variables.into_iter().take(MAX_VARIABLES) {
                values.push(self.with_summary(variable).await);
            }
            shown.push(ScopeOut { name: scope.name, variables: values, more });
        }
        // A group without anything in it says nothing beside one that has something.
        if shown.iter().any(|scope| !scope.variables.is_empty()) {
            shown.retain(|scope| !scope.variables.is_empty());
        }
        show(Output::Locals { scopes: shown });
        Ok(())
    }

    /// A variable with a short form of its parts where the adapter gives none.
    async fn with_summary(&mut self, variable: Variable) -> Value {
        if !says_nothing(&variable) {
            return value_of(variable);
        }
        let parts = self.variables(variable.variables_reference).await.unwrap_or_default();
        let named = |part: &Variable| match part.value.is_empty() || says_nothing(part) {
            true => format!("{} = …", part.name),
            false => format!("{} = {}", part.name, part.value),
        };
        let mut short: Vec<String> = parts.iter().take(SUMMARISED).map(named).collect();
        if parts.len() > SUMMARISED {
            short.push("…".into());
        }
        Value { value: format!("{{{}}}", short.join(", ")), ..value_of(variable) }
    }

    pub(super) async fn print(&mut self, expression: &str, show: Show<'_>) -> Result<(), DapError> {
        let value = self.evaluate(expression).await?;
        show(Output::Value(value));
        Ok(())
    }

    /// A value with its parts, one level deep.
    async fn evaluate(&mut self, expression: &str) -> Result<Value, DapError> {
        let frame = self.frame_id().await?;
        let arguments = json!({"expression": expression, "frameId": frame, "context": "watch"});
        let said: Evaluated = view(&self.debuggee.request_calling("evaluate", arguments).await?);
        let parts = self.variables(said.variables_reference).await.unwrap_or_default();
        let own = |part: &Variable| !matches!(part.name.as_str(), "special variables" | "function variables");
        Ok(Value {
            name: expression.to_owned(),
            value: said.result.filter(|value| !value.is_empty()).unwrap_or_else(|| "{…}".into()),
            kind: said.kind,
            parts: parts.into_iter().filter(own).take(MAX_VARIABLES).map(value_of).collect(),
            error: None,
        })
    }

    /// A value, or why there is none: a watch outlives the frames where it means something.
    pub(super) async fn value_or_error(&mut self, expression: &str) -> Value {
        match self.evaluate(expression).await {
            Ok(value) => value,
            Err(error) => {
                let words = match &error {
                    DapError::Refused { words, .. } => words.clone(),
                    other => other.to_string(),
                };
                let first = words.lines().next().unwrap_or_default().to_owned();
                Value { name: expression.to_owned(), error: Some(first), ..Value::default() }
            }
        }
    }

    /// Where a variable stands: the reference of what holds it, and its name there. Goes down a path like `a.b[2]`.
    pub(super) async fn find_variable(&mut self, path: &str) -> Result<Option<(i64, Variable)>, DapError> {
        let steps = steps(path);
        let Some((first, rest)) = steps.split_first() else { return Ok(None) };
        for scope in self.scopes().await?.into_iter().filter(|scope| !scope.expensive) {
            let mut holder = scope.variables_reference;
            let Some(mut found) = named(self.variables(holder).await?, first) else { continue };
            for step in rest {
                holder = found.variables_reference;
                match named(self.variables(holder).await?, step) {
                    Some(next) => found = next,
                    None => return Ok(None),
                }
            }
            return Ok(Some((holder, found)));
        }
        Ok(None)
    }

    /// Changes a variable by the best way the adapter has.
    pub(super) async fn set(&mut self, name: &str, value: &str, show: Show<'_>) -> Result<(), DapError> {
        let frame = self.frame_id().await?;
        let body = match self.find_variable(name).await? {
            Some((holder, variable)) if self.debuggee.offers("setVariable") => {
                let arguments = json!({"variablesReference": holder, "name": variable.name, "value": value});
                self.debuggee.request_calling("setVariable", arguments).await?
            }
            _ if self.debuggee.offers("setExpression") => {
                let arguments = json!({"expression": name, "value": value, "frameId": frame});
                self.debuggee.request_calling("setExpression", arguments).await?
            }
            found => {
                let context =
                    if found.is_some() || self.debuggee.offers("setVariable") { "watch" } else { "repl" };
                let expression = format!("{name} = {value}");
                let arguments = json!({"expression": expression, "frameId": frame, "context": context});
                self.debuggee.request_calling("evaluate", arguments).await?
            }
        };
        let said: Evaluated = view(&body);
        // lldb-dap 19 does not say what the value is now.
        let now = match said.result.filter(|result| !result.is_empty()) {
            Some(result) => {
                Value { name: name.to_owned(), value: result, kind: said.kind, ..Value::default() }
            }
            None => self.evaluate(name).await?,
        };
        show(Output::Changed(now));
        Ok(())
    }
}

/// delve marks the thread that is looked at in its name; here a column does.
fn thread_name(name: &str) -> String {
    name.trim_start_matches("* ").to_owned()
}

/// Rust's legacy names end with a hash, which tells a person nothing.
fn function_name(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((plain, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            plain.to_owned()
        }
        _ => name.to_owned(),
    }
}

/// Does the adapter say only where the value lies, and leave the rest to its parts (gdb, lldb-dap)?
fn says_nothing(variable: &Variable) -> bool {
    variable.variables_reference > 0 && (variable.value.is_empty() || variable.value.contains(" @ 0x"))
}

fn value_of(variable: Variable) -> Value {
    Value { name: variable.name, value: variable.value, kind: variable.kind, ..Value::default() }
}

/// `a.b[2]->c` as `a`, `b`, `[2]`, `c`.
fn steps(path: &str) -> Vec<String> {
    path.replace("->", ".")
        .replace('[', ".[")
        .split('.')
        .filter(|step| !step.is_empty())
        .map(|step| step.trim().to_owned())
        .collect()
}

/// The variable of that name; parts are named `[2]`, `2`, `.b` or `b` by different adapters.
fn named(variables: Vec<Variable>, name: &str) -> Option<Variable> {
    let bare = |name: &str| name.trim_start_matches('.').trim_matches(['[', ']']).to_owned();
    let wanted = bare(name);
    variables.into_iter().find(|variable| variable.name == name || bare(&variable.name) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_into_values_are_taken_apart() {
        assert_eq!(steps("a.b[2]->c"), ["a", "b", "[2]", "c"]);
        assert_eq!(steps("n"), ["n"]);
        let variable = |name: &str| Variable { name: name.into(), ..Variable::default() };
        assert!(named(vec![variable("2")], "[2]").is_some());
        assert!(named(vec![variable("[2]")], "[2]").is_some());
        assert!(named(vec![variable("20")], "[2]").is_none());
    }

    #[test]
    fn names_are_shown_without_what_tells_nothing() {
        assert_eq!(function_name("looper::tick::hd52a328db11c63fc"), "looper::tick");
        assert_eq!(function_name("a::hello"), "a::hello");
        assert_eq!(thread_name("* [Go 1] main.tick"), "[Go 1] main.tick");
    }
}
