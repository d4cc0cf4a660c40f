//! `cargo xtask demo`: installs what the demo needs, builds, and runs it: breakpoints and changed
//! variables in three languages, in real containers, on a machine that had no engine; or with `--kubernetes` a
//! slow pod of a real cluster, as `docs/tutorial.md` tells it.

use anyhow::Result;

use crate::args::Args;
use crate::setup::{self, Purpose};
use crate::test::build::{self, Profile};

/// Runs the demo; words it does not know are handed on to the demo itself.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let yes = args.switch("yes");
    let demo = match args.switch("kubernetes") {
        true => {
            setup::ensure(Purpose::Cluster, yes)?;
            "pods"
        }
        false => "demo",
    };
    setup::ensure(Purpose::Demo, yes)?;
    build::trial(demo, Profile::Dev, args.rest())
}
