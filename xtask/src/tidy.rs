//! `cargo xtask tidy`: the rules no compiler knows. What crosses the walls between the rooms, how a file
//! opens, which pages are generated; every trouble is listed, not only the first.

use anyhow::{Result, bail};

use crate::args::Args;

/// Who may use whom.
mod edges;
/// Generated pages against the program that makes them.
mod generated;
/// Rules of single files.
mod sources;

/// Checks all rules; `--write` makes the generated pages anew first.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let write = args.switch("write");
    args.done()?;
    if write {
        generated::write()?;
    }
    check()?;
    generated()
}

/// The rules that need nothing built.
pub(crate) fn check() -> Result<()> {
    let mut troubles = edges::check()?;
    troubles.extend(sources::check()?);
    if troubles.is_empty() {
        return Ok(());
    }
    for trouble in &troubles {
        println!("{trouble}");
    }
    bail!("{} breaches of the house's rules", troubles.len())
}

/// Whether the generated pages are as the program makes them.
pub(crate) fn generated() -> Result<()> {
    generated::check()
}
