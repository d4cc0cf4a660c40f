//! Kills everything around a target and looks whether it lives: the cells of the safety table.
//!
//! A cell is a debugger, guarded or not or without Pepo at all, on a program that hits its breakpoint a thousand times a second
//! (by a condition that is never true, so that the target goes on by itself) or never, and one thing that dies. `cargo xtask
//! test` runs each cell a few times, `cargo xtask safety` often enough for figures.

use std::{fmt, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use pepo_client::Agent;
use pepo_dap::{AgentLink, session::Debuggee};
use pepo_testkit::{Fixture, Life, Running, Variant, clean::Snapshot, fixtures, pepo, spawn};
use pepo_wire::agent::Guard;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    bare::Bare,
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
    /// SIGKILL of the agent.
    Agent,
    /// SIGKILL of `pepo attach`: client and agent in one process.
    Command,
    /// The stream between client and agent is closed.
    Cut,
    /// The stream stays open and carries nothing any more.
    Silence,
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
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Targets that go on, as they were.
    pub lived: u32,
    /// Rounds that were run.
    pub rounds: u32,
    /// What became of the others.
    pub others: Vec<String>,
}

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
                    for death in [Death::Adapter, Death::Agent, Death::Command, Death::Cut, Death::Silence] {
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
            ("python", By::Guarded) => self.death != Death::Adapter,
            // Nothing to leave out: the debugger lives in the process.
            ("python", By::Unguarded) => false,
            _ => true,
        }
    }

    /// Is it a SIGKILL, of which more rounds are run?
    #[must_use]
    pub fn is_kill(self) -> bool {
        matches!(self.death, Death::Adapter | Death::Agent | Death::Command)
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

    /// Runs the cell; an attach that fails is tried again and is no round.
    ///
    /// # Errors
    /// The debugger could not be attached several times in a row.
    pub async fn run(self, rounds: u32) -> Result<Outcome> {
        let fixture = self.fixture();
        let mut outcome = Outcome::default();
        for round in 0..rounds {
            let fate = self.round_with_patience(&fixture, round).await.with_context(|| self.to_string())?;
            outcome.rounds += 1;
            match fate {
                None => outcome.lived += 1,
                Some(fate) => outcome.others.push(fate),
            }
        }
        Ok(outcome)
    }

    async fn round_with_patience(self, fixture: &Fixture, round: u32) -> Result<Option<String>> {
        let mut last = anyhow!("not tried");
        for _ in 0..4 {
            match self.round(fixture, round).await {
                Ok(fate) => return Ok(fate),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One target from its start to its fate: `None` when it goes on as it was.
    async fn round(self, fixture: &Fixture, round: u32) -> Result<Option<String>> {
        let target = spawn(fixture, &["1000"]);
        let before = Snapshot::take(target.pid());
        let run = tempfile::tempdir()?;
        // Spread over the phases of a hit, the same in every run.
        let moment = Duration::from_millis(150 + u64::from(round * 37 % 200));
        match (self.by, self.death) {
            (By::Bare, _) => self.against_bare(fixture, &target, moment).await?,
            (_, Death::Command) => self.against_command(fixture, &target, run.path(), moment).await?,
            _ => self.against_agent(fixture, &target, run.path(), moment).await?,
        }
        Ok(fate(target, &before).await)
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
            Death::Adapter => kill(adapter_below(agent.pid()).context("no adapter below the agent")?)?,
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
        let guard = if self.by == By::Guarded { "on" } else { "off" };
        let mut child = pepo_testkit::command(pepo())
            .args(["attach", &format!("pid/{}", target.pid()), "--debugger", self.debugger, "--guard", guard])
            .args(["--pause-budget", "0", "-ex", &self.breakpoint(fixture), "-ex", "continue"])
            .env("PEPO_RUN", run_dir(run))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let attached = async {
            while !is_attached(run) {
                if let Some(status) = child.try_wait()? {
                    return Err(anyhow!("pepo attach ended with {status}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        let attached = tokio::time::timeout(Duration::from_secs(30), attached).await;
        // A debugger that is in place still has to arm the breakpoint.
        tokio::time::sleep(Duration::from_secs(1) + moment).await;
        let running = matches!(child.try_wait(), Ok(None));
        child.kill()?;
        child.wait()?;
        attached??;
        anyhow::ensure!(running, "pepo attach ended before it was killed");
        Ok(())
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
            Death::Agent => "SIGKILL of the agent",
            Death::Command => "SIGKILL of the command",
            Death::Cut => "stream cut",
            Death::Silence => "stream silent",
        })
    }
}

/// Waits for what the target does in the end: `None` when it goes on with its own text and no tracer.
async fn fate(mut target: Running, before: &Snapshot) -> Option<String> {
    let mut goes_on = Err(String::new());
    for _ in 0..10 {
        goes_on = target.goes_on(Duration::from_secs(1));
        if goes_on.is_ok() || !target.is_alive() {
            break;
        }
    }
    if !target.is_alive() {
        return Some("dead".to_owned());
    }
    if goes_on.is_err() {
        return Some("standing still".to_owned());
    }
    let mut differences = before.differences();
    for _ in 0..50 {
        if differences.is_empty() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        differences = before.differences();
    }
    // Where exactly differs from run to run.
    let text = differences.iter().any(|one| one.starts_with("changed text"));
    Some(if text { "with a breakpoint left in its code".to_owned() } else { differences.join("; ") })
}

fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")?;
    kill_process(pid, Signal::KILL).context("SIGKILL")
}

/// Does the journal below `run` name a session?
fn is_attached(run: &Path) -> bool {
    let Ok(folders) = std::fs::read_dir(run_dir(run).join("sessions")) else { return false };
    folders
        .flatten()
        .any(|folder| folder.path().join("journal.json").metadata().is_ok_and(|meta| meta.len() > 0))
}

/// The adapter among the descendants of an agent: by its program's name.
fn adapter_below(agent: u32) -> Option<u32> {
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
    let is_adapter = |line: &str| {
        let first = line.split('\0').find(|word| {
            ["lldb-dap", "gdb", "dlv"]
                .iter()
                .any(|name| word.rsplit('/').next() == Some(name) || word.ends_with("lldb-dap-19"))
        });
        first.is_some() && !line.contains("pepo\0guard")
    };
    all.iter()
        .find(|(pid, _, line)| family.contains(pid) && *pid != agent && is_adapter(line))
        .map(|(pid, ..)| *pid)
}
