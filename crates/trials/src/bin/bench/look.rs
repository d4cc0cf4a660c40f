//! Looking at a Python program: Pepo beside py-spy, which stops the program for each sample or (`--nonblocking`) reads it while it
//! runs. Then at programs of other languages, beside what people take for them.

/// What of a profile can be.
mod legal;
/// C, Ruby, Java.
mod others;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pepo_process::stat::{Stat, ticks_per_second};
use pepo_testkit::{Fixture, Language, Life as _, Python, Running, Variant, fixtures, pepo, spawn_command};
use pepo_trials::measure::middle;

use self::legal::{Seen, Source};
use crate::timing::timed;

/// How long a profiler runs before it is measured, and how long that is.
const BEFORE: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(3);
/// What it is told: it ends by itself some time after.
const SECONDS: u64 = 5;
/// What stands in the way of better.
const LIMITS: &str = "
Loss cannot be told more exactly than two runs without a profiler differ: on a machine that others use too, by percents. There,
rounds of a profiler that is kept waiting are left out, not made up for, and fewer samples are seen. A cold `pepo stack`
starts a larger program, and proves and describes the process before it reads the frames.
";
/// The rates that are measured.
const RATES: [u32; 2] = [100, 1000];

/// A profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profiler {
    Pepo,
    PySpy,
    PySpyNonblocking,
}

const PROFILERS: [Profiler; 3] = [Profiler::Pepo, Profiler::PySpy, Profiler::PySpyNonblocking];

impl Profiler {
    fn name(self) -> &'static str {
        match self {
            Profiler::Pepo => "Pepo",
            Profiler::PySpy => "py-spy",
            Profiler::PySpyNonblocking => "py-spy `--nonblocking`",
        }
    }

    fn record(self, pid: u32, rate: u32, file: &Path) -> Result<Command> {
        let (rate, seconds) = (rate.to_string(), SECONDS.to_string());
        let mut command = on_processor(1, &self.program()?);
        match self {
            Profiler::Pepo => command.args(["record", &format!("pid/{pid}"), "--format", "json"]),
            _ => command.args(["record", "--pid", &pid.to_string(), "--format", "raw"]),
        };
        command.args(["-d", &seconds, "-r", &rate, "-o"]).arg(file);
        command.args((self == Profiler::PySpyNonblocking).then_some("--nonblocking"));
        Ok(command)
    }

    fn program(self) -> Result<PathBuf> {
        if self == Profiler::Pepo { Ok(pepo()) } else { py_spy() }
    }
}

/// One run: what it cost, and what it saw.
#[derive(Clone, Debug)]
struct Run {
    /// Work in a second, of the time that the program was not kept waiting for a processor.
    work: f64,
    cpu: Duration,
    memory: u64,
    seen: Seen,
}

/// All runs of a profiler at a rate.
struct Row<P> {
    profiler: P,
    rate: u32,
    /// Loss of work against the runs without a profiler of the same round.
    losses: Vec<f64>,
    runs: Vec<Run>,
}

/// A row for each profiler at each rate.
fn rows<P: Copy>(rates: [u32; 2], profilers: &[P]) -> Vec<Row<P>> {
    let new = |rate, profiler| Row { profiler, rate, losses: Vec::new(), runs: Vec::new() };
    rates.into_iter().flat_map(|rate| profilers.iter().map(move |profiler| new(rate, *profiler))).collect()
}

/// Runs all rows in turns, between two runs without a profiler; by how much these differ in each round, in percent.
fn in_turns<P>(
    target: &Running,
    rows: &mut [Row<P>],
    rounds: usize,
    measure: impl Fn(&Row<P>) -> Result<Run>,
) -> Result<Vec<f64>> {
    let mut alone = Vec::new();
    for round in 0..rounds {
        let before = work(target, &mut || {})?;
        let mut works = Vec::new();
        // In another order each time.
        let count = rows.len();
        for index in (0..count).map(|index| (index + round) % count) {
            let run = measure(&rows[index])?;
            works.push((index, run.work));
            rows[index].runs.push(run);
        }
        let after = work(target, &mut || {})?;
        let baseline = f64::midpoint(before, after);
        alone.push((before - after).abs() / baseline * 100.0);
        for (index, work) in works {
            rows[index].losses.push((1.0 - work / baseline) * 100.0);
        }
    }
    Ok(alone)
}

