//! `cargo xtask safety`: kills clients, adapters, agents and streams a hundred times over and counts
//! which targets live; writes `docs/safety.md`.

use anyhow::Result;

use crate::args::Args;
use crate::setup::{self, Purpose};
use crate::test::build::{self, Profile};

/// Runs the safety table with what is shipped; words it does not know are handed on.
pub(crate) fn main(mut args: Args) -> Result<()> {
    setup::ensure(Purpose::Test, args.switch("yes"))?;
    build::trial("safety", Profile::Release, args.rest())
}
