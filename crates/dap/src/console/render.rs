//! Sayings as plain text: aligned, readable without colour; colour only sets the same words off.

use std::fmt::Write as _;

use super::output::{
    Attached, Frame, Lines, Output, Place, Point, Said, Scope, Stop, TargetRow, Trouble, Value,
};

/// How text is set off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours (ECMA-48 SGR).
    pub colour: bool,
}

impl Style {
    fn set(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn strong(self, text: &str) -> String {
        self.set("1", text)
    }
    fn faint(self, text: &str) -> String {
        self.set("2", text)
    }
    fn bad(self, text: &str) -> String {
        self.set("31", text)
    }
    fn place(self, text: &str) -> String {
        self.set("36", text)
    }
}

impl Output {
    /// As text that ends with a line break; empty when there is nothing to say.
    #[must_use]
    pub fn to_text(&self, style: Style) -> String {
        match self {
            Output::Attached(attached) => attached_text(attached, style),
            Output::Command { line } => format!("{}\n", style.faint(&format!("(pepo) {line}"))),
            Output::Stopped(stop) => stop_text(stop, style),
            Output::Running => "running\n".into(),
            Output::Exited { code: Some(code) } => format!("the target ended with exit status {code}\n"),
            Output::Exited { code: None } => "the target ended\n".into(),
            Output::Breakpoint(point) => format!("{}\n", point_text(point)),
            Output::Deleted { numbers } => {
                format!("removed {}\n", numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
            }
            Output::Breakpoints { points } if points.is_empty() => "no breakpoints and no watches\n".into(),
            Output::Breakpoints { points } => points.iter().map(|point| point_text(point) + "\n").collect(),
            Output::Stack { frames, more, .. } => stack_text(frames, *more, style),
            Output::Frame(place) => place_text(place, style),
            Output::Threads { threads } => {
                let line = |one: &super::output::Thread| {
                    format!("{} {:<8} {}\n", if one.current { "*" } else { " " }, one.id, one.name)
                };
                threads.iter().map(line).collect()
            }
            Output::Locals { scopes } => {
                scopes.iter().map(|scope| scope_text(scope, scopes.len() > 1, style)).collect()
            }
            Output::Value(value) | Output::Changed(value) => value_text(value, 0, style),
            Output::Source(lines) => lines_text(lines, style),
            Output::Session(session) => session_text(session),
            Output::Sources { pairs } if pairs.is_empty() => "no file is mapped yet\n".into(),
            Output::Sources { pairs } => {
                let widest = pairs.iter().map(|pair| pair.remote.chars().count()).max().unwrap_or(0);
                pairs.iter().map(|pair| format!("{:<widest$}  {}\n", pair.remote, pair.local)).collect()
            }
            Output::Program { text, .. } | Output::Text { text } => with_break(text),
            Output::Notice { text } => format!("{}\n", style.faint(text)),
            Output::Pause { stood_still_millis, budget_millis } => {
                format!(
                    "the target stands still: {} of {} used\n",
                    seconds(*stood_still_millis),
                    seconds(*budget_millis)
                )
            }
            Output::BudgetSpent { stood_still_millis, breakpoints_cleared } => {
                budget_text(*stood_still_millis, *breakpoints_cleared, style)
            }
            Output::Failed(trouble) => trouble_text("error", trouble, style),
            Output::Targets { targets } => targets_text(targets),
            Output::Of(said) => said_text(said, style),
            Output::Closed { reason, stood_still_millis, left_behind, failure } => {
                let mut text =
                    format!("{reason} · the target stood still {} in all\n", seconds(*stood_still_millis));
                text += &left_behind.iter().map(|left| format!("left behind: {left}\n")).collect::<String>();
                text + &failure
                    .as_ref()
                    .map(|trouble| trouble_text("error", trouble, style))
                    .unwrap_or_default()
            }
        }
    }
}

/// With the targets' name or number before it, but for what was asked of the one that is looked at.
fn said_text(said: &Said, style: Style) -> String {
    let text = said.saying.to_text(style);
    let asked = matches!(
        *said.saying,
        Output::Stack { .. }
            | Output::Frame(_)
            | Output::Threads { .. }
            | Output::Locals { .. }
            | Output::Source(_)
            | Output::Session(_)
            | Output::Sources { .. }
            | Output::Breakpoints { .. }
            | Output::Text { .. }
    );
    match said.targets.as_slice() {
        _ if asked || text.is_empty() => text,
        [one] => format!("{}: {text}", style.strong(one)),
        several => format!("{}: {text}", style.strong(&format!("{} targets", several.len()))),
    }
}

fn targets_text(targets: &[TargetRow]) -> String {
    let widest = targets.iter().map(|one| one.target.chars().count()).max().unwrap_or(0);
    let line = |one: &TargetRow| {
        let mark = if one.current { "*" } else { " " };
        format!("{mark} {:<3} {:<widest$}  {}\n", one.number, one.target, one.state)
    };
    targets.iter().map(line).collect()
}

fn with_break(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// A duration for people: microseconds to minutes, two digits.
fn micros(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{} ms", micros / 1000),
        _ => seconds(micros / 1000),
    }
}

fn seconds(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        _ if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        1000..100_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} s", millis / 1000),
    }
}

