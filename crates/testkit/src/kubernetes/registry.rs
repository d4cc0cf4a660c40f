//! Which clusters run on this machine, and what they share: addresses, and settings of the kernel that a kubelet
//! changes. The first cluster notes those, the last one that ends restores them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// One file for each cluster, named by its number, with its folder in it; gone with the last of them, and with a
/// restart of the machine, as the clusters are.
const FOLDER: &str = "/run/pepo-clusters";

/// How many clusters may run side by side: each has addresses of its own.
const MOST: u8 = 8;

/// Settings that each kubelet makes for the whole machine.
pub(super) const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The number of the cluster that lives in `folder`, if one does.
pub(super) fn number_of(folder: &Path) -> Option<u8> {
    (0..MOST).find(|number| owner(*number).is_some_and(|owner| owner == folder))
}

/// Gives a cluster that is to live in `folder` its number.
pub(super) fn claim(folder: &Path) -> Result<u8> {
    let _alone = alone()?;
    if let Some(number) = number_of(folder) {
        return Ok(number);
    }
    let free = |number: &u8| owner(*number).is_none();
    let Some(number) = (0..MOST).find(free) else {
        bail!("{MOST} clusters run on this machine: {FOLDER} names their folders; end one of them first");
    };
    if fs::create_dir(FOLDER).is_ok() {
        note_settings()?;
    }
    fs::write(place(number), folder.as_os_str().as_encoded_bytes()).context("cannot note the cluster")?;
    Ok(number)
}

/// Forgets the cluster of this number; the last one restores the machine's settings.
pub(super) fn release(number: u8) -> Result<()> {
    let _alone = alone()?;
    let _ = fs::remove_file(place(number));
    if all().is_empty() && Path::new(FOLDER).exists() {
        restore_settings()?;
        fs::remove_dir_all(FOLDER)?;
    }
    Ok(())
}

/// The folders of all clusters.
pub(super) fn all() -> Vec<PathBuf> {
    (0..MOST).filter_map(owner).collect()
}

fn place(number: u8) -> PathBuf {
    Path::new(FOLDER).join(number.to_string())
}

fn owner(number: u8) -> Option<PathBuf> {
    fs::read_to_string(place(number)).ok().map(PathBuf::from)
}

/// Held while the registry is read and changed. The lock is on the folder above, which outlives every cluster.
fn alone() -> Result<File> {
    let run = File::open("/run")?;
    flock(&run, FlockOperation::LockExclusive)?;
    Ok(run)
}

fn noted() -> PathBuf {
    Path::new(FOLDER).join("settings")
}

fn note_settings() -> Result<()> {
    let line = |name: &str| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        format!("{name}={}\n", value.trim())
    };
    Ok(fs::write(noted(), SETTINGS.map(line).concat())?)
}

fn restore_settings() -> Result<()> {
    for line in fs::read_to_string(noted()).unwrap_or_default().lines() {
        if let Some((name, value)) = line.split_once('=') {
            let file = Path::new("/proc/sys").join(name);
            fs::write(&file, value).with_context(|| format!("cannot restore {}", file.display()))?;
        }
    }
    Ok(())
}
