//! `cargo xtask test`: every check and every test, by groups, with the time each took.
//!
//! The tests are built once, as static musl (as they are shipped), and each test program is run by itself:
//! so groups can be cut by module name, a hanging test has a limit, and a test that was skipped is counted
//! against the list of those that may be. It fails when anything failed, when a skip was not expected, and
//! when no test ran.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::args::Args;
use crate::setup::{self, Purpose};

/// Builds programs and tests, and finds what was built.
pub(crate) mod build;
/// The checks that are no tests: formatting, lints, dependencies, other systems.
mod checks;
/// The cluster that tests share.
mod cluster;
/// The groups, as data.
mod groups;
/// Runs test programs and counts.
mod programs;
/// Skipped tests against the list of those that may be.
mod skips;

use groups::Work;
use programs::Counts;

/// What one group came to.
struct Outcome {
    name: &'static str,
    took: Duration,
    counts: Counts,
    /// Why the group failed, beyond its failed tests.
    trouble: Option<String>,
}

impl Outcome {
    /// Runs `work` under a heading, with a clock.
    fn of(name: &'static str, what: &str, work: impl FnOnce() -> Result<Counts>) -> Outcome {
        println!("\n== {name} · {what}");
        let start = Instant::now();
        let (counts, trouble) = match work() {
            Ok(counts) => (counts, None),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        if let Some(trouble) = &trouble {
            eprintln!("{name}: {trouble}");
        }
        let took = start.elapsed();
        println!("{name}: {:.0} s", took.as_secs_f32());
        Outcome { name, took, counts, trouble }
    }

    fn failed(&self) -> bool {
        self.counts.failed > 0 || self.trouble.is_some()
    }
}

/// Runs the groups that were named, or all.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let (list, yes) = (args.switch("list"), args.switch("yes"));
    let versions = cluster::versions(args.value("kubernetes")?.as_deref())?;
    let chosen = groups::choose(&args.words()?)?;
    if list {
        groups::list();
        return Ok(());
    }
    setup::ensure(Purpose::Test, yes)?;
    versions.iter().try_for_each(|version| crate::cluster::ensure(Some(version), yes))?;
    let folder = skips::Folder::new()?;
    let outcomes = run(&chosen, versions, &folder);
    finish(&outcomes, &folder)
}

/// The chosen groups, one after the other or beside each other; a failure doesn't keep the others from running.
fn run(chosen: &[&'static groups::Group], versions: &[&str], folder: &skips::Folder) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut built = None;
    let mut beside = Vec::new();
    for group in chosen {
        let check = |check: fn() -> Result<()>| {
            Outcome::of(group.name, group.what, || check().map(|()| Counts::default()))
        };
        match group.work {
            Work::Check(work) => outcomes.push(check(work)),
            Work::Beside(work) => beside.push(std::thread::spawn(move || check(work))),
            Work::Tests(cut) => {
                let tests = built.get_or_insert_with(|| build(&mut outcomes));
                outcomes.extend(tested(group, &cut, tests, versions, folder));
                outcomes.extend(beside.drain(..).map(ended));
            }
        }
    }
    outcomes.extend(beside.into_iter().map(ended));
    outcomes
}

/// What a group came to that ran beside another.
fn ended(group: JoinHandle<Outcome>) -> Outcome {
    group.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What a group of tests came to, on each cluster where it needs one.
fn tested(
    group: &groups::Group,
    cut: &groups::Cut,
    tests: &[build::Program],
    versions: &[&str],
    folder: &skips::Folder,
) -> Vec<Outcome> {
    let skips = ("PEPO_SKIPS", folder.path());
    if !cut.cluster {
        return vec![Outcome::of(group.name, group.what, || programs::run(tests, cut, &[skips]))];
    }
    let on = |version: &&str| {
        let what = format!("{}, Kubernetes {version}", group.what);
        Outcome::of(group.name, &what, || on_cluster(version, tests, cut, skips))
    };
    versions.iter().map(on).collect()
}

/// Runs tests while a cluster is up; that it comes up, and leaves nothing, is tested with it.
fn on_cluster(
    version: &str,
    tests: &[build::Program],
    cut: &groups::Cut,
    skips: (&str, &std::path::Path),
) -> Result<Counts> {
    let cluster = cluster::Cluster::up(version)?;
    let counts = programs::run(tests, cut, &[skips, ("PEPO_CLUSTER", cluster.folder())]);
    cluster.down().and(counts)
}

/// Builds the tests as a group of its own; nothing to run if that fails.
fn build(outcomes: &mut Vec<Outcome>) -> Vec<build::Program> {
    let mut tests = Vec::new();
    outcomes.push(Outcome::of("build", "programs and tests, static musl", || {
        tests = build::tests()?;
        Ok(Counts::default())
    }));
    tests
}

/// The table, the verdict on skips, and the closing line.
fn finish(outcomes: &[Outcome], folder: &skips::Folder) -> Result<()> {
    let skipped = skips::judge(folder)?;
    println!("\n{:<12} {:>8} {:>8} {:>8}", "group", "passed", "failed", "time");
    for outcome in outcomes {
        let Counts { passed, failed, .. } = outcome.counts;
        let state = if outcome.failed() { "  FAILED" } else { "" };
        println!("{:<12} {passed:>8} {failed:>8} {:>6.0} s{state}", outcome.name, outcome.took.as_secs_f32());
    }
    for outcome in outcomes.iter().filter(|o| o.failed()) {
        for name in &outcome.counts.failures {
            println!("failed: {} · {name}", outcome.name);
        }
        if let Some(first) = outcome.trouble.as_deref().and_then(|trouble| trouble.lines().next()) {
            println!("failed: {} · {first}", outcome.name);
        }
    }
    let sum = |of: fn(&Counts) -> usize| outcomes.iter().map(|o| of(&o.counts)).sum::<usize>();
    let (passed, failed) = (sum(|c| c.passed), sum(|c| c.failed));
    println!("\n{passed} passed, {failed} failed, {} skipped", skipped.known.len());
    verdict(outcomes, &skipped)
}

/// Whether all this is good enough.
fn verdict(outcomes: &[Outcome], skipped: &skips::Judged) -> Result<()> {
    let failed: Vec<_> = outcomes.iter().filter(|o| o.failed()).map(|o| o.name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    if !skipped.unexpected.is_empty() {
        bail!("skips that crates/testkit/skips.txt does not expect: {}", skipped.unexpected.join(", "));
    }
    let tests = outcomes.iter().any(|o| o.name == "build");
    if tests && outcomes.iter().all(|o| o.counts.passed == 0) {
        bail!("no test ran");
    }
    Ok(())
}
