//! Kills everything around a target and looks whether it lives: the cells of the safety table.
//!
//! A cell is a debugger, guarded or not or without Pepo at all, on a program that hits its breakpoint a thousand times a second
//! (by a condition that is never true, so that the target goes on by itself) or never, and one thing that dies. `cargo xtask
//! test` runs each cell a few times, `cargo xtask safety` often enough for figures.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    process::{Child, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use pepo_client::Agent;
use pepo_dap::{AgentLink, session::Debuggee};
use pepo_testkit::{
    Engine, Fixture, Image, Kind, Life as _, RunOptions, Running, Variant, clean::Snapshot, fixtures, pepo,
    spawn,
};
use pepo_wire::agent::Guard;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    bare::Bare,
    fate::{self, Fate},
    pipe::Pipe,
    piped_agent::{PipedAgent, open_request, run_dir},
};

/// How the debugger stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Pepo with its guard.
    Guarded,
    /// Pepo with `--guard=off`.
    Unguarded,
    /// The adapter alone.
    Bare,
}

/// How often the breakpoint is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A thousand times a second.
    Hot,
    /// Never.
    Rare,
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL of the adapter.
    Adapter,
    /// SIGKILL of the stub behind the guard: `lldb-server`, `gdbserver`.
    Stub,
    /// SIGKILL of the agent.
    Agent,
    /// SIGKILL of `pepo attach`: client and agent in one process.
    Command,
    /// The stream between client and agent is closed.
    Cut,
    /// The stream stays open and carries nothing any more.
    Silence,
    /// Docker, whose container the target is, ends or is killed, and comes back.
    Engine,
}

/// One cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `lldb`, `gdb`, `delve`, `python`.
    pub debugger: &'static str,
    /// With or without Pepo.
    pub by: By,
    /// The program.
    pub load: Load,
    /// What dies.
    pub death: Death,
}

/// What became of the targets of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Targets that go on, as they were.
    pub lived: u32,
    /// Rounds that were run.
    pub rounds: u32,
    /// What became of the others: how many of each.
    pub lost: BTreeMap<Fate, u32>,
    /// What was seen of each that was lost, for people.
    pub details: Vec<String>,
}

impl Outcome {
    fn add(&mut self, fate: Option<(Fate, String)>) {
        self.rounds += 1;
        match fate {
            None => self.lived += 1,
            Some((fate, detail)) => {
                *self.lost.entry(fate).or_default() += 1;
                self.details.push(format!("{fate}: {detail}"));
            }
        }
    }
}

/// All that can die, in the order of the table's columns.
pub const DEATHS: [Death; 7] =
    [Death::Adapter, Death::Agent, Death::Command, Death::Cut, Death::Silence, Death::Engine, Death::Stub];

/// All debuggers of the table.
pub const DEBUGGERS: [&str; 4] = ["lldb", "gdb", "delve", "python"];

