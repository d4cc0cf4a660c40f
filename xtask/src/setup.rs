//! `cargo xtask setup`: installs what is missing for the demo, the tests or a release, and nothing else.
//!
//! Every step looks first whether its work is done, so a second run takes a moment. What will be
//! installed is named; a terminal is asked, a script is not. Packages come from apt; what Debian's
//! stable release has too old comes from a newer release into a folder of its own (`side`), so that
//! nothing of the system is replaced.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::{paths, run};

/// System packages.
mod apt;
/// Kubernetes, for tests on a cluster.
mod kubernetes;
/// Packages of a newer Debian in a folder of their own.
mod side;
/// The list of all steps: data.
mod steps;
/// The steps that are more than a package: toolkit, wheels, targets.
mod toolkit;

use steps::{Install, Step};
#[cfg(test)]
pub(crate) use toolkit::cyclonedx;
pub(crate) use toolkit::{CROSS, JAR, JAR_SHA256, WHEEL, WHEEL_SHA256, zigbuild};

/// What somebody is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `cargo xtask demo`.
    Demo,
    /// `cargo xtask test`, `bench`, `safety`.
    Test,
    /// What `cargo xtask bench` needs more: that beside which we are measured.
    Bench,
    /// `cargo xtask cluster`.
    Cluster,
    /// The same, with the newer Kubernetes.
    NewerCluster,
    /// `cargo xtask dist`.
    Dist,
    /// `cargo xtask image --debuggers`.
    Debuggers,
}

/// Installs what is missing for `--for` (default: test).
pub(crate) fn main(mut args: Args) -> Result<()> {
    let purpose = match args.value("for")?.as_deref() {
        Some("demo") => Purpose::Demo,
        None | Some("test") => Purpose::Test,
        Some("bench") => Purpose::Bench,
        Some("cluster") => Purpose::Cluster,
        Some("dist") => Purpose::Dist,
        Some(other) => bail!("--for takes demo, test, bench, cluster or dist, not `{other}`"),
    };
    let (yes, list) = (args.switch("yes"), args.switch("list"));
    args.done()?;
    if list {
        list_steps(purpose);
        return Ok(());
    }
    ensure(purpose, yes)
}

/// Installs what is missing for `purpose`; asks on a terminal unless `yes`.
pub(crate) fn ensure(purpose: Purpose, yes: bool) -> Result<()> {
    let missing = steps::missing(purpose);
    if missing.is_empty() {
        return Ok(());
    }
    println!("missing on this machine, to be installed:");
    for step in &missing {
        println!("  {:<24} {}", step.name, step.what);
    }
    if !yes && !agreed()? {
        bail!("nothing was installed; `cargo xtask setup --yes` installs without asking");
    }
    std::fs::create_dir_all(paths::cache().join("log"))?;
    install(missing)
}

/// System packages first (one apt at a time, and later steps need them), then the rest side by side.
fn install(missing: Vec<Step>) -> Result<()> {
    let (packages, others): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|step| matches!(step.install, Install::Apt));
    if !packages.is_empty() {
        timed("system packages", || apt::install(&packages.iter().map(|s| s.name).collect::<Vec<_>>()))?;
    }
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> =
            others.iter().map(|step| scope.spawn(move || timed(step.name, || step.carry_out()))).collect();
        let ended = running.into_iter().map(|thread| thread.join().expect("a step returns its error"));
        ended.filter_map(Result::err).map(|error| format!("{error:#}")).collect()
    });
    match failures.is_empty() {
        true => Ok(()),
        false => bail!("setup is not complete:\n{}", failures.join("\n")),
    }
}

/// Runs one step and says how long it took.
fn timed(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let result = work();
    let word = if result.is_ok() { "installed" } else { "FAILED   " };
    println!("{word} {name:<24} {:>6.1} s", start.elapsed().as_secs_f32());
    result.map_err(|error| error.context(name.to_owned()))
}

/// Asks where there is somebody to ask.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    print!("go on? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

fn list_steps(purpose: Purpose) {
    for step in steps::all(purpose) {
        let state = if (step.present)() { "there  " } else { "missing" };
        println!("{state} {:<24} {}", step.name, step.what);
    }
}

/// Whether `program` is on PATH (or where administrators keep theirs).
fn has(program: &str) -> bool {
    run::which(program).is_some()
}
