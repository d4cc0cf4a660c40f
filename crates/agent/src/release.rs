//! Lets go, whoever holds, and repairs what the dead left.

use std::{path::Path, time::Duration};

use pepo_debug::journal::{Entry, Found, Journal};
use pepo_process::{AgentPid, Process, find, list};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{ReleaseRequest, Released, SessionInfo, Target, target},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// What a session is asked at its control socket: to let go, and for how many milliseconds its target stood still.
pub(crate) const RELEASE: &str = "release\n";
pub(crate) const STOOD_STILL: &str = "stood-still\n";

/// How long a session may take to say how it is.
const ANSWERS: Duration = Duration::from_millis(300);
/// How long a session may take to let go after it was asked.
const LETTING_GO: Duration = Duration::from_secs(20);
/// How long a guard that outlived its agent may still need.
const GUARD: Duration = Duration::from_secs(3);

/// The sessions on this machine: ours and other agents' by their journals, and tracers that are no agent's. A dead one is none: what
/// its guard may hold for a moment yet is the guard's.
pub(crate) async fn list(journal: &Journal) -> Vec<SessionInfo> {
    let journal = journal.clone();
    // Without an answer the list is short, which is better than none.
    let listed = tokio::task::spawn_blocking(move || known(&journal)).await;
    let (found, mut sessions) = listed.unwrap_or_default();
    for one in &found {
        let socket = one.control();
        let still = tokio::time::timeout(ANSWERS, ask(&socket, STOOD_STILL)).await;
        let session = sessions.iter_mut().find(|session| session.session == one.entry.session);
        if let (Ok(Ok(still)), Some(session)) = (still, session) {
            session.stood_still_millis = still.parse().unwrap_or_default();
        }
    }
    sessions
}

fn known(journal: &Journal) -> (Vec<Found>, Vec<SessionInfo>) {
    let mut found = journal.list_all();
    found.retain(|found| found.live);
    let ours: Vec<u32> = found.iter().map(|found| found.entry.agent_pid).collect();
    let mut sessions: Vec<_> = found.iter().map(of_journal).collect();
    for process in list::all() {
        if process.tracer != 0 && !ours.contains(&process.agent_pid) {
            sessions.push(SessionInfo {
                who: format!("process {} ({})", process.tracer, name_of(process.tracer)),
                target_name: format!("pid/{}", process.agent_pid),
                process: Some(process),
                state: "foreign".to_owned(),
                ..SessionInfo::default()
            });
        }
    }
    sessions.sort_by(|a, b| (&a.target_name, a.since).cmp(&(&b.target_name, b.since)));
    (found, sessions)
}

fn of_journal(found: &Found) -> SessionInfo {
    SessionInfo {
        session: found.entry.session.clone(),
        who: found.entry.who.clone(),
        debugger: found.entry.debugger.clone(),
        process: process_of(&found.entry).and_then(|process| list::describe(&process).ok()),
        target_name: found.entry.target_name.clone(),
        since: found.entry.since,
        state: "live".to_owned(),
        stood_still_millis: 0,
    }
}

/// What predecessors left whose owners are dead: repaired and forgotten. What a guard still works on is left to it.
pub(crate) fn sweep(journal: &Journal) {
    journal.forget_unsaid();
    for found in journal.list().iter().filter(|found| !found.live) {
        match process_of(&found.entry) {
            Some(process) if process.status().is_ok_and(|status| status.tracer != 0) => {}
            process => {
                let repairs = process.map(|process| resume(&process)).unwrap_or_default();
                tracing::info!(session = found.entry.session, ?repairs, "swept up after a dead session");
                journal.forget(found);
            }
        }
    }
}

/// Ends the sessions asked for.
pub(crate) async fn release(journal: &Journal, request: ReleaseRequest) -> Result<Vec<Released>, Failure> {
    let own = journal.clone();
    let found = tokio::task::spawn_blocking(move || own.list_all()).await.unwrap_or_default();
    let Some(target) = request.target else {
        let mut released = Vec::new();
        for one in &found {
            released.push(release_one(journal, one).await);
        }
        released.extend(unseen(journal, "everything", "--all").await);
        return Ok(released);
    };
    let name = name_of_target(&target);
    let process = resolve(target).await?;
    let (pid, start) = (process.pid().get(), process.start_time());
    let mut released = Vec::new();
    for one in found.iter().filter(|one| one.entry.agent_pid == pid && one.entry.start_time == start) {
        released.push(release_one(journal, one).await);
    }
    if released.is_empty() {
        let foreign = release_foreign(&process, name.clone()).await;
        // A tracer that is not known may be a debugger of theirs.
        let told = match foreign {
            Some(Released { failure: None, .. }) => foreign,
            other => unseen(journal, &name, &name).await.or(other),
        };
        released.extend(told);
    }
    Ok(released)
}

/// Where another user's Pepo keeps its sessions to itself, nobody can say that `what` is not held.
async fn unseen(journal: &Journal, what: &str, named: &str) -> Option<Released> {
    let journal = journal.clone();
    let hidden = tokio::task::spawn_blocking(move || journal.hidden()).await.ok()??;
    let failure = Failure::new(Code::OtherUser, format!("whether {what} was let go cannot be told"))
        .because(format!(
            "Pepo runs as process {} of uid {}, and what it holds is not to be seen by this user",
            hidden.pid, hidden.owner
        ))
        .try_command("let go as root", ["sudo", "pepo", "release", named]);
    Some(failed(what.to_owned(), failure))
}

