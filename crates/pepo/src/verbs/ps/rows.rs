//! From what platforms list and what the agent of this machine sees to the rows of `pepo ps`. No IO.

use std::collections::{BTreeSet, HashMap, HashSet};

use pepo_platform::Listed;
use pepo_wire::{
    Code, Failure,
    agent::{Process, Verdict},
    failure::Exit,
    name::{Kind, TargetName},
};

use crate::render::words;

/// One row: a container with its main process, or a process alone.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Works with every verb.
    pub(super) target: TargetName,
    /// The image; empty when there is none.
    pub(super) image: String,
    /// One word for the state.
    pub(super) state: String,
    /// The id its runtime gave it; empty for none.
    pub(super) container_id: String,
    /// The container's main process, when the agent of this machine sees it.
    pub(super) process: Option<Process>,
    /// How many processes the container has, as far as they are seen from here.
    pub(super) processes: usize,
}

/// Would it work?
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer<'a> {
    /// Nobody can say from here.
    Unknown,
    /// Yes, from this process.
    Yes,
    /// Not from this process, which this forbids; but a helper container may.
    ByHelper(&'a Failure),
    /// No, and why.
    No(Option<&'a Failure>),
}

impl Answer<'_> {
    /// As it is shown and filtered.
    pub(super) fn word(self) -> &'static str {
        match self {
            Answer::Unknown => "?",
            Answer::Yes | Answer::ByHelper(_) => "yes",
            Answer::No(_) => "no",
        }
    }
}

impl Row {
    /// May it be looked at?
    pub(super) fn look(&self) -> Answer<'_> {
        self.answer(|process| process.look.as_ref())
    }

    /// May it be stopped?
    pub(super) fn stop(&self) -> Answer<'_> {
        self.answer(|process| process.stop.as_ref())
    }

    fn answer(&self, of: fn(&Process) -> Option<&Verdict>) -> Answer<'_> {
        // Engines make helpers, whose rights are theirs to give; nothing helps against another debugger.
        let engine = matches!(self.target.kind, Some(Kind::Docker | Kind::Podman));
        match self.process.as_ref().and_then(of) {
            None => Answer::Unknown,
            Some(Verdict { yes: true, .. }) => Answer::Yes,
            Some(Verdict { why: Some(why), .. })
                if engine && why.code().exit() == Exit::Permission && why.code() != Code::AlreadyTraced =>
            {
                Answer::ByHelper(why)
            }
            Some(Verdict { why, .. }) => Answer::No(why.as_ref()),
        }
    }
}

/// Containers in the order of their platforms, each once; then, with `all`, the processes outside of them.
pub(super) fn rows(listed: Vec<Listed>, here: &[Process], all: bool) -> Vec<Row> {
    let by_container = by_container(here);
    let of_engines: HashSet<String> = listed
        .iter()
        .filter(|one| one.name.kind != Some(Kind::Host) && !one.container_id.is_empty())
        .map(|one| one.container_id.clone())
        .collect();
    let wanted = |one: &Listed| {
        let twice = one.name.kind == Some(Kind::Host) && of_engines.contains(&one.container_id);
        let container = one.name.kind != Some(Kind::Pid);
        (all || one.state.has_process()) && !twice && (all || container)
    };
    let mut seen = BTreeSet::new();
    let mut rows: Vec<_> = listed
        .into_iter()
        .filter(|one| wanted(one))
        .filter(|one| seen.insert(one.name.clone()))
        .map(|one| row(one, &by_container))
        .collect();
    if all {
        let alone = here.iter().filter(|process| process.container_id.is_empty());
        rows.extend(alone.map(process_row).filter(|row| seen.insert(row.target.clone())));
    }
    rows.sort_by_key(order);
    rows
}

fn order(row: &Row) -> (Option<Kind>, u32, TargetName) {
    let number = if row.target.kind == Some(Kind::Pid) { row.target.name.parse().unwrap_or(0) } else { 0 };
    (row.target.kind, number, row.target.clone())
}

fn by_container(here: &[Process]) -> HashMap<&str, Vec<&Process>> {
    let mut containers: HashMap<&str, Vec<&Process>> = HashMap::new();
    for process in here {
        let id = if process.container_id.is_empty() { "" } else { process.container_id.as_str() };
        containers.entry(id).or_default().push(process);
    }
    containers
}

fn row(listed: Listed, containers: &HashMap<&str, Vec<&Process>>) -> Row {
    let members = match listed.container_id.as_str() {
        "" => &[][..],
        id => containers.get(id).map_or(&[][..], Vec::as_slice),
    };
    let claimed = listed.pid.map(pepo_platform::HostPid::get);
    // A number from an engine counts only when the process with it is in the container.
    let main = members
        .iter()
        .find(|process| Some(process.agent_pid) == claimed)
        .or_else(|| members.iter().min_by_key(|process| (process.container_pid, process.start_time)))
        .copied();
    let main = main.map(|init| program_of(init, members));
    let alone = || {
        let outside = containers.get("").map_or(&[][..], Vec::as_slice);
        outside
            .iter()
            .find(|process| listed.name.kind == Some(Kind::Pid) && Some(process.agent_pid) == claimed)
            .copied()
    };
    Row {
        process: main.or_else(alone).cloned(),
        processes: members.len(),
        target: listed.name,
        image: listed.image,
        state: listed.state.to_string(),
        container_id: listed.container_id,
    }
}

