//! What a cluster could leave on this machine: looked at before it starts and after its end.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{Cluster, groups, place::Place, registry};
use crate::programs;

/// The state of this machine, as far as a cluster could change it.
pub struct Machine {
    facts: BTreeSet<String>,
    /// Whether other clusters run, which have changed its settings as well.
    others: bool,
}

impl Machine {
    /// Looks at mounts, links, routes, control groups at the top, and settings of the kernel.
    pub fn look() -> Machine {
        let mut facts = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        facts.extend(mounts.lines().map(|line| format!("mount {line}")));
        facts.extend(names(Path::new("/sys/class/net")).map(|name| format!("link {name}")));
        let routes = programs::command("ip").args(["-4", "route"]).output().map(|output| output.stdout);
        let routes = String::from_utf8_lossy(&routes.unwrap_or_default()).into_owned();
        facts.extend(routes.lines().map(|line| format!("route {}", line.trim())));
        for hierarchy in groups::hierarchies() {
            facts.extend(names(&hierarchy).map(|name| format!("group {}", hierarchy.join(name).display())));
        }
        for name in registry::SETTINGS {
            let value = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
            facts.insert(format!("setting {name} = {}", value.trim()));
        }
        Machine { facts, others: !registry::all().is_empty() }
    }

    /// What of a cluster that was ended is still there, or was not put back as it was when this was looked at. Others'
    /// doings on this machine are not told.
    pub fn differences(&self, cluster: &Cluster) -> Vec<String> {
        let now = Machine::look();
        let ours = marks(&cluster.place);
        let settings = !self.others && !now.others;
        let tells = |fact: &&String| {
            ours.iter().any(|mark| fact.contains(mark)) || (settings && fact.starts_with("setting "))
        };
        let mut found: Vec<_> = self.facts.symmetric_difference(&now.facts).filter(tells).cloned().collect();
        found.extend(processes(&cluster.place));
        found
    }
}

/// What facts of this cluster have in them.
fn marks(place: &Place) -> Vec<String> {
    let network = |address: String| {
        address.rsplit_once('.').map(|(network, _)| format!("{network}.")).unwrap_or_default()
    };
    let mut marks = vec![place.folder.display().to_string(), place.group()];
    marks.extend([network(place.api()), network(place.service(1))]);
    marks.extend(place.all_nodes().map(|node| network(place.pods(node))));
    marks
}

/// Processes that have a file of its folder in their command line, or run in one of its control groups.
fn processes(place: &Place) -> Vec<String> {
    let (folder, group) = (format!("{}/", place.folder.display()), format!("/{}/", place.group()));
    let mut found = Vec::new();
    for pid in names(Path::new("/proc")).filter(|name| name.parse::<u32>().is_ok()) {
        let read = |file: &str| {
            let bytes = fs::read(PathBuf::from("/proc").join(&pid).join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let line = read("cmdline");
        if line.contains(&folder) || read("cgroup").contains(&group) {
            found.push(format!("process {pid}: {line}"));
        }
    }
    found
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
