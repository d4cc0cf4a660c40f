//! Memory that is left in a control group: what a debugger may take before the kernel kills somebody for it.
//!
//! What counts is the tightest group on the way up to the root (cgroups(7); kernel: admin-guide/cgroup-v2, "memory"). Pages
//! of files that were not used lately can be taken back at any time, so they do not count as used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Process, ProcessError, cgroup::CgroupEntry};

/// Memory left for a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// Bytes that can still be taken.
    pub free: u64,
    /// The limit that decides, in bytes; `None` when only the machine's memory bounds it.
    pub limit: Option<u64>,
    /// The group that decides; `None` for the machine.
    pub group: Option<PathBuf>,
}

impl Headroom {
    /// What is left for a process in the groups it is in, and on the machine. Groups outside of our own cgroup namespace
    /// cannot be read and do not count.
    ///
    /// # Errors
    /// What reading the process's groups said.
    pub fn of(process: &Process) -> Result<Headroom, ProcessError> {
        let entries = process.cgroups()?;
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let places = Place::find_all(&entries, &String::from_utf8_lossy(&mounts));
        let groups = places.iter().filter_map(Place::tightest);
        Ok(groups.chain([machine()]).min_by_key(|headroom| headroom.free).unwrap_or_else(machine))
    }
}

/// The machine's own available memory.
fn machine() -> Headroom {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Headroom { free: available.unwrap_or(u64::MAX / 1024).saturating_mul(1024), limit: None, group: None }
}

/// Names of the files of one version.
struct Names {
    limit: &'static str,
    used: &'static str,
    reclaimable: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};
const V2: Names = Names { limit: "memory.max", used: "memory.current", reclaimable: "inactive_file" };

/// A group's folder and the mount point above which there is none.
struct Place {
    top: PathBuf,
    group: PathBuf,
    names: &'static Names,
}

impl Place {
    /// The memory groups of a process, of version 1 and 2: on a hybrid machine only one of them has the files.
    fn find_all(entries: &[CgroupEntry], mountinfo: &str) -> Vec<Place> {
        let place = |entry: &CgroupEntry, names, is_mount: &dyn Fn(&Mount<'_>) -> bool| {
            let mount = mountinfo.lines().filter_map(Mount::parse).find(|mount| is_mount(mount))?;
            let below = entry.path.strip_prefix(mount.root.trim_end_matches('/'))?;
            let below = below.trim_start_matches('/');
            // Outside of our cgroup namespace.
            let reachable = !below.split('/').any(|part| part == "..");
            reachable.then(|| Place { top: mount.at.into(), group: Path::new(mount.at).join(below), names })
        };
        let v1 = entries.iter().filter(|entry| entry.has("memory"));
        let v1 =
            v1.filter_map(|entry| place(entry, &V1, &|mount| mount.kind == "cgroup" && mount.has("memory")));
        let v2 = entries.iter().filter(|entry| entry.hierarchy == 0);
        let v2 = v2.filter_map(|entry| place(entry, &V2, &|mount| mount.kind == "cgroup2"));
        v1.chain(v2).collect()
    }

    /// The tightest group on the way up; `None` when none has a limit.
    fn tightest(&self) -> Option<Headroom> {
        let groups = self.group.ancestors().take_while(|group| group.starts_with(&self.top));
        groups.filter_map(|group| self.left_in(group)).min_by_key(|headroom| headroom.free)
    }

    fn left_in(&self, group: &Path) -> Option<Headroom> {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        // "max" is no number; version 1 writes a huge one for no limit.
        let limit = number(self.names.limit).filter(|&limit| limit < 1 << 60)?;
        let used = number(self.names.used)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let reclaimable = stat.lines().find_map(|line| {
            let (name, value) = line.split_once(' ')?;
            (name == self.names.reclaimable).then(|| value.trim().parse::<u64>().ok())?
        });
        let used = used.saturating_sub(reclaimable.unwrap_or(0));
        Some(Headroom { free: limit.saturating_sub(used), limit: Some(limit), group: Some(group.to_owned()) })
    }
}

/// The fields of one line of mountinfo that are of use here.
struct Mount<'a> {
    root: &'a str,
    at: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, at) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        Some(Mount { root, at, kind: after.next()?, options: after.nth(1)? })
    }

    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|name| name == option)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(at: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(at).unwrap();
        for (name, text) in files {
            fs::write(at.join(name), text).unwrap();
        }
    }

    fn tightest(top: &Path, cgroup: &str, mounts: &str) -> Option<Headroom> {
        let mounts = mounts.replace("TOP", top.to_str().unwrap());
        let places = Place::find_all(&CgroupEntry::parse_all(cgroup.as_bytes()), &mounts);
        places.iter().filter_map(Place::tightest).min_by_key(|headroom| headroom.free)
    }

    #[test]
    fn version_two_counts_the_tightest_group_on_the_way_up_and_not_what_can_be_taken_back() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        group(
            &top.join("pod"),
            &[
                ("memory.max", "1000\n"),
                ("memory.current", "900\n"),
                ("memory.stat", "anon 1\ninactive_file 50\n"),
            ],
        );
        group(&top.join("pod/app"), &[("memory.max", "max\n"), ("memory.current", "10\n")]);
        let found =
            tightest(top, "0::/pod/app\n", "30 1 0:26 / TOP rw - cgroup2 cgroup2 rw,nsdelegate\n").unwrap();
        assert_eq!((found.free, found.limit, found.group), (150, Some(1000), Some(top.join("pod"))));
    }

    #[test]
    fn version_one_takes_the_memory_hierarchy_and_its_huge_number_for_none() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        group(top, &[("memory.limit_in_bytes", "9223372036854771712\n"), ("memory.usage_in_bytes", "5\n")]);
        group(
            &top.join("docker/x"),
            &[
                ("memory.limit_in_bytes", "300\n"),
                ("memory.usage_in_bytes", "290\n"),
                ("memory.stat", "inactive_file 1\ntotal_inactive_file 40\n"),
            ],
        );
        let cgroup = "4:memory:/docker/x\n3:cpu:/elsewhere\n0::/\n";
        let mounts = "34 31 0:30 / /sys/cpu rw - cgroup cgroup rw,cpu\n35 31 0:31 / TOP rw - cgroup cgroup rw,memory\n";
        assert_eq!(tightest(top, cgroup, mounts).unwrap().free, 50);
        // A mount that shows only a part of the tree, as inside a container.
        let mounts = "35 31 0:31 /docker TOP/docker rw - cgroup cgroup rw,memory\n";
        assert_eq!(tightest(top, cgroup, mounts).unwrap().free, 50);
    }

    #[test]
    fn groups_outside_of_our_namespace_do_not_count() {
        let top = tempfile::tempdir().unwrap();
        assert_eq!(tightest(top.path(), "0::/../pod\n", "30 1 0:26 / TOP rw - cgroup2 cgroup2 rw\n"), None);
    }

    #[test]
    fn this_process_has_headroom() {
        let found = Headroom::of(&Process::own().unwrap()).unwrap();
        assert!(found.free > 1 << 20 && found.free < 1 << 50, "{found:?}");
    }
}