/// Loss of work, what was seen, what it cost, and a cold `stack`.
pub(crate) fn run(rounds: usize) -> Result<String> {
    let python = Python::of_the_system();
    let fixture = fixtures::build(Language::Python, "hot", Variant::release()).with_python(&python);
    let source = Source::read(&fixture)?;
    let target = start(&fixture)?;
    let folder = tempfile::tempdir()?;
    let mut rows = rows(RATES, &PROFILERS);
    let one = |row: &Row<Profiler>| measure(&target, row, &source, folder.path());
    let mut alone = in_turns(&target, &mut rows, rounds, one)?;
    let mut out = head(&python, &mut alone);
    for row in &mut rows {
        out += &line(row.profiler.name(), row);
    }
    out += &cold(&target, rounds)?;
    drop(target);
    Ok(out + &others::run(rounds)? + LIMITS)
}

fn start(fixture: &Fixture) -> Result<Running> {
    let words = fixture.command();
    let (interpreter, script) = (words.first().context("an interpreter")?, words.get(1).context("a script")?);
    let target = spawn_command(on_processor(0, Path::new(interpreter)).args([script, "calls"]));
    target.wait_started();
    Ok(target)
}

/// A program that runs on one processor alone.
fn on_processor(number: u32, program: &Path) -> Command {
    let mut command = pepo_testkit::command("taskset");
    command.args(["-c", &number.to_string()]).arg(program);
    command
}

fn measure(target: &Running, row: &Row<Profiler>, source: &Source, folder: &Path) -> Result<Run> {
    let file = folder.join("profile");
    let mut command = row.profiler.record(target.pid(), row.rate, &file)?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let (work, cpu, memory, status) = start_and_watch(target, &mut child)?;
    ensure!(status.success(), "{command:?}: {status}");
    let profile = fs::read_to_string(&file)?;
    let seen = if row.profiler == Profiler::Pepo {
        source.judge_pepo(&profile)?
    } else {
        source.judge_raw(&profile)
    };
    Ok(Run { work, cpu, memory, seen })
}

