//! Runs the safety cells and writes `docs/safety.md`.
//!
//! `safety [--kills N] [--others N] [--only WORD]… [--write FILE | --check]`; with `--check` nothing is written, and a guarded
//! target that was lost is a failure.
#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};
use pepo_trials::cells::{By, Cell, DEBUGGERS, Death, Load, Outcome};

struct Arguments {
    kills: u32,
    others: u32,
    only: Vec<String>,
    check: bool,
    write: Option<PathBuf>,
}

fn arguments() -> Result<Arguments> {
    let mut out = Arguments {
        kills: 100,
        others: 20,
        only: Vec::new(),
        check: false,
        write: Some("docs/safety.md".into()),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        match word.as_str() {
            "--kills" => out.kills = value()?.parse()?,
            "--others" => out.others = value()?.parse()?,
            "--only" => out.only.push(value()?),
            "--check" => (out.check, out.write) = (true, None),
            "--write" => out.write = Some(value()?.into()),
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(out)
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = arguments()?;
    let mut outcomes = Vec::new();
    for cell in Cell::all() {
        let name = cell.to_string();
        if !arguments.only.iter().all(|word| name.contains(word.as_str())) {
            continue;
        }
        let started = Instant::now();
        let rounds = if cell.is_kill() { arguments.kills } else { arguments.others };
        let outcome = cell.run(rounds).await?;
        println!("{name}: {} of {} live ({:.0?})", outcome.lived, outcome.rounds, started.elapsed());
        for other in &outcome.others {
            println!("    {other}");
        }
        outcomes.push((cell, outcome));
    }
    if let Some(path) = &arguments.write {
        fs::write(path, page(&outcomes))?;
        println!("wrote {}", path.display());
    }
    let broken =
        outcomes.iter().filter(|(cell, outcome)| cell.by == By::Guarded && outcome.lived < outcome.rounds);
    let broken = broken.count();
    if arguments.check && broken > 0 {
        println!("{broken} guarded cells lost a target");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The page: one table a debugger, deaths by columns.
fn page(outcomes: &[(Cell, Outcome)]) -> String {
    let mut out = String::from(include_str!("safety_head.md"));
    for debugger in DEBUGGERS {
        let rows = rows(debugger, outcomes);
        if rows.is_empty() {
            continue;
        }
        let _ = write!(
            out,
            "\n## {debugger}\n\n| | SIGKILL of the adapter | SIGKILL of the agent | SIGKILL of the command | stream cut | stream silent |\n|---|---|---|---|---|---|\n"
        );
        for (name, cells) in rows {
            let _ = writeln!(out, "| {} | {} |", name.1, cells.join(" | "));
        }
        for (cell, outcome) in outcomes.iter().filter(|(cell, _)| cell.debugger == debugger) {
            let mut fates: BTreeMap<&str, u32> = BTreeMap::new();
            for other in &outcome.others {
                *fates.entry(other).or_default() += 1;
            }
            for (fate, count) in fates {
                let _ = writeln!(out, "\n- {cell}: {count} {fate}");
            }
        }
    }
    out
}

type Rows = BTreeMap<(usize, String), Vec<String>>;

fn rows(debugger: &str, outcomes: &[(Cell, Outcome)]) -> Rows {
    let mut rows = Rows::new();
    for (index, (by, by_name)) in
        [(By::Guarded, "Pepo"), (By::Unguarded, "Pepo, `--guard=off`"), (By::Bare, "bare adapter")]
            .into_iter()
            .enumerate()
    {
        for (load, load_name) in [(Load::Hot, "1,000 hits a second"), (Load::Rare, "never hit")] {
            let cells: Vec<_> = [Death::Adapter, Death::Agent, Death::Command, Death::Cut, Death::Silence]
                .iter()
                .map(|death| {
                    text(outcomes, Cell { debugger: static_name(debugger), by, load, death: *death })
                })
                .collect();
            if cells.iter().any(|cell| cell != "–") {
                rows.insert(
                    (index * 2 + usize::from(load == Load::Rare), format!("{by_name}, {load_name}")),
                    cells,
                );
            }
        }
    }
    rows
}

fn static_name(debugger: &str) -> &'static str {
    DEBUGGERS.into_iter().find(|name| *name == debugger).unwrap_or_default()
}

fn text(outcomes: &[(Cell, Outcome)], wanted: Cell) -> String {
    match outcomes.iter().find(|(cell, _)| *cell == wanted) {
        Some((_, outcome)) => format!("{} of {}", outcome.lived, outcome.rounds),
        None => "–".to_owned(),
    }
}