/// As the user called it.
fn name_of_target(target: &Target) -> String {
    match &target.kind {
        Some(target::Kind::Container(container)) => container.name.clone(),
        Some(target::Kind::Process(process)) => format!("pid/{}", process.agent_pid),
        None => String::new(),
    }
}

async fn resolve(target: Target) -> Result<Process, Failure> {
    let joined = tokio::task::spawn_blocking(move || find::resolve(&target)).await;
    joined.map_err(|error| {
        Failure::new(Code::Internal, "the process could not be looked up").because_of(&error)
    })?
}

async fn release_one(journal: &Journal, found: &Found) -> Released {
    let what =
        format!("session {} ({} on {})", found.entry.session, found.entry.debugger, found.entry.target_name);
    if found.live {
        match tokio::time::timeout(LETTING_GO, ask(&found.control(), RELEASE)).await {
            Ok(Ok(answer)) if answer == "released" => return Released { what, ..Released::default() },
            Ok(Ok(answer)) => {
                let failure = Failure::new(Code::NotNow, "the session did not let go of everything");
                return failed(what, failure.because(answer));
            }
            // Who ends just now hears nobody any more.
            Ok(Err(_)) if ends(journal, &found.entry.session).await => {}
            Ok(Err(error)) => {
                let failure = Failure::new(Code::NotNow, "the session could not be asked to let go");
                return failed(what, failure.because_of(&error));
            }
            Err(_) => {
                let text = format!("the session did not let go within {LETTING_GO:?}");
                return failed(what, Failure::new(Code::TimedOut, text));
            }
        }
    }
    let Some(process) = process_of(&found.entry) else {
        journal.forget(found);
        return Released { what, repairs: vec!["the process is gone".to_owned()], failure: None };
    };
    if let Some(failure) = wait_for_no_tracer(&process).await {
        return failed(what, failure);
    }
    let repairs = resume(&process);
    journal.forget(found);
    Released { what, repairs, failure: None }
}

/// Does this session end by itself, within a short while?
async fn ends(journal: &Journal, session: &str) -> bool {
    let end = tokio::time::Instant::now() + GUARD;
    loop {
        let own = journal.clone();
        let all = tokio::task::spawn_blocking(move || own.list_all()).await.unwrap_or_default();
        if !all.iter().any(|found| found.live && found.entry.session == session) {
            return true;
        }
        if tokio::time::Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A process without a session of ours: stopped by a debugger that died, or held by one that lives; nothing when it runs free.
async fn release_foreign(process: &Process, what: String) -> Option<Released> {
    if let Some(failure) = wait_for_no_tracer(process).await {
        return Some(failed(what, failure));
    }
    let repairs = resume(process);
    (!repairs.is_empty()).then_some(Released { what, repairs, failure: None })
}

fn failed(what: String, failure: Failure) -> Released {
    Released { what, repairs: Vec::new(), failure: Some(failure) }
}

async fn ask(socket: &Path, what: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(what.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).await?;
    Ok(answer.trim_end().to_owned())
}

/// Waits a short while for a guard to finish; says who holds the process when it stays held.
async fn wait_for_no_tracer(process: &Process) -> Option<Failure> {
    let end = tokio::time::Instant::now() + GUARD;
    loop {
        let tracer = process.status().map_or(0, |status| status.tracer);
        if tracer == 0 {
            return None;
        }
        if tokio::time::Instant::now() >= end {
            let text =
                format!("process {} is held by process {tracer} ({})", process.pid().get(), name_of(tracer));
            return Some(
                Failure::new(Code::AlreadyTraced, text)
                    .because("that debugger is not Pepo's; ending it while a breakpoint is armed can kill the target")
                    .hint(format!("let go in that debugger: `detach` in gdb, `process detach` in lldb (process {tracer})")),
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets a process run that a dead debugger left stopped.
fn resume(process: &Process) -> Vec<String> {
    match process.stat() {
        Ok(stat) if stat.state.is_stopped() => match process.resume() {
            Ok(()) => vec!["let the stopped process run again".to_owned()],
            Err(error) => vec![format!("could not let the stopped process run: {}", error.failure())],
        },
        _ => Vec::new(),
    }
}

/// The process of a journal's entry, if it is still the same one.
fn process_of(entry: &Entry) -> Option<Process> {
    let process = Process::open(AgentPid::new(entry.agent_pid)?).ok()?;
    (process.start_time() == entry.start_time).then_some(process)
}

/// Tracers are threads, whose numbers no process may have.
fn name_of(tid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{tid}/comm"))
        .map_or_else(|_| "?".to_owned(), |name| name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_that_ends_while_it_is_asked_is_let_go_and_one_that_is_deaf_is_not() {
        let run = tempfile::tempdir().unwrap();
        let journal = Journal::open(&run.path().join("run")).unwrap();
        let process = Process::own().unwrap();
        let held = journal.begin("a").unwrap();
        let entry = Entry {
            session: "a".into(),
            who: "me".into(),
            target_name: "docker/x".into(),
            debugger: "gdb".into(),
            agent_pid: process.pid().get(),
            start_time: process.start_time(),
            since: 3,
        };
        held.write(&entry).unwrap();
        let listed = journal.list();
        let deaf = release_one(&journal, &listed[0]).await;
        assert_eq!(deaf.failure.map(|failure| failure.code), Some(Code::NotNow as u32), "it has no socket");
        drop(held);
        let ended = release_one(&journal, &listed[0]).await;
        assert_eq!((ended.what.as_str(), ended.failure), ("session a (gdb on docker/x)", None));
    }
}
