//! A debugger put on a fixture: who is who, and how it ends.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use pepo_debug::{
    adapters::{delve::Delve, gdb::Gdb, lldb::Lldb},
    debugger::{AttachRequest, Debugger, GuardChoice, GuardKind, Hold, LetGo},
    tools::Tools,
};
use pepo_process::{AgentPid, Process, runtime};
use pepo_testkit::{Fixture, Life, Running, Variant, children, clean::Snapshot, fixtures, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::dap::{Client, Start};

/// A debugger with the language it is tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    DelveGo,
    GdbC,
    GdbCpp,
    GdbRust,
    LldbC,
    LldbCpp,
    LldbRust,
}

impl Which {
    pub(crate) fn debugger(self) -> &'static dyn Debugger {
        match self {
            Which::DelveGo => &Delve,
            Which::GdbC | Which::GdbCpp | Which::GdbRust => &Gdb,
            Which::LldbC | Which::LldbCpp | Which::LldbRust => &Lldb,
        }
    }

    pub(crate) fn fixture(self, variant: Variant) -> Fixture {
        match self {
            Which::DelveGo => fixtures::go(variant),
            Which::GdbC | Which::LldbC => fixtures::c(variant),
            Which::GdbCpp | Which::LldbCpp => fixtures::cpp(variant),
            Which::GdbRust | Which::LldbRust => fixtures::rust(variant),
        }
    }
}

/// The guard's binary: the example of this crate beside the test, else the command itself.
pub(crate) fn guard_program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let example = test.parent().and_then(|deps| deps.parent()).map(|folder| folder.join("examples/guard"));
    example.filter(|path| path.exists()).unwrap_or_else(pepo_testkit::pepo)
}

/// The tools of this machine.
pub(crate) fn tools() -> Tools {
    Tools::from_env()
}

/// A debugger in place.
pub(crate) struct Rig {
    pub(crate) fixture: Fixture,
    pub(crate) target: Running,
    pub(crate) snapshot: Snapshot,
    pub(crate) client: Option<Client>,
    pub(crate) hold: Option<Box<dyn Hold>>,
    pub(crate) guard: GuardKind,
    pub(crate) attach: Value,
    pub(crate) initialize: Value,
    pub(crate) quirks: Vec<&'static str>,
    pub(crate) began: Instant,
    pub(crate) run_dir: Arc<tempfile::TempDir>,
}

impl Rig {
    /// Puts a debugger on a fresh `loop` that ticks each millisecond in two threads.
    pub(crate) async fn new(which: Which, guard: GuardChoice) -> Rig {
        let fixture = which.fixture(Variant::debug());
        let target = pepo_testkit::spawn(&fixture, &["1000", "worker"]);
        Rig::on(which, guard, fixture, target).await
    }

    /// With the debugger's own commands granted.
    pub(crate) async fn raw(which: Which) -> Rig {
        let fixture = which.fixture(Variant::debug());
        let target = pepo_testkit::spawn(&fixture, &["1000", "worker"]);
        Rig::build(which, GuardChoice::On, true, &tools(), fixture, target, &[]).await
    }

    pub(crate) async fn with_tools(which: Which, guard: GuardChoice, tools: &Tools) -> Rig {
        let fixture = which.fixture(Variant::debug());
        let target = pepo_testkit::spawn(&fixture, &["1000", "worker"]);
        Rig::build(which, guard, false, tools, fixture, target, &[]).await
    }

    pub(crate) async fn on(which: Which, guard: GuardChoice, fixture: Fixture, target: Running) -> Rig {
        Rig::build(which, guard, false, &tools(), fixture, target, &[]).await
    }

    pub(crate) async fn with_symbols(
        which: Which,
        fixture: Fixture,
        target: Running,
        folders: &[PathBuf],
    ) -> Rig {
        Rig::build(which, GuardChoice::On, false, &tools(), fixture, target, folders).await
    }

    async fn build(
        which: Which,
        guard: GuardChoice,
        raw: bool,
        tools: &Tools,
        fixture: Fixture,
        target: Running,
        symbol_folders: &[PathBuf],
    ) -> Rig {
        let snapshot = Snapshot::take(target.pid());
        let run_dir =
            Arc::new(tempfile::Builder::new().prefix("pepo-").tempdir().expect("a temporary folder"));
        let process = process(target.pid());
        let facts = runtime::detect(&process);
        let began = Instant::now();
        let attached = which
            .debugger()
            .attach(
                &AttachRequest {
                    process: &process,
                    runtime: &facts,
                    tools,
                    guard,
                    raw,
                    symbol_folders,
                    run_dir: run_dir.path(),
                    self_exe: &guard_program(),
                    begun: &tokio::sync::Notify::new(),
                },
                None,
            )
            .await
            .unwrap_or_else(|failure| panic!("{which:?}: {failure:?}"));
        Rig {
            fixture,
            target,
            snapshot,
            client: Some(Client::new(attached.io)),
            hold: Some(attached.hold),
            guard: attached.guard,
            attach: attached.attach_arguments,
            initialize: attached.initialize_arguments,
            quirks: attached.quirks,
            began,
            run_dir,
        }
    }