impl Cell {
    /// Every cell that makes sense: Python has no adapter process, the bare adapter no agent and no stream but its own.
    #[must_use]
    pub fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for debugger in DEBUGGERS {
            for by in [By::Guarded, By::Unguarded, By::Bare] {
                for load in [Load::Hot, Load::Rare] {
                    for death in DEATHS {
                        let cell = Cell { debugger, by, load, death };
                        if cell.makes_sense() {
                            cells.push(cell);
                        }
                    }
                }
            }
        }
        cells
    }

    fn makes_sense(self) -> bool {
        match (self.debugger, self.by) {
            // debugpy attaches with gdb and pays seconds; its adapter's death is the one case that compares.
            (_, By::Bare) => matches!(self.death, Death::Adapter | Death::Cut),
            ("python", By::Guarded) => !matches!(self.death, Death::Adapter | Death::Stub),
            // Nothing to leave out: the debugger lives in the process.
            ("python", By::Unguarded) => false,
            // There is a stub only behind the guard, and an engine's end is no matter of guards.
            (_, By::Unguarded) => !matches!(self.death, Death::Stub | Death::Engine),
            _ => true,
        }
    }

    /// Must every target live? The stub owns the target; what its death costs is counted, not promised.
    #[must_use]
    pub fn is_promised(self) -> bool {
        self.by == By::Guarded && self.death != Death::Stub
    }

    /// Is it a SIGKILL, of which more rounds are run?
    #[must_use]
    pub fn is_kill(self) -> bool {
        matches!(self.death, Death::Adapter | Death::Agent | Death::Command | Death::Stub)
    }

    /// The program the debugger is for.
    #[must_use]
    pub fn fixture(self) -> Fixture {
        match self.debugger {
            "delve" => fixtures::go(Variant::debug()),
            "python" => fixtures::python(Variant::debug()),
            _ => fixtures::c(Variant::debug()),
        }
    }

    /// Runs the cell, `jobs` rounds at once; an attach that fails is tried again and is no round. `None` when `stop` was set
    /// before all rounds were done.
    ///
    /// # Errors
    /// The debugger could not be attached several times in a row.
    pub fn run(self, rounds: u32, jobs: u32, stop: &AtomicBool) -> Result<Option<Outcome>> {
        let fixture = self.fixture();
        let next = AtomicU32::new(0);
        let outcome = Mutex::new(Outcome::default());
        let work = || -> Result<()> {
            // Its own runtime: much of a round blocks.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            loop {
                let round = next.fetch_add(1, Ordering::Relaxed);
                if round >= rounds || stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let fate = runtime.block_on(self.round_with_patience(&fixture, round));
                let fate = fate.with_context(|| self.to_string())?;
                outcome.lock().unwrap_or_else(PoisonError::into_inner).add(fate);
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.clamp(1, rounds.max(1))).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| Err(anyhow!("{self}: a round panicked")))
            })
        })?;
        let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((outcome.rounds == rounds).then_some(outcome))
    }

    async fn round_with_patience(self, fixture: &Fixture, round: u32) -> Result<Option<(Fate, String)>> {
        let mut last = anyhow!("not tried");
        for _ in 0..8 {
            match self.round(fixture, round).await {
                Ok(fate) => return Ok(fate),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One target from its start to its fate: `None` when it goes on as it was.
    async fn round(self, fixture: &Fixture, round: u32) -> Result<Option<(Fate, String)>> {
        let run = tempfile::tempdir()?;
        // Spread over the phases of a hit, the same in every run.
        let moment = Duration::from_millis(150 + u64::from(round * 37 % 200));
        if self.death == Death::Engine {
            let end = if round.is_multiple_of(2) { Engine::restart } else { Engine::kill_and_start };
            return self.under_an_engine(fixture, run.path(), moment, end).await;
        }
        let target = spawn(fixture, &["1000"]);
        let before = Snapshot::take(target.pid());
        match (self.by, self.death) {
            (By::Bare, _) => self.against_bare(fixture, &target, moment).await?,
            (_, Death::Command) => self.against_command(fixture, &target, run.path(), moment).await?,
            _ => self.against_agent(fixture, &target, run.path(), moment).await?,
        }
        Ok(fate::of(&target, &before).await)
    }

    async fn against_bare(self, fixture: &Fixture, target: &Running, moment: Duration) -> Result<()> {
        let (bare, link) = Bare::start(self.debugger, target.pid()).await?;
        let mut debuggee = Debuggee::new(link);
        debuggee.begin(&bare.opened, false).await?;
        self.arm(&mut debuggee, fixture).await?;
        tokio::time::sleep(moment).await;
        if self.death == Death::Adapter {
            kill(bare.pid())?;
        }
        drop(debuggee);
        tokio::task::spawn_blocking(move || drop(bare)).await?;
        Ok(())
    }

    async fn against_agent(
        self,
        fixture: &Fixture,
        target: &Running,
        run: &Path,
        moment: Duration,
    ) -> Result<()> {
        let (mut agent, stream) = PipedAgent::start(run)?;
        let pipe = Pipe::new(stream);
        let client = Agent::connect(pipe.client_end()).await?;
        let guard = if self.by == By::Guarded { Guard::On } else { Guard::Off };
        let session = client.session(open_request(target.pid(), self.debugger, guard, 2)).await?;
        let opened = session.opened.clone();
        let mut debuggee = Debuggee::new(Box::new(AgentLink::new(session)));
        debuggee.begin(&opened, false).await?;
        self.arm(&mut debuggee, fixture).await?;
        tokio::time::sleep(moment).await;
        match self.death {
            Death::Adapter => {
                kill(below(agent.pid(), is_adapter).context("no adapter below the agent")?)?;
            }
            Death::Stub => kill(below(agent.pid(), is_stub).context("no stub below the agent")?)?,
            Death::Agent => agent.kill(),
            Death::Silence => pipe.freeze(),
            _ => pipe.cut(),
        }
        // The client knows nothing of it and stays: the lease alone must end the session.
        if self.death == Death::Silence {
            let ended = async {
                while is_attached(run) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), ended)
                .await
                .context("the session outlives its lease")?;
            // Without a session it only waits for its own heartbeat to be missed.
            agent.kill();
        }
        drop(debuggee);
        drop(client);
        tokio::task::spawn_blocking(move || drop(agent)).await?;
        Ok(())
    }

    async fn against_command(
        self,
        fixture: &Fixture,
        target: &Running,
        run: &Path,
        moment: Duration,
    ) -> Result<()> {
        let mut attached = self.attach(fixture, &format!("pid/{}", target.pid()), run, "", moment).await?;
        attached.assert_runs("it was killed")
    }

    async fn under_an_engine(
        self,
        fixture: &Fixture,
        run: &Path,
        moment: Duration,
        end: fn(&Engine),
    ) -> Result<Option<(Fate, String)>> {
        let engine = Engine::start(Kind::Docker);
        let container = engine.run(&Image::usual(fixture), &RunOptions::named("target").args(&["1000"]));
        container.wait_started();
        let before = Snapshot::take(container.pid());
        let mut attached = self.attach(fixture, "docker/target", run, &engine.address(), moment).await?;
        end(&engine);
        attached.assert_runs("its engine was back")?;
        let fate = fate::goes_on(&container);
        attached.end()?;
        Ok(match fate {
            Ok(()) => fate::of(&container, &before).await,
            Err(fate) => Some(fate),
        })
    }

    /// `pepo attach` with its breakpoint armed; `docker` is the address of the target's engine.
    async fn attach(
        self,
        fixture: &Fixture,
        target: &str,
        run: &Path,
        docker: &str,
        moment: Duration,
    ) -> Result<Attached> {
        let guard = if self.by == By::Guarded { "on" } else { "off" };
        let child = pepo_testkit::command(pepo())
            .args(["attach", target, "--debugger", self.debugger, "--guard", guard])
            .args(["--pause-budget", "0", "-ex", &self.breakpoint(fixture), "-ex", "continue"])
            .env("PEPO_RUN", run_dir(run))
            .env("DOCKER_HOST", docker)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut attached = Attached(child);
        let journal = async {
            while !is_attached(run) {
                attached.assert_runs("it was attached")?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(30), journal).await??;
        // A debugger that is in place still has to arm the breakpoint.
        tokio::time::sleep(Duration::from_secs(1) + moment).await;
        Ok(attached)
    }

    fn breakpoint(self, fixture: &Fixture) -> String {
        match self.load {
            Load::Hot => {
                format!("break {}:{} if {}", fixture.source_name(), fixture.line("BREAK"), self.never())
            }
            Load::Rare => format!("break {}:{}", fixture.source_name(), fixture.line("RARE")),
        }
    }

    async fn arm(self, debuggee: &mut Debuggee, fixture: &Fixture) -> Result<()> {
        let breakpoint = match self.load {
            Load::Hot => json!({"line": fixture.line("BREAK"), "condition": self.never()}),
            Load::Rare => json!({"line": fixture.line("RARE")}),
        };
        let arguments = json!({
            "source": {"path": fixture.source, "name": fixture.source_name()},
            "breakpoints": [breakpoint],
        });
        debuggee.request("setBreakpoints", arguments).await?;
        Ok(())
    }

    /// A condition that is never true, in the debugger's own language.
    fn never(self) -> &'static str {
        "counter < 0"
    }
}

/// `pepo attach`; killed when dropped.
struct Attached(Child);

impl Attached {
    fn assert_runs(&mut self, before: &str) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("pepo attach ended with {status} before {before}")),
        }
    }

    /// Asks it to let go, and waits until it has.
    fn end(&mut self) -> Result<()> {
        send(self.0.id(), Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::Guarded => "guarded",
            By::Unguarded => "unguarded",
            By::Bare => "bare adapter",
        };
        let load = if self.load == Load::Hot { "hit 1,000 times a second" } else { "never hit" };
        write!(f, "{}, {by}, {load}, {}", self.debugger, self.death)
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Death::Adapter => "SIGKILL of the adapter",
            Death::Stub => "SIGKILL of the stub",
            Death::Agent => "SIGKILL of the agent",
            Death::Command => "SIGKILL of the command",
            Death::Cut => "stream cut",
            Death::Silence => "stream silent",
            Death::Engine => "engine restarted",
        })
    }
}

