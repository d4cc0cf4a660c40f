//! From what names a target to the process.
//!
//! A number that somebody else said is never trusted alone: a process belongs to a container when its control groups, or
//! the files its engine has mounted into it, carry the container's id.
//!
//! Without a selector a container means its **main process**: the first process of its PID namespace, or, where the
//! container shares another's PID namespace, the oldest process whose parent is outside the container. Where the first
//! process is one of the well-known tiny inits with a single child, the child is meant.

use std::collections::HashMap;

use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{self, target::Kind},
};
use regex::Regex;

use crate::{AgentPid, Process, ProcessError, cgroup, list, redact, stat::Stat, status::Status};

/// Most candidates that a failure lists.
const LISTED: usize = 10;

/// Programs that only start another one and collect zombies; ours goes by two names.
const INITS: &[&str] =
    &["tini", "docker-init", "podman-init", "catatonit", "dumb-init", "pepo-entry", "pepo"];

/// The process that a target means.
///
/// # Errors
/// [`Code::ProcessNotFound`] and [`Code::ProcessAmbiguous`] with the candidates, [`Code::PidNotProven`],
/// [`Code::NotRunning`], [`Code::Usage`] for a broken pattern.
pub fn resolve(target: &agent::Target) -> Result<Process, Failure> {
    let selector = target.selector.clone().unwrap_or_default();
    match &target.kind {
        Some(Kind::Process(process)) => resolve_process(process, &selector),
        Some(Kind::Container(container)) => resolve_container(container, &selector),
        None => Err(Failure::new(Code::Internal, "the target names neither a container nor a process")),
    }
}

/// As [`resolve`], for whoever looks at the program or stops it: what is left of a container that only the entry keeps is no program.
///
/// # Errors
/// As [`resolve`]; [`Code::NotRunning`] when the program has ended and the entry keeps its container.
pub fn program(target: &agent::Target) -> Result<Process, Failure> {
    let process = resolve(target)?;
    let chosen =
        target.selector.as_ref().is_some_and(|one| !one.process.is_empty() || one.container_pid != 0);
    match &target.kind {
        Some(Kind::Container(container)) if !chosen && keeps_alone(&process) => Err(ended(container)),
        _ => Ok(process),
    }
}

/// Is it the entry, which has no program any more?
fn keeps_alone(process: &Process) -> bool {
    let is_entry = |name: &str| match name {
        "pepo-entry" => true,
        "pepo" => process.command_line().is_ok_and(|line| line.get(1).is_some_and(|word| word == "entry")),
        _ => false,
    };
    process.status().is_ok_and(|status| status.is_init())
        && process.stat().is_ok_and(|stat| is_entry(&stat.name))
        && children(process).is_some_and(|children| children.is_empty())
}

/// The children of its first thread that have not ended (proc_pid_task(5)); unknown where the kernel does not tell.
fn children(process: &Process) -> Option<Vec<AgentPid>> {
    let pid = process.pid();
    let list = std::fs::read_to_string(process.proc_path().join(format!("task/{pid}/children"))).ok()?;
    let pids = list.split_whitespace().filter_map(|word| AgentPid::new(word.parse().ok()?));
    let lives = |pid: &AgentPid| {
        Process::open(*pid).and_then(|child| child.stat()).is_ok_and(|stat| !stat.state.is_zombie())
    };
    Some(pids.filter(lives).collect())
}

fn ended(target: &agent::ContainerTarget) -> Failure {
    let name = shown(target);
    Failure::new(Code::NotRunning, format!("the program of {name} has ended"))
        .because("the entry keeps its container: `pepo-entry status` in there says how it ended, `pepo-entry rerun` starts it again")
        .try_command("look around in there", ["pepo", "shell", name])
}

/// What to call the target in a command that the user may type next: as the caller called it.
pub fn called(target: &agent::Target, process: &Process) -> String {
    match &target.kind {
        Some(Kind::Container(container)) if !container.name.is_empty() => container.name.clone(),
        _ => format!("pid/{}", process.pid()),
    }
}

