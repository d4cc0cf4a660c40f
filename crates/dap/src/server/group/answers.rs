//! What adapters answer: to the request it belongs to, in the editor's numbers and paths, whole where an adapter left
//! something out, and merged where several were asked.

use pepo_wire::dap::{Message, MessageKind};
use serde_json::{Map, Value, json};

use super::{Done, ENTRY, Fan, Go, Group, requests::POINTS};
use crate::{
    link::LinkEvent,
    server::{
        ids::Kind,
        member::{Armed, Member, Pending},
        queue::Gone,
    },
    session::{NOT_STOPPED, is_pause},
};

/// The most lists of breakpoints remembered of a member.
const MAX_ARMED: usize = 4096;
/// The most requests that wait for a target to stand still.
const MAX_HELD: usize = 64;
/// Requests of an adapter's that would run something on the user's machine, or need a connection to the adapter.
const REFUSED: &[&str] = &["runInTerminal", "startDebugging"];

impl Member {
    /// Notes breakpoints as they are sent, under what tells the lists apart.
    pub(super) fn note(&mut self, command: &str, arguments: &Value) {
        let path = arguments.pointer("/source/path").and_then(Value::as_str).unwrap_or_default();
        let key = format!("{command} {path}");
        let empty = arguments.get("breakpoints").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if empty {
            self.armed.remove(&key);
        } else if self.armed.len() < MAX_ARMED || self.armed.contains_key(&key) {
            let armed = Armed { command: command.to_owned(), arguments: arguments.clone(), ids: Vec::new() };
            self.armed.insert(key, armed);
        }
    }

    /// The arguments with which the breakpoints of a request were sent last, where it has but one list.
    fn sent_points(&self, command: &str) -> Option<Value> {
        let empty = || json!({"breakpoints": []});
        let armed = self.armed.get(&format!("{command} ")).map(|armed| armed.arguments.clone());
        (command != "setBreakpoints").then(|| armed.unwrap_or_else(empty))
    }

    /// Notes the adapter's numbers for the breakpoints of such a request.
    fn note_ids(&mut self, command: &str, path: &str, body: &Value) {
        if let Some(armed) = self.armed.get_mut(&format!("{command} {path}")) {
            let list = body.get("breakpoints").and_then(Value::as_array);
            let id = |one: &Value| one.get("id").and_then(Value::as_i64);
            armed.ids = list.map(|list| list.iter().filter_map(id).collect()).unwrap_or_default();
        }
    }
}

