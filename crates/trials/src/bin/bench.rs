//! Measures Pepo beside what a user would pick instead, in one run, and writes `docs/benchmarks.md`.
//!
//! `bench [attach|locate|list]… [--rounds N] [--write FILE]`; without a name, all of them.
#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use pepo_testkit::pepo;
use pepo_trials::{
    cells::{By, Cell, DEBUGGERS, Death, Load},
    locate,
    measure::{self, Times, Way, median},
};

/// Processes that `ps` has to look through.
const MANY: usize = 1000;

struct Arguments {
    what: Vec<String>,
    rounds: usize,
    write: PathBuf,
}

fn arguments() -> Result<Arguments> {
    let mut out = Arguments { what: Vec::new(), rounds: 7, write: "docs/benchmarks.md".into() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "attach" | "locate" | "list" => out.what.push(word),
            "--rounds" => out.rounds = words.next().context("--rounds wants a number")?.parse()?,
            "--write" => out.write = words.next().context("--write wants a file")?.into(),
            other => bail!("unknown argument {other}"),
        }
    }
    if out.what.is_empty() {
        out.what = ["attach", "locate", "list"].map(str::to_owned).to_vec();
    }
    Ok(out)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = arguments()?;
    let build = if cfg!(debug_assertions) {
        "a debug build, slower than what is shipped"
    } else {
        "the release build"
    };
    let mut page = format!("{}\nMeasured with {build}.\n", include_str!("bench_head.md"));
    for what in &arguments.what {
        page += &match what.as_str() {
            "attach" => attach(arguments.rounds).await?,
            "locate" => containers(arguments.rounds).await?,
            _ => list(arguments.rounds)?,
        };
    }
    fs::write(&arguments.write, page)?;
    println!("wrote {}", arguments.write.display());
    Ok(())
}

/// Attaching: bare adapter, Pepo guarded and not, in turns so that a busy moment hits all alike.
async fn attach(rounds: usize) -> Result<String> {
    let mut out = String::from(include_str!("bench_attach.md"));
    for debugger in DEBUGGERS {
        let ways: &[Way] = if debugger == "python" {
            &[Way::Bare, Way::Guarded]
        } else {
            &[Way::Bare, Way::Unguarded, Way::BareStub, Way::Guarded]
        };
        let fixture = Cell { debugger, by: By::Bare, load: Load::Hot, death: Death::Cut }.fixture();
        let mut all: Vec<Vec<Times>> = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            for (way, times) in ways.iter().zip(&mut all) {
                times.push(with_patience(debugger, *way, &fixture).await?);
            }
        }
        for (way, times) in ways.iter().zip(&all) {
            let without = way.without_pepo(debugger);
            let bare = ways.iter().position(|one| *one == without).and_then(|at| all.get(at));
            let row = row(debugger, *way, median(times), bare.map(|bare| median(bare)));
            print!("{row}");
            out += &row;
        }
    }
    Ok(out)
}

/// lldb fails now and then to attach on a loaded machine, with or without Pepo: such a round is taken again.
async fn with_patience(debugger: &str, way: Way, fixture: &pepo_testkit::Fixture) -> Result<Times> {
    let mut last = anyhow::anyhow!("not tried");
    for _ in 0..8 {
        match measure::attach(debugger, way, fixture).await {
            Ok(times) => return Ok(times),
            Err(error) => last = error,
        }
    }
    Err(last.context(format!("{debugger}, {way:?}")))
}

fn row(debugger: &str, way: Way, times: Times, bare: Option<Times>) -> String {
    let name = match (debugger, way) {
        ("python", Way::Bare) => "debugpy `--pid`",
        ("python", _) => "Pepo",
        (_, Way::Bare) => "bare adapter",
        (_, Way::BareStub) => "bare adapter over a bare stub",
        (_, Way::Guarded) => "Pepo",
        (_, Way::Unguarded) => "Pepo, `--guard=off`",
    };
    let bare = bare.filter(|_| matches!(way, Way::Guarded | Way::Unguarded));
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let cell = |step: fn(&Times) -> Duration| {
        let ratio = bare.map(|bare| step(&times).as_secs_f64() / step(&bare).as_secs_f64().max(1e-9));
        let ratio = ratio.map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default();
        format!("{:.2} ms{ratio}", millis(step(&times)))
    };
    let cost = bare.map(|bare| format!("{:+.2} ms", millis(times.round_trip) - millis(bare.round_trip)));
    format!(
        "| {debugger} | {name} | {} | {} | {} | {} | {} |\n",
        cell(|times| times.ready),
        cell(|times| times.first_stop),
        cell(|times| times.round_trip),
        cost.unwrap_or_default(),
        cell(|times| times.detach),
    )
}

/// From a container's name to its proven process, beside `docker inspect`.
async fn containers(rounds: usize) -> Result<String> {
    let times = locate::docker(rounds).await?;
    let out = format!(
        "\n## locate\n\n`cargo xtask bench locate`, with a dockerd started for it.\n\n| | median |\n|---|---|\n\
         | a container's name to its proven process, over an open socket | {:.2?} |\n\
         | `docker inspect --format {{{{.State.Pid}}}}` (a process, a new connection, nothing proven) | {:.2?} |\n",
        times.located, times.inspected
    );
    print!("{out}");
    Ok(out)
}

/// `pepo ps` over a thousand processes, beside ps(1).
fn list(rounds: usize) -> Result<String> {
    let crowd = Crowd::gather(MANY)?;
    let ours = time(
        rounds,
        pepo_testkit::command(pepo()).args(["ps", "--on", "host", "--all", "--output", "json"]),
    )?;
    let theirs = time(rounds, pepo_testkit::command("ps").args(["-eo", "pid,ppid,user,stat,args"]))?;
    drop(crowd);
    let mut out = String::new();
    let _ = write!(
        out,
        "\n## ps\n\n`cargo xtask bench list`, with {MANY} processes more than the machine's own.\n\n| | median |\n|---|---|\n\
         | `pepo ps --on host --all` (with container, runtime, and what may be looked at and stopped) | {ours:.1?} |\n| `ps -e` | {theirs:.1?} |\n"
    );
    print!("{out}");
    Ok(out)
}

fn time(rounds: usize, command: &mut Command) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        let output = command.stdin(Stdio::null()).output()?;
        times.push(started.elapsed());
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Many sleeping processes, ended when dropped.
struct Crowd(Vec<Child>);

impl Crowd {
    fn gather(count: usize) -> Result<Crowd> {
        let mut crowd = Crowd(Vec::new());
        for _ in 0..count {
            crowd.0.push(pepo_testkit::command("sleep").arg("600").stdin(Stdio::null()).spawn()?);
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