/// Is it a program of this name that only starts another one and collects zombies?
#[must_use]
pub fn is_tiny_init(name: &str) -> bool {
    INITS.contains(&name)
}

/// All processes of a target, the main one first; of a process, only itself.
///
/// # Errors
/// As [`resolve`].
pub fn members(target: &agent::Target) -> Result<Vec<Process>, Failure> {
    match &target.kind {
        Some(Kind::Container(container)) => {
            let members = Members::of(container)?;
            let main = members.main().map(|member| member.process.pid());
            let mut processes: Vec<Process> = members.all.into_iter().map(|member| member.process).collect();
            processes
                .sort_by_key(|process| (Some(process.pid()) != main, process.start_time(), process.pid()));
            Ok(processes)
        }
        _ => Ok(vec![resolve(target)?]),
    }
}

fn resolve_process(target: &agent::ProcessTarget, selector: &agent::Selector) -> Result<Process, Failure> {
    let Some(pid) = AgentPid::new(target.agent_pid) else {
        return Err(Failure::new(
            Code::BadName,
            format!("{} is not the number of a process", target.agent_pid),
        ));
    };
    let own_namespace = Process::own().ok().and_then(|own| own.pid_namespace());
    if target.pid_namespace != 0 && own_namespace.is_some_and(|own| own != target.pid_namespace) {
        return Err(Failure::new(
            Code::PidNotProven,
            format!("process {pid} was named in another PID namespace than the agent's"),
        )
        .because("the same number is another process here"));
    }
    let process = Process::open_started(pid, target.start_time).map_err(|error| error.failure())?;
    let member = Member::new(process).map_err(|error| error.failure())?;
    if Pattern::new(selector)?.fits(&member, None) {
        return Ok(member.process);
    }
    Err(Failure::new(Code::ProcessNotFound, format!("process {pid} does not fit the selector"))
        .because(member.line(None))
        .hint(format!("`pid/{pid}` names the process already: leave `--process` and `--pid` out"))
        .try_command("or look for another", ["pepo", "ps", "--all"]))
}

fn resolve_container(
    target: &agent::ContainerTarget,
    selector: &agent::Selector,
) -> Result<Process, Failure> {
    let pattern = Pattern::new(selector)?;
    if let Some(main) = proven_main(target).filter(|_| pattern.is_empty()) {
        return Ok(main);
    }
    let members = Members::of(target)?;
    let depth = members.depth();
    if pattern.is_empty() {
        let main = members.main().map(|member| member.process.pid());
        let found = members.all.into_iter().find(|member| Some(member.process.pid()) == main);
        return found.map(|member| member.process).ok_or_else(|| not_running(target));
    }
    let (mut fitting, others): (Vec<Member>, Vec<Member>) = members
        .all
        .into_iter()
        .partition(|member| pattern.fits(member, depth) && !member.status.state.is_zombie());
    match (fitting.pop(), fitting.is_empty()) {
        (Some(only), true) => Ok(only.process),
        (None, _) => Err(none_fits(target, &pattern, &others, depth)),
        (Some(last), false) => {
            fitting.push(last);
            Err(several_fit(target, &pattern, &fitting, depth))
        }
    }
}

/// The engine's own number for the main process, once it is proven: no other process has to be looked at then.
fn proven_main(target: &agent::ContainerTarget) -> Option<Process> {
    let member = Member::new(Process::open(AgentPid::new(target.pid_hint)?).ok()?).ok()?;
    let is_main = member.status.is_init() && !member.status.state.is_zombie() && !member.is_tiny_init();
    (is_main && member.belongs_to(&target.id)).then_some(member.process)
}

/// One process of a container.
struct Member {
    process: Process,
    stat: Stat,
    status: Status,
}

impl Member {
    fn new(process: Process) -> Result<Member, ProcessError> {
        Ok(Member { stat: process.stat()?, status: process.status()?, process })
    }

    /// Do its control groups or mounts carry the id?
    fn belongs_to(&self, id: &str) -> bool {
        in_cgroup(&self.process, id) || self.process.container().is_some_and(|container| container.id == id)
    }

