//! Starting adapters and stubs: in a session of their own, without a descriptor of ours, without network, and each in its
//! [`Cage`].

#![allow(unsafe_code)] // `pre_exec`, `fork` and the ioctl that brings a loopback interface up have no safe form.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, PidfdFlags};

use super::cage::{self, Cage, Inmate, Warden};

/// A child with a descriptor that becomes readable when it ends.
#[derive(Debug)]
pub(super) struct Watched {
    child: Child,
    pub(super) pidfd: OwnedFd,
    /// Decides its calls, if there are any to decide.
    pub(super) warden: Option<Warden>,
}

impl Watched {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it ended? Collects it then.
    pub(super) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; `false` when it did not come in time.
    pub(super) fn wait(&mut self, within: std::time::Duration) -> bool {
        let _ = super::stub::readable(&self.pidfd, within);
        self.ended()
    }

    /// Answers a call that waits. Where that fails nobody is asked any more, and such calls fail.
    pub(super) fn answer(&mut self, stub_listens: bool) {
        if self.warden.as_mut().is_some_and(|warden| warden.answer(stub_listens).is_err()) {
            self.warden = None;
        }
    }

    /// Ends it the hard way. Only for one that owns no target.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a child; each of `files` is open in it under the number given.
pub(super) fn start(
    mut command: Command,
    inmate: Inmate<'_>,
    log: &Path,
    files: Vec<(RawFd, RawFd)>,
) -> io::Result<Watched> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
    let wrapped = cage::is_wrapped(&command);
    let (mut cage, listener) = Cage::build(inmate, &command)?;
    // SAFETY: between fork and exec the closure makes only system calls; it takes no lock and no memory.
    unsafe {
        command.pre_exec(move || {
            let _ = rustix::process::setsid();
            reset_signals();
            first_to_go();
            for &(from, to) in &files {
                keep_open(from, to);
            }
            Err(cage.enter())
        });
    }
    let child = command.spawn()?;
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let mut warden = match inmate {
        Inmate::Stub => None,
        Inmate::Adapter { needs, .. } => cage::warden(&listener, needs),
    };
    if let Some(warden) = warden.as_mut().filter(|_| wrapped) {
        warden.unwrap(child.id())?;
    }
    Ok(Watched { child, pidfd, warden })
}

/// A child must not inherit what the guard ignores.
fn reset_signals() {
    for signal in [libc::SIGPIPE, libc::SIGINT, libc::SIGHUP, libc::SIGTERM] {
        // SAFETY: setting a signal to its default has no memory to go wrong with.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// When memory runs out the adapter goes first: it is the largest, and the guard can live without it.
fn first_to_go() {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open("/proc/self/oom_score_adj", flags, rustix::fs::Mode::empty()) {
        let _ = rustix::io::write(&file, b"1000");
    }
}

/// Leaves the agent's network for one whose loopback interface is up (netdevice(7)); all children will live there. It takes a
/// guard about a millisecond, so it is done while that waits for its order. Where it is refused the network stays.
pub(super) fn leave_network() {
    // SAFETY: plain system calls with a structure of this frame; the guard has one thread.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return;
        }
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request);
        libc::close(socket);
    }
}

fn keep_open(from: RawFd, to: RawFd) {
    // SAFETY: both act on descriptors that the parent keeps open across the fork.
    unsafe {
        if from == to {
            libc::fcntl(from, libc::F_SETFD, 0);
        } else {
            libc::dup2(from, to);
        }
    }
}

/// Whatever the agent had open by mistake closes in our children.
pub(super) fn close_on_exec_all() {
    // SAFETY: sets a flag on descriptors above the standard ones; closes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Both sides of a fork.
pub(super) enum Fork {
    /// We are the parent: the child's number.
    Parent(Pid),
    /// We are the child.
    Child,
}

/// Forks the guard, which has one thread.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: the guard has one thread, so the child may do everything the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::ErrorKind::Other.into()),
    }
}

/// Ignores a signal in this process.
pub(super) fn ignore(signal: i32) {
    // SAFETY: ignoring a signal has no memory to go wrong with.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// SIGSTOP to one thread of a traced process: its tracer hears of it, nobody else in its group does.
pub(super) fn stop_thread(pid: u32, tid: u32) -> io::Result<()> {
    // SAFETY: a plain system call with numbers.
    match unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGSTOP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The standard input of the guard as a descriptor of its own.
pub(super) fn standard(fd: RawFd) -> io::Result<OwnedFd> {
    let file = match fd {
        0 => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
        _ => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?,
    };
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    match fd {
        0 => rustix::stdio::dup2_stdin(&null)?,
        _ => rustix::stdio::dup2_stdout(&null)?,
    }
    debug_assert!(file.as_raw_fd() > 2);
    Ok(file)
}
