//! A proven handle on one process.
//!
//! A bare number may be given to another process at any moment. The handle holds a pidfd and the open directory
//! `/proc/PID`: both stay with the process they were opened for, and never lead to its successor (a read through the
//! directory of a dead process fails with ESRCH).

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
    process::{Pid, PidfdFlags, Signal},
};

use crate::{
    AgentPid, Memory, ProcessError,
    cgroup::{self, CgroupEntry, Container, Engine},
    maps::Map,
    namespaces::Namespaces,
    root,
    stat::Stat,
    status::Status,
    threads::{self, Thread},
};

/// Most bytes of a small file (`stat`, `status`, `cgroup`) that are read.
const SMALL: usize = 64 << 10;
/// Most bytes of command line and environment.
const TEXT: usize = 1 << 20;
/// Most bytes of `maps` and `mountinfo`: about 150,000 mappings.
const LARGE: usize = 16 << 20;

/// One process, proven to be the same for as long as the handle lives.
#[derive(Debug)]
pub struct Process {
    pid: AgentPid,
    start_time: u64,
    /// `/proc/PID`.
    dir: OwnedFd,
    /// Absent on kernels before 5.3 and where a sandbox refuses it; then nothing is ever signalled.
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// Takes hold of the process that has this number now.
    ///
    /// # Errors
    /// [`ProcessError::Gone`] when none has, [`ProcessError::NotAProcess`] for a thread's number,
    /// [`ProcessError::ForeignProc`] when `/proc` numbers other processes than system calls do.
    pub fn open(pid: AgentPid) -> Result<Process, ProcessError> {
        if !proc_is_ours() {
            return Err(ProcessError::ForeignProc);
        }
        let pidfd = open_pidfd(pid)?;
        let dir = open_dir(pid)?;
        let mut process = Process { pid, start_time: 0, dir, pidfd };
        let stat = process.stat()?;
        process.start_time = stat.start_time;
        process.confirm(&stat)?;
        Ok(process)
    }

    /// As [`Process::open`], and it must have started at that time (clock ticks after boot); 0 accepts any.
    ///
    /// # Errors
    /// Also [`ProcessError::Reused`].
    pub fn open_started(pid: AgentPid, start_time: u64) -> Result<Process, ProcessError> {
        let process = Process::open(pid)?;
        if start_time != 0 && start_time != process.start_time {
            return Err(ProcessError::Reused { pid, wanted: start_time, found: process.start_time });
        }
        Ok(process)
    }

    /// This very process.
    ///
    /// # Errors
    /// As [`Process::open`].
    pub fn own() -> Result<Process, ProcessError> {
        Process::open(AgentPid::own())
    }

    /// A look at the process that has this number now, to list it: as [`Process::open`] without the pidfd, so it can be
    /// neither signalled nor waited for.
    pub(crate) fn peek(pid: AgentPid) -> Result<(Process, Stat), ProcessError> {
        let mut process = Process { pid, start_time: 0, dir: open_dir(pid)?, pidfd: None };
        let stat = process.stat()?;
        process.start_time = stat.start_time;
        Ok((process, stat))
    }

    /// Did number, pidfd and directory belong to one process when all were open?
    fn confirm(&self, before: &Stat) -> Result<(), ProcessError> {
        // While the pidfd's process has not ended its number is its own, so the directory is its own too. One that has
        // ended and was not collected yet is held fast by its zombie.
        let ended = self.pidfd.as_ref().is_some_and(|pidfd| has_ended(pidfd.as_fd()));
        let now = self.stat()?;
        if now.start_time != before.start_time || (ended && !now.state.is_zombie()) {
            return Err(ProcessError::Gone { pid: self.pid });
        }
        Ok(())
    }

    /// Its number in the agent's `/proc`.
    #[must_use]
    pub fn pid(&self) -> AgentPid {
        self.pid
    }

