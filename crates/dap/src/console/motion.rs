//! Going on, and what comes of it: each such word waits for its natural end (a stop, the end, Ctrl-C, or a limit).

use std::time::Duration;

use pepo_wire::agent::{Closed, PauseReport};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{
    Console, Flow, Show,
    output::{Output, Stop, Thread},
    parse::{Location, Wish},
};
use crate::{
    error::DapError,
    session::Happening,
    views::{Breakpoint, Source, view},
};

/// How long a target may take to stop when it was asked to.
const PAUSING: Duration = Duration::from_secs(10);
/// Of the budget, in percent: when this much is used, it is said.
const TELL_AT: [u64; 2] = [50, 80];

impl Console {
    /// `continue`: a stop that was not shown yet is the next stop; a target that runs is waited for.
    pub(super) async fn go_on(&mut self, show: Show<'_>) -> Result<Flow, DapError> {
        self.send_on().await?;
        self.wait_stop(show).await
    }

    /// A target that stands still goes on, unless that stop was not shown yet.
    pub(super) async fn send_on(&mut self) -> Result<(), DapError> {
        if !self.unshown_stop && self.debuggee.stopped().is_some() {
            let thread = self.standing_thread()?;
            self.went_on();
            self.debuggee.resume("continue", thread).await?;
        }
        self.let_calls_come().await
    }

    /// `next`, `step`, `out`, so many times; a stop for another reason ends it.
    pub(super) async fn step(&mut self, request: &str, times: u32, show: Show<'_>) -> Result<Flow, DapError> {
        for left in (0..times.max(1)).rev() {
            let thread = self.standing_thread()?;
            self.went_on();
            self.debuggee.resume(request, thread).await?;
            self.let_calls_come().await?;
            let mut other_reason = false;
            let mut quiet = |output: Output| {
                if let Output::Stopped(stop) = &output {
                    other_reason = stop.reason != "step";
                }
                if left == 0 || !matches!(&output, Output::Stopped(stop) if stop.reason == "step") {
                    show(output);
                }
            };
            if self.wait_stop(&mut quiet).await? == Flow::Ended {
                return Ok(Flow::Ended);
            }
            if other_reason {
                break;
            }
        }
        Ok(Flow::Stay)
    }

    /// `until PLACE`: a breakpoint for once, and on.
    pub(super) async fn until(&mut self, location: Location, show: Show<'_>) -> Result<Flow, DapError> {
        self.standing_thread()?;
        let wish = Wish { location, condition: None, hits: None, log: None, temporary: true };
        self.add_point(wish, &mut |_| {}).await?;
        self.go_on(show).await
    }

    pub(super) async fn pause(&mut self, show: Show<'_>) -> Result<Flow, DapError> {
        if self.debuggee.stopped().is_some() && !self.unshown_stop {
            show(Output::Notice { text: "the target stands still already".into() });
            return Ok(Flow::Stay);
        }
        if self.debuggee.stopped().is_none() {
            self.debuggee.pause().await?;
        }
        self.wait_within(Some(PAUSING), show).await
    }

    fn went_on(&mut self) {
        self.selection.went_on();
        self.texts.went_on();
    }

    /// Waits for the next stop or the end, as long as the options say; Ctrl-C pauses.
    async fn wait_stop(&mut self, show: Show<'_>) -> Result<Flow, DapError> {
        self.wait_within(self.wait, show).await
    }

    /// Nothing stopped in time.
    pub(super) fn no_stop(&self, limit: Option<Duration>) -> DapError {
        DapError::NoStop {
            limit: limit.unwrap_or_default(),
            target: self.attached.target.clone(),
            debugger: self.attached.debugger.clone(),
        }
    }

    async fn wait_within(&mut self, limit: Option<Duration>, show: Show<'_>) -> Result<Flow, DapError> {
        let interrupt = self.interrupt.clone();
        let mut limit = limit;
        let mut end = limit.map(|limit| Instant::now() + limit);
        while !self.over {
            if self.unshown_stop {
                self.show_stop(show).await;
                if self.unshown_stop {
                    // It went on before it could be looked at.
                    self.unshown_stop = false;
                    continue;
                }
                return Ok(Flow::Stay);
            }
            let at = end.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
            let happening = tokio::select! {
                happening = self.debuggee.next() => Some(happening),
                () = interrupt.notified() => None,
                () = tokio::time::sleep_until(at), if end.is_some() => {
                    return Err(self.no_stop(limit));
                }
            };
            match happening {
                Some(Some(happening)) => self.take(happening, show),
                Some(None) => self.over = true,
                None => {
                    limit = Some(PAUSING);
                    end = Some(Instant::now() + PAUSING);
                    if self.debuggee.stopped().is_none() {
                        self.debuggee.pause().await?;
                    }
                }
            }
        }
        Ok(Flow::Ended)
    }

    /// Takes everything that happened already.
    pub(super) async fn drain(&mut self, show: Show<'_>) {
        while let Some(happening) = self.debuggee.take_happening() {
            self.take(happening, show);
        }
    }

    /// As [`Console::take`], without words about breakpoints: whoever sets one says so himself.
    pub(super) fn take_quietly(&mut self, happening: Happening, show: Show<'_>) {
        self.take(happening, &mut |output| {
            if !matches!(output, Output::Breakpoint(_)) {
                show(output);
            }
        });
    }

