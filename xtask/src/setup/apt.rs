//! System packages: one `apt-get install` for all that is missing, patient with another apt at work.

use std::path::Path;

use anyhow::{Result, bail};

use crate::run::{Cmd, cmd, which};
use crate::{paths, setup};

/// Installs `packages` in one go; package lists are fetched anew first.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !setup::has("apt-get") {
        bail!("this machine has no apt-get; install by hand what provides: {}", packages.join(" "));
    }
    let log = paths::log("apt");
    apt()?.arg("update").logged(&log)?;
    apt()?.args(["-y", "--no-install-recommends", "install"]).args(packages).logged(&log)
}

/// `apt-get`, as root or through sudo; it waits up to 10 minutes for another apt's lock.
fn apt() -> Result<Cmd> {
    let root = std::fs::metadata(Path::new("/proc/self")).is_ok_and(|me| owner(&me) == 0);
    let start = match root {
        true => cmd("env"),
        false if which("sudo").is_some() => cmd("sudo").arg("env"),
        false => bail!("installing system packages needs root or sudo"),
    };
    let lock = ["-o", "DPkg::Lock::Timeout=600", "-qq"];
    Ok(start.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(lock))
}

fn owner(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(metadata)
}
