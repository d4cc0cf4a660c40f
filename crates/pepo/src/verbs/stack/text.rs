//! Stacks in lines for people.

use std::time::Duration;

use pepo_wire::agent::{Deadlock, Frame, StackResponse, Thread};

use super::goroutines;
use crate::{
    duration::spoken,
    render::{
        style::{Paint, Style},
        table::printable,
        words,
    },
};

/// The lines for people. Of Go, goroutines stand for the threads that carry them, unless all is wanted.
pub(super) fn text(target: &str, stack: &StackResponse, all: bool, paint: Paint) -> Vec<String> {
    let mut lines =
        vec![format!("{}  {}", headline(target, stack, paint), paint.over(Style::Faint, &cost(stack)))];
    lines.extend(goroutines::text(stack, all, paint));
    let threads = stack.threads.iter().filter(|_| all || stack.goroutines.is_empty());
    for thread in threads {
        lines.push(thread_line(thread, paint));
        lines.extend(waits_for_lines(thread));
        lines.extend(frame_lines(&thread.frames, paint));
    }
    let deadlocks = stack.deadlocks.iter().map(|deadlock| deadlock_line(deadlock, stack));
    lines.extend(deadlocks.map(|line| paint.over(Style::Strong, &line)));
    lines.extend(
        stack.notes.iter().map(|note| paint.over(Style::Faint, &format!("note: {}", printable(note)))),
    );
    lines
}

/// `docker/shop · go 1.26 · pid 1 · up 3 d 4 h`.
fn headline(target: &str, stack: &StackResponse, paint: Paint) -> String {
    let target = paint.over(Style::Strong, &printable(target));
    match &stack.process {
        Some(process) => format!("{target} · {}", printable(&words::summary(process))),
        None => target,
    }
}

/// What it took, and what the target felt of it.
fn cost(stack: &StackResponse) -> String {
    let total = spoken(Duration::from_micros(stack.total_micros));
    match stack.longest_pause_micros {
        0 => format!("read in {total}, target not stopped"),
        pause => {
            format!("read in {total}, no thread held longer than {}", spoken(Duration::from_micros(pause)))
        }
    }
}

/// `"worker-0" tid 9   sleeping in futex`.
fn thread_line(thread: &Thread, paint: Paint) -> String {
    let tid = if thread.container_tid == 0 { thread.agent_tid } else { thread.container_tid };
    let name = paint.over(Style::Strong, &format!("\"{}\"", printable(title(thread))));
    if !thread.runtime_state.is_empty() {
        // To the kernel all that waits in a runtime is in a futex.
        return format!("{name} tid {tid}   {}", printable(&thread.runtime_state.to_lowercase()));
    }
    let place = match (thread.syscall.as_str(), thread.wait_channel.as_str()) {
        ("", "" | "0") => String::new(),
        ("", channel) => format!(" in {} (kernel)", printable(channel)),
        (call, _) => format!(" in {}", printable(call)),
    };
    let lock = if thread.holds_lock { ", holds the GIL" } else { "" };
    format!("{name} tid {tid}   {}{place}{lock}", words::state(&thread.state))
}

/// The program's own name of it, else the kernel's.
fn title(thread: &Thread) -> &str {
    if thread.given_name.is_empty() { &thread.name } else { &thread.given_name }
}

/// `deadlock: "left" (tid 9) waits for "right" (tid 10), that for "left" (tid 9)`.
fn deadlock_line(deadlock: &Deadlock, stack: &StackResponse) -> String {
    let named = |tid: &u32| match stack.threads.iter().find(|thread| thread.container_tid == *tid) {
        Some(thread) => format!("\"{}\" (tid {tid})", printable(title(thread))),
        None => format!("thread {tid}"),
    };
    let mut names = deadlock.threads.iter().chain(deadlock.threads.first()).map(named);
    let (first, second) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let rest: String = names.map(|name| format!(", that for {name}")).collect();
    format!("deadlock: {first} waits for {second}{rest}")
}