    pub(crate) fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("the client was not dropped yet")
    }

    /// The handshake, with breakpoints at the lines of these marks; the target runs afterwards.
    pub(crate) async fn ready(&mut self, marks: &[&str]) -> Result<Duration, String> {
        self.ready_if(marks, "").await
    }

    async fn ready_if(&mut self, marks: &[&str], condition: &str) -> Result<Duration, String> {
        let lines: Vec<u32> = marks.iter().map(|mark| self.fixture.line(mark)).collect();
        let source = self.fixture.source.display().to_string();
        let start = Start {
            initialize: self.initialize.clone(),
            attach: self.attach.clone(),
            source: &source,
            lines: &lines,
            condition,
            continue_after_attach: self.quirks.contains(&"continue-after-attach"),
        };
        self.client.as_mut().expect("the client was not dropped yet").begin(&start).await.map_err(
            |error| {
                let logs: Vec<_> = ["adapter.log", "stub.log", "guard.log"]
                    .iter()
                    .map(|log| fs::read_to_string(self.run_dir.path().join(log)).unwrap_or_default())
                    .collect();
                format!("{error}\n{}\n{logs:#?}", self.target.state())
            },
        )?;
        Ok(self.began.elapsed())
    }

    /// Ready, with a breakpoint that is hit all the time (its condition is never true), or one that never is.
    pub(crate) async fn arm(&mut self, hot: bool) {
        if !hot {
            self.ready(&["RARE"]).await.unwrap();
            return;
        }
        // From the beginning: a request right after `continue` is now and then forgotten by gdb 16, guarded or not.
        self.ready_if(&["BREAK"], "factor == 3").await.unwrap();
        let mut stands = 0;
        wait::until("hits", Duration::from_secs(20), || {
            let states = process(self.target.pid()).threads().unwrap_or_default();
            stands += usize::from(states.iter().any(|thread| thread.state.is_traced()));
            if stands >= 5 {
                Ok(())
            } else {
                Err(format!("{stands} times seen to stand: {}", self.target.state()))
            }
        });
        let begin = self.target.last_beat();
        wait::until("ticks with the breakpoint armed", Duration::from_secs(20), || {
            let now = self.target.last_beat();
            if now.map(|beat| beat.ticks) > begin.map(|beat| beat.ticks + 5) {
                Ok(())
            } else {
                Err(self.target.state())
            }
        });
    }

    /// The way out that every session takes.
    pub(crate) async fn let_go(&mut self) -> LetGo {
        self.client = None;
        self.hold.take().expect("let go once").let_go().await
    }

    /// Who is who, found by the target's tracer.
    pub(crate) fn parties(&self) -> Parties {
        Parties::of(self.target.pid())
    }

    /// The target runs, untraced, with its own text.
    pub(crate) fn goes_on(&mut self) -> Result<(), String> {
        let pid = self.target.pid();
        wait::try_until(Duration::from_secs(10), || match tracer(pid) {
            Some(0) => Ok(()),
            other => Err(format!("tracer {other:?}")),
        })
        .map_err(|error| format!("{error}: {}", self.target.state()))?;
        self.target.goes_on(Duration::from_secs(5))?;
        if !self.target.is_alive() {
            return Err("the target died".to_owned());
        }
        Ok(())
    }
}

pub(crate) fn process(pid: u32) -> Process {
    Process::open(AgentPid::new(pid).expect("a process id")).expect("the target lives")
}

/// The processes around a guarded target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parties {
    pub(crate) stub: u32,
    pub(crate) worker: u32,
    pub(crate) keeper: u32,
    pub(crate) adapter: u32,
}

impl Parties {
    fn of(target: u32) -> Parties {
        let stub = tracer(target).filter(|&tracer| tracer != 0).expect("the target is traced");
        let worker = parent(stub);
        let adapter = children(worker).into_iter().find(|&child| child != stub).unwrap_or(0);
        Parties { stub, worker, keeper: parent(worker), adapter }
    }

    pub(crate) fn all(self) -> [u32; 4] {
        [self.stub, self.worker, self.keeper, self.adapter]
    }
}

/// SIGKILL to one process of ours.
pub(crate) fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it lives");
}

/// Until these have ended, or are zombies of somebody else's.
pub(crate) fn gone(pids: &[u32]) -> Result<(), String> {
    wait::try_until(Duration::from_secs(10), || {
        let left: Vec<_> = pids.iter().filter(|&&pid| state(pid).is_some_and(|state| state != 'Z')).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("still there: {left:?} {:?}", left.iter().map(|pid| name(**pid)).collect::<Vec<_>>()))
        }
    })
}

fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|text| text.trim().to_owned())
}

pub(crate) fn tracer(pid: u32) -> Option<u32> {
    field(pid, "TracerPid")?.parse().ok()
}

pub(crate) fn parent(pid: u32) -> u32 {
    field(pid, "PPid").and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) fn name(pid: u32) -> String {
    field(pid, "Name").unwrap_or_default()
}

fn state(pid: u32) -> Option<char> {
    field(pid, "State")?.chars().next()
}
