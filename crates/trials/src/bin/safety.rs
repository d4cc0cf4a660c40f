//! Runs the safety cells and writes `docs/safety.md`.
//!
//! `safety [--kills N] [--others N] [--jobs N] [--only WORD]… [--resume] [--write FILE | --check]`; with `--check` nothing is
//! written, and a guarded target that was lost is a failure. Else each cell that is done is noted in a file until the page is
//! written; `--resume` goes on after a run that did not come so far. With `--only` the page keeps what it says of other cells.
#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use pepo_trials::{
    cells::{By, Cell, DEATHS, DEBUGGERS, Load, Outcome},
    fate::Fate,
};

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

struct Arguments {
    kills: u32,
    others: u32,
    jobs: u32,
    only: Vec<String>,
    check: bool,
    resume: bool,
    write: PathBuf,
    notes: PathBuf,
}

fn arguments() -> Result<Arguments> {
    let mut out = Arguments {
        kills: 100,
        others: 20,
        jobs: 4,
        only: Vec::new(),
        check: false,
        resume: false,
        write: "docs/safety.md".into(),
        notes: "target/safety.jsonl".into(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        match word.as_str() {
            "--kills" => out.kills = value()?.parse()?,
            "--others" => out.others = value()?.parse()?,
            "--jobs" => out.jobs = value()?.parse()?,
            "--only" => out.only.push(value()?),
            "--check" => out.check = true,
            "--resume" => out.resume = true,
            "--write" => out.write = value()?.into(),
            "--notes" => out.notes = value()?.into(),
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(out)
}

/// What is known of each cell, by its name.
type Outcomes = BTreeMap<String, Outcome>;

fn main() -> Result<ExitCode> {
    let arguments = arguments()?;
    stop_at_ctrl_c()?;
    let mut outcomes = if arguments.resume { read_notes(&arguments.notes)? } else { Outcomes::new() };
    if !arguments.resume && !arguments.check && arguments.notes.exists() {
        bail!(
            "{} is of a run that did not end: `--resume` goes on after it, or remove it",
            arguments.notes.display()
        );
    }
    let wanted = |name: &str| arguments.only.iter().all(|word| name.contains(word.as_str()));
    let cells: Vec<Cell> = Cell::all().into_iter().filter(|cell| wanted(&cell.to_string())).collect();
    for (index, cell) in cells.iter().enumerate() {
        let name = cell.to_string();
        if outcomes.contains_key(&name) {
            continue;
        }
        let started = Instant::now();
        let rounds = if cell.is_kill() { arguments.kills } else { arguments.others };
        let Some(outcome) = cell.run(rounds, arguments.jobs, &STOP)? else {
            println!("stopped; `--resume` goes on");
            return Ok(ExitCode::from(130));
        };
        let (done, all) = (index + 1, cells.len());
        println!(
            "{done} of {all} · {name}: {} of {} live ({:.0?})",
            outcome.lived,
            outcome.rounds,
            started.elapsed()
        );
        outcome.details.iter().for_each(|detail| println!("    {detail}"));
        if !arguments.check {
            note(&arguments.notes, &name, &outcome)?;
        }
        outcomes.insert(name, outcome);
    }
    if arguments.check {
        return Ok(judge(&outcomes));
    }
    let old = if arguments.only.is_empty() { String::new() } else { fs::read_to_string(&arguments.write)? };
    let built = built(&old, &arguments.only);
    let outcomes = read_page(&old).into_iter().chain(outcomes).collect();
    fs::write(&arguments.write, page(&built, &outcomes))?;
    if arguments.notes.exists() {
        fs::remove_file(&arguments.notes).context("the notes stay")?;
    }
    println!("wrote {}", arguments.write.display());
    Ok(ExitCode::SUCCESS)
}

fn judge(outcomes: &Outcomes) -> ExitCode {
    let lost =
        |cell: &Cell| outcomes.get(&cell.to_string()).is_some_and(|outcome| outcome.lived < outcome.rounds);
    match Cell::all().iter().filter(|cell| cell.is_promised() && lost(cell)).count() {
        0 => ExitCode::SUCCESS,
        broken => {
            println!("{broken} guarded cells lost a target");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C lets the rounds end that are under way.
fn stop_at_ctrl_c() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            println!("ending the rounds that are under way");
            STOP.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// One line of the notes: a cell's name and what became of it.
fn note(path: &Path, name: &str, outcome: &Outcome) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{}", serde_json::to_string(&(name, outcome))?)?;
    Ok(())
}

fn read_notes(path: &Path) -> Result<Outcomes> {
    if !path.exists() {
        return Ok(Outcomes::new());
    }
    let text = fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).context("a line of the notes")).collect()
}

/// How the measured programs were built.
const BUILD: &str = if cfg!(debug_assertions) { "a debug build" } else { "the release build" };

/// The sentence on that; a page whose cells are renewed in part keeps its own.
fn built(old: &str, only: &[String]) -> String {
    let Some(sentence) = old.lines().find(|line| line.starts_with("Measured with")) else {
        return format!("Measured with {BUILD}.");
    };
    let renewed = format!("`{}` with ", only.join(" "));
    let kept = sentence.trim_end_matches('.').split("; ").filter(|part| !part.starts_with(&renewed));
    let kept = kept.collect::<Vec<_>>().join("; ");
    if kept.contains(BUILD) { format!("{kept}.") } else { format!("{kept}; {renewed}{BUILD}.") }
}

/// What a page says of each cell.
fn read_page(page: &str) -> Outcomes {
    let told = |cell: Cell| {
        let section = page.split("\n## ").find(|section| section.lines().next() == Some(cell.debugger))?;
        let lines = section.lines().filter(|line| line.starts_with('|'));
        let mut rows = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let column = rows.next()?.iter().position(|head| *head == cell.death.to_string())?;
        let row = rows.find(|row| row.get(1) == Some(&row_name(cell.by, cell.load).as_str()))?;
        let (lived, rounds) = row.get(column)?.split_once(" of ")?;
        let lost = section.lines().find_map(|line| line.strip_prefix(&format!("- {cell}: ")));
        let fate = |told: &str| {
            let (count, name) = told.split_once(' ')?;
            let fate = Fate::ALL.into_iter().find(|fate| fate.to_string() == name)?;
            Some((fate, count.parse().ok()?))
        };
        let lost = lost.unwrap_or_default().split(", ").filter_map(fate).collect();
        let (lived, rounds) = (lived.parse().ok()?, rounds.parse().ok()?);
        Some((cell.to_string(), Outcome { lived, rounds, lost, details: Vec::new() }))
    };
    Cell::all().into_iter().filter_map(told).collect()
}

/// The page: one table a debugger, deaths by columns.
fn page(built: &str, outcomes: &Outcomes) -> String {
    let mut out = format!("{}\n{built}\n", include_str!("safety_head.md"));
    let heads: Vec<String> = DEATHS.iter().map(ToString::to_string).collect();
    for debugger in DEBUGGERS {
        let rows = rows(debugger, outcomes);
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "\n## {debugger}\n\n| | {} |\n|---{}|",
            heads.join(" | "),
            "|---".repeat(DEATHS.len())
        );
        out += &rows;
        let lost = lost(debugger, outcomes);
        if !lost.is_empty() {
            let _ = write!(out, "\nWhat became of the others:\n\n{lost}");
        }
    }
    out
}

fn row_name(by: By, load: Load) -> String {
    let by = match by {
        By::Guarded => "Pepo",
        By::Unguarded => "Pepo, `--guard=off`",
        By::Bare => "bare adapter",
    };
    let load = if load == Load::Hot { "1,000 hits a second" } else { "never hit" };
    format!("{by}, {load}")
}

fn rows(debugger: &'static str, outcomes: &Outcomes) -> String {
    let mut out = String::new();
    for by in [By::Guarded, By::Unguarded, By::Bare] {
        for load in [Load::Hot, Load::Rare] {
            let of = |death| outcomes.get(&Cell { debugger, by, load, death }.to_string());
            if DEATHS.iter().all(|death| of(*death).is_none()) {
                continue;
            }
            let cells = DEATHS.iter().map(|death| match of(*death) {
                Some(outcome) => format!("{} of {}", outcome.lived, outcome.rounds),
                None => "–".to_owned(),
            });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(out, "| {} | {} |", row_name(by, load), cells.join(" | "));
        }
    }
    out
}

/// One line for each cell that lost targets.
fn lost(debugger: &str, outcomes: &Outcomes) -> String {
    let mut out = String::new();
    for cell in Cell::all().into_iter().filter(|cell| cell.debugger == debugger) {
        let name = cell.to_string();
        let Some(outcome) = outcomes.get(&name).filter(|outcome| !outcome.lost.is_empty()) else { continue };
        let told = |(fate, count): (&Fate, &u32)| format!("{count} {fate}");
        let fates: Vec<String> = outcome.lost.iter().map(told).collect();
        let _ = writeln!(out, "- {name}: {}", fates.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_as_this_program_writes_it() {
        let committed = include_str!("../../../../docs/safety.md");
        let built = committed.lines().find(|line| line.starts_with("Measured with")).expect("it says how");
        assert_eq!(page(built, &read_page(committed)), committed);
    }
}
