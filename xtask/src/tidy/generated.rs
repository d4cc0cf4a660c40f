//! The reference, the exit statuses and the page of each error are made by `pepo generate` from the code
//! itself; here they are compared, or made anew.

use anyhow::{Context, Result};

use crate::paths;
use crate::test::build;

/// Fails when a page differs from what the code says.
pub(crate) fn check() -> Result<()> {
    pepo(&["--check"]).context("`cargo xtask tidy --write` makes the pages anew")
}

/// Makes the pages anew.
pub(crate) fn write() -> Result<()> {
    pepo(&[])
}

fn pepo(words: &[&str]) -> Result<()> {
    let docs = paths::root().join("docs");
    let command = build::cargo("run").args(["--quiet", "--package", "pepo", "--", "generate", "--docs"]);
    command.arg(docs).args(words).run()
}
