//! Every system call that needs `unsafe`, each behind a function that does not.
//!
//! One thread alone runs here, so between `fork` and `exec` all is allowed that a program may do.
#![allow(unsafe_code, reason = "fork, exec, signal masks and ptrace have no safe form")]

use std::{
    ffi::{CStr, CString, c_char},
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

/// A set of blocked signals.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    /// All signals but these.
    pub(crate) fn all_but(signals: &[i32]) -> Mask {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigfillset` makes the set whole; `sigdelset` changes a whole set.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            for signal in signals {
                libc::sigdelset(set.as_mut_ptr(), *signal);
            }
            Mask(set.assume_init())
        }
    }

    /// Makes this the thread's mask and gives the one before.
    pub(crate) fn set(&self) -> io::Result<Mask> {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets live through the call, which writes the second.
        check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, before.as_mut_ptr()) })?;
        // SAFETY: the call has written it.
        Ok(Mask(unsafe { before.assume_init() }))
    }
}

/// Whether a signal that asks to end waits to be taken.
pub(crate) fn stop_asked() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: the call makes the set whole; membership is asked of a whole set.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0
            && [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT]
                .into_iter()
                .any(|signal| libc::sigismember(pending.as_ptr(), signal) == 1)
    }
}

/// What was done on a signal before.
#[derive(Clone, Copy)]
pub(crate) struct Action(i32, libc::sigaction);

/// Ignores a signal.
pub(crate) fn ignore(signal: i32) -> io::Result<Action> {
    // SAFETY: all zero is a `sigaction` with the default handler, no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = libc::SIG_IGN;
    let mut before = MaybeUninit::uninit();
    // SAFETY: both live through the call, which writes the second.
    check(unsafe { libc::sigaction(signal, &raw const action, before.as_mut_ptr()) })?;
    // SAFETY: the call has written it.
    Ok(Action(signal, unsafe { before.assume_init() }))
}

/// Does on SIGPIPE what is done by default.
pub(crate) fn default_pipe() {
    // SAFETY: no handler of ours is named; the signal can have a handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Signals as they arrive, from a descriptor that can be polled.
pub(crate) struct Signals(OwnedFd);

/// One signal that arrived.
pub(crate) struct Arrived {
    /// Its number.
    pub(crate) signal: i32,
    /// Who sent it; 0 if the kernel did, or somebody outside our PID namespace.
    pub(crate) sender: u32,
}

impl Signals {
    /// Signals in `mask`, which must be blocked.
    pub(crate) fn new(mask: &Mask) -> io::Result<Signals> {
        // SAFETY: the mask lives through the call; what it returns is ours alone.
        let fd =
            check(unsafe { libc::signalfd(-1, &raw const mask.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next one, if any has arrived.
    pub(crate) fn next(&self) -> io::Result<Option<Arrived>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has `size` bytes.
        let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: the kernel writes whole records.
        let info = unsafe { info.assume_init() };
        Ok(Some(Arrived { signal: info.ssi_signo.cast_signed(), sender: info.ssi_pid }))
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a child needs to become the program: made before the fork.
pub(crate) struct Exec {
    /// Files to try, in order.
    pub(crate) candidates: Vec<CString>,
    /// The shell that runs a file without a header.
    pub(crate) shell: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Exec {
    /// Files to try, the arguments from the program's own name on, `NAME=VALUE`s.
    pub(crate) fn new(candidates: Vec<CString>, arguments: Vec<CString>, environment: Vec<CString>) -> Exec {
        Exec { candidates, shell: c"/bin/sh".to_owned(), arguments, environment }
    }

    /// Becomes the program; returns only if it cannot, with the reason that `execvp` would give.
    fn exec(&self) -> io::Error {
        let arguments = pointers(self.arguments.iter());
        let environment = pointers(self.environment.iter());
        let mut denied = None;
        for file in &self.candidates {
            let error = execve(file, &arguments, &environment);
            match error.raw_os_error() {
                Some(libc::ENOEXEC) => return self.exec_shell(file, &environment),
                Some(libc::EACCES) => denied = Some(error),
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                _ => return error,
            }
        }
        denied.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn exec_shell(&self, file: &CString, environment: &[*const c_char]) -> io::Error {
        let words = [&self.shell, file].into_iter().chain(self.arguments.iter().skip(1));
        execve(&self.shell, &pointers(words), environment)
    }
}

fn pointers<'a>(words: impl Iterator<Item = &'a CString>) -> Vec<*const c_char> {
    words.map(|word| word.as_ptr()).chain([ptr::null()]).collect()
}

fn execve(file: &CStr, arguments: &[*const c_char], environment: &[*const c_char]) -> io::Error {
    // SAFETY: both lists end with a null pointer and point to strings that live through the call.
    unsafe { libc::execve(file.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// How the child differs from us before it becomes the program.
pub(crate) struct Child<'a> {
    /// The signals it has blocked.
    pub(crate) mask: &'a Mask,
    /// What it does on signals that we ignore.
    pub(crate) actions: &'a [Action],
    /// Whether its new group becomes the terminal's foreground.
    pub(crate) foreground: bool,
    /// Whether it stops after `exec`, traced by us.
    pub(crate) traced: bool,
}

/// What keeps a child from becoming the program.
pub(crate) enum Refused {
    /// What comes before failed.
    Prepare(io::Error),
    /// The program cannot be run.
    Exec(io::Error),
}

/// Starts the program in a group of its own.
///
/// # Errors
/// If there can be no child. What keeps it from becoming the program is in the second place.
pub(crate) fn spawn(exec: &Exec, child: &Child<'_>) -> io::Result<(i32, Option<Refused>)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: there is one thread, so the child may do whatever we may.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        let (stage, error) = match prepare(child) {
            Ok(()) => (1, exec.exec()),
            Err(error) => (0, error),
        };
        let [a, b, c, d] = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
        let _ = rustix::io::write(&writer, &[stage, a, b, c, d]);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }
    drop(writer);
    // The pipe closes with `exec`, also when the child then stops because we trace it.
    let refused = told(&reader);
    if refused.is_some() {
        // SAFETY: no pointer that is not null; the child is ours and has ended or is about to.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    }
    Ok((pid, refused))
}

/// Runs `work` in a process of its own, which has this mask and ends with the status that `work` gives.
pub(crate) fn fork(mask: &Mask, work: impl FnOnce() -> u8) -> io::Result<i32> {
    // SAFETY: there is one thread, so the child may do whatever we may.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        let status = if mask.set().is_ok() { work() } else { 1 };
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(status.into()) }
    }
    Ok(pid)
}

/// What the child wrote, if it did before it became the program.
fn told(reader: &OwnedFd) -> Option<Refused> {
    let mut bytes = [0; 5];
    loop {
        match rustix::io::read(reader, &mut bytes) {
            Ok(5) => {
                let [stage, a, b, c, d] = bytes;
                let error = io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]));
                return Some(if stage == 0 { Refused::Prepare(error) } else { Refused::Exec(error) });
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return None,
        }
    }
}

fn prepare(child: &Child<'_>) -> io::Result<()> {
    rustix::process::setpgid(None, None)?;
    if child.foreground {
        // SIGTTOU is ignored until below, so a group in the background may do this.
        set_foreground(group());
    }
    for action in child.actions {
        // SAFETY: the action was given by the kernel.
        check(unsafe { libc::sigaction(action.0, &raw const action.1, ptr::null_mut()) })?;
    }
    if child.traced {
        // SAFETY: takes no pointer.
        check(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }.try_into().unwrap_or(-1))?;
        // A signal would stop it before `exec` has told us; it gets its mask when it is let go.
        return Ok(());
    }
    child.mask.set().map(drop)
}

/// Lets go of a child that is traced by us and stopped, in such a way that it stays stopped, untraced, with these signals blocked.
pub(crate) fn detach_stopped(pid: i32, mask: &Mask) -> io::Result<()> {
    // PTRACE_SETSIGMASK, which libc has with a type of its own. The kernel's set is 8 bytes, the first of ours.
    // SAFETY: the kernel reads no more than that.
    let result = unsafe { libc::ptrace(0x420b, pid, 8_usize, &raw const mask.0) };
    check(result.try_into().unwrap_or(-1))?;
    // SAFETY: the signal is passed by value; no memory is touched.
    let result = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, libc::SIGSTOP) };
    check(result.try_into().unwrap_or(-1)).map(drop)
}

/// Sends a signal to a process, or to the group that it leads. Any number is passed on, also a real-time one.
pub(crate) fn kill(pid: i32, group: bool, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::kill(if group { -pid } else { pid }, signal) }).map(drop)
}

/// Asks for a signal when our parent dies.
pub(crate) fn parent_death(signal: i32) -> io::Result<()> {
    // SAFETY: this option takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// Our process group; 0 if its leader is outside our PID namespace.
pub(crate) fn group() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::getpgrp() }
}

/// The group in the foreground of the terminal on standard input, if that is our terminal.
pub(crate) fn foreground() -> Option<i32> {
    // SAFETY: takes a number.
    let group = unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) };
    (group >= 0).then_some(group)
}

/// Puts a group into the foreground. SIGTTOU must be ignored.
pub(crate) fn set_foreground(group: i32) {
    // SAFETY: takes numbers. Without a terminal there is nothing to do.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, group) };
}

/// Who is at the other end of a Unix socket; PID 0 is somebody who is not in our PID namespace (unix(7), pid_namespaces(7)).
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or_default();
    // SAFETY: both pointers are valid for a write of what `length` says.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut length,
        )
    })?;
    Ok(who)
}

/// Whether orphans among our descendants become our children.
pub(crate) fn is_subreaper() -> bool {
    let mut bit: libc::c_int = 0;
    // SAFETY: this option writes an int, which lives through the call.
    let result = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut bit) };
    result == 0 && bit == 1
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
