//! Measures Pepo beside what a user would pick instead, in one run, and writes `docs/benchmarks.md`: the sections that were asked for
//! anew, the others as they are.
#![allow(clippy::print_stdout, reason = "its output is for people")]

mod attach;
mod entry;
mod kubernetes;
mod list;
mod locate;
mod look;
mod page;
mod timing;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The page's sections in their order, each measured by the module of its name.
const SECTIONS: [&str; 6] = ["attach", "locate", "list", "look", "entry", "kubernetes"];

struct Arguments {
    what: Vec<&'static str>,
    rounds: usize,
    write: PathBuf,
}

fn arguments() -> Result<Arguments> {
    let mut out = Arguments { what: Vec::new(), rounds: 7, write: "docs/benchmarks.md".into() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), SECTIONS.iter().find(|section| **section == word)) {
            (_, Some(section)) => out.what.push(section),
            ("--rounds", _) => out.rounds = words.next().context("--rounds wants a number")?.parse()?,
            ("--write", _) => out.write = words.next().context("--write wants a file")?.into(),
            _ => bail!(
                "unknown argument {word}; usage: bench [{}]… [--rounds N] [--write FILE]",
                SECTIONS.join("|")
            ),
        }
    }
    if out.what.is_empty() {
        out.what = SECTIONS.to_vec();
    }
    Ok(out)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = arguments()?;
    let mut page = page::Page::read(&arguments.write)?;
    for what in arguments.what {
        println!("measuring {what} …");
        let section = match what {
            "attach" => attach::run(arguments.rounds).await?,
            "locate" => locate::run(arguments.rounds).await?,
            "list" => list::run(arguments.rounds)?,
            "look" => look::run(arguments.rounds)?,
            "entry" => entry::run(arguments.rounds)?,
            _ => kubernetes::run(arguments.rounds)?,
        };
        print!("{section}");
        page.put(what, &section);
        page.write(&arguments.write)?;
    }
    println!("wrote {}", arguments.write.display());
    Ok(())
}
