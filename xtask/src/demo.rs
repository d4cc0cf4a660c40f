//! `cargo xtask demo`: installs what the demo needs, builds, and runs it: breakpoints and changed
//! variables in three languages, in real containers, on a machine that had no engine.

use anyhow::Result;

use crate::args::Args;
use crate::setup::{self, Purpose};
use crate::test::build::{self, Profile};

/// Runs the demo; words it does not know are handed on to the demo itself.
pub(crate) fn main(mut args: Args) -> Result<()> {
    setup::ensure(Purpose::Demo, args.switch("yes"))?;
    build::trial("demo", Profile::Dev, args.rest())
}