/// What it waits for: `for the monitor of java.lang.Object 0xffd0`; whom: `for the lock that "worker" (tid 9) holds`, `for postgres (pid 7) in docker 4f2a6c1b9d03`.
fn waits_for_lines(thread: &Thread) -> Vec<String> {
    let of_runtime = thread.runtime_wait.iter().map(|wait| {
        let what = match wait.kind.as_str() {
            "monitor" => "the monitor of ",
            "notify" => "a word from ",
            _ => "",
        };
        format!("  for {what}{} {:#x}", printable(&wait.r#type), wait.object)
    });
    let of_thread = thread.waits_for.iter().map(|other| {
        let who = format!("\"{}\" (tid {})", printable(&other.name), other.container_tid);
        match other.what.as_str() {
            "lock" => format!("  for the lock that {who} holds"),
            _ => format!("  for the end of {who}"),
        }
    });
    let of_sockets = thread.sockets.iter().filter_map(|socket| {
        let end = socket.other_end.as_ref()?;
        let (name, pid) = (printable(&end.name), end.agent_pid);
        let place = match (end.engine.as_str(), end.container_id.get(..12)) {
            (_, None) => String::new(),
            (engine, Some(id)) => format!(" in {} {}", printable(engine), printable(id)),
        };
        Some(format!("  for {name} (process {pid}{place}) at the other end of {}", socket.descriptor))
    });
    of_runtime.chain(of_thread).chain(of_sockets).collect()
}

/// Function and place in two columns, the place as near to the source as is known; variables below.
pub(super) fn frame_lines<'a>(frames: impl IntoIterator<Item = &'a Frame>, paint: Paint) -> Vec<String> {
    let frames: Vec<&Frame> = frames.into_iter().collect();
    let functions: Vec<_> = frames.iter().map(|frame| printable(&function(frame))).collect();
    let width = functions.iter().map(|function| function.chars().count()).filter(|&width| width <= 48).max();
    let width = width.unwrap_or(0);
    let mut lines = Vec::new();
    for (frame, function) in frames.into_iter().zip(&functions) {
        let place = paint.over(Style::Faint, &printable(&place(frame)));
        lines.push(format!("    {function:width$}  {place}").trim_end().to_owned());
        lines.extend(frame.variables.iter().map(|variable| {
            format!("        {} = {}", printable(&variable.name), printable(&variable.value))
        }));
    }
    lines
}

fn function(frame: &Frame) -> String {
    if frame.function.is_empty() { format!("{:#x}", frame.address) } else { frame.function.clone() }
}

pub(super) fn place(frame: &Frame) -> String {
    match (frame.file.as_str(), frame.module.as_str()) {
        ("", "") => String::new(),
        ("", module) => format!("{module}+{:#x}", frame.module_address),
        (file, _) if frame.line > 0 => format!("{file}:{}", frame.line),
        (file, _) => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::agent::{Process, Runtime, RuntimeWait, ThreadWaitedFor, Variable};

    use super::*;

    fn frame(function: &str, file: &str, line: u32) -> Frame {
        Frame {
            address: 0x7f00_1234,
            module_address: 0x1234,
            module: "/lib/libc.so.6".into(),
            function: function.into(),
            file: file.into(),
            line,
            ..Frame::default()
        }
    }

    fn answer(pause: u64) -> StackResponse {
        StackResponse {
            process: Some(Process {
                container_pid: 1,
                uptime_seconds: 61.0,
                runtime: Some(Runtime { language: "native".into(), ..Runtime::default() }),
                ..Process::default()
            }),
            threads: vec![
                Thread {
                    container_tid: 1,
                    name: "shop".into(),
                    state: "S".into(),
                    syscall: "futex".into(),
                    wait_channel: "futex_wait_queue".into(),
                    frames: vec![frame("main.serve", "/src/main.go", 42), frame("", "", 0)],
                    ..Thread::default()
                },
                Thread { agent_tid: 4712, name: "worker".into(), state: "R".into(), ..Thread::default() },
            ],
            longest_pause_micros: pause,
            total_micros: 31_000,
            notes: vec!["1 frame is without a name".into()],
            ..StackResponse::default()
        }
    }

    #[test]
    fn threads_are_told_with_their_frames() {
        assert_eq!(
            text("docker/shop", &answer(0), false, Paint::NEVER),
            [
                "docker/shop · native · pid 1 · up 1 min 1 s  read in 31 ms, target not stopped",
                "\"shop\" tid 1   sleeping in futex",
                "    main.serve  /src/main.go:42",
                "    0x7f001234  /lib/libc.so.6+0x1234",
                "\"worker\" tid 4712   running",
                "note: 1 frame is without a name",
            ]
        );
    }

    #[test]
    fn threads_of_python_are_told_by_their_own_names_with_the_lock_and_variables() {
        let variable = |name: &str, value: &str| Variable {
            name: name.into(),
            value: value.into(),
            ..Variable::default()
        };
        let thread = Thread {
            container_tid: 9,
            name: "python3".into(),
            given_name: "worker-1".into(),
            holds_lock: true,
            state: "R".into(),
            frames: vec![Frame {
                language: "python".into(),
                variables: vec![variable("user", "'anna'"), variable("token", "[hidden]")],
                ..frame("work", "/app/shop.py", 7)
            }],
            ..Thread::default()
        };
        let stack = StackResponse { threads: vec![thread], ..StackResponse::default() };
        assert_eq!(
            text("docker/shop", &stack, false, Paint::NEVER)[1..],
            [
                "\"worker-1\" tid 9   running, holds the GIL",
                "    work  /app/shop.py:7",
                "        user = 'anna'",
                "        token = [hidden]",
            ]
        );
    }

    #[test]
    fn threads_of_java_are_told_with_what_they_wait_for_and_for_whom() {
        let other =
            ThreadWaitedFor { container_tid: 10, name: "right".into(), what: "lock".into(), address: 0xffd0 };
        let wait = RuntimeWait { kind: "monitor".into(), r#type: "java.lang.Object".into(), object: 0xffd0 };
        let left = Thread {
            container_tid: 9,
            given_name: "left".into(),
            state: "S".into(),
            syscall: "futex".into(),
            runtime_state: "BLOCKED (on object monitor)".into(),
            runtime_wait: Some(wait),
            waits_for: Some(other),
            frames: vec![frame("Shop.main{lambda 0}", "Shop.java", 7)],
            ..Thread::default()
        };
        let right = Thread { container_tid: 10, given_name: "right".into(), ..Thread::default() };
        let deadlocks = vec![Deadlock { threads: vec![9, 10] }];
        let stack = StackResponse { threads: vec![left, right], deadlocks, ..StackResponse::default() };
        assert_eq!(
            text("docker/shop", &stack, false, Paint::NEVER)[1..],
            [
                "\"left\" tid 9   blocked (on object monitor)",
                "  for the monitor of java.lang.Object 0xffd0",
                "  for the lock that \"right\" (tid 10) holds",
                "    Shop.main{lambda 0}  Shop.java:7",
                "\"right\" tid 10   ?",
                "deadlock: \"left\" (tid 9) waits for \"right\" (tid 10), that for \"left\" (tid 9)",
            ]
        );
    }

    #[test]
    fn a_pause_is_owned_up_to() {
        assert!(
            text("x", &answer(250), false, Paint::NEVER)[0].ends_with("no thread held longer than 250 µs")
        );
    }
}