fn budget(attached: &Attached) -> String {
    match (attached.pause_budget_millis, attached.budget_source.as_str()) {
        (0, _) => "no pause budget: the target may stand still for ever".into(),
        (millis, "" | "asked") => format!("pause budget {}", seconds(millis)),
        (millis, source) => format!("pause budget {} ({source})", seconds(millis)),
    }
}

fn attached_text(attached: &Attached, style: Style) -> String {
    // Some debuggers stop the target only after this: nothing to tell yet.
    let still = match attached.stood_still_micros {
        0 => String::new(),
        time => format!(" · stood still {}", micros(time)),
    };
    let mut text = format!(
        "{} · {}{still} · {} · Ctrl-C pauses, `detach` lets go\n",
        style.strong("attached"),
        attached.debugger,
        budget(attached),
    );
    text +=
        &attached.warnings.iter().map(|warning| trouble_text("warning", warning, style)).collect::<String>();
    text
}

fn session_text(session: &super::output::Session) -> String {
    let attached = &session.attached;
    let mut text = String::new();
    for (name, value) in [
        ("target", attached.target.clone()),
        ("session", session.session.clone()),
        ("debugger", attached.debugger.clone()),
        ("guard", attached.guard.clone()),
        ("state", if session.standing { "stands still".into() } else { "running".into() }),
        ("budget", format!("{}, {} used", budget(attached), seconds(session.stood_still_millis))),
        ("abilities", session.abilities.join(", ")),
    ] {
        let _ = writeln!(text, "{name:<10}{value}");
    }
    text
}

