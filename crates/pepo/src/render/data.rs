//! The wire's types as data for programs. Names are the wire's own; numbers carry their unit in the name.

use pepo_wire::agent::{
    CheckResponse, Finding, Frame, Goroutine, GoroutineStack, Level, Process, Released, Runtime, SessionInfo,
    Socket, StackResponse, Thread, ThreadWaitedFor, Variable, Verdict,
};
use serde_json::{Value, json};

use super::failure;

/// One process.
pub(crate) fn process(process: &Process) -> Value {
    json!({
        "agent_pid": process.agent_pid,
        "container_pid": process.container_pid,
        "parent": process.parent,
        "start_time": process.start_time,
        "name": process.name,
        "command_line": process.command_line,
        "uid": process.uid,
        "container_id": process.container_id,
        "runtime": process.runtime.as_ref().map(runtime),
        "state": process.state,
        "tracer": process.tracer,
        "look": process.look.as_ref().map(verdict),
        "stop": process.stop.as_ref().map(verdict),
        "uptime_seconds": process.uptime_seconds,
        "resident_bytes": process.resident_bytes,
        "threads": process.threads,
    })
}

fn runtime(runtime: &Runtime) -> Value {
    json!({ "language": runtime.language, "version": runtime.version, "debugger": runtime.debugger })
}

/// A yes, or a no and why.
pub(crate) fn verdict(verdict: &Verdict) -> Value {
    json!({ "yes": verdict.yes, "why": verdict.why.as_ref().map(failure::json) })
}

/// The word of a level, as it is shown and sent.
pub(crate) fn level(level: Level) -> &'static str {
    match level {
        Level::Unspecified => "?",
        Level::Ok => "ok",
        Level::Lost => "lost",
        Level::Risk => "risk",
        Level::No => "no",
    }
}

/// One finding of a check.
pub(crate) fn finding(finding: &Finding) -> Value {
    json!({
        "level": level(finding.level()),
        "verbs": finding.verbs,
        "rule": finding.rule,
        "what": finding.what,
        "failure": finding.failure.as_ref().map(failure::json),
    })
}

/// A whole check.
pub(crate) fn check(target: Option<&str>, check: &CheckResponse) -> Value {
    json!({
        "target": target,
        "process": check.process.as_ref().map(process),
        "findings": check.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

/// A whole stack.
pub(crate) fn stack(target: &str, stack: &StackResponse) -> Value {
    json!({
        "target": target,
        "process": stack.process.as_ref().map(process),
        "threads": stack.threads.iter().map(thread).collect::<Vec<_>>(),
        "goroutines": stack.goroutines.iter().map(goroutine).collect::<Vec<_>>(),
        "goroutine_stacks": stack.goroutine_stacks.iter().map(goroutine_stack).collect::<Vec<_>>(),
        "deadlocks": stack.deadlocks.iter().map(|deadlock| &deadlock.threads).collect::<Vec<_>>(),
        "longest_pause_micros": stack.longest_pause_micros,
        "total_micros": stack.total_micros,
        "notes": stack.notes,
    })
}

fn goroutine(goroutine: &Goroutine) -> Value {
    json!({
        "id": goroutine.id,
        "state": goroutine.state,
        "waited_seconds": goroutine.waited_seconds,
        "locked_to_thread": goroutine.locked_to_thread,
        "created_by": goroutine.created_by,
        "container_tid": goroutine.container_tid,
        "stack": goroutine.stack,
    })
}

fn goroutine_stack(stack: &GoroutineStack) -> Value {
    json!({
        "frames": stack.frames.iter().map(frame).collect::<Vec<_>>(),
        "entry": stack.entry.as_ref().map(frame),
        "created_at": stack.created_at.as_ref().map(frame),
    })
}

fn thread(thread: &Thread) -> Value {
    json!({
        "agent_tid": thread.agent_tid,
        "container_tid": thread.container_tid,
        "name": thread.name,
        "given_name": thread.given_name,
        "holds_lock": thread.holds_lock,
        "idle": thread.state != "R" && !thread.holds_lock,
        "state": thread.state,
        "syscall": thread.syscall,
        "wait_channel": thread.wait_channel,
        "waits_for": thread.waits_for.as_ref().map(waits_for),
        "sockets": thread.sockets.iter().map(socket).collect::<Vec<_>>(),
        "runtime_state": thread.runtime_state,
        "runtime_wait": thread.runtime_wait.as_ref().map(|wait| json!({
            "kind": wait.kind,
            "type": wait.r#type,
            "object": format!("{:#x}", wait.object),
        })),
        "frames": thread.frames.iter().map(frame).collect::<Vec<_>>(),
    })
}

fn waits_for(other: &ThreadWaitedFor) -> Value {
    json!({
        "what": other.what,
        "container_tid": other.container_tid,
        "name": other.name,
        "address": format!("{:#x}", other.address),
    })
}

fn socket(socket: &Socket) -> Value {
    json!({
        "descriptor": socket.descriptor,
        "protocol": socket.protocol,
        "state": socket.state,
        "local": socket.local,
        "peer": socket.peer,
        "other_end": socket.other_end.as_ref().map(|end| json!({
            "agent_pid": end.agent_pid,
            "container_pid": end.container_pid,
            "name": end.name,
            "container_id": end.container_id,
            "engine": end.engine,
        })),
    })
}

fn frame(frame: &Frame) -> Value {
    json!({
        "address": format!("{:#x}", frame.address),
        "module_address": format!("{:#x}", frame.module_address),
        "module": frame.module,
        "build_id": frame.build_id,
        "function": frame.function,
        "file": frame.file,
        "line": frame.line,
        "language": if frame.language.is_empty() { "native" } else { &frame.language },
        "variables": frame.variables.iter().map(variable).collect::<Vec<_>>(),
    })
}

fn variable(variable: &Variable) -> Value {
    json!({ "name": variable.name, "type": variable.r#type, "value": variable.value })
}

/// One session.
pub(crate) fn session(session: &SessionInfo) -> Value {
    json!({
        "session": session.session,
        "who": session.who,
        "debugger": session.debugger,
        "target": session.target_name,
        "process": session.process.as_ref().map(process),
        "since": session.since,
        "state": session.state,
        "stood_still_millis": session.stood_still_millis,
    })
}

/// What was released.
pub(crate) fn released(released: &Released) -> Value {
    json!({
        "what": released.what,
        "repairs": released.repairs,
        "failure": released.failure.as_ref().map(failure::json),
    })
}
