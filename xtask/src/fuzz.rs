//! `cargo xtask fuzz`: fires at the readers of our own for as long as it is told.

use anyhow::Result;

use crate::args::Args;
use crate::setup::{self, Purpose};
use crate::test::build;

/// Runs the fuzzer of `crates/fuzz`; words are handed on.
pub(crate) fn main(mut args: Args) -> Result<()> {
    setup::ensure(Purpose::Demo, args.switch("yes"))?;
    let fuzz = build::cargo("run").args(["--quiet", "--release", "--package", "pepo-fuzz", "--"]);
    fuzz.args(args.rest()).run()
}