fn kill(pid: u32) -> Result<()> {
    send(pid, Signal::KILL)
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")?;
    kill_process(pid, signal).with_context(|| format!("{signal:?} to {pid:?}"))
}

/// Does the journal below `run` name a session?
fn is_attached(run: &Path) -> bool {
    let Ok(folders) = std::fs::read_dir(run_dir(run).join("sessions")) else { return false };
    folders
        .flatten()
        .any(|folder| folder.path().join("journal.json").metadata().is_ok_and(|meta| meta.len() > 0))
}

/// A process among the descendants of an agent, by its command line (arguments separated by NUL).
fn below(agent: u32, wanted: fn(&str) -> bool) -> Option<u32> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        all.push((pid, parent.unwrap_or(0), String::from_utf8_lossy(&line).into_owned()));
    }
    let mut family = vec![agent];
    let mut index = 0;
    while let Some(parent) = family.get(index).copied() {
        family.extend(all.iter().filter(|(_, of, _)| *of == parent).map(|(pid, ..)| *pid));
        index += 1;
    }
    all.iter()
        .find(|(pid, _, line)| family.contains(pid) && *pid != agent && wanted(line))
        .map(|(pid, ..)| *pid)
}

/// Is a word of the command line a path of this program? (A loader may stand before it.)
fn runs(line: &str, programs: &[&str]) -> bool {
    // The guard carries the adapter's command line in its own.
    !line.contains("pepo\0guard")
        && line.split('\0').any(|word| programs.contains(&word.rsplit('/').next().unwrap_or(word)))
}

fn is_adapter(line: &str) -> bool {
    runs(line, &["lldb-dap", "lldb-dap-19", "gdb", "dlv"])
}

fn is_stub(line: &str) -> bool {
    runs(line, &["lldb-server", "lldb-server-19", "gdbserver"]) && line.contains("--attach")
}
