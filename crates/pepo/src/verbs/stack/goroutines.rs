//! Goroutines as a dump of Go's own shows them, those at one place together.

use pepo_wire::agent::{Frame, Goroutine, GoroutineStack, StackResponse};

use super::text::{frame_lines, place};
use crate::render::{
    style::{Paint, Style},
    table::printable,
};

/// Numbers of goroutines that are shown of those at one place.
const NUMBERS: usize = 10;

/// Goroutines that do the same at the same place.
struct Group<'a> {
    first: &'a Goroutine,
    stack: &'a GoroutineStack,
    ids: Vec<u64>,
    /// The shortest and the longest time they have waited, in minutes.
    minutes: (u64, u64),
}

/// The lines. The runtime's own goroutines and frames are left out unless all is wanted, as Go does it.
pub(super) fn text(stack: &StackResponse, all: bool, paint: Paint) -> Vec<String> {
    let (mut groups, mut hidden) = (Vec::new(), 0);
    for group in grouped(stack) {
        if all || !is_of_runtime(group.stack) {
            groups.push(group);
        } else {
            hidden += group.ids.len();
        }
    }
    let mut lines: Vec<String> = groups.iter().flat_map(|group| lines_of(group, all, paint)).collect();
    if hidden > 0 {
        let words = format!("and {hidden} of the runtime itself: `--native` shows them");
        lines.push(paint.over(Style::Faint, &words));
    }
    lines
}

/// In the order of the first of each.
fn grouped(stack: &StackResponse) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for goroutine in &stack.goroutines {
        let Some(its) = stack.goroutine_stacks.get(goroutine.stack as usize) else { continue };
        let minutes = goroutine.waited_seconds.unwrap_or(0) / 60;
        let key = (goroutine.stack, &goroutine.state, goroutine.locked_to_thread);
        let index = *known.entry(key).or_insert(groups.len());
        match groups.get_mut(index) {
            Some(group) => {
                group.ids.push(goroutine.id);
                group.minutes = (group.minutes.0.min(minutes), group.minutes.1.max(minutes));
            }
            None => groups.push(Group {
                first: goroutine,
                stack: its,
                ids: vec![goroutine.id],
                minutes: (minutes, minutes),
            }),
        }
    }
    groups
}

fn lines_of(group: &Group<'_>, all: bool, paint: Paint) -> Vec<String> {
    let mut lines = vec![head(group, paint)];
    let shown: Vec<&Frame> = group.stack.frames.iter().filter(|frame| all || !is_hidden(frame)).collect();
    lines.extend(if shown.is_empty() {
        frame_lines(&group.stack.frames, paint)
    } else {
        frame_lines(shown, paint)
    });
    if let Some(created) = group.stack.created_at.as_ref().filter(|frame| !is_hidden(frame)) {
        let by = match (group.ids.as_slice(), group.first.created_by) {
            ([_], parent @ 1..) => format!(" in goroutine {parent}"),
            _ => String::new(),
        };
        let place = paint.over(Style::Faint, &printable(&place(created)));
        lines.push(format!("    created by {}{by}  {place}", printable(&created.function)));
    }
    lines
}

/// `goroutine 7 [chan receive, 5 minutes, locked to thread]`, `12 goroutines [select]: 8, 9, …`.
fn head(group: &Group<'_>, paint: Paint) -> String {
    let waited = match group.minutes {
        (_, 0) => String::new(),
        (shortest, longest) if shortest == longest => format!(", {longest} minutes"),
        (shortest, longest) => format!(", {shortest} to {longest} minutes"),
    };
    let locked = if group.first.locked_to_thread { ", locked to thread" } else { "" };
    let does = format!("[{}{waited}{locked}]", printable(&group.first.state));
    if let [id] = group.ids.as_slice() {
        let thread = match group.first.container_tid {
            0 => String::new(),
            tid => format!(" on thread {tid}"),
        };
        return format!("{} {does}{thread}", paint.over(Style::Strong, &format!("goroutine {id}")));
    }
    let mut ids: Vec<_> = group.ids.iter().take(NUMBERS).map(u64::to_string).collect();
    if group.ids.len() > NUMBERS {
        ids.push("…".to_owned());
    }
    let count = paint.over(Style::Strong, &format!("{} goroutines", group.ids.len()));
    format!("{count} {does}: {}", ids.join(", "))
}

