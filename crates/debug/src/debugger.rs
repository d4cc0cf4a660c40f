//! What every debugger offers, and the list of them: one trait, facts as data, and the choice for a process.
//!
//! This is the third of the classic interfaces of a container debugger (locate the container, find its process, attach a
//! debugger). Adding one that speaks DAP is one small file in `adapters`, mostly data.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use pepo_process::{
    Process,
    runtime::{Language, RuntimeFacts},
};
use pepo_wire::{Code, Failure};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};

use crate::{guard::handle::Waiting, tools::Tools};

/// The bytes of an adapter: DAP with headers, both ways.
pub trait AdapterIo: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AdapterIo for T {}

/// A debugger that can be put on a process in other namespaces.
#[async_trait]
pub trait Debugger: Send + Sync {
    /// What it is: data.
    fn facts(&self) -> &'static DebuggerFacts;

    /// Would it work on such a process? Answered before anything is touched.
    fn fits(&self, runtime: &RuntimeFacts, tools: &Tools) -> Fit;

    /// Puts the debugger in place up to the point where its adapter waits for `initialize`; `guard` may have been started
    /// before for one that needs it.
    ///
    /// # Errors
    /// Whatever it had begun is undone before an error is returned.
    async fn attach(&self, request: &AttachRequest<'_>, guard: Option<Waiting>) -> Result<Attached, Failure>;
}

/// What a debugger is.
#[derive(Debug)]
pub struct DebuggerFacts {
    /// Stable name, as `--debugger` takes it.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// What it debugs.
    pub languages: &'static [Language],
    /// The entry of the tools' catalogue it needs; `None` when it needs nothing installed.
    pub tool: Option<&'static str>,
    /// Memory the adapter takes in the cgroup it runs in, in bytes.
    pub memory: u64,
    /// Guarded or not when the user does not say; chosen by measurement, the target's life before speed.
    pub guard: GuardChoice,
    /// Does DAP `evaluate` in the context `repl` reach the debugger's own command language?
    pub repl_is_raw: bool,
    /// A request that is not of DAP ends the adapter, so it gets none.
    pub ends_at_unknown: bool,
    /// Words that reach the debugger's own commands from inside an expression.
    pub raw_words: &'static [&'static str],
    /// How it is seen that the target stands still.
    pub stands: Stands,
}

/// How it is seen that the target stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Its threads are in state `t` (proc_pid_stat(5)): false conditions count too.
    ByThreadState,
    /// Only the adapter's `stopped` and `continued` events say so: the threads wait inside the process.
    ByEvents,
}

/// May this debugger be put on this process?
#[derive(Debug)]
pub enum Fit {
    /// Yes; the warnings are told before attaching.
    Yes(Vec<Failure>),
    /// No, and why.
    No(Failure),
}

/// Protect the target from the adapter's death?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardChoice {
    /// The debugger's default.
    Default,
    /// Yes.
    On,
    /// No relay: for speed.
    Off,
}

/// How a target is protected from its debugger's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardKind {
    /// A relay of gdb's remote protocol clears breakpoints and detaches.
    Relay,
    /// Changed text is put back before the adapter is ended and after its death, best effort.
    Text,
    /// The debugger lives inside the process and holds no ptrace.
    InProcess,
}

impl GuardKind {
    /// As it is shown and sent.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GuardKind::Relay => "relay",
            GuardKind::Text => "text",
            GuardKind::InProcess => "in-process",
        }
    }
}

/// Everything an attach needs.
#[derive(Clone, Copy)]
pub struct AttachRequest<'a> {
    /// The process, proven.
    pub process: &'a Process,
    /// What runs in it.
    pub runtime: &'a RuntimeFacts,
    /// Where debuggers are found.
    pub tools: &'a Tools,
    /// Guarded or not.
    pub guard: GuardChoice,
    /// Its user has the debugger's own commands, whatever these do.
    pub raw: bool,
    /// Folders with split debug files, on the agent's machine.
    pub symbol_folders: &'a [PathBuf],
    /// A private folder of this session (mode 0700) for sockets; emptied afterwards by the session.
    pub run_dir: &'a Path,
    /// An executable whose `guard` verb runs [`crate::guard`]: this program.
    pub self_exe: &'a Path,
    /// Told when nothing of ours is in the way of the debugger any more: what takes a processor may begin.
    pub begun: &'a Notify,
}