    fn is_tiny_init(&self) -> bool {
        is_tiny_init(&self.stat.name)
    }

    /// Its number in the container's PID namespace, `depth` below the agent's.
    fn container_pid(&self, depth: Option<usize>) -> u32 {
        depth
            .and_then(|depth| self.status.ns_pid.get(depth).copied())
            .unwrap_or_else(|| self.status.container_pid())
    }

    fn command_line(&self) -> Vec<String> {
        self.process.command_line().unwrap_or_default()
    }

    /// As a candidate is shown.
    fn line(&self, depth: Option<usize>) -> String {
        let line = redact::command_line(&self.command_line()).join(" ");
        let line: String = line.chars().take(100).collect();
        format!("pid {}: {} ({line})", self.container_pid(depth), self.stat.name)
    }
}

/// All processes of a container.
struct Members {
    all: Vec<Member>,
}

impl Members {
    fn of(target: &agent::ContainerTarget) -> Result<Members, Failure> {
        if target.id.is_empty() {
            return Err(Failure::new(Code::Internal, "the container's id is empty"));
        }
        let pids = list::pids()
            .map_err(|error| Failure::new(Code::FileDenied, "cannot read /proc").because(error))?;
        let mut found = by_cgroup(&pids, &target.id);
        if found.is_empty() {
            found = by_mounts(&pids, &target.id);
        }
        let all: Vec<Member> = found.into_iter().filter_map(|pid| proven(pid, &target.id)).collect();
        if all.is_empty() { Err(not_found(target)) } else { Ok(Members { all }) }
    }

    /// The main process; see the head of this file.
    fn main(&self) -> Option<&Member> {
        let living = || self.all.iter().filter(|member| !member.status.state.is_zombie());
        let inits = living().filter(|member| member.status.is_init());
        // A program in the container may have made further PID namespaces: the outermost first process counts.
        if let Some(init) = inits.min_by_key(|member| (member.status.ns_pid.len(), member.stat.start_time)) {
            return Some(self.only_child_of_tiny(init).unwrap_or(init));
        }
        let inside = |pid: u32| self.all.iter().any(|member| member.process.pid().get() == pid);
        living()
            .filter(|member| !inside(member.status.parent))
            .min_by_key(|member| (member.stat.start_time, member.process.pid()))
            .or_else(|| living().min_by_key(|member| member.stat.start_time))
    }

    fn only_child_of_tiny(&self, init: &Member) -> Option<&Member> {
        let is_child = |member: &&Member| {
            member.status.parent == init.process.pid().get() && !member.status.state.is_zombie()
        };
        let mut children = self.all.iter().filter(is_child);
        let only = children.next().filter(|_| children.next().is_none());
        only.filter(|_| init.is_tiny_init())
    }

    /// How many PID namespaces below the agent's the container's is.
    fn depth(&self) -> Option<usize> {
        self.main()?.status.ns_pid.len().checked_sub(1)
    }
}

fn in_cgroup(process: &Process, id: &str) -> bool {
    let entries = process.cgroups().unwrap_or_default();
    match cgroup::container_of(&entries) {
        // A container within this one has an id of its own.
        Some(container) => container.id == id,
        None => entries.iter().any(|entry| cgroup::path_names(&entry.path, id)),
    }
}

fn by_cgroup(pids: &[AgentPid], id: &str) -> Vec<AgentPid> {
    let belongs = |pid: &AgentPid| Process::peek(*pid).is_ok_and(|(process, _)| in_cgroup(&process, id));
    pids.iter().copied().filter(belongs).collect()
}

/// Each mount namespace is looked at once; our own holds no container but the one we may be in ourselves.
fn by_mounts(pids: &[AgentPid], id: &str) -> Vec<AgentPid> {
    let mut seen: HashMap<u64, bool> = HashMap::new();
    let belongs = |pid: &AgentPid| {
        let Ok((process, _)) = Process::peek(*pid) else { return false };
        let Some(namespace) = process.mount_namespace() else { return false };
        *seen.entry(namespace).or_insert_with(|| process.container_id().as_deref() == Some(id))
    };
    pids.iter().copied().filter(belongs).collect()
}

