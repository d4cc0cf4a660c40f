//! What threads wait for: the system call with what its arguments mean, the other end of a socket, who holds a lock.
//!
//! Read from `/proc` and from memory while the process runs on: a thread may have gone on meanwhile, so who holds a lock is only
//! said when it is the same before and after.

/// System calls that wait, and their arguments.
mod calls;
/// Locks and who holds them.
mod locks;
/// Sockets and their other ends.
mod sockets;

use std::{collections::HashMap, path::PathBuf};

use pepo_process::{
    AgentTid, Memory, Process,
    threads::{SyscallNow, Thread},
};
use pepo_wire::agent::{self, ThreadWaitedFor};

use self::sockets::Sockets;

/// The most descriptors of one call that are looked up.
const MOST_DESCRIPTORS: usize = 16;

/// The threads of a process, to be asked what they wait for.
pub(crate) struct Waits<'a> {
    process: &'a Process,
    memory: &'a Memory,
    /// Names by number, as in the container.
    names: HashMap<u32, String>,
    sockets: Sockets<'a>,
}

impl<'a> Waits<'a> {
    pub(crate) fn new(process: &'a Process, memory: &'a Memory, threads: &[Thread]) -> Waits<'a> {
        let names = threads.iter().map(|thread| (thread.container_tid, thread.name.clone())).collect();
        Waits { process, memory, names, sockets: Sockets::new(process) }
    }

    /// Says of a thread what it waits for.
    pub(crate) fn tell(&mut self, thread: &Thread, out: &mut agent::Thread) {
        let Some(SyscallNow::Call { number, ref arguments, .. }) = thread.syscall else { return };
        let call = calls::decode(self.memory, number, arguments);
        let mut words = HashMap::new();
        for descriptor in call.descriptors.iter().take(MOST_DESCRIPTORS) {
            let mut link = self.link(*descriptor);
            if let Some(socket) = inode(&link).and_then(|inode| self.sockets.find(inode)) {
                link = words_of(&socket);
                let descriptor = u32::try_from(*descriptor).unwrap_or(u32::MAX);
                out.sockets.push(agent::Socket { descriptor, ..socket });
            }
            words.insert(*descriptor, link);
        }
        let described = |descriptor: u64| match words.get(&descriptor) {
            Some(words) if !words.is_empty() => format!("{descriptor}: {words}"),
            _ => descriptor.to_string(),
        };
        out.syscall = call.words(&described);
        out.waits_for = self.waits_for(thread.tid, number, arguments);
    }

    /// `socket:[4711]`; empty when there is no such descriptor, or it is none of ours to see.
    fn link(&self, descriptor: u64) -> String {
        let link: Option<PathBuf> =
            std::fs::read_link(self.process.proc_path().join("fd").join(descriptor.to_string())).ok();
        link.map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn waits_for(&self, tid: AgentTid, number: u64, arguments: &[u64; 6]) -> Option<ThreadWaitedFor> {
        if i64::try_from(number) != Ok(libc::SYS_futex) {
            return None;
        }
        let is_thread = |tid: u32| self.names.contains_key(&tid);
        let found = locks::waited_for(self.memory, arguments, &is_thread)?;
        // Still there, and still for the same?
        let now = now(self.process, tid)?;
        let same = matches!(now, SyscallNow::Call { number: its, arguments: ref theirs, .. } if its == number && theirs == arguments);
        if !same || locks::waited_for(self.memory, arguments, &is_thread) != Some(found) {
            return None;
        }
        Some(ThreadWaitedFor {
            container_tid: found.thread,
            name: self.names.get(&found.thread).cloned().unwrap_or_default(),
            what: if found.until_end { "end" } else { "lock" }.to_owned(),
            address: arguments[0],
        })
    }
}

/// The inode of `socket:[4711]`.
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `tcp 10.0.0.2:40312 → 10.0.0.3:5432`, `tcp 0.0.0.0:80 (listen)`, `unix /run/app.sock`.
fn words_of(socket: &agent::Socket) -> String {
    let mut words = format!("{} {}", socket.protocol, socket.local).trim_end().to_owned();
    if !socket.peer.is_empty() {
        words.push_str(&format!(" → {}", socket.peer));
    }
    if !matches!(socket.state.as_str(), "" | "established") {
        words.push_str(&format!(" ({})", socket.state));
    }
    words
}

/// What a thread is doing in the kernel now.
pub(crate) fn now(process: &Process, tid: AgentTid) -> Option<SyscallNow> {
    let text = process.read(&format!("task/{tid}/syscall"), 4096).ok()?;
    SyscallNow::parse(&String::from_utf8_lossy(&text))
}

/// Threads that wait for each other's locks, each circle once, in words for people.
pub(crate) fn deadlocks(threads: &[agent::Thread]) -> Vec<String> {
    let next: HashMap<u32, u32> = threads
        .iter()
        .filter_map(|thread| {
            let waits_for = thread.waits_for.as_ref().filter(|waits_for| waits_for.what == "lock")?;
            Some((thread.container_tid, waits_for.container_tid))
        })
        .collect();
    let mut notes = Vec::new();
    for start in next.keys() {
        let circle: Vec<u32> =
            std::iter::successors(Some(*start), |at| next.get(at).copied().filter(|at| at != start))
                .take(next.len())
                .collect();
        let closed = circle.last().and_then(|last| next.get(last)) == Some(start);
        // Told by its lowest number.
        if closed && circle.iter().min() == Some(start) {
            let names: Vec<_> = circle.iter().map(u32::to_string).collect();
            notes.push(format!("deadlock: threads {} wait for each other's locks", names.join(", ")));
        }
    }
    notes.sort();
    notes
}