/// A debugger in place.
pub struct Attached {
    /// The adapter's DAP stream. Whoever drives it sends `disconnect` (`terminateDebuggee: false`) and drops it before
    /// [`Hold::let_go`].
    pub io: Box<dyn AdapterIo>,
    /// The arguments of the DAP `attach` request that this adapter expects. The agent puts them there itself.
    pub attach_arguments: Value,
    /// What this adapter wants in `initialize` (`adapterID` at least).
    pub initialize_arguments: Value,
    /// How the target is protected.
    pub guard: GuardKind,
    /// The debugger's version.
    pub version: String,
    /// How long the target stood still so far.
    pub stood_still: Duration,
    /// What the user should know before going on, beyond what [`Debugger::fits`] has told.
    pub warnings: Vec<Failure>,
    /// What a client does differently with this adapter, by name.
    pub quirks: Vec<&'static str>,
    /// What ends it.
    pub hold: Box<dyn Hold>,
}

/// What ends a debugger that is in place.
#[async_trait]
pub trait Hold: Send {
    /// Right before `disconnect`: makes that no thread is about to be stopped by the adapter any more, where its own way of
    /// letting go may lose such a one.
    async fn disarm(&mut self) {}

    /// Ends adapter and guard by their own polite ways, after the adapter's stream was closed; the target runs afterwards, and
    /// no tracer, thread, descriptor or changed byte is left. Bounded in time. Also right after the adapter died by itself.
    async fn let_go(self: Box<Self>) -> LetGo;
}

/// What letting go took.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LetGo {
    /// What had to be repaired: "restored 1 text byte".
    pub repairs: Vec<String>,
    /// What could not be removed; empty when all is as before.
    pub left_behind: Vec<String>,
}

/// All debuggers, in the order of preference.
#[must_use]
pub fn all() -> &'static [&'static dyn Debugger] {
    &[
        &crate::adapters::delve::Delve,
        &crate::python::PythonDebugger,
        &crate::adapters::lldb::Lldb,
        &crate::adapters::gdb::Gdb,
    ]
}

/// The name of the debugger that is first asked for processes of this language, by the language's name.
#[must_use]
pub fn usual_for(language: &str) -> Option<&'static str> {
    let is_for = |one: &&dyn Debugger| one.facts().languages.iter().any(|known| known.name() == language);
    all().iter().find(|one| is_for(one)).map(|one| one.facts().name)
}

/// The debugger for a process: the one asked for, else the first that fits what runs there.
///
/// # Errors
/// [`Code::NoDebugger`] when none is for this runtime; else the reason why the best one does not fit.
pub fn choose(
    asked: &str,
    runtime: &RuntimeFacts,
    tools: &Tools,
) -> Result<(&'static dyn Debugger, Vec<Failure>), Failure> {
    let candidates = candidates(asked, runtime)?;
    if let Some(failure) = &runtime.unread {
        return Err(failure.clone());
    }
    let mut first_no = None;
    for debugger in candidates {
        match debugger.fits(runtime, tools) {
            Fit::Yes(warnings) => return Ok((debugger, warnings)),
            Fit::No(failure) => first_no = first_no.or(Some(failure)),
        }
    }
    Err(first_no.unwrap_or_else(|| {
        Failure::new(Code::NoDebugger, format!("no debugger for {} processes", runtime.language.name()))
            .try_command("see the debuggers there are", ["pepo", "tools"])
            .hint("`--debugger NAME` overrides the choice")
    }))
}

/// Would a debugger be chosen that reads debug information? All do that are programs of their own.
#[must_use]
pub fn reads_debug_info(asked: &str, runtime: &RuntimeFacts) -> bool {
    candidates(asked, runtime).is_ok_and(|all| all.iter().any(|one| one.facts().tool.is_some()))
}

/// Those to be asked, in order of preference.
fn candidates(asked: &str, runtime: &RuntimeFacts) -> Result<Vec<&'static dyn Debugger>, Failure> {
    if asked.is_empty() {
        return Ok(all()
            .iter()
            .copied()
            .filter(|one| one.facts().languages.contains(&runtime.language))
            .collect());
    }
    match all().iter().find(|one| one.facts().name == asked) {
        Some(one) => Ok(vec![*one]),
        None => {
            let names: Vec<_> = all().iter().map(|one| one.facts().name).collect();
            Err(Failure::new(Code::NoDebugger, format!("there is no debugger called `{asked}`"))
                .hint(format!("the debuggers are {}", names.join(", "))))
        }
    }
}