/// What a tiny init has started, as every verb takes it: its only living child.
fn program_of<'a>(init: &'a Process, members: &[&'a Process]) -> &'a Process {
    let is_child = |process: &&&Process| process.parent == init.agent_pid && process.state != "Z";
    let mut children = members.iter().filter(is_child);
    match (children.next(), children.next()) {
        (Some(only), None) if init.tiny_init => only,
        _ => init,
    }
}

fn process_row(process: &Process) -> Row {
    Row {
        target: TargetName { kind: Some(Kind::Pid), name: process.agent_pid.to_string() },
        image: String::new(),
        state: words::state(&process.state).to_owned(),
        container_id: String::new(),
        process: Some(process.clone()),
        processes: 1,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use pepo_platform::{HostPid, State};

    use super::*;

    pub(crate) fn listed(name: &str, id: &str, pid: u32, state: &str) -> Listed {
        Listed {
            name: name.parse().unwrap(),
            image: "shop:1.4".into(),
            state: State::read(state),
            health: None,
            container_id: id.into(),
            pid: HostPid::new(pid),
            labels: BTreeMap::new(),
            created: None,
        }
    }

    pub(crate) fn process(agent_pid: u32, container_pid: u32, container_id: &str) -> Process {
        Process {
            agent_pid,
            container_pid,
            container_id: container_id.into(),
            state: "S".into(),
            name: format!("p{agent_pid}"),
            ..Process::default()
        }
    }

    fn told(rows: &[Row]) -> Vec<(String, u32, usize)> {
        rows.iter()
            .map(|row| {
                (row.target.to_string(), row.process.as_ref().map_or(0, |one| one.agent_pid), row.processes)
            })
            .collect()
    }

    #[test]
    fn a_container_that_an_engine_and_procfs_both_know_is_one_row() {
        let listed = vec![
            listed("host/aa", "aa", 10, "running"),
            listed("docker/shop", "aa", 10, "running"),
            listed("host/bb", "bb", 20, "running"),
        ];
        let here = [process(10, 1, "aa"), process(11, 7, "aa"), process(20, 1, "bb")];
        let expected = [("docker/shop".to_owned(), 10, 2), ("host/bb".to_owned(), 20, 1)];
        assert_eq!(told(&rows(listed, &here, false)), expected);
    }

    #[test]
    fn what_a_tiny_init_has_started_is_shown_in_its_place() {
        let init = Process { tiny_init: true, ..process(10, 1, "aa") };
        let child = |pid| Process { parent: 10, ..process(pid, pid - 10, "aa") };
        let dead = Process { state: "Z".into(), ..child(13) };
        let shown = |here: &[Process]| {
            told(&rows(vec![listed("docker/shop", "aa", 10, "running")], here, false))[0].1
        };
        assert_eq!(shown(&[init.clone(), child(11), dead.clone()]), 11);
        assert_eq!(shown(&[init.clone(), child(11), child(12)]), 10, "any of two may be meant");
        assert_eq!(shown(&[init, dead]), 10, "it keeps a container whose program has ended");
        assert_eq!(shown(&[process(10, 1, "aa"), child(11)]), 10, "a program with a child is no init");
    }

    #[test]
    fn an_engines_number_is_believed_only_for_a_process_of_that_container() {
        let listed = vec![listed("docker/far", "ff", 10, "running")];
        let here = [process(10, 1, "aa")];
        assert_eq!(told(&rows(listed, &here, false)), [("docker/far".to_owned(), 0, 0)]);
    }

    #[test]
    fn what_has_ended_and_processes_outside_of_containers_are_asked_for() {
        let listed =
            || vec![listed("docker/shop", "aa", 10, "running"), listed("docker/old", "bb", 0, "exited")];
        let here = [process(10, 1, "aa"), process(9, 9, ""), process(100, 100, "")];
        assert_eq!(told(&rows(listed(), &here, false)), [("docker/shop".to_owned(), 10, 1)]);
        let names: Vec<_> = told(&rows(listed(), &here, true)).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["docker/old", "docker/shop", "pid/9", "pid/100"]);
    }

    #[test]
    fn a_thousand_processes_take_no_time_to_speak_of() {
        let here: Vec<_> = (1..=1000).map(|pid| process(pid, 1, &format!("c{pid}"))).collect();
        let listed: Vec<_> = (1..=1000)
            .map(|pid| listed(&format!("docker/n{pid}"), &format!("c{pid}"), pid, "running"))
            .collect();
        let start = std::time::Instant::now();
        assert_eq!(rows(listed, &here, true).len(), 1000);
        assert!(start.elapsed() < std::time::Duration::from_millis(500), "{:?}", start.elapsed());
    }
}
