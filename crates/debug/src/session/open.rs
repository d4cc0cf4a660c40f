//! From a target's name to a debugger in place: find, ask for debug files, judge, choose, attach. Nothing is touched before all
//! of it is known.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pepo_process::{Process, find, headroom::Headroom, held, list, permits, runtime, runtime::RuntimeFacts};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{Guard, OpenSession, Opened, SymbolsWanted},
};
use tokio::sync::Notify;

use super::{
    aftermath,
    clock::{PauseBudget, StillClock},
    engine::{Engine, StoodStill},
    policy::Rights,
    ports,
    readiness::Readiness,
    symbols::{self, Symbols},
};
use crate::{
    adapters::guard_log,
    debugger::{AttachRequest, Attached, Debugger, GuardChoice, Stands, choose, reads_debug_info},
    guard::handle::Waiting,
    sources,
    tools::Tools,
};

/// The target was held at its first instruction, or stands right before its first line.
const HELD: &str = "held";
/// How long a session lives without a sign of life when the client does not say.
const LEASE: Duration = Duration::from_secs(15);
/// The bounds of a lease: short enough that nobody waits, long enough for a slow link.
const LEASE_BOUNDS: (u32, u32) = (2, 120);

/// What opening a session needs from the agent.
#[derive(Clone, Debug)]
pub struct OpenEnv {
    /// Where debuggers are found.
    pub tools: Tools,
    /// This program, whose `guard` verb protects targets.
    pub self_exe: PathBuf,
}

/// A process that may be debugged; nothing is touched yet.
#[derive(Debug)]
pub struct Found {
    request: OpenSession,
    rights: Rights,
    /// The target, as the user called it.
    called: String,
    process: Process,
    facts: RuntimeFacts,
    guard: Option<Waiting>,
    /// What to ask the client for before [`Found::attach`]; nothing, unless it offered to bring debug files.
    pub symbols: Symbols,
}

/// Finds the process and asks whether it may be stopped at all. `folder` is the session's private folder.
///
/// # Errors
/// The failure that a user is told.
pub async fn find(request: OpenSession, env: &OpenEnv, folder: &Path) -> Result<Found, Failure> {
    let rights = Rights::of(&request.grant.clone().unwrap_or_default().rights);
    if !rights.stop {
        return Err(Failure::new(Code::NotGranted, "a debugger needs the right `stop`"));
    }
    let target =
        request.target.clone().ok_or_else(|| Failure::new(Code::Usage, "the session names no target"))?;
    let (asked, offered) = (request.debugger.clone(), request.offers_symbols);
    let examined = examining(move || {
        let process = find::program(&target)?;
        if let Some(denial) = permits::judge_stop(&process).denial() {
            return Err(denial.failure());
        }
        let facts = runtime::detect(&process);
        let asks = offered && reads_debug_info(&asked, &facts);
        let wanted = if asks { symbols::wanted(&process, &facts) } else { SymbolsWanted::default() };
        Ok((find::called(&target, &process), process, facts, wanted))
    });
    // A guard starts meanwhile. A debugger that needs none drops it; one that finds none starts one.
    let guard = Waiting::start(&env.self_exe, guard_log(folder)).ok();
    let (called, process, facts, wanted) = examined.await?;
    let symbols = Symbols::new(folder, process.pid(), wanted);
    Ok(Found { request, rights, called, process, facts, guard, symbols })
}

impl Found {
    /// Judges, chooses, and puts the debugger in place. `folder` is the session's private folder.
    ///
    /// Once begun it must not be cancelled: run it as a task of its own.
    ///
    /// # Errors
    /// The failure that a user is told; nothing was left behind.
    pub async fn attach(
        self,
        env: &OpenEnv,
        session: &str,
        folder: &Path,
    ) -> Result<(Opened, Engine), Failure> {
        let (pid, start_time) = (self.process.pid(), self.process.start_time());
        let called = self.called.clone();
        let attached = self.put_in_place(env, session, folder).await;
        attached.map_err(|failure| match Process::open_started(pid, start_time) {
            Ok(process) => aftermath::of_attach(failure, &process, &called),
            Err(_) => failure,
        })
    }

