//! All processes, as they are shown: each file of each process is read once, each executable once for all who run it.

use std::fs;

use pepo_wire::agent;

use crate::{
    AgentPid, Process, ProcessError, find,
    permits::{Judge, Roots},
    redact,
    runtime::{self, RuntimeFacts},
    stat::Stat,
};

/// Most threads that read at the same time.
const MOST_WORKERS: usize = 4;
/// Fewest processes for which a thread is worth it.
const FEWEST: usize = 64;

/// Longest command line that is shown, in bytes.
const LONGEST: usize = 4096;

/// Numbers of all processes that `/proc` shows, in ascending order.
///
/// # Errors
/// What reading `/proc` said.
pub fn pids() -> std::io::Result<Vec<AgentPid>> {
    let entries = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut pids: Vec<AgentPid> = entries.filter_map(AgentPid::new).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Every process that the agent can see, without the kernel's own threads. Those that end meanwhile are left out.
#[must_use]
pub fn all() -> Vec<agent::Process> {
    let lister = Lister::new();
    let pids = pids().unwrap_or_default();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_WORKERS);
    let share = pids.len().div_ceil(workers).max(FEWEST);
    let list = |pids: &[AgentPid]| pids.iter().filter_map(|pid| lister.peek(*pid)).collect::<Vec<_>>();
    let list = &list;
    std::thread::scope(|scope| {
        let parts: Vec<_> = pids.chunks(share).map(|part| scope.spawn(move || list(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

/// One process as it is shown. The runtime is told as exactly as it can be.
///
/// # Errors
/// [`ProcessError::Gone`], or what reading said.
pub fn describe(process: &Process) -> Result<agent::Process, ProcessError> {
    describe_as(process, &runtime::detect(process))
}

/// As [`describe`], for a process whose runtime is known.
///
/// # Errors
/// As [`describe`].
pub fn describe_as(process: &Process, facts: &RuntimeFacts) -> Result<agent::Process, ProcessError> {
    Ok(Lister::new().describe(process, &process.stat()?, facts)?.0)
}

/// What is the same for all processes.
struct Lister {
    judge: Judge,
    /// Inode of our own mount namespace.
    mounts: Option<u64>,
}

impl Lister {
    fn new() -> Lister {
        let mounts = Process::own().ok().and_then(|own| own.mount_namespace());
        Lister { judge: Judge::new(&Roots::default()), mounts }
    }

    fn peek(&self, pid: AgentPid) -> Option<agent::Process> {
        let (process, stat) = Process::peek(pid).ok()?;
        let is_zombie = stat.state.is_zombie();
        let facts = if is_zombie { RuntimeFacts::default() } else { runtime::detect_by_exe(&process) };
        let (described, is_kernel) = self.describe(&process, &stat, &facts).ok()?;
        (!is_kernel).then_some(described)
    }

    /// The process, and whether it is a thread of the kernel.
    fn describe(
        &self,
        process: &Process,
        stat: &Stat,
        facts: &RuntimeFacts,
    ) -> Result<(agent::Process, bool), ProcessError> {
        let status = process.status()?;
        let theirs = self.judge.credentials(&process.proc_path(), &status);
        let is_kernel = !status.has_memory && !status.state.is_zombie();
        let described = agent::Process {
            agent_pid: process.pid().get(),
            container_pid: status.container_pid(),
            parent: status.parent,
            start_time: stat.start_time,
            pid_namespace: process.pid_namespace().unwrap_or(0),
            name: stat.name.clone(),
            command_line: shorten(redact::command_line(&process.command_line()?)),
            uid: status.uid[1],
            container_id: self.container_id(process).unwrap_or_default(),
            runtime: Some(agent::Runtime {
                language: facts.language.name().to_owned(),
                version: facts.version.clone().unwrap_or_default(),
                debugger: String::new(),
            }),
            state: status.state.letter().to_string(),
            tracer: status.tracer,
            look: Some(self.judge.look(&theirs).into()),
            stop: Some(self.judge.stop(&theirs).into()),
            uptime_seconds: stat.uptime_seconds(),
            resident_bytes: status.resident_bytes,
            threads: status.threads,
            tiny_init: find::is_tiny_init(&stat.name),
        };
        Ok((described, is_kernel))
    }

    /// By control groups; the mounts are read only for a process that has a mount namespace of its own.
    fn container_id(&self, process: &Process) -> Option<String> {
        if let Some(container) = crate::cgroup::container_of(&process.cgroups().ok()?) {
            return Some(container.id);
        }
        (process.mount_namespace()? != self.mounts?).then(|| process.container_id())?
    }
}

fn shorten(arguments: Vec<String>) -> Vec<String> {
    let mut left = LONGEST;
    let mut shown = Vec::with_capacity(arguments.len().min(64));
    for mut argument in arguments {
        if argument.len() > left {
            let end = (0..=left).rev().find(|&end| argument.is_char_boundary(end)).unwrap_or(0);
            argument.truncate(end);
            argument.push('…');
            shown.push(argument);
            break;
        }
        left -= argument.len();
        shown.push(argument);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_the_list_and_no_thread_of_the_kernel() {
        let all = all();
        let own = all.iter().find(|process| process.agent_pid == std::process::id()).unwrap();
        assert_eq!(own.start_time, Process::own().unwrap().start_time());
        assert_eq!(own.runtime.as_ref().unwrap().language, "native");
        assert!(own.look.as_ref().unwrap().yes && !own.stop.as_ref().unwrap().yes);
        assert!(own.pid_namespace > 0 && own.resident_bytes > 0 && own.threads >= 1);
        assert!(all.iter().all(|process| process.name != "kthreadd"));
    }

    #[test]
    fn a_process_alone_is_described_as_in_the_list() {
        let own = describe(&Process::own().unwrap()).unwrap();
        assert_eq!((own.agent_pid, own.container_pid), (std::process::id(), std::process::id()));
        assert!(own.uptime_seconds < 3600.0 && !own.command_line.is_empty());
    }

    #[test]
    fn long_command_lines_are_cut_between_letters() {
        let long = vec!["a".repeat(LONGEST - 1), "ü".repeat(10), "x".into()];
        let shown = shorten(long);
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[1], "…");
        assert_eq!(shorten(vec!["a".into(), "b".into()]), ["a", "b"]);
    }
}
