//! Measures Pepo beside what a user would pick instead, in one run, and writes `docs/benchmarks.md`.
//!
//! `bench [attach|list]… [--debugger NAME]… [--rounds N] [--write FILE]`; without a name, all of them.
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
    measure::{self, Times, median},
};

/// Processes that `ps` has to look through.
const MANY: usize = 1000;

struct Arguments {
    what: Vec<String>,
    debuggers: Vec<String>,
    rounds: usize,
    write: PathBuf,
}

fn arguments() -> Result<Arguments> {
    let mut out =
        Arguments { what: Vec::new(), debuggers: Vec::new(), rounds: 7, write: "docs/benchmarks.md".into() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "attach" | "list" => out.what.push(word),
            "--debugger" => out.debuggers.push(words.next().context("--debugger wants a name")?),
            "--rounds" => out.rounds = words.next().context("--rounds wants a number")?.parse()?,
            "--write" => out.write = words.next().context("--write wants a file")?.into(),
            other => bail!("unknown argument {other}"),
        }
    }
    if out.what.is_empty() {
        out.what = vec!["attach".to_owned(), "list".to_owned()];
    }
    if out.debuggers.is_empty() {
        out.debuggers = DEBUGGERS.map(str::to_owned).to_vec();
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
            "attach" => attach(arguments.rounds, &arguments.debuggers).await?,
            _ => list(arguments.rounds)?,
        };
    }
    fs::write(&arguments.write, page)?;
    println!("wrote {}", arguments.write.display());
    Ok(())
}

/// Attaching: bare adapter, Pepo guarded and not, in turns so that a busy moment hits all alike.
async fn attach(rounds: usize, debuggers: &[String]) -> Result<String> {
    let mut out = String::from(
        "\n## attach\n\n`cargo xtask bench attach`. Medians; in parentheses the ratio to the bare adapter of the same run \
         (Python: debugpy's own `--pid` way). Ready: breakpoints can be set. Round trip: a `threads` request while the target stands.\n\n\
         | debugger | | ready | first stop | round trip | detach |\n|---|---|---|---|---|---|\n",
    );
    for debugger in DEBUGGERS.into_iter().filter(|name| debuggers.iter().any(|wanted| wanted == name)) {
        let ways: &[By] = if debugger == "python" {
            &[By::Bare, By::Guarded]
        } else {
            &[By::Bare, By::Guarded, By::Unguarded]
        };
        let fixture = Cell { debugger, by: By::Bare, load: Load::Hot, death: Death::Cut }.fixture();
        let mut all: Vec<Vec<Times>> = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            for (way, times) in ways.iter().zip(&mut all) {
                times.push(with_patience(debugger, *way, &fixture).await?);
            }
        }
        let bare = median(&all[0]);
        for (way, times) in ways.iter().zip(&all) {
            let row = row(debugger, *way, median(times), bare);
            print!("{row}");
            out += &row;
        }
    }
    Ok(out)
}

/// lldb fails now and then to attach on a loaded machine, with or without Pepo: such a round is taken again.
async fn with_patience(debugger: &str, by: By, fixture: &pepo_testkit::Fixture) -> Result<Times> {
    let mut last = anyhow::anyhow!("not tried");
    for _ in 0..4 {
        match measure::attach(debugger, by, fixture).await {
            Ok(times) => return Ok(times),
            Err(error) => last = error,
        }
    }
    Err(last.context(format!("{debugger}, {by:?}")))
}

fn row(debugger: &str, by: By, times: Times, bare: Times) -> String {
    let name = match (debugger, by) {
        ("python", By::Bare) => "debugpy `--pid`",
        ("python", _) => "Pepo",
        (_, By::Bare) => "bare adapter",
        (_, By::Guarded) => "Pepo",
        (_, By::Unguarded) => "Pepo, `--guard=off`",
    };
    let cell = |time: Duration, other: Duration| {
        let ratio = time.as_secs_f64() / other.as_secs_f64().max(1e-9);
        let own = if by == By::Bare { String::new() } else { format!(" ({ratio:.2})") };
        format!("{:.2} ms{own}", time.as_secs_f64() * 1e3)
    };
    format!(
        "| {debugger} | {name} | {} | {} | {} | {} |\n",
        cell(times.ready, bare.ready),
        cell(times.first_stop, bare.first_stop),
        cell(times.round_trip, bare.round_trip),
        cell(times.detach, bare.detach),
    )
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
