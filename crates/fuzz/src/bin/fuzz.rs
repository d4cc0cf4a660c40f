//! `fuzz [TARGET...] [--seconds N] [--seed N]`: fires at each target for a while; writes the input on which one broke.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::Duration;

use pepo_fuzz::targets::{ALL, Target, named};
use pepo_fuzz::{Broken, run};

fn main() -> ExitCode {
    match wish() {
        Ok((targets, seconds, seed)) => {
            let broken = targets.iter().filter(|target| !stands(target, seconds, seed)).count();
            if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(unknown) => {
            eprintln!("error: {unknown}; fuzz [TARGET...] [--seconds N] [--seed N]");
            ExitCode::from(2)
        }
    }
}

/// What was typed: targets (all when none), seconds for each, seed.
fn wish() -> Result<(Vec<&'static Target>, u64, u64), String> {
    let (mut targets, mut seconds, mut seed) = (Vec::new(), 10, 1);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            name => targets.push(named(name).ok_or(format!("no target `{name}`"))?),
        }
    }
    Ok((if targets.is_empty() { ALL.iter().collect() } else { targets }, seconds, seed))
}

/// Fires at one target; whether it stood.
fn stands(target: &Target, seconds: u64, seed: u64) -> bool {
    match run(target, seed, u64::MAX, Duration::from_secs(seconds)) {
        Ok(rounds) => {
            println!("{:<12} {rounds} inputs in {seconds} s, seed {seed}: stands", target.name);
            true
        }
        Err(Broken { round, input }) => {
            let file = std::env::temp_dir().join(format!("pepo-fuzz-{}-{round}", target.name));
            let kept =
                std::fs::write(&file, input).map_or_else(|e| e.to_string(), |()| file.display().to_string());
            println!("{:<12} broke in round {round} of seed {seed}: {kept}", target.name);
            false
        }
    }
}
