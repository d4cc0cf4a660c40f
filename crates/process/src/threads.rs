//! The threads of a process: `/proc/PID/task`.

use std::io::Read as _;

use rustix::fs::{Mode, OFlags};

use crate::{
    AgentTid, Process, ProcessError,
    stat::{Stat, State},
    status::Status,
};

/// Most threads that are looked at; the kernel's own default limit for a machine is near it.
const MOST: usize = 32 << 10;

/// One thread, as far as it can be seen without stopping it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number in the agent's `/proc`.
    pub tid: AgentTid,
    /// Its number in its own innermost PID namespace.
    pub container_tid: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// What it does now.
    pub state: State,
    /// What holds it by ptrace; 0 for nothing.
    pub tracer: u32,
    /// The kernel function it sleeps in (proc_pid_wchan(5)); `None` while it runs or where we may not see it.
    pub wait_channel: Option<String>,
    /// The system call it is in (proc_pid_syscall(5)); `None` where we may not see it.
    pub syscall: Option<SyscallNow>,
}

/// What `/proc/PID/task/TID/syscall` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallNow {
    /// It runs: the kernel does not say where.
    Running,
    /// It is in the kernel, but in no system call (a page fault, a stop).
    Blocked {
        /// Stack pointer.
        stack_pointer: u64,
        /// Program counter.
        program_counter: u64,
    },
    /// It is in a system call.
    Call {
        /// Number of the call, by the architecture's table.
        number: u64,
        /// Its arguments.
        arguments: [u64; 6],
        /// Stack pointer.
        stack_pointer: u64,
        /// Program counter.
        program_counter: u64,
    },
}

impl SyscallNow {
    /// Reads the file's text; `None` when it is not as the manual says.
    #[must_use]
    pub fn parse(text: &str) -> Option<SyscallNow> {
        let text = text.trim();
        if text == "running" {
            return Some(SyscallNow::Running);
        }
        let (number, rest) = text.split_once(' ')?;
        let values = rest.split_ascii_whitespace().map(hex).collect::<Option<Vec<u64>>>()?;
        match (number, values.as_slice()) {
            ("-1", &[stack_pointer, program_counter]) => {
                Some(SyscallNow::Blocked { stack_pointer, program_counter })
            }
            (number, &[a, b, c, d, e, f, stack_pointer, program_counter]) => Some(SyscallNow::Call {
                number: number.parse().ok()?,
                arguments: [a, b, c, d, e, f],
                stack_pointer,
                program_counter,
            }),
            _ => None,
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Reads all threads; those that end meanwhile are left out.
pub(crate) fn read(process: &Process) -> Result<Vec<Thread>, ProcessError> {
    let mut threads: Vec<Thread> =
        list(process)?.into_iter().take(MOST).filter_map(|tid| Task { process, tid }.thread()).collect();
    threads.sort_by_key(|thread| thread.tid);
    Ok(threads)
}

/// Numbers of all threads, in the kernel's order.
///
/// # Errors
/// The process has gone.
pub fn list(process: &Process) -> Result<Vec<AgentTid>, ProcessError> {
    let task = process.open_below("task", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let entries = rustix::fs::Dir::read_from(&task)
        .map_err(|error| ProcessError::read(process.pid(), "task", error))?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok());
    Ok(numbers.filter_map(AgentTid::new).collect())
}

/// A thread's number in its own innermost PID namespace; `None` when it has ended.
#[must_use]
pub fn container_tid(process: &Process, tid: AgentTid) -> Option<u32> {
    innermost(&Task { process, tid }.read("status")?)
}

/// One thread's directory.
struct Task<'a> {
    process: &'a Process,
    tid: AgentTid,
}

impl Task<'_> {
    fn thread(&self) -> Option<Thread> {
        let stat = Stat::parse(&self.read("stat")?)?;
        let text = self.read("status")?;
        let status = Status::parse(&text)?;
        let wait_channel = self.text("wchan").filter(|text| !text.is_empty() && text != "0");
        Some(Thread {
            tid: self.tid,
            container_tid: innermost(&text).unwrap_or(self.tid.get()),
            name: stat.name,
            state: status.state,
            tracer: status.tracer,
            wait_channel,
            syscall: self.text("syscall").as_deref().and_then(SyscallNow::parse),
        })
    }

    fn text(&self, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.read(name)?).trim_end().to_owned())
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = format!("task/{}/{name}", self.tid);
        let fd = rustix::fs::openat(
            self.process.proc_dir(),
            path,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let mut bytes = Vec::new();
        std::fs::File::from(fd).take(64 << 10).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// The thread's own number in its innermost PID namespace, from its `/proc/PID/task/TID/status` (`NSpid`; `Status` keeps the process's).
#[must_use]
pub fn innermost(status: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(status);
    text.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_ascii_whitespace().last()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_call_file_is_read_in_its_three_forms() {
        assert_eq!(SyscallNow::parse("running\n"), Some(SyscallNow::Running));
        assert_eq!(
            SyscallNow::parse("-1 0x7ffd0 0x4010a4\n"),
            Some(SyscallNow::Blocked { stack_pointer: 0x7ffd0, program_counter: 0x0040_10a4 })
        );
        assert_eq!(
            SyscallNow::parse("230 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffd0 0x7f01\n"),
            Some(SyscallNow::Call {
                number: 230,
                arguments: [1, 2, 3, 4, 5, 6],
                stack_pointer: 0x7ffd0,
                program_counter: 0x7f01
            })
        );
        for text in ["", "0", "-1 0x1", "1 0x1 0x2", "x 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8", "1 2 3 4 5 6 7 8 9"]
        {
            assert_eq!(SyscallNow::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn our_own_threads_are_found_by_name() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (ready, named) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("pepo-sleeper".into())
            .spawn(move || {
                ready.send(()).unwrap();
                wait.recv().unwrap();
            })
            .unwrap();
        named.recv().unwrap();
        let threads = Process::own().unwrap().threads().unwrap();
        let found = threads.iter().find(|thread| thread.name == "pepo-sleeper");
        assert!(found.is_some_and(|thread| thread.tracer == 0 && thread.container_tid > 0), "{threads:?}");
        go.send(()).unwrap();
        thread.join().unwrap();
    }
}
