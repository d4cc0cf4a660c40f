//! `cargo xtask image`: the image of the helpers that stand beside pods, as an OCI archive.

use anyhow::Result;

use crate::args::Args;
use crate::dist;
use crate::test::build;

/// Builds the release for this machine and packs it; `--name` is what a cluster will call the image.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let name = args.value("name")?.unwrap_or_else(|| format!("pepo.dev/pepo:{}", env!("CARGO_PKG_VERSION")));
    let out = args.value("out")?;
    args.done()?;
    let dist = dist::folder()?;
    let out = out.unwrap_or_else(|| dist.join("pepo-image.tar").display().to_string());
    build::image(&name, &out)
}