/// Does it only ever run the runtime's own code?
fn is_of_runtime(stack: &GoroutineStack) -> bool {
    let entry = stack.entry.as_ref().map_or("", |entry| entry.function.as_str());
    let own = |name: &str| name.starts_with("runtime.");
    own(entry) && entry != "runtime.main" && stack.frames.iter().all(|frame| own(&frame.function))
}

/// A function of the runtime that nobody calls by its name.
fn is_hidden(frame: &Frame) -> bool {
    frame.function.strip_prefix("runtime.").is_some_and(|name| {
        name.starts_with(|letter: char| letter.is_lowercase()) && name != "gopanic" && name != "sigpanic"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, line: u32) -> Frame {
        let file = if line > 0 { "/src/main.go" } else { "" };
        Frame { function: function.into(), file: file.into(), line, ..Frame::default() }
    }

    fn stack_of(functions: &[&str], entry: &str) -> GoroutineStack {
        GoroutineStack {
            frames: functions.iter().zip(1..).map(|(name, line)| frame(name, line)).collect(),
            entry: Some(frame(entry, 0)),
            created_at: Some(frame(
                if entry == "runtime.main" { "runtime.newproc" } else { "main.start" },
                40,
            )),
        }
    }

    fn goroutine(id: u64, state: &str, stack: u32) -> Goroutine {
        Goroutine { id, state: state.into(), stack, created_by: u64::from(id > 1), ..Goroutine::default() }
    }

    fn answer() -> StackResponse {
        let waited =
            |id, seconds| Goroutine { waited_seconds: Some(seconds), ..goroutine(id, "chan receive", 1) };
        StackResponse {
            goroutines: vec![
                goroutine(1, "running", 0),
                goroutine(2, "force gc (idle)", 2),
                waited(7, 30),
                waited(8, 400),
                Goroutine { locked_to_thread: true, container_tid: 12, ..waited(9, 400) },
                goroutine(10, "select", 99),
            ],
            goroutine_stacks: vec![
                stack_of(&["main.main", "runtime.main"], "runtime.main"),
                stack_of(&["runtime.gopark", "main.wait", "runtime.goexit.abi0"], "main.wait"),
                stack_of(&["runtime.gopark", "runtime.forcegchelper"], "runtime.forcegchelper"),
            ],
            ..StackResponse::default()
        }
    }

    #[test]
    fn goroutines_at_one_place_are_told_together_and_the_runtimes_own_are_counted() {
        assert_eq!(
            text(&answer(), false, Paint::NEVER),
            [
                "goroutine 1 [running]",
                "    main.main  /src/main.go:1",
                "2 goroutines [chan receive, 0 to 6 minutes]: 7, 8",
                "    main.wait  /src/main.go:2",
                "    created by main.start  /src/main.go:40",
                "goroutine 9 [chan receive, 6 minutes, locked to thread] on thread 12",
                "    main.wait  /src/main.go:2",
                "    created by main.start in goroutine 1  /src/main.go:40",
                "and 1 of the runtime itself: `--native` shows them",
            ]
        );
    }

    #[test]
    fn all_is_told_when_it_is_wanted() {
        let all = text(&answer(), true, Paint::NEVER);
        assert!(all.iter().any(|line| line == "goroutine 2 [force gc (idle)]"), "{all:?}");
        assert!(all.iter().any(|line| line.contains("runtime.goexit.abi0")), "{all:?}");
    }
}
