//! What the editor asks: whom it is meant for, and in which numbers and paths.

use pepo_wire::dap::Message;
use serde_json::{Value, json};

use super::{Done, Fan, Go, Group};
use crate::server::{ids::Kind, member::Pending, queue::Gone};

/// Requests that hold the whole list of their breakpoints.
pub(super) const POINTS: &[&str] =
    &["setBreakpoints", "setFunctionBreakpoints", "setDataBreakpoints", "setInstructionBreakpoints"];
/// Requests for every adapter.
const FOR_ALL: &[&str] = &[
    "configurationDone",
    "loadedSources",
    "modules",
    "setBreakpoints",
    "setExceptionBreakpoints",
    "setFunctionBreakpoints",
    "threads",
];
/// The most fan-outs under way.
const MAX_FANS: usize = 1024;

impl Group<'_> {
    pub(super) async fn on_request(&mut self, mut request: Message) -> Result<Go, Gone> {
        let command = request.command().unwrap_or_default().to_owned();
        match command.as_str() {
            "disconnect" => {
                self.leaving = Some(request);
                return Ok(Go::End);
            }
            "terminate" => {
                let text = "the target is never ended from here: it is let go and runs on\n";
                self.connection.say(text).await?;
                self.respond(&request, Value::Null).await?;
                self.terminate().await?;
                return Ok(Go::End);
            }
            "initialize" | "attach" | "launch" => {
                self.connection.refuse(&request, "this session is attached already").await?
            }
            "restart" => self.connection.refuse(&request, "a target is never restarted from here").await?,
            "cancel" => self.cancel(&request).await?,
            "source" if self.references.asked(request.arguments()).is_some() => self.source(request),
            "pepo/rearm" => self.rearm(&request).await?,
            "evaluate" if self.is_rearm(&request) => self.rearm(&request).await?,
            "continue" if !self.single() => self.continue_several(request).await?,
            _ => {
                if !self.single() {
                    self.strip_single_thread(&mut request);
                }
                self.pass(request, &command).await?;
            }
        }
        Ok(Go::On)
    }

    /// To the members it is meant for.
    async fn pass(&mut self, request: Message, command: &str) -> Result<(), Gone> {
        let ours = self.references.asked(request.arguments()).map(|(member, _)| member);
        if FOR_ALL.contains(&command) && ours.is_none() {
            return self.pass_to_all(request, command).await;
        }
        let named = ours.or_else(|| self.ids.member_of(request.arguments()));
        let index = named.unwrap_or(self.focus).min(self.members.len() - 1);
        if !self.members[index].offers(command) {
            let words = format!("{} does not offer `{command}`", self.members[index].opened.debugger);
            return self.connection.refuse(&request, &words).await;
        }
        let mut arguments = request.arguments().clone();
        self.translate(index, command, &mut arguments).await?;
        if let Err(Pending::Editor(request)) =
            self.members[index].send(command, arguments, Pending::Editor(request))
        {
            self.connection.refuse(&request, "the debugger takes nothing any more").await?;
        }
        Ok(())
    }

    /// Numbers and paths as the member knows them; what is armed is noted.
    async fn translate(&mut self, index: usize, command: &str, arguments: &mut Value) -> Result<(), Gone> {
        self.ids.outgoing(index, arguments);
        if command == "evaluate"
            && let Some(fields) = arguments.as_object_mut()
        {
            // Helix names none. Adapters differ in what they take that for, some for their own command line.
            fields.entry("context").or_insert_with(|| "watch".into());
        }
        let unknown = self.references.outgoing(&mut self.members[index], arguments);
        if command == "setBreakpoints"
            && arguments.get("breakpoints").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
        {
            for path in unknown {
                let text = format!(
                    "{}: no file of the target's is known to belong to {path}; if its breakpoints stay unverified, add a \"sourceMap\"\n",
                    self.members[index].name
                );
                self.connection.say(&text).await?;
            }
        }
        if POINTS.contains(&command) {
            self.members[index].note(command, arguments);
        }
        Ok(())
    }

    /// The same request to every member that knows it.
    async fn pass_to_all(&mut self, request: Message, command: &str) -> Result<(), Gone> {
        if command == "configurationDone" {
            self.configured = true;
        }
        self.last_fan += 1;
        let mut fan = Fan { request, answers: Vec::new(), waiting: 0 };
        for index in 0..self.members.len() {
            if self.members[index].over || !self.members[index].offers(command) || self.fans.len() >= MAX_FANS
            {
                continue;
            }
            let mut arguments = fan.request.arguments().clone();
            if command == "setExceptionBreakpoints" {
                keep_own_filters(&mut arguments, &self.members[index].capabilities.exception_filters());
            }
            self.translate(index, command, &mut arguments).await?;
            if self.members[index].send(command, arguments, Pending::Fan(self.last_fan)).is_ok() {
                fan.waiting += 1;
            }
        }
        if fan.waiting > 0 {
            self.fans.insert(self.last_fan, fan);
            return Ok(());
        }
        if command == "configurationDone" {
            // An adapter without it goes on by itself.
            self.respond(&fan.request, Value::Null).await?;
            return self.after_configuration().await;
        }
        self.connection.refuse(&fan.request, &format!("no debugger here offers `{command}`")).await
    }

    /// `continue` with several targets: by the protocol all go on, unless only one thread is named.
    async fn continue_several(&mut self, request: Message) -> Result<(), Gone> {
        let single = request.arguments().get("singleThread").and_then(Value::as_bool) == Some(true);
        let named = self.ids.member_of(request.arguments()).unwrap_or(self.focus);
        if !single {
            for (index, member) in self.members.iter_mut().enumerate() {
                if index != named
                    && let Some(thread) = member.stopped.take()
                {
                    // One that cannot be asked any more is over.
                    let _ = member.send("continue", json!({"threadId": thread}), Pending::Own);
                }
            }
        }
        let mut request = request;
        self.strip_single_thread(&mut request);
        request.fields.insert("__pepoSingle".into(), single.into());
        self.pass(request, "continue").await
    }

    /// An adapter that does not know `singleThread` is not told of it.
    fn strip_single_thread(&self, request: &mut Message) {
        let member =
            self.ids.member_of(request.arguments()).unwrap_or(self.focus).min(self.members.len() - 1);
        if !self.members[member].capabilities.has("supportsSingleThreadExecutionRequests")
            && let Some(arguments) = request.fields.get_mut("arguments").and_then(Value::as_object_mut)
        {
            arguments.remove("singleThread");
        }
    }

    /// `cancel` names a request by the editor's number.
    async fn cancel(&mut self, request: &Message) -> Result<(), Gone> {
        let wanted = request.arguments().get("requestId").and_then(Value::as_i64);
        for member in &mut self.members {
            let is_it = |pending: &Pending| matches!(pending, Pending::Editor(request) if Some(request.seq()) == wanted);
            let found = member.pending.iter().find(|(_, pending)| is_it(pending)).map(|(seq, _)| *seq);
            if let Some(seq) = found.filter(|_| member.offers("cancel")) {
                let _ = member.send("cancel", json!({"requestId": seq}), Pending::Own);
            }
        }
        self.respond(request, Value::Null).await
    }

    /// The content of a source that is only in the target.
    fn source(&mut self, request: Message) {
        let Some((index, path)) = self.references.asked(request.arguments()) else { return };
        let files = self.members.get(index).and_then(|member| member.files.clone());
        let done = self.done.0.clone();
        tokio::spawn(async move {
            let content = match files {
                Some(files) => files.read(&path).await,
                None => Err(pepo_wire::Failure::new(
                    pepo_wire::Code::FileNotFound,
                    format!("{path} cannot be read"),
                )),
            };
            // The editor may be gone meanwhile.
            let _ = done.send(Done::Source(request, content)).await;
        });
    }

    /// `rearm`, typed in the editor's console after the budget was spent.
    fn is_rearm(&self, request: &Message) -> bool {
        let text =
            |name: &str| request.arguments().get(name).and_then(Value::as_str).unwrap_or_default().trim();
        matches!(text("context"), "repl" | "")
            && text("expression") == "rearm"
            && self.members.iter().any(|member| member.cleared)
    }

    /// Sets all breakpoints again that were cleared.
    async fn rearm(&mut self, request: &Message) -> Result<(), Gone> {
        let mut count = 0;
        for member in self.members.iter_mut().filter(|member| member.cleared) {
            member.cleared = false;
            let keys: Vec<String> = member.armed.keys().cloned().collect();
            for key in keys {
                let Some(armed) = member.armed.get(&key).cloned() else { continue };
                count += 1;
                let mut echo = Message::request(0, &armed.command, armed.arguments.clone());
                echo.fields.insert("__pepoRearm".into(), key.into());
                if member.send(&armed.command, armed.arguments, Pending::Editor(echo)).is_err() {
                    tracing::debug!("breakpoints were not set again: the adapter takes nothing any more");
                }
            }
        }
        let words = if count == 0 { "no breakpoint was cleared" } else { "the breakpoints are set again" };
        self.respond(request, json!({"result": words, "variablesReference": 0})).await
    }

    /// The editor's answer to a request of an adapter's.
    pub(super) fn on_reverse_answer(&mut self, mut answer: Message) -> Result<(), Gone> {
        if let Some((index, seq)) = self.reverse.remove(&answer.request_seq()) {
            answer.fields.insert("request_seq".into(), seq.into());
            if let Some(body) = answer.fields.get_mut("body") {
                self.ids.outgoing(index, body);
                self.references.outgoing(&mut self.members[index], body);
            }
            self.members[index].answer(answer);
        }
        Ok(())
    }

    /// Our number for a thread of a member's.
    pub(super) fn thread(&mut self, member: usize, thread: i64) -> i64 {
        self.ids.our(Kind::Thread, member, thread)
    }
}

/// Only those filters that the adapter announced.
fn keep_own_filters(arguments: &mut Value, own: &[(String, bool)]) {
    let known = |name: Option<&str>| own.iter().any(|(own, _)| Some(own.as_str()) == name);
    if let Some(filters) = arguments.get_mut("filters").and_then(Value::as_array_mut) {
        filters.retain(|filter| known(filter.as_str()));
    }
    if let Some(options) = arguments.get_mut("filterOptions").and_then(Value::as_array_mut) {
        options.retain(|option| known(option.get("filterId").and_then(Value::as_str)));
    }
}