/// How much the program does while a profiler works, and what that costs: CPU time and memory.
fn start_and_watch(target: &Running, child: &mut Child) -> Result<(f64, Duration, u64, ExitStatus)> {
    let (mut cpu, mut memory) = (Duration::ZERO, 0);
    let mut watch = |child: &Child| {
        if let Some((used, resident)) = cost(child.id()) {
            (cpu, memory) = (used, resident);
        }
    };
    let work = work(target, &mut || watch(child))?;
    loop {
        watch(child);
        if let Some(status) = child.try_wait()? {
            return Ok((work, cpu, memory, status));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// CPU time of a process and the most memory it had, in bytes.
fn cost(pid: u32) -> Option<(Duration, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    // Of all its threads, ended ones too; in ticks of ten milliseconds.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|text| Stat::parse(&text))?;
    let ticks = stat.user_ticks + stat.system_ticks;
    Some((Duration::from_secs_f64(ticks as f64 / ticks_per_second() as f64), kilobytes * 1024))
}

/// How much the program does in a second; `meanwhile` is called often.
fn work(target: &Running, meanwhile: &mut dyn FnMut()) -> Result<f64> {
    let first = at_beat(target, BEFORE, meanwhile)?;
    let last = at_beat(target, MEASURED, meanwhile)?;
    let waited = last.waited.saturating_sub(first.waited);
    let time = (last.at - first.at).saturating_sub(waited).as_secs_f64();
    Ok((last.ticks - first.ticks) as f64 / time)
}

/// What was known at a heartbeat.
struct AtBeat {
    at: Instant,
    ticks: u64,
    /// How long the program was kept waiting for a processor until then.
    waited: Duration,
}

/// At the first heartbeat after a time.
fn at_beat(target: &Running, after: Duration, meanwhile: &mut dyn FnMut()) -> Result<AtBeat> {
    let begun = Instant::now();
    let mut last = target.last_beat();
    loop {
        std::thread::sleep(Duration::from_millis(1));
        let now = target.last_beat();
        if now != last && begun.elapsed() >= after {
            let pid = target.pid();
            let waited = waited(pid)?;
            let ticks = now.context("it has begun")?.ticks;
            return Ok(AtBeat { at: Instant::now(), ticks, waited: Duration::from_nanos(waited) });
        }
        if now != last {
            meanwhile();
        }
        last = now;
        ensure!(begun.elapsed() < after + Duration::from_secs(60), "no heartbeat: {}", target.state());
    }
}

/// How long the thread that has run the longest was kept waiting for a processor, in nanoseconds.
fn waited(pid: u32) -> Result<u64> {
    let mut longest = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // Threads end.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (ran, waited) = numbers.next().zip(numbers.next()).context("schedstat has three numbers")?;
        longest = longest.max((ran?, waited?));
    }
    Ok(longest.1)
}

fn head(python: &Python, alone: &mut [f64]) -> String {
    let (major, minor) = python.version;
    format!(
        "A program of Python {major}.{minor} whose calls are as short as can be, on one processor; the profilers on another, \
         {SECONDS} s each, in turns. Loss: how much less the program did in a second, of the time that it was not kept waiting \
         for a processor, against two runs without a profiler in the same round (which differ by {:.2} % themselves). Impossible: \
         stacks in which a caller stands at a line that does not call what it calls. Seen: samples of the one thread that \
         always runs, of those that were asked for. Medians; in parentheses the least and the most.\n\n\
         | rate | | loss of work | impossible | seen | CPU of the profiler | its memory |\n|---|---|---|---|---|---|---|\n",
        middle(alone)
    )
}

fn line<P>(name: &str, row: &mut Row<P>) -> String {
    let loss = middle(&mut row.losses);
    let (least, most) = (row.losses.first().copied(), row.losses.last().copied());
    let (rate, runs) = (row.rate, &row.runs);
    let of = |value: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        middle(&mut values)
    };
    let samples: u64 = runs.iter().map(|run| run.seen.samples).sum();
    let impossible: u64 = runs.iter().map(|run| run.seen.impossible).sum();
    let asked = (u64::from(rate) * SECONDS * runs.len() as u64) as f64;
    format!(
        "| {rate} Hz | {name} | {loss:.2} % ({:.2} to {:.2}) | {impossible} of {samples} ({:.2} %) | {:.1} % | {:.2} % | {:.1} MB |\n",
        least.unwrap_or(loss),
        most.unwrap_or(loss),
        impossible as f64 / samples.max(1) as f64 * 100.0,
        samples as f64 / asked * 100.0,
        of(|run| run.cpu.as_secs_f64()) / SECONDS as f64 * 100.0,
        of(|run| run.memory as f64) / 1e6,
    )
}

/// A cold `stack` beside a cold `dump`, in turns.
fn cold(target: &Running, rounds: usize) -> Result<String> {
    let pid = target.pid();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds * 3 {
        ours.push(timed(pepo_testkit::command(pepo()).args(["stack", &format!("pid/{pid}")]))?);
        theirs.push(timed(pepo_testkit::command(py_spy()?).args(["dump", "--pid", &pid.to_string()]))?);
    }
    let (ours, theirs) = (middle(&mut ours).as_secs_f64(), middle(&mut theirs).as_secs_f64());
    Ok(format!(
        "\n| a cold stack, from the start of the command to its end | median |\n|---|---|\n\
         | `pepo stack` (the program is not stopped) | {:.1} ms ({:.2}) |\n| `py-spy dump` | {:.1} ms |\n",
        ours * 1e3,
        ours / theirs,
        theirs * 1e3
    ))
}

fn py_spy() -> Result<PathBuf> {
    let path = pepo_testkit::tools().join("py-spy/bin/py-spy");
    ensure!(path.is_file(), "no py-spy; `cargo xtask setup` installs it");
    Ok(path)
}
