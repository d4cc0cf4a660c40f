//! Times of the same steps with a bare adapter and with Pepo, on the same target, in one run.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pepo_client::Agent;
use pepo_dap::{
    AgentLink,
    session::{Debuggee, Happening},
};
use pepo_testkit::{Fixture, Life as _, spawn};
use pepo_wire::agent::Guard;
use serde_json::{Value, json};

use crate::{
    bare::Bare,
    piped_agent::{PipedAgent, open_request},
};

/// How the debugger reaches the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The adapter alone, owning the target; for Python debugpy's `--pid`.
    Bare,
    /// The adapter alone over a bare stub: the path that the guard stands on.
    BareStub,
    /// Pepo with its guard.
    Guarded,
    /// Pepo with `--guard=off`.
    Unguarded,
}

impl Way {
    /// The same path without Pepo.
    #[must_use]
    pub fn without_pepo(self, debugger: &str) -> Way {
        match self {
            Way::BareStub | Way::Guarded if debugger != "python" => Way::BareStub,
            _ => Way::Bare,
        }
    }
}

/// Requests whose round trips are counted.
const ROUND_TRIPS: usize = 200;

/// One attach, from its beginning to its end. The agent runs already: to a command it is no process of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Until breakpoints can be set.
    pub ready: Duration,
    /// Until the first stop's stack is there.
    pub first_stop: Duration,
    /// One `threads` request while the target stands.
    pub round_trip: Duration,
    /// From `disconnect` to the target's going on.
    pub detach: Duration,
}

/// The one in the middle of all, which are sorted; nothing's default.
pub fn middle<T: Copy + Default + PartialOrd>(values: &mut [T]) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The median of each step over several attaches.
#[must_use]
pub fn median(all: &[Times]) -> Times {
    let of = |step: fn(&Times) -> Duration| middle(&mut all.iter().map(step).collect::<Vec<_>>());
    Times {
        ready: of(|times| times.ready),
        first_stop: of(|times| times.first_stop),
        round_trip: of(|times| times.round_trip),
        detach: of(|times| times.detach),
    }
}

/// Attaches once and takes the times.
///
/// # Errors
/// The debugger could not be attached.
pub async fn attach(debugger: &str, way: Way, fixture: &Fixture) -> Result<Times> {
    let target = spawn(fixture, &["1000"]);
    let times = match way {
        Way::Bare | Way::BareStub => {
            let started = Instant::now();
            let (bare, link) = match way {
                Way::Bare => Bare::start(debugger, target.pid()).await?,
                _ => Bare::over_a_stub(debugger, target.pid()).await?,
            };
            let opened = bare.opened.clone();
            let times = drive(Debuggee::new(link), &opened, started, fixture).await?;
            tokio::task::spawn_blocking(move || drop(bare)).await?;
            times
        }
        Way::Guarded | Way::Unguarded => {
            let run = tempfile::tempdir()?;
            let (agent, stream) = PipedAgent::start(run.path())?;
            let client = Agent::connect(stream).await?;
            let guard = if way == Way::Guarded { Guard::On } else { Guard::Off };
            let started = Instant::now();
            let session = client.session(open_request(target.pid(), debugger, guard, 30)).await?;
            let opened = session.opened.clone();
            let debuggee = Debuggee::new(Box::new(AgentLink::new(session)));
            let times = drive(debuggee, &opened, started, fixture).await?;
            drop(client);
            tokio::task::spawn_blocking(move || drop(agent)).await?;
            times
        }
    };
    let alive = target.goes_on(Duration::from_secs(10));
    ensure!(alive.is_ok(), "the target does not go on: {alive:?}");
    Ok(times)
}

async fn drive(
    mut debuggee: Debuggee,
    opened: &pepo_wire::agent::Opened,
    started: Instant,
    fixture: &Fixture,
) -> Result<Times> {
    debuggee.begin(opened, false).await?;
    let ready = started.elapsed();
    let source = json!({"path": fixture.source, "name": fixture.source_name()});
    let line = fixture.line("BREAK");
    debuggee.request("setBreakpoints", json!({"source": source, "breakpoints": [{"line": line}]})).await?;
    let thread = wait_for_stop(&mut debuggee).await?;
    let stack = debuggee.request("stackTrace", json!({"threadId": thread, "levels": 20})).await?;
    let first_stop = started.elapsed();
    let at = stack.pointer("/stackFrames/0/line").and_then(Value::as_u64);
    ensure!(at == Some(u64::from(line)), "stopped at line {at:?}, not {line}");
    let before = Instant::now();
    for _ in 0..ROUND_TRIPS {
        debuggee.request("threads", Value::Null).await?;
    }
    let round_trip = before.elapsed() / ROUND_TRIPS as u32;
    debuggee.request("setBreakpoints", json!({"source": source, "breakpoints": []})).await?;
    let before = Instant::now();
    debuggee.detach().await?;
    Ok(Times { ready, first_stop, round_trip, detach: before.elapsed() })
}

async fn wait_for_stop(debuggee: &mut Debuggee) -> Result<i64> {
    let wait = async {
        loop {
            match debuggee.next().await.context("the session ended")? {
                Happening::Event(event) if event.event_name() == Some("stopped") => {
                    let thread = event.body().get("threadId").and_then(Value::as_i64);
                    return Ok::<i64, anyhow::Error>(thread.unwrap_or(1));
                }
                Happening::Closed(closed) => anyhow::bail!("the session ended: {closed:?}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.context("no stop within 30 s")?
}
