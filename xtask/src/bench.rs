//! `cargo xtask bench`: Pepo beside what a user would pick instead, in the binaries that are shipped; writes
//! `docs/benchmarks.md`.

use anyhow::Result;

use crate::args::Args;
use crate::setup::{self, Purpose};
use crate::test::build::{self, Profile};

/// Runs the benchmarks; words it does not know are handed on.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let yes = args.switch("yes");
    setup::ensure(Purpose::Test, yes)?;
    setup::ensure(Purpose::Bench, yes)?;
    build::entry()?;
    build::trial("bench", Profile::Release, args.rest())
}
