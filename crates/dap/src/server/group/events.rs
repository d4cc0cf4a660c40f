//! What adapters and agents tell without being asked.

use pepo_wire::{
    agent::{BudgetSpent, Closed, PauseReport},
    dap::Message,
};
use serde_json::{Value, json};

use super::{Go, Group, tame};
use crate::{
    console::{output::Output, plain},
    server::{connection::words, ids::Kind, member::Member, queue::Gone},
    session::{Happening, is_pause},
    views::{Capabilities, Source, view},
};

/// Of the budget, in percent: when this much is used, it is said.
const TELL_AT: [u64; 2] = [50, 80];

impl Group<'_> {
    /// What happened before the loop began.
    pub(super) async fn on_happening(&mut self, index: usize, happening: Happening) -> Result<(), Gone> {
        match happening {
            Happening::Event(event) => self.on_event(index, event).await,
            Happening::Pause(report) => self.on_pause(index, &report).await,
            Happening::BudgetSpent(spent) => self.on_budget_spent(index, &spent).await,
            Happening::Notice(text) => self.connection.say(&format!("{text}\n")).await,
            Happening::Closed(closed) => self.on_closed(index, &closed).await.map(drop),
        }
    }

    /// An event of a member's adapter.
    pub(super) async fn on_event(&mut self, index: usize, mut event: Message) -> Result<(), Gone> {
        if self.members[index].leaving {
            return Ok(());
        }
        let name = event.event_name().unwrap_or_default().to_owned();
        if name == "loadedSource" {
            let source: Source = view(event.body().get("source").unwrap_or(&Value::Null));
            self.members[index].map.know(source.path.as_deref());
        }
        if let Some(body) = event.fields.get_mut("body") {
            if name == "stopped" {
                let thread = body.get("threadId").and_then(Value::as_i64);
                let reason = body.get("reason").and_then(Value::as_str).unwrap_or_default();
                let attaching = reason == "attach" && self.members[index].quirks.continue_after_attach;
                if attaching && !self.stop_on_entry {
                    self.members[index].attach_stop = Some(thread.unwrap_or(1));
                    self.go_on_from_attach(index);
                    return Ok(());
                }
                if self.send_held(index, reason, thread.unwrap_or(1)) {
                    return Ok(());
                }
                self.members[index].stopped = Some(thread.unwrap_or(1));
                self.focus = index;
                if !is_pause(reason) && reason != "entry" {
                    self.keep_first(index);
                }
            }
            self.ids.incoming(index, body);
            self.references.incoming(index, &mut self.members[index], body);
        }
        match name.as_str() {
            "initialized" => return self.on_initialized(index).await,
            "terminated" => return self.on_terminated(index, event).await,
            "capabilities" => self.on_capabilities(index, &mut event),
            "continued" => self.members[index].stopped = None,
            "process" | "module" => name_program(&self.members[index], &mut event),
            _ => {}
        }
        if !self.single() && !self.fit_for_several(index, &name, &mut event).await? {
            return Ok(());
        }
        self.connection.queue.send(event).await.map(drop)
    }

    /// Where only the first that stops is kept, this is the one: the others are let go, which their last words tell.
    fn keep_first(&mut self, index: usize) {
        if let Some(child) = &self.child {
            child.has_stopped();
        }
        if !std::mem::take(&mut self.first) {
            return;
        }
        let others = self.members.iter_mut().enumerate().filter(|(other, one)| *other != index && !one.over);
        others.for_each(|(_, member)| member.begin_letting_go());
    }

    /// What an event means when its adapter is one of several; `false`: it was said otherwise.
    async fn fit_for_several(&mut self, index: usize, name: &str, event: &mut Message) -> Result<bool, Gone> {
        let member = self.members[index].name.clone();
        let fallback = self.thread(index, 1);
        let Some(body) = event.fields.get_mut("body").and_then(Value::as_object_mut) else { return Ok(true) };
        match name {
            "stopped" => {
                body.entry("threadId").or_insert(fallback.into());
                body.insert("allThreadsStopped".into(), false.into());
            }
            "continued" => {
                body.insert("allThreadsContinued".into(), false.into());
            }
            "breakpoint" => {
                let verified =
                    body.get("breakpoint").and_then(|one| one.get("verified")).and_then(Value::as_bool);
                let id = body.get("breakpoint").and_then(|one| one.get("id")).and_then(Value::as_i64);
                if let (Some(id), Some(verified)) = (id, verified) {
                    let anywhere = self.set_verified(id, index, verified);
                    event.fields["body"]["breakpoint"]["verified"] = anywhere.into();
                }
            }
            "exited" => {
                let code = body.get("exitCode").cloned().unwrap_or_default();
                self.connection.say(&format!("{member}: ended with exit status {code}\n")).await?;
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    /// The editor hears it once, when all wait for it.
    async fn on_initialized(&mut self, index: usize) -> Result<(), Gone> {
        self.members[index].initialized = true;
        if !self.initialized && self.members.iter().all(|member| member.initialized) {
            self.initialized = true;
            self.event("initialized", Value::Null).await?;
        }
        Ok(())
    }

    /// An adapter has no target any more; the last one's word is the editor's.
    async fn on_terminated(&mut self, index: usize, event: Message) -> Result<(), Gone> {
        self.members[index].stopped = None;
        if self.single() {
            if !std::mem::replace(&mut self.terminated, true) {
                self.connection.queue.send(event).await?;
            }
            return Ok(());
        }
        let text = format!("{}: the session is over\n", self.members[index].name);
        self.connection.say(&text).await?;
        Ok(())
    }

    fn on_capabilities(&mut self, index: usize, event: &mut Message) {
        let Some(body) = event.fields.get_mut("body") else { return };
        let Some(more) = body.get_mut("capabilities") else { return };
        self.members[index].capabilities.merge(more);
        let mut told = Capabilities::from_body(more);
        tame(&mut told);
        *more = Value::Object(told.0);
    }

    pub(super) async fn on_pause(&mut self, index: usize, report: &PauseReport) -> Result<(), Gone> {
        let member = &mut self.members[index];
        let used = report.window_millis.saturating_mul(100) / report.budget_millis.max(1);
        let mark =
            TELL_AT.into_iter().filter(|mark| report.budget_millis > 0 && used >= *mark).max().unwrap_or(0);
        let tell = report.standing && mark > member.pause_told;
        member.pause_told = mark;
        let body = json!({
            "target": member.name,
            "standing": report.standing,
            "thisPauseMillis": report.this_pause_millis,
            "windowMillis": report.window_millis,
            "budgetMillis": report.budget_millis,
        });
        self.event("pepo/pause", body).await?;
        if tell {
            let said = Output::Pause {
                stood_still_millis: report.window_millis,
                budget_millis: report.budget_millis,
            };
            self.say_of(index, &plain(&said)).await?;
        }
        Ok(())
    }

    /// The target runs and its breakpoints are gone: the editor must not show anything else.
    pub(super) async fn on_budget_spent(&mut self, index: usize, spent: &BudgetSpent) -> Result<(), Gone> {
        let said = Output::BudgetSpent {
            stood_still_millis: spent.stood_still_millis,
            breakpoints_cleared: spent.breakpoints_cleared,
        };
        let text = plain(&said).replace("hint: `rearm`", "hint: `rearm` in this console");
        self.say_of(index, &text).await?;
        let member = &mut self.members[index];
        member.pause_told = 0;
        member.cleared = true;
        let thread = member.stopped.take();
        let ids: Vec<i64> = member.armed.values().flat_map(|armed| armed.ids.clone()).collect();
        let single = self.single();
        if let Some(thread) = thread {
            let thread = self.thread(index, thread);
            self.event("continued", json!({"threadId": thread, "allThreadsContinued": single})).await?;
        }
        for id in ids {
            let our = self.ids.our(Kind::Breakpoint, index, id);
            if single || !self.set_verified(our, index, false) {
                let message =
                    "cleared: the pause budget was spent; `rearm` in the debug console sets it again";
                let breakpoint = json!({"id": our, "verified": false, "message": message});
                self.event("breakpoint", json!({"reason": "changed", "breakpoint": breakpoint})).await?;
            }
        }
        let body = json!({
            "target": self.members[index].name,
            "stoodStillMillis": spent.stood_still_millis,
            "breakpointsCleared": spent.breakpoints_cleared,
        });
        self.event("pepo/budgetSpent", body).await
    }

    /// A member's last word; the session is over with the last one's.
    pub(super) async fn on_closed(&mut self, index: usize, closed: &Closed) -> Result<Go, Gone> {
        self.members[index].over = true;
        self.members[index].stopped = None;
        self.say_of(index, &plain(&crate::console::closed(closed))).await?;
        let pending: Vec<_> = self.members[index].pending.drain().collect();
        for (_, pending) in pending {
            match pending {
                crate::server::member::Pending::Editor(request) => {
                    self.connection
                        .refuse(&request, &format!("the session is over ({})", closed.reason))
                        .await?;
                }
                crate::server::member::Pending::Fan(fan) => {
                    let none = Message::refusal(0, &Message::request(0, "", Value::Null), &closed.reason);
                    Box::pin(self.answer_fan(index, fan, none)).await?;
                }
                _ => {}
            }
        }
        if let Some(request) = self.attach.take() {
            let reason = closed.failure.as_ref().map_or_else(|| closed.reason.clone(), words);
            self.connection.refuse(&request, &reason).await?;
        }
        if self.members.iter().all(|member| member.over) {
            self.terminate().await?;
            return Ok(Go::End);
        }
        Ok(Go::On)
    }

    /// Words about a member, with its name where there are several.
    async fn say_of(&mut self, index: usize, text: &str) -> Result<(), Gone> {
        let name = if self.single() { String::new() } else { format!("{}: ", self.members[index].name) };
        self.connection.say(&format!("{name}{text}")).await
    }
}

/// The program's own name, where the protocol wants one: gdb's `process` event has none, and what a guard hands to an adapter is a
/// descriptor, whose path says nothing to a person.
fn name_program(member: &Member, event: &mut Message) {
    let process = member.opened.process.clone().unwrap_or_default();
    let called = process.command_line.first().filter(|path| !path.is_empty()).cloned();
    let path = called.or(Some(process.name).filter(|name| !name.is_empty()));
    let path = path.unwrap_or_else(|| member.name.clone());
    let says_nothing = |value: Option<&Value>| {
        value.and_then(Value::as_str).is_none_or(|text| text.is_empty() || text.starts_with("/proc/self/fd/"))
    };
    let is_module = event.event_name() == Some("module");
    let body = event.fields.entry("body").or_insert_with(|| json!({}));
    if is_module {
        if let Some(module) = body.get_mut("module").and_then(Value::as_object_mut)
            && module.contains_key("path")
            && says_nothing(module.get("path"))
        {
            let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
            module.insert("name".into(), name.into());
            module.insert("path".into(), path.into());
        }
    } else if let Some(body) = body.as_object_mut()
        && says_nothing(body.get("name"))
    {
        body.insert("name".into(), path.into());
    }
}