    /// When it started, in clock ticks after boot. With the number it names the process until the next boot.
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Does it still run? A zombie does not.
    #[must_use]
    pub fn alive(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => !has_ended(pidfd.as_fd()),
            None => self.stat().is_ok_and(|stat| !stat.state.is_zombie()),
        }
    }

    /// The pidfd, to wait for its end (readable then) or for `pidfd_getfd`; `None` on old kernels.
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// The open directory `/proc/PID`.
    #[must_use]
    pub fn proc_dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// `/proc/PID` as a path, for programs that are told of the process by path. Proves nothing by itself.
    #[must_use]
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }

    /// `/proc/PID/stat`.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn stat(&self) -> Result<Stat, ProcessError> {
        Stat::parse(&self.read("stat", SMALL)?).ok_or_else(|| self.malformed("stat"))
    }

    /// `/proc/PID/status`.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn status(&self) -> Result<Status, ProcessError> {
        Status::parse(&self.read("status", SMALL)?).ok_or_else(|| self.malformed("status"))
    }

    /// The command line, one argument each; empty for a zombie. The process may write there what it likes: secrets are
    /// still in it (see [`crate::redact`]), what is no UTF-8 is replaced, and it is cut at 1 MiB.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn command_line(&self) -> Result<Vec<String>, ProcessError> {
        Ok(split_nul(&self.read("cmdline", TEXT)?)
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect())
    }

    /// The environment it was started with: names and values. Secrets are still in it. Needs the right to read the process.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn environ(&self) -> Result<Vec<(String, String)>, ProcessError> {
        Ok(split_nul(&self.read("environ", TEXT)?)
            .filter_map(|text| {
                let text = String::from_utf8_lossy(text);
                text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
            })
            .collect())
    }

    /// Its mappings. Needs the right to read the process.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn maps(&self) -> Result<Vec<Map>, ProcessError> {
        Ok(Map::parse_all(&self.read("maps", LARGE)?))
    }

    /// Its threads, by number. Those that end meanwhile are left out.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn threads(&self) -> Result<Vec<Thread>, ProcessError> {
        threads::read(self)
    }

    /// Inodes of its namespaces, as far as we may see them.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        Namespaces::read(&self.dir)
    }

    /// Inode of its PID namespace, if we may see it.
    #[must_use]
    pub fn pid_namespace(&self) -> Option<u64> {
        Namespaces::read_pid(&self.dir)
    }

    /// Inode of its mount namespace, if we may see it.
    #[must_use]
    pub fn mount_namespace(&self) -> Option<u64> {
        Namespaces::read_mount(&self.dir)
    }

    /// Whether a path means the same file to it as to us: its root is ours, in our mount namespace. `false` where we may not see it.
    #[must_use]
    pub fn shares_our_root(&self) -> bool {
        let place = |dir: BorrowedFd<'_>, path: &str| {
            rustix::fs::statat(dir, path, AtFlags::empty()).ok().map(|stat| (stat.st_dev, stat.st_ino))
        };
        let same = |name: &str, ours: &str| {
            place(self.dir.as_fd(), name).is_some_and(|theirs| place(CWD, ours) == Some(theirs))
        };
        same("ns/mnt", "/proc/self/ns/mnt") && same("root", "/")
    }

    /// Its control groups, one for each hierarchy.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn cgroups(&self) -> Result<Vec<CgroupEntry>, ProcessError> {
        Ok(CgroupEntry::parse_all(&self.read("cgroup", SMALL)?))
    }

    /// The container it belongs to: by its control groups, else by the files its engine has mounted into it. These also tell
    /// the engine where the groups have names of the user's own.
    #[must_use]
    pub fn container(&self) -> Option<Container> {
        let by_cgroup = self.cgroups().ok().and_then(|entries| cgroup::container_of(&entries));
        if by_cgroup.as_ref().is_some_and(|container| container.engine != Engine::Unknown) {
            return by_cgroup;
        }
        let by_mounts =
            self.read("mountinfo", LARGE).ok().and_then(|text| cgroup::container_of_mounts(&text));
        match (by_cgroup, by_mounts) {
            (Some(group), Some(mounts)) if group.id == mounts.id => {
                Some(Container { engine: mounts.engine, ..group })
            }
            (Some(group), _) => Some(group),
            (None, mounts) => mounts,
        }
    }

    /// Id of the container it belongs to.
    #[must_use]
    pub fn container_id(&self) -> Option<String> {
        self.container().map(|container| container.id)
    }

    /// `/proc/PID/exe` as a link: the executable's path as the target sees it; ` (deleted)` is cut off.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said; it needs the right to read the process.
    pub fn exe_path(&self) -> Result<PathBuf, ProcessError> {
        let link = rustix::fs::readlinkat(&self.dir, "exe", Vec::new())
            .map_err(|error| ProcessError::read(self.pid, "exe", error))?;
        let text = link.to_string_lossy().into_owned();
        Ok(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text)))
    }

    /// The executable itself, even when it was removed or replaced since.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what opening said; it needs the right to read the process.
    pub fn open_exe(&self) -> Result<File, ProcessError> {
        self.open_below("exe", OFlags::RDONLY)
    }

    /// A file behind a mapping, even when it was removed or replaced since. Needs CAP_CHECKPOINT_RESTORE or
    /// CAP_SYS_ADMIN (proc_pid_map_files(5)).
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what opening said.
    pub fn open_mapped(&self, map: &Map) -> Result<File, ProcessError> {
        self.open_below(&format!("map_files/{:x}-{:x}", map.start, map.end), OFlags::RDONLY)
    }

    /// A regular file as the target sees it, never outside its root, never a device or FIFO.
    ///
    /// # Errors
    /// [`ProcessError::NoFile`], [`ProcessError::NotAFile`], [`ProcessError::File`].
    pub fn open_in_root(&self, path: impl AsRef<Path>) -> Result<File, ProcessError> {
        root::open(self, path.as_ref())
    }

    /// A folder as the target sees it, never outside its root, only to reach what is in it (O_PATH).
    ///
    /// # Errors
    /// [`ProcessError::File`], or what opening said; it needs the right to read the process.
    pub fn folder_in_root(&self, path: impl AsRef<Path>) -> Result<OwnedFd, ProcessError> {
        root::open_folder(self, path.as_ref())
    }

    /// Its memory, to read and, where the system lets us, to write.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what opening said; it needs the right to trace.
    pub fn memory(&self) -> Result<Memory, ProcessError> {
        let file = match self.open_below("mem", OFlags::RDWR) {
            Err(error) if error.is_denied() => self.open_below("mem", OFlags::RDONLY)?,
            other => other?,
        };
        Ok(Memory::new(self.pid, file))
    }

    /// Which of its pages are there (proc_pid_pagemap(5)).
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what opening said; it needs the right to read the process.
    pub fn pagemap(&self) -> Result<File, ProcessError> {
        self.open_below("pagemap", OFlags::RDONLY)
    }

    /// Sends a signal that the process has a handler for.
    ///
    /// # Errors
    /// [`ProcessError::NotCaught`] for one that it has not: most would end it.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        if !self.status()?.catches(signal.as_raw()) {
            return Err(ProcessError::NotCaught { pid: self.pid, signal: signal.as_raw() });
        }
        self.send(signal)
    }

    /// Lets it run on after a job-control stop (SIGCONT, which ends no process).
    ///
    /// # Errors
    /// What sending said.
    pub fn resume(&self) -> Result<(), ProcessError> {
        self.send(Signal::CONT)
    }

    fn send(&self, signal: Signal) -> Result<(), ProcessError> {
        let sent = match &self.pidfd {
            Some(pidfd) => rustix::process::pidfd_send_signal(pidfd, signal),
            None => Err(Errno::NOSYS),
        };
        sent.map_err(|error| match error {
            Errno::SRCH => ProcessError::Gone { pid: self.pid },
            error => ProcessError::Signal { pid: self.pid, signal: signal.as_raw(), source: error.into() },
        })
    }

    /// Reads a file below `/proc/PID`, at most `limit` bytes of it.
    ///
    /// # Errors
    /// [`ProcessError::Gone`], or what reading said.
    pub fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, ProcessError> {
        let file = self.open_below(name, OFlags::RDONLY)?;
        let mut bytes = Vec::with_capacity(limit.min(4096));
        while bytes.len() < limit {
            let room = limit.min(2 * bytes.len().max(2048)) - bytes.len();
            bytes.reserve(room);
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(ProcessError::read(self.pid, name, error)),
            }
        }
        bytes.truncate(limit);
        Ok(bytes)
    }

    /// Opens something below `/proc/PID`.
    pub(crate) fn open_below(&self, name: &str, flags: OFlags) -> Result<File, ProcessError> {
        let opened =
            rustix::fs::openat(&self.dir, name, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
        match opened {
            Ok(fd) => Ok(File::from(fd)),
            // A collected process has an empty directory; some entries are missing in a living one's too.
            Err(Errno::NOENT) if !self.has_entry("stat") => Err(ProcessError::Gone { pid: self.pid }),
            Err(error) => Err(ProcessError::read(self.pid, name, error)),
        }
    }

    fn has_entry(&self, name: &str) -> bool {
        rustix::fs::accessat(&self.dir, name, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty())
            .is_ok()
    }

    fn malformed(&self, what: impl AsRef<OsStr>) -> ProcessError {
        ProcessError::Malformed { pid: self.pid, what: what.as_ref().to_string_lossy().into_owned() }
    }
}