/// Takes hold of the process and asks again, since the number may have gone to another one.
fn proven(pid: AgentPid, id: &str) -> Option<Member> {
    let member = Member::new(Process::open(pid).ok()?).ok()?;
    member.belongs_to(id).then_some(member)
}

/// What the user said about the process.
struct Pattern {
    pattern: Option<Regex>,
    container_pid: u32,
    text: String,
}

impl Pattern {
    fn new(selector: &agent::Selector) -> Result<Pattern, Failure> {
        let pattern = match selector.process.as_str() {
            "" => None,
            text => Some(Regex::new(text).map_err(|error| {
                Failure::new(Code::Usage, format!("`{text}` is not a regular expression")).because(error)
            })?),
        };
        let text = match (&pattern, selector.container_pid) {
            (Some(_), 0) => format!("--process {}", selector.process),
            (Some(_), pid) => format!("--process {} --pid {pid}", selector.process),
            (None, pid) => format!("--pid {pid}"),
        };
        Ok(Pattern { pattern, container_pid: selector.container_pid, text })
    }

    fn is_empty(&self) -> bool {
        self.pattern.is_none() && self.container_pid == 0
    }

    /// On name and command line, arguments separated by spaces; a number is the container's.
    fn fits(&self, member: &Member, depth: Option<usize>) -> bool {
        let by_number = self.container_pid == 0 || member.container_pid(depth) == self.container_pid;
        let text = || format!("{} {}", member.stat.name, member.command_line().join(" "));
        by_number && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&text()))
    }
}

fn shown(target: &agent::ContainerTarget) -> &str {
    if target.name.is_empty() { target.id.get(..12).unwrap_or(&target.id) } else { &target.name }
}

/// No process here carries the id. Was another one named for it?
fn not_found(target: &agent::ContainerTarget) -> Failure {
    let name = shown(target);
    let other = AgentPid::new(target.pid_hint).and_then(|pid| Process::open(pid).ok());
    if other.is_some() {
        return Failure::new(
            Code::PidNotProven,
            format!("process {} cannot be proven to be of {name}", target.pid_hint),
        )
        .because("neither its control groups nor its mounts carry the container's id")
        .hint("the engine may run on another machine or in a virtual machine");
    }
    not_running(target)
}

fn not_running(target: &agent::ContainerTarget) -> Failure {
    Failure::new(Code::NotRunning, format!("no process of {} runs here", shown(target)))
        .try_command("list what runs", ["pepo", "ps"])
}

fn none_fits(
    target: &agent::ContainerTarget,
    pattern: &Pattern,
    there: &[Member],
    depth: Option<usize>,
) -> Failure {
    let what = format!("no process of {} fits {}", shown(target), pattern.text);
    with_candidates(Failure::new(Code::ProcessNotFound, what), target, there, depth)
}

fn several_fit(
    target: &agent::ContainerTarget,
    pattern: &Pattern,
    fitting: &[Member],
    depth: Option<usize>,
) -> Failure {
    let what = format!("{} processes of {} fit {}", fitting.len(), shown(target), pattern.text);
    with_candidates(Failure::new(Code::ProcessAmbiguous, what), target, fitting, depth)
}

fn with_candidates(
    failure: Failure,
    target: &agent::ContainerTarget,
    candidates: &[Member],
    depth: Option<usize>,
) -> Failure {
    let mut failure = failure;
    for candidate in candidates.iter().take(LISTED) {
        failure = failure.because(candidate.line(depth));
    }
    if candidates.len() > LISTED {
        failure = failure.because(format!("and {} more", candidates.len() - LISTED));
    }
    let Some(first) = candidates.first() else { return failure };
    let pid = first.container_pid(depth).to_string();
    failure.try_command("name one by its number", ["pepo", "check", shown(target), "--pid", &pid])
}
