//! `cargo xtask image`: the image of the helpers that stand beside pods, as an OCI archive: one for all machines that nodes have, each with
//! the static binary that a release has for it; or one for this machine's alone, with the debuggers that `cargo xtask setup` brings.

use anyhow::{Result, bail};

use crate::args::Args;
use crate::dist;
use crate::paths;
use crate::setup::{self, Purpose};
use crate::test::build;

/// Builds the release for every `--target` (default: all of Linux) and packs it; `--name` is what a cluster will call the image.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let (name, out) = (args.value("name")?, args.value("out")?);
    let (yes, debuggers) = (args.switch("yes"), args.switch("debuggers"));
    let targets = args.values("target")?;
    args.done()?;
    let targets = if debuggers { with_debuggers(&targets)? } else { chosen(&targets)? };
    let kind = if debuggers { "pepo-debuggers" } else { "pepo" };
    let name = name.unwrap_or_else(|| format!("pepo.dev/{kind}:{}", env!("CARGO_PKG_VERSION")));
    setup::ensure(Purpose::Dist, yes)?;
    if debuggers {
        setup::ensure(Purpose::Debuggers, yes)?;
    }
    let dist = dist::folder()?;
    let binaries = targets.iter().map(|target| dist::program(target, &dist)).collect::<Result<Vec<_>>>()?;
    let out = out.unwrap_or_else(|| dist.join(format!("{kind}-image.tar")).display().to_string());
    build::image(&name, &out, &binaries, debuggers)
}

/// This machine's, whose debuggers are at hand.
fn with_debuggers(typed: &[String]) -> Result<Vec<&'static str>> {
    let own = paths::triple();
    if let Some(other) = typed.iter().find(|target| **target != own) {
        bail!("debuggers for `{other}` are not at hand: such an image is made on a machine of that kind");
    }
    chosen(&[own])
}

/// Those of Linux, or of them what was typed.
fn chosen(typed: &[String]) -> Result<Vec<&'static str>> {
    let all: Vec<_> = dist::PLATFORMS.iter().filter(|one| one.os == "linux").map(|one| one.target).collect();
    if let Some(unknown) = typed.iter().find(|target| !all.contains(&target.as_str())) {
        bail!("no image is made for `{unknown}`, but for {}", all.join(", "));
    }
    Ok(all.into_iter().filter(|target| typed.is_empty() || typed.iter().any(|one| one == target)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_machines_of_nodes_are_meant_unless_one_is_named() {
        let (amd, arm) = ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl");
        assert_eq!(chosen(&[]).unwrap(), [amd, arm]);
        assert_eq!(chosen(&[arm.to_owned()]).unwrap(), [arm]);
        let error = chosen(&["aarch64-apple-darwin".to_owned()]).unwrap_err().to_string();
        assert!(error.contains(amd) && error.contains(arm), "{error}");
    }

    #[test]
    fn debuggers_are_packed_for_this_machine_alone() {
        let own = paths::triple();
        assert_eq!(with_debuggers(&[]).unwrap(), [&own]);
        assert_eq!(with_debuggers(std::slice::from_ref(&own)).unwrap(), [&own]);
        assert!(with_debuggers(&["s390x-unknown-linux-musl".to_owned()]).is_err());
    }
}