/// Does `/proc` number processes as our system calls do? Not so when only one of the two namespaces was entered.
fn proc_is_ours() -> bool {
    static OURS: OnceLock<bool> = OnceLock::new();
    *OURS.get_or_init(|| {
        std::fs::read_link("/proc/self")
            .is_ok_and(|link| link.to_str() == Some(&std::process::id().to_string()))
    })
}

fn open_pidfd(pid: AgentPid) -> Result<Option<OwnedFd>, ProcessError> {
    let Some(raw) = Pid::from_raw(pid.as_raw()) else { return Err(ProcessError::Gone { pid }) };
    match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Err(ProcessError::Gone { pid }),
        // ENOENT since Linux 6.15, EINVAL before: a thread that is not the main one, or a main thread that is already gone.
        Err(Errno::NOENT | Errno::INVAL) => Err(ProcessError::NotAProcess { pid }),
        // ENOSYS before Linux 5.3; EPERM from sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        Err(error) => Err(ProcessError::read(pid, "pidfd", error)),
    }
}

fn open_dir(pid: AgentPid) -> Result<OwnedFd, ProcessError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => ProcessError::Gone { pid },
        error => ProcessError::read(pid, "", error),
    })
}

/// A pidfd is readable once its process has ended.
fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&at_once)), Ok(count) if count > 0)
}

/// The parts between NUL bytes; the last NUL opens no further part.
fn split_nul(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    bytes.split(|&byte| byte == 0).filter(move |_| !bytes.is_empty())
}
