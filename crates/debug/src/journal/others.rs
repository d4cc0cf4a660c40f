//! Sessions of agents that keep a journal elsewhere: of other users, and in helper containers. An agent holds its journals open,
//! so they are seen among its files in `/proc`, as far as we may look.
//!
//! Whoever calls his program `pepo` can pretend to be one: nothing here waits for it, follows its links, or believes that a
//! process is held because it says so.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use pepo_process::{AgentPid, Process, list};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{CONTROL, Entry, FILE, Found, Hidden, read};

/// What the names of Pepo's programs begin with.
const PROGRAM: &str = "pepo";
/// The verbs that open sessions.
const HOLDING: [&str; 3] = ["attach", "dap", "agent"];
/// Most sessions that are told.
const MOST: usize = 1_000;

/// The sessions of all other processes that can be seen.
pub(super) fn all() -> Vec<Found> {
    let others = list::pids().unwrap_or_default().into_iter().filter(|pid| pid.get() != std::process::id());
    others.filter(|pid| is_pepo(*pid)).flat_map(of_process).take(MOST).collect()
}

/// An agent whose sessions cannot be seen, if there is one: it is another user's.
pub(super) fn hidden() -> Option<Hidden> {
    let others = list::pids().unwrap_or_default().into_iter().filter(|pid| pid.get() != std::process::id());
    let denied = |pid: &AgentPid| {
        let files = fs::read_dir(format!("/proc/{}/fd", pid.get()));
        files.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    let pid = others.filter(|pid| is_pepo(*pid) && may_hold(*pid)).find(denied)?;
    let owner = fs::metadata(format!("/proc/{}", pid.get())).ok()?.uid();
    Some(Hidden { pid: pid.get(), owner })
}

/// Does it do what opens sessions?
fn may_hold(pid: AgentPid) -> bool {
    let Ok(process) = Process::open(pid) else { return false };
    let line = process.command_line().unwrap_or_default();
    line.iter().skip(1).any(|word| HOLDING.contains(&word.as_str()))
}

fn is_pepo(pid: AgentPid) -> bool {
    fs::read_to_string(format!("/proc/{}/comm", pid.get())).is_ok_and(|name| name.starts_with(PROGRAM))
}

fn of_process(pid: AgentPid) -> Vec<Found> {
    let Ok(process) = Process::open(pid) else { return Vec::new() };
    let files = fs::read_dir(process.proc_path().join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| of_file(&process, &file.path())).collect()
}

/// A session, if this open file is its journal.
fn of_file(process: &Process, file: &Path) -> Option<Found> {
    let path = fs::read_link(file).ok()?;
    let folder = path.parent().filter(|_| path.file_name().is_some_and(|name| name == FILE))?;
    // A file of another kind might do something when it is opened.
    let seen = rustix::fs::open(file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let seen = fs::metadata(through(&seen)).ok().filter(fs::Metadata::is_file).map(|_| seen)?;
    let entry = read(&File::open(through(&seen)).ok()?)?;
    let socket = open_socket(process, &folder.join(CONTROL)).ok()?;
    let agent_pid = number_here(process, &entry).unwrap_or(0);
    Some(Found {
        entry: Entry { agent_pid, ..entry },
        folder: folder.to_owned(),
        live: true,
        socket: Some(socket),
    })
}

/// The control socket at a path of the process's own root.
fn open_socket(process: &Process, path: &Path) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(
        process.proc_path().join("root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let socket = rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    match fs::metadata(through(&socket))?.file_type().is_socket() {
        true => Ok(socket),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The name of an open file.
pub(super) fn through(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The number that the process of an agent's session has in our `/proc`.
fn number_here(agent: &Process, entry: &Entry) -> Option<u32> {
    let namespace = agent.pid_namespace()?;
    let is_it = |process: &Process| {
        process.start_time() == entry.start_time
            && process.pid_namespace() == Some(namespace)
            && process.status().is_ok_and(|status| status.container_pid() == entry.agent_pid)
    };
    let open = |pid| Process::open(pid).ok().filter(is_it);
    // Mostly it is the same number.
    let same = AgentPid::new(entry.agent_pid).and_then(open);
    same.or_else(|| list::pids().unwrap_or_default().into_iter().find_map(open))
        .map(|process| process.pid().get())
}