    /// Notes one happening and says what a person should hear of it.
    pub(super) fn take(&mut self, happening: Happening, show: Show<'_>) {
        match happening {
            Happening::Event(event) => {
                self.take_event(event.event_name().unwrap_or_default(), event.body(), show)
            }
            Happening::Pause(report) => self.take_pause(&report, show),
            Happening::BudgetSpent(spent) => {
                self.points.cleared();
                self.unshown_stop = false;
                self.pause_told = 0;
                self.went_on();
                show(Output::BudgetSpent {
                    stood_still_millis: spent.stood_still_millis,
                    breakpoints_cleared: spent.breakpoints_cleared,
                });
            }
            Happening::Notice(text) => show(Output::Notice { text }),
            Happening::Closed(closed) => self.take_closed(&closed, show),
        }
    }

    fn take_closed(&mut self, closed: &Closed, show: Show<'_>) {
        self.over = true;
        show(super::closed(closed));
    }

    fn take_pause(&mut self, report: &PauseReport, show: Show<'_>) {
        self.stood_still_millis = report.window_millis;
        if report.budget_millis == 0 {
            return;
        }
        let used = report.window_millis.saturating_mul(100) / report.budget_millis;
        let mark = TELL_AT.into_iter().filter(|mark| used >= *mark).max().unwrap_or(0);
        if report.standing && mark > self.pause_told {
            show(Output::Pause {
                stood_still_millis: report.window_millis,
                budget_millis: report.budget_millis,
            });
        }
        self.pause_told = mark;
    }

    fn take_event(&mut self, name: &str, body: &Json, show: Show<'_>) {
        match name {
            "stopped" => {
                self.unshown_stop = true;
                self.went_on();
            }
            "continued" => {
                self.unshown_stop = false;
                self.went_on();
            }
            "output" => {
                let text = |name: &str| body.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
                if text("category") != "telemetry" && !text("output").is_empty() {
                    show(Output::Program { category: text("category"), text: text("output") });
                }
            }
            "breakpoint" => {
                let said: Breakpoint = view(body.get("breakpoint").unwrap_or(&Json::Null));
                if let Some(point) = self.points.changed(&said) {
                    show(Output::Breakpoint(point));
                }
            }
            "loadedSource" => {
                let source: Source = view(body.get("source").unwrap_or(&Json::Null));
                self.source_map.know(source.path.as_deref());
            }
            "exited" => {
                self.exit_code = body.get("exitCode").and_then(Json::as_i64);
                self.unshown_stop = false;
                show(Output::Exited { code: self.exit_code });
            }
            "terminated" => self.unshown_stop = false,
            _ => {}
        }
    }

    /// Says a stop that was not shown yet: where, the source, what is watched. May be dropped half-way: then it is said next time.
    pub(super) async fn show_stop(&mut self, show: Show<'_>) {
        if self.unshown_stop
            && let Some(stop) = self.describe_stop().await
        {
            self.unshown_stop = false;
            show(Output::Stopped(self.count(stop)));
        }
        while let Some(number) = self.leaving.last().copied() {
            if let Err(error) = self.remove(&[number]).await {
                show(Output::Notice {
                    text: format!("the temporary breakpoint {number} is still set: {error}"),
                });
            }
            self.leaving.retain(|one| *one != number);
        }
    }

    /// Everything that is said of a stop; none when the target went on meanwhile.
    async fn describe_stop(&mut self) -> Option<Stop> {
        let stopped = self.debuggee.stopped().cloned()?;
        if let Some(thread) = stopped.thread_id {
            self.selection.look_at(thread);
        }
        let place = self.place().await.ok();
        let threads = self.read_threads().await.unwrap_or_default();
        let id = stopped.thread_id.unwrap_or_default();
        let name =
            threads.into_iter().find(|thread| thread.id == id).map(|thread| thread.name).unwrap_or_default();
        let mut watches = Vec::new();
        for expression in self.points.watches() {
            watches.push(self.value_or_error(&expression).await);
        }
        // Why it stopped says enough, unless something went wrong.
        let ordinary = matches!(stopped.reason.as_str(), "breakpoint" | "step" | "pause" | "entry" | "goto");
        let description = stopped.description.filter(|_| !ordinary);
        let text = stopped.text.filter(|_| !ordinary);
        let breakpoints = Vec::new();
        let thread = Thread { id, name, current: true };
        Some(Stop { reason: stopped.reason, description, text, thread, breakpoints, place, watches })
    }

    /// Counts the stop at its breakpoints.
    fn count(&mut self, mut stop: Stop) -> Stop {
        if !matches!(stop.reason.as_str(), "step" | "pause" | "entry") {
            let ids =
                self.debuggee.stopped().map(|stopped| stopped.hit_breakpoint_ids.clone()).unwrap_or_default();
            let frame = stop.place.as_ref().map(|place| &place.frame);
            let (path, line) = frame.map(|frame| (frame.path.as_deref(), frame.line)).unwrap_or_default();
            let (numbers, temporary) = self.points.hit(&ids, path, line);
            stop.breakpoints = numbers;
            self.leaving.extend(temporary);
        }
        stop
    }
}