impl Group<'_> {
    /// One event of a member's session.
    pub(super) async fn on_link(&mut self, index: usize, event: LinkEvent) -> Result<Go, Gone> {
        match event {
            LinkEvent::Dap(bytes) => match Message::parse(&bytes) {
                Ok(message) => self.on_message(index, message).await?,
                Err(error) => tracing::debug!(%error, "the adapter sent something that is not a message"),
            },
            LinkEvent::Pause(report) => self.on_pause(index, &report).await?,
            LinkEvent::BudgetSpent(spent) => self.on_budget_spent(index, &spent).await?,
            LinkEvent::Notice(text) => self.connection.say(&format!("{text}\n")).await?,
            LinkEvent::Closed(closed) => return self.on_closed(index, &closed).await,
        }
        Ok(Go::On)
    }

    async fn on_message(&mut self, index: usize, message: Message) -> Result<(), Gone> {
        match message.kind() {
            Some(MessageKind::Response) if self.hold(index, &message) => Ok(()),
            Some(MessageKind::Response) => match self.members[index].pending.remove(&message.request_seq()) {
                Some(Pending::Editor(request)) => self.answer_editor(index, request, message).await,
                Some(Pending::Fan(fan)) => self.answer_fan(index, fan, message).await,
                Some(Pending::Attach) => self.answer_attach(index, &message).await,
                Some(Pending::Own) | None => Ok(()),
            },
            Some(MessageKind::Event) => self.on_event(index, message).await,
            Some(MessageKind::Request) => self.on_reverse_request(index, message).await,
            None => Ok(()),
        }
    }

    /// Breakpoints that were refused because the target runs (gdb's functions): it is paused, they are sent again, and it goes
    /// on. `true`: the answer comes later.
    fn hold(&mut self, index: usize, answer: &Message) -> bool {
        let member = &mut self.members[index];
        let command = answer.command().unwrap_or_default();
        let running = !answer.success() && answer.error_text() == NOT_STOPPED && member.stopped.is_none();
        if !running || member.held.len() >= MAX_HELD || !POINTS.contains(&command) {
            return false;
        }
        let Some(pending) = member.pending.remove(&answer.request_seq()) else { return false };
        let Some(arguments) = member.sent_points(command) else {
            member.pending.insert(answer.request_seq(), pending);
            return false;
        };
        member.held.push((command.to_owned(), arguments, pending));
        // If it cannot be asked it is over, which answers all that wait.
        let _ = member.send("pause", json!({"threadId": 1}), Pending::Own);
        true
    }

    /// The target stands still: what waited for that is sent. `true`: it was paused for that alone and goes on.
    pub(super) fn send_held(&mut self, index: usize, reason: &str, thread: i64) -> bool {
        let member = &mut self.members[index];
        if member.held.is_empty() {
            return false;
        }
        for (command, arguments, pending) in std::mem::take(&mut member.held) {
            let _ = member.send(&command, arguments, pending);
        }
        let own = is_pause(reason);
        if own {
            let _ = member.send("continue", json!({"threadId": thread}), Pending::Own);
        }
        own
    }

    /// The answer to a request of the editor's own.
    async fn answer_editor(
        &mut self,
        index: usize,
        request: Message,
        mut answer: Message,
    ) -> Result<(), Gone> {
        let command = request.command().unwrap_or_default().to_owned();
        if POINTS.contains(&command.as_str()) {
            if let Some(key) = request.fields.get("__pepoRearm").and_then(Value::as_str) {
                return self.rearmed(index, key, &answer).await;
            }
            self.note_answer(index, &command, &request, answer.body());
        }
        if answer.success() && matches!(command.as_str(), "continue" | "next" | "stepIn" | "stepOut") {
            self.members[index].stopped = None;
        }
        complete(&request, &mut answer);
        if let Some(body) = answer.fields.get_mut("body") {
            self.ids.incoming(index, body);
            self.references.incoming(index, &mut self.members[index], body);
        }
        if command == "continue" && !self.single() && answer.success() {
            let single = request.fields.get("__pepoSingle").and_then(Value::as_bool).unwrap_or(false);
            answer.fields.insert("body".into(), json!({"allThreadsContinued": !single}));
        }
        answer.fields.insert("request_seq".into(), request.seq().into());
        self.connection.queue.send(answer).await.map(drop)
    }

    /// Notes what a member made of breakpoints; a path it knows as the user wrote it is the same file on both sides.
    fn note_answer(&mut self, index: usize, command: &str, request: &Message, body: &Value) {
        let path = self.sent_path(index, request);
        self.members[index].note_ids(command, &path, body);
        let own = request.arguments().pointer("/source/path").and_then(Value::as_str).unwrap_or_default();
        let mut made = body.get("breakpoints").and_then(Value::as_array).into_iter().flatten();
        let found = made.any(|one| one.get("verified").and_then(Value::as_bool) == Some(true));
        if found && path == own && self.references.asked(request.arguments()).is_none() {
            self.members[index].map.confirm(own);
        }
    }

    /// The path under which a request's breakpoints were sent to a member.
    fn sent_path(&mut self, index: usize, request: &Message) -> String {
        let mut arguments = request.arguments().clone();
        self.references.outgoing(&mut self.members[index], &mut arguments);
        arguments.pointer("/source/path").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Breakpoints that were set again: the editor sees it by events.
    async fn rearmed(&mut self, index: usize, key: &str, answer: &Message) -> Result<(), Gone> {
        let before = self.members[index].armed.get(key).map(|armed| armed.ids.clone()).unwrap_or_default();
        let list = answer.body().get("breakpoints").and_then(Value::as_array).cloned().unwrap_or_default();
        for (old, new) in before.iter().zip(&list) {
            let our = self.ids.our(Kind::Breakpoint, index, *old);
            let now = new.get("id").and_then(Value::as_i64).unwrap_or(*old);
            self.ids.alias(Kind::Breakpoint, index, now, our);
            let verified = new.get("verified").and_then(Value::as_bool).unwrap_or(false);
            let shown = if self.single() { now } else { our };
            if shown != our {
                // The editor knows it by its old number.
                let gone = json!({"reason": "removed", "breakpoint": {"id": our, "verified": false}});
                self.event("breakpoint", gone).await?;
            }
            let reason = if shown == our { "changed" } else { "new" };
            self.event(
                "breakpoint",
                json!({"reason": reason, "breakpoint": {"id": shown, "verified": verified}}),
            )
            .await?;
        }
        if let Some(armed) = self.members[index].armed.get_mut(key) {
            armed.ids = list.iter().filter_map(|one| one.get("id").and_then(Value::as_i64)).collect();
        }
        Ok(())
    }

    /// One answer of several; the last one answers the editor.
    pub(super) async fn answer_fan(
        &mut self,
        index: usize,
        number: u64,
        answer: Message,
    ) -> Result<(), Gone> {
        let Some(fan) = self.fans.get_mut(&number) else { return Ok(()) };
        fan.answers.push((index, answer));
        fan.waiting -= 1;
        if fan.waiting > 0 {
            return Ok(());
        }
        match self.fans.remove(&number) {
            Some(fan) => self.answer_all(fan).await,
            None => Ok(()),
        }
    }

    async fn answer_all(&mut self, mut fan: Fan) -> Result<(), Gone> {
        let command = fan.request.command().unwrap_or_default().to_owned();
        fan.answers.sort_by_key(|(index, _)| *index);
        if self.single()
            && let Some((_, answer)) = fan.answers.pop()
        {
            let request = fan.request;
            self.answer_editor(0, request, answer).await?;
        } else if fan.answers.iter().all(|(_, answer)| !answer.success()) {
            let words = fan.answers.first().map(|(_, answer)| answer.error_text()).unwrap_or_default();
            self.connection.refuse(&fan.request, &words).await?;
        } else {
            for (index, answer) in fan.answers.iter().filter(|(_, answer)| !answer.success()) {
                let text = format!(
                    "{}: `{command}` was refused: {}\n",
                    self.members[*index].name,
                    answer.error_text()
                );
                self.connection.say(&text).await?;
            }
            fan.answers.retain(|(_, answer)| answer.success());
            let body = self.merge(&command, &fan);
            self.respond(&fan.request, body).await?;
        }
        if command == "configurationDone" { self.after_configuration().await } else { Ok(()) }
    }

    fn merge(&mut self, command: &str, fan: &Fan) -> Value {
        if POINTS.contains(&command) {
            return self.merge_breakpoints(command, fan);
        }
        let list = match command {
            "threads" => "threads",
            "modules" => "modules",
            "loadedSources" => "sources",
            _ => return Value::Null,
        };
        let mut all = Vec::new();
        for (index, answer) in &fan.answers {
            let mut body = answer.body().clone();
            self.ids.incoming(*index, &mut body);
            self.references.incoming(*index, &mut self.members[*index], &mut body);
            let name = self.members[*index].name.clone();
            for mut one in
                body.get_mut(list).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default()
            {
                if command == "threads" {
                    let own = one.get("name").and_then(Value::as_str).unwrap_or_default();
                    one["name"] = format!("{name}: {own}").into();
                }
                all.push(one);
            }
        }
        json!({list: all})
    }

    /// One answer for each breakpoint: in place when it is so anywhere.
    fn merge_breakpoints(&mut self, command: &str, fan: &Fan) -> Value {
        let mut merged: Vec<Value> = Vec::new();
        for (index, answer) in &fan.answers {
            self.note_answer(*index, command, &fan.request, answer.body());
            let mut body = answer.body().clone();
            self.references.incoming(*index, &mut self.members[*index], &mut body);
            let list = body
                .get_mut("breakpoints")
                .and_then(Value::as_array_mut)
                .map(std::mem::take)
                .unwrap_or_default();
            for (at, mut one) in list.into_iter().enumerate() {
                let verified = one.get("verified").and_then(Value::as_bool).unwrap_or(false);
                let their = one.get("id").and_then(Value::as_i64);
                let our = merged.get(at).and_then(|first| first.get("id")).and_then(Value::as_i64);
                let our = match (our, their) {
                    (Some(our), Some(their)) => {
                        self.ids.alias(Kind::Breakpoint, *index, their, our);
                        Some(our)
                    }
                    (None, Some(their)) => Some(self.ids.our(Kind::Breakpoint, *index, their)),
                    (our, None) => our,
                };
                if let Some(our) = our {
                    self.set_verified(our, *index, verified);
                    one["id"] = our.into();
                }
                match merged.get_mut(at) {
                    None => merged.push(one),
                    Some(first)
                        if verified && first.get("verified").and_then(Value::as_bool) != Some(true) =>
                    {
                        *first = one
                    }
                    Some(first) => {
                        if let (Some(our), None) = (our, first.get("id")) {
                            first["id"] = our.into();
                        }
                    }
                }
            }
        }
        json!({"breakpoints": merged})
    }

    /// Notes whether a breakpoint is in place at a member; gives whether it is so anywhere.
    pub(super) fn set_verified(&mut self, our: i64, member: usize, verified: bool) -> bool {
        if self.verified.len() > 65_536 {
            self.verified.clear();
        }
        let where_ = self.verified.entry(our).or_default();
        if verified {
            where_.insert(member);
        } else {
            where_.remove(&member);
        }
        !where_.is_empty()
    }

    /// The answer to our `attach`; the editor's is answered when all are there.
    async fn answer_attach(&mut self, index: usize, answer: &Message) -> Result<(), Gone> {
        if !answer.success() {
            let words = format!("{}: {}", self.members[index].name, answer.error_text());
            if let Some(request) = self.attach.take() {
                self.connection.refuse(&request, &words).await?;
            }
            self.terminate().await?;
            return Err(Gone);
        }
        self.members[index].attached = true;
        if self.members.iter().all(|member| member.attached)
            && let Some(request) = self.attach.take()
        {
            self.respond(&request, Value::Null).await?;
        }
        self.go_on_from_attach(index);
        Ok(())
    }

    /// Everything was said before the target goes on.
    pub(super) async fn after_configuration(&mut self) -> Result<(), Gone> {
        for index in 0..self.members.len() {
            self.go_on_from_attach(index);
            if self.stop_on_entry {
                let done = self.done.0.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(ENTRY).await;
                    // The session may be over meanwhile.
                    let _ = done.send(Done::Entry(index)).await;
                });
            }
        }
        Ok(())
    }

    /// gdb stops once more when it attaches: on from there, unless that was wished for.
    pub(super) fn go_on_from_attach(&mut self, index: usize) {
        let ready = self.configured && self.members[index].attached && !self.stop_on_entry;
        if let Some(thread) = self.members[index].attach_stop.take_if(|_| ready) {
            // One that cannot be asked any more is over.
            let _ = self.members[index].send("continue", json!({"threadId": thread}), Pending::Own);
        }
    }

    /// A request of an adapter's to its client.
    async fn on_reverse_request(&mut self, index: usize, mut request: Message) -> Result<(), Gone> {
        let command = request.command().unwrap_or_default();
        if REFUSED.contains(&command) || self.reverse.len() >= 1024 {
            let no = Message::refusal(0, &request, "not offered: nothing is started on the user's machine");
            self.members[index].answer(no);
            return Ok(());
        }
        let seq = request.seq();
        if let Some(arguments) = request.fields.get_mut("arguments") {
            self.ids.incoming(index, arguments);
            self.references.incoming(index, &mut self.members[index], arguments);
        }
        let ours = self.connection.queue.send(request).await?;
        self.reverse.insert(ours, (index, seq));
        Ok(())
    }
}

/// Puts in what the protocol requires and an adapter left out.
fn complete(request: &Message, answer: &mut Message) {
    if !answer.success() {
        return;
    }
    let missing = match request.command() {
        // lldb-dap 19.
        Some("setVariable" | "setExpression") => Some(("value", request.arguments().get("value").cloned())),
        Some("evaluate") => Some(("result", Some("".into()))),
        _ => None,
    };
    if let Some((name, Some(value))) = missing {
        let body = answer.fields.entry("body").or_insert_with(|| Value::Object(Map::new()));
        if let Some(body) = body.as_object_mut() {
            body.entry(name).or_insert(value);
            if name == "result" {
                body.entry("variablesReference").or_insert(0.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lldb_19_leaves_out_is_put_in() {
        let request = Message::request(1, "setVariable", json!({"name": "n", "value": "7"}));
        let mut answer = Message::response(2, &request, json!({"type": "int"}));
        complete(&request, &mut answer);
        assert_eq!(answer.body(), &json!({"type": "int", "value": "7"}));
        let mut bare = Message::response(2, &request, Value::Null);
        complete(&request, &mut bare);
        assert_eq!(bare.body()["value"], "7");
    }
}