fn trouble_text(what: &str, trouble: &Trouble, style: Style) -> String {
    let mut text = format!("{}: {}\n", style.bad(&format!("{what}[{}]", trouble.code)), trouble.message);
    for hint in &trouble.hints {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn budget_text(stood_still: u64, cleared: u32, style: Style) -> String {
    let points = if cleared == 1 { "its breakpoint is" } else { "its breakpoints are" };
    format!(
        "{}: the target stood still {} and runs again; {points} cleared ({cleared})\nhint: `rearm` sets them again\n",
        style.bad("pause budget spent"),
        seconds(stood_still),
    )
}

fn stop_text(stop: &Stop, style: Style) -> String {
    let numbers: Vec<String> = stop.breakpoints.iter().map(u32::to_string).collect();
    let reason = match (stop.reason.as_str(), numbers.is_empty()) {
        ("breakpoint", false) => format!("breakpoint {}", numbers.join(", ")),
        (reason, _) => reason.to_owned(),
    };
    let mut text = format!("{} · thread {}", style.strong(&format!("stopped: {reason}")), stop.thread.id);
    if !stop.thread.name.is_empty() {
        let _ = write!(text, " {}", stop.thread.name);
    }
    text.push('\n');
    for words in [&stop.description, &stop.text].into_iter().flatten() {
        if !words.is_empty() && *words != stop.reason && !words.eq_ignore_ascii_case("paused") {
            let _ = writeln!(text, "  {words}");
        }
    }
    text += &stop.place.as_ref().map(|place| place_text(place, style)).unwrap_or_default();
    text += &stop.watches.iter().map(|watch| value_text(watch, 0, style)).collect::<String>();
    text
}

fn place_text(place: &Place, style: Style) -> String {
    let lines = place.lines.as_ref().map(|lines| lines_text(lines, style)).unwrap_or_default();
    format!("#{:<2} {}\n{lines}", place.frame.number, frame_words(&place.frame, style))
}

fn frame_words(frame: &Frame, style: Style) -> String {
    let path = frame.local.as_deref().map(shorten).or(frame.path.clone());
    let at = match (path, &frame.address) {
        (Some(path), _) => style.place(&format!("{path}:{}", frame.line)),
        (None, Some(address)) => style.place(address),
        (None, None) => return frame.function.clone(),
    };
    format!("{}  {at}", frame.function)
}

/// A path below the working folder without it.
fn shorten(path: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let rest = std::path::Path::new(path).strip_prefix(&here).ok();
    rest.map_or_else(|| path.to_owned(), |rest| rest.to_string_lossy().into_owned())
}

fn stack_text(frames: &[Frame], more: bool, style: Style) -> String {
    let widest = frames.iter().map(|frame| frame.function.chars().count()).max().unwrap_or(0).min(48);
    let mut text = String::new();
    for frame in frames {
        let mark = if frame.current { "*" } else { " " };
        let path = frame.local.as_deref().map(shorten).or(frame.path.clone());
        let at =
            path.map(|path| format!("{path}:{}", frame.line)).or(frame.address.clone()).unwrap_or_default();
        let _ =
            writeln!(text, "{mark}#{:<3} {:<widest$}  {}", frame.number, frame.function, style.place(&at));
    }
    if more {
        text += "  … more: `bt COUNT`\n";
    }
    text
}

fn lines_text(lines: &Lines, style: Style) -> String {
    let mut text = String::new();
    for (number, line) in (lines.first..).zip(&lines.lines) {
        let current = lines.current == Some(number);
        let shown = format!("{} {number:>5}  {line}", if current { ">" } else { " " });
        let _ = writeln!(
            text,
            "{}",
            if current { style.strong(shown.trim_end()) } else { shown.trim_end().to_owned() }
        );
    }
    text
}

fn scope_text(scope: &Scope, named: bool, style: Style) -> String {
    let mut text =
        if named { format!("{}\n", style.faint(&format!("{}:", scope.name))) } else { String::new() };
    let widest = scope.variables.iter().map(|one| one.name.chars().count()).max().unwrap_or(0).min(32);
    for one in &scope.variables {
        let padded = format!("{:<widest$}", one.name);
        let shown = Value { name: padded, ..one.clone() };
        text += &value_text(&shown, 1, style);
    }
    if scope.variables.is_empty() {
        text += "  none\n";
    }
    if scope.more {
        text += "  … more: `print NAME`\n";
    }
    text
}

fn value_text(value: &Value, depth: usize, style: Style) -> String {
    let indent = "  ".repeat(depth);
    if let Some(error) = &value.error {
        return format!("{indent}{} = {}\n", value.name, style.bad(&format!("<{error}>")));
    }
    let kind = value.kind.as_deref().filter(|kind| !kind.is_empty());
    let kind = kind.map(|kind| style.faint(&format!("  ({kind})"))).unwrap_or_default();
    let mut text = format!("{indent}{} = {}{kind}\n", value.name, value.value);
    text += &value.parts.iter().map(|part| value_text(part, depth + 1, style)).collect::<String>();
    text
}

fn point_text(point: &Point) -> String {
    let mut text = format!("{:<3} {:<10} {}", point.number, point.what, point.place);
    if point.temporary {
        text += "  once";
    }
    for (name, value) in [("if", &point.condition), ("hits", &point.hits), ("log", &point.log)] {
        if let Some(value) = value {
            let _ = write!(text, "  {name} {value}");
        }
    }
    let state = match (point.what, point.cleared, point.verified) {
        ("watch", ..) => String::new(),
        (_, true, _) => "  cleared: `rearm` sets it again".into(),
        (_, false, false) => {
            format!(
                "  pending: {}",
                point.message.as_deref().unwrap_or("the debugger has not found this place yet")
            )
        }
        (_, false, true) => {
            let remark = point.message.as_ref().map(|message| format!("  {message}")).unwrap_or_default();
            let stops =
                if point.stops > 0 { format!("  stopped {} times", point.stops) } else { String::new() };
            remark + &stops
        }
    };
    text + &state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::output::Thread;

    fn text(output: &Output) -> String {
        output.to_text(Style::default())
    }

    #[test]
    fn a_stop_says_where_and_shows_the_line() {
        let lines = Lines {
            path: "/x/a.c".into(),
            first: 6,
            lines: vec!["{".into(), "  n++;".into()],
            current: Some(7),
        };
        let frame =
            Frame { function: "tick".into(), path: Some("/x/a.c".into()), line: 7, ..Frame::default() };
        let stop = Stop {
            reason: "breakpoint".into(),
            thread: Thread { id: 1, name: "main".into(), current: true },
            breakpoints: vec![2],
            place: Some(Place { frame, lines: Some(lines) }),
            watches: vec![Value {
                name: "n".into(),
                value: "4".into(),
                kind: Some("int".into()),
                ..Value::default()
            }],
            ..Stop::default()
        };
        assert_eq!(
            text(&Output::Stopped(stop)),
            "stopped: breakpoint 2 · thread 1 main\n#0  tick  /x/a.c:7\n      6  {\n>     7    n++;\nn = 4  (int)\n"
        );
    }

    #[test]
    fn the_first_line_tells_guard_and_budget() {
        let attached = Attached {
            debugger: "delve 1.27.1".into(),
            stood_still_micros: 38_400,
            pause_budget_millis: 27_000,
            budget_source: "health check".into(),
            ..Attached::default()
        };
        assert_eq!(
            text(&Output::Attached(attached)),
            "attached · delve 1.27.1 · stood still 38 ms · pause budget 27 s (health check) · Ctrl-C pauses, `detach` lets go\n"
        );
    }

    #[test]
    fn a_spent_budget_names_the_way_back() {
        let said = text(&Output::BudgetSpent { stood_still_millis: 60_000, breakpoints_cleared: 2 });
        assert!(said.contains("60 s") && said.contains("`rearm`"), "{said}");
    }

    #[test]
    fn pending_breakpoints_say_why() {
        let point = Point { number: 1, what: "breakpoint", place: "a.c:3".into(), ..Point::default() };
        assert!(text(&Output::Breakpoint(point.clone())).contains("pending"));
        let why = "moved here from line 9".to_owned();
        let moved = Point { verified: true, message: Some(why), stops: 2, ..point };
        assert!(
            text(&Output::Breakpoint(moved)).ends_with("a.c:3  moved here from line 9  stopped 2 times\n")
        );
    }

    #[test]
    fn every_saying_is_one_json_object_with_its_kind() {
        let said = serde_json::to_value(Output::Exited { code: Some(3) }).unwrap();
        assert_eq!(said, serde_json::json!({"kind": "exited", "code": 3}));
        let said = serde_json::to_value(Output::Attached(Attached::default())).unwrap();
        assert_eq!(said["kind"], "attached");
    }
}
