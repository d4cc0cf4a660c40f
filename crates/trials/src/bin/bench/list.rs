//! `pepo ps` over many processes.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Result;
use pepo_testkit::pepo;
use pepo_trials::measure::middle;

use crate::timing::timed;

/// Processes that `ps` has to look through.
const MANY: usize = 1000;

/// Beside ps(1).
pub(crate) fn run(rounds: usize) -> Result<String> {
    let crowd = Crowd::gather(MANY)?;
    let ours = time(
        rounds,
        pepo_testkit::command(pepo()).args(["ps", "--on", "host", "--all", "--output", "json"]),
    )?;
    let theirs = time(rounds, pepo_testkit::command("ps").args(["-eo", "pid,ppid,user,stat,args"]))?;
    drop(crowd);
    Ok(format!(
        "With {MANY} processes more than the machine's own.\n\n| | median |\n|---|---|\n\
         | `pepo ps --on host --all` (with container, runtime, and what may be looked at and stopped) | {ours:.1?} |\n\
         | `ps -e` | {theirs:.1?} |\n"
    ))
}

/// The median.
fn time(rounds: usize, command: &mut Command) -> Result<Duration> {
    let mut times = (0..rounds).map(|_| timed(command)).collect::<Result<Vec<_>>>()?;
    Ok(middle(&mut times))
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
