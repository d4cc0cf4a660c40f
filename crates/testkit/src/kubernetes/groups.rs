//! A cluster's control groups: all its processes stand below one of them, so that they are found and ended without
//! any note of who they are.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

const ROOT: &str = "/sys/fs/cgroup";

/// The groups below `NAME`, in every hierarchy there is.
pub(super) struct Groups {
    name: String,
}

impl Groups {
    pub(super) fn new(name: &str) -> Groups {
        Groups { name: name.to_owned() }
    }

    /// Makes the group `within` in every hierarchy, so that a kubelet can put its pods below it.
    pub(super) fn make(&self, within: &str) -> Result<()> {
        for hierarchy in hierarchies() {
            let group = hierarchy.join(&self.name).join(within);
            fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
            if hierarchy.join("cpuset.cpus").exists() {
                allow_processors(&hierarchy, &hierarchy.join(&self.name))?;
                allow_processors(&hierarchy, &group)?;
            }
        }
        Ok(())
    }

    /// The file that takes the processes of one daemon.
    pub(super) fn door(&self, daemon: &str) -> Result<PathBuf> {
        let group = home().join(&self.name).join(daemon);
        fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
        Ok(group.join("cgroup.procs"))
    }

    /// The processes of one daemon, and what it has started.
    pub(super) fn of(&self, daemon: &str) -> Vec<u32> {
        let mut found = Vec::new();
        processes(&home().join(&self.name).join(daemon), &mut found);
        found
    }

    /// The first process of a container: its group is named like it.
    pub(super) fn first_in(&self, container: &str) -> Option<u32> {
        let mut found = Vec::new();
        processes(&find(&home().join(&self.name), container)?, &mut found);
        found.into_iter().min()
    }

    /// Every process of the cluster.
    pub(super) fn all(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for hierarchy in hierarchies() {
            processes(&hierarchy.join(&self.name), &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Kills every process, and those that they start meanwhile, until none is left.
    pub(super) fn kill_all(&self) -> Result<()> {
        let left = wait::try_until(Duration::from_secs(30), || {
            let left = self.all();
            kill(&left);
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        left.map_err(|left| anyhow!("these processes do not end: {left:?}"))
    }

    /// Removes the groups, which are empty now.
    pub(super) fn remove(&self) -> Result<()> {
        let left = wait::try_until(Duration::from_secs(10), || {
            let groups = hierarchies().into_iter().map(|hierarchy| hierarchy.join(&self.name));
            let left: Vec<_> = groups.filter(|group| !remove(group)).collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        left.map_err(|left| anyhow!("these control groups cannot be removed: {left:?}"))
    }
}

/// Kills processes; one that has ended meanwhile is as good.
pub(super) fn kill(processes: &[u32]) {
    for pid in processes {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The one tree of version 2, or each of version 1.
pub(super) fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(ROOT);
    if root.join("cgroup.procs").exists() {
        return vec![root];
    }
    let entries = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.join("cgroup.procs").exists()).collect()
}

/// The hierarchy in which daemons are told apart.
fn home() -> PathBuf {
    let pids = Path::new(ROOT).join("pids");
    if pids.exists() { pids } else { PathBuf::from(ROOT) }
}

/// In version 1 a new group may use no processor and takes no process until it is told which.
fn allow_processors(hierarchy: &Path, group: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        fs::write(group.join(name), fs::read_to_string(hierarchy.join(name))?.trim())?;
    }
    Ok(())
}

/// Processes in the group and those below it.
fn processes(group: &Path, found: &mut Vec<u32>) {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
    for below in folders(group) {
        processes(&below, found);
    }
}

/// The group of this name below `group`.
fn find(group: &Path, name: &str) -> Option<PathBuf> {
    folders(group)
        .into_iter()
        .find_map(|below| if below.ends_with(name) { Some(below) } else { find(&below, name) })
}

/// Removes a group and those below it; true when it is gone.
fn remove(group: &Path) -> bool {
    for below in folders(group) {
        remove(&below);
    }
    let _ = fs::remove_dir(group);
    !group.exists()
}

fn folders(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