    async fn put_in_place(
        self,
        env: &OpenEnv,
        session: &str,
        folder: &Path,
    ) -> Result<(Opened, Engine), Failure> {
        let Found { request, rights, called, process, mut facts, guard: waiting, symbols } = self;
        let grant = request.grant.clone().unwrap_or_default();
        let chosen = choose_with(&symbols, &mut facts, &request.debugger, &env.tools);
        let (debugger, mut warnings) =
            chosen.map_err(|failure| ports::explain(failure, &process, &called, facts.language))?;
        headroom(debugger, &process)?;
        let brought = symbols.folder().into_iter();
        let folders: Vec<PathBuf> = brought.chain(request.symbol_folders.iter().map(PathBuf::from)).collect();
        let held = held::at_first_instruction(&process);
        let begun = Notify::new();
        let attach = AttachRequest {
            process: &process,
            runtime: &facts,
            tools: &env.tools,
            guard: guard(request.guard()),
            raw: rights.raw,
            symbol_folders: &folders,
            run_dir: folder,
            self_exe: &env.self_exe,
            begun: &begun,
        };
        let attaching = async {
            let attached = debugger.attach(&attach, waiting).await;
            begun.notify_one();
            attached
        };
        let (attached, (described, sources)) = tokio::join!(attaching, describe(&process, &facts, &begun));
        let mut attached = attached?;
        warnings.extend_from_slice(&attached.warnings);
        attached.quirks.extend(held.then_some(HELD));
        let (budget, source) = budget(grant.pause_budget_millis);
        let lease = lease(grant.lease_seconds);
        let opened = Opened {
            session: session.to_owned(),
            process: described,
            pause_budget_millis: budget.map_or(0, |budget| budget.limit.as_millis() as u64),
            budget_source: source.to_owned(),
            sources,
            lease_seconds: lease.as_secs() as u32,
            warnings,
            ..opened(debugger, &attached)
        };
        // A debugger inside the process has it wait there.
        let held = held && debugger.facts().stands == Stands::ByThreadState;
        let clock = StillClock::new(budget, Instant::now(), attached.stood_still);
        let Attached { io, hold, attach_arguments, .. } = attached;
        let (facts, still) = (debugger.facts(), StoodStill::default());
        let ready = Readiness::new(request.says_ready);
        let engine =
            Engine { process, facts, io, hold, attach_arguments, rights, lease, clock, still, ready, held };
        Ok((opened, engine))
    }
}

/// What the debugger in place is, as its client is told.
fn opened(debugger: &dyn Debugger, attached: &Attached) -> Opened {
    Opened {
        debugger: debugger.facts().name.to_owned(),
        debugger_version: attached.version.clone(),
        attach_arguments: attached.attach_arguments.to_string(),
        initialize_arguments: attached.initialize_arguments.to_string(),
        guard: attached.guard.name().to_owned(),
        stood_still_micros: u64::try_from(attached.stood_still.as_micros()).unwrap_or(u64::MAX),
        quirks: attached.quirks.iter().map(|quirk| (*quirk).to_owned()).collect(),
        ..Opened::default()
    }
}

/// Reads `/proc` and files away from the threads that carry messages, from now on.
fn examining<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> {
    let working = tokio::task::spawn_blocking(work);
    async {
        working.await.map_err(|error| {
            Failure::new(Code::Internal, "the process could not be examined").because_of(&error)
        })?
    }
}

/// The debugger, judged with the debug files that came.
fn choose_with(
    symbols: &Symbols,
    facts: &mut RuntimeFacts,
    asked: &str,
    tools: &Tools,
) -> Result<(&'static dyn Debugger, Vec<Failure>), Failure> {
    symbols.complete(facts);
    let explain = |failure: Failure| {
        if facts.debug_info.is_there() { failure } else { symbols.explain(failure) }
    };
    let (debugger, warnings) = choose(asked, facts, tools).map_err(explain)?;
    Ok((debugger, warnings.into_iter().map(explain).collect()))
}

/// Describes the process and reads which sources its program was made of, while the debugger starts: once it has begun, for both
/// want a processor.
async fn describe(
    process: &Process,
    facts: &RuntimeFacts,
    begun: &Notify,
) -> (Option<pepo_wire::agent::Process>, Vec<String>) {
    let (pid, start_time, facts) = (process.pid(), process.start_time(), facts.clone());
    begun.notified().await;
    let describing = tokio::task::spawn_blocking(move || {
        let process = Process::open_started(pid, start_time).ok()?;
        Some((list::describe(&process).ok(), sources::of(&process, &facts)))
    });
    describing.await.ok().flatten().unwrap_or_default()
}

/// A debugger that does not fit into the memory left where it would run could get the target killed: in the agent's own
/// control group, or in the target's when it lives inside the process.
fn headroom(debugger: &dyn Debugger, target: &Process) -> Result<(), Failure> {
    let facts = debugger.facts();
    let headroom = match facts.stands {
        Stands::ByEvents => Headroom::of(target),
        Stands::ByThreadState => Process::own().and_then(|own| Headroom::of(&own)),
    };
    let left = headroom.map_or(u64::MAX, |headroom| headroom.free);
    if left >= facts.memory {
        return Ok(());
    }
    let what = format!(
        "{} needs {} MiB and {} MiB are left where it would run",
        facts.name,
        facts.memory >> 20,
        left >> 20
    );
    Err(Failure::new(Code::NoHeadroom, what)
        .hint("raise the memory limit, or debug from outside the container"))
}

fn guard(guard: Guard) -> GuardChoice {
    match guard {
        Guard::Unspecified => GuardChoice::Default,
        Guard::On => GuardChoice::On,
        Guard::Off => GuardChoice::Off,
    }
}

fn budget(millis: Option<u64>) -> (Option<PauseBudget>, &'static str) {
    match millis {
        None => (Some(PauseBudget::DEFAULT), "default"),
        Some(0) => (None, "asked"),
        Some(millis) => (Some(PauseBudget { limit: Duration::from_millis(millis) }), "asked"),
    }
}

fn lease(seconds: u32) -> Duration {
    match seconds {
        0 => LEASE,
        seconds => Duration::from_secs(u64::from(seconds.clamp(LEASE_BOUNDS.0, LEASE_BOUNDS.1))),
    }
}
