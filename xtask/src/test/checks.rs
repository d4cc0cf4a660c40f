//! The checks that are no tests.

use anyhow::Result;

use super::build::cargo;
use crate::run::cmd;
use crate::setup::{CROSS, zigbuild};
use crate::{paths, tidy};

/// Formatting.
pub(crate) fn fmt() -> Result<()> {
    cmd("cargo").args(["fmt", "--all", "--check"]).dir(&paths::root()).run()
}

/// The rules no compiler knows.
pub(crate) fn tidy() -> Result<()> {
    tidy::check()
}

/// Licences, bans and sources; the advisory database needs a network that not every machine has.
pub(crate) fn deny() -> Result<()> {
    let deny = cmd("cargo").args(["deny", "--log-level", "error", "--workspace", "check"]);
    deny.args(["--hide-inclusion-graph", "bans", "licenses", "sources"]).dir(&paths::root()).run()
}

/// Lints, warnings denied.
pub(crate) fn clippy() -> Result<()> {
    let clippy = cargo("clippy").args(["--quiet", "--workspace", "--all-targets", "--keep-going"]);
    clippy.args(["--", "-D", "warnings", "-D", "clippy::too_many_lines"]).run()
}

/// Compiles for other systems, warnings denied: all of it for Linux, the user's side for the others.
pub(crate) fn cross() -> Result<()> {
    for triple in CROSS {
        let scope = if triple.contains("linux") { "--workspace" } else { "--package=pepo" };
        let clippy = zigbuild("clippy")?.args(["--quiet", scope, "--target", triple]);
        clippy.args(["--", "-D", "warnings"]).run()?;
    }
    Ok(())
}

/// The reference and the pages of errors, as the code makes them.
pub(crate) fn generated() -> Result<()> {
    tidy::generated()
}
