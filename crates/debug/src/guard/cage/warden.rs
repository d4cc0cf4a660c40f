//! Decides the few calls of an adapter that are right once and wrong ever after: its own stub's start, its connections.
//!
//! The kernel holds such a call until we answer (seccomp_unotify(2)). Whatever becomes of us, nobody hangs: when the listener
//! closes, calls that wait and all later ones fail with ENOSYS.

#![allow(unsafe_code)] // The listener's requests are ioctls without a safe form.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::super::{control::Needs, stub::readable};

/// How long delve's connection is held at most: without us it would try again after that.
const HOLDS: Duration = Duration::from_secs(1);
/// The longest path that is read from an adapter.
const MAX_PATH: usize = 4096;
/// The length of the longest address of a socket of this machine (unix(7)).
const MAX_ADDRESS: usize = size_of::<libc::sockaddr_un>();
/// How long a script may take to become the program it is written for.
const UNWRAPS: Duration = Duration::from_secs(10);
/// How often it is looked meanwhile.
const LOOKS: Duration = Duration::from_millis(1);

/// What is done about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Go,
    Fail(i32),
    /// Not yet.
    Hold,
}

/// The keeper of an adapter's calls.
#[derive(Debug)]
pub(in crate::guard) struct Warden {
    listener: OwnedFd,
    program: Option<PathBuf>,
    sockets: Vec<PathBuf>,
    dials_stub: bool,
    /// A script is still on its way to becoming the adapter: it may do what scripts do.
    wrapped: bool,
    held: Option<(u64, Instant)>,
}

impl Warden {
    pub(super) fn new(listener: OwnedFd, needs: &Needs) -> Warden {
        Warden {
            listener,
            program: needs.program.clone(),
            sockets: needs.sockets.clone(),
            dials_stub: needs.dials_stub,
            wrapped: false,
            held: None,
        }
    }

    /// Lets a wrapper script do its work until the process is no script any more. Nobody speaks to the adapter yet.
    pub(in crate::guard) fn unwrap(&mut self, pid: u32) -> io::Result<()> {
        let until = Instant::now() + UNWRAPS;
        self.wrapped = true;
        while is_script(pid) && Instant::now() < until {
            if readable(&self.listener, LOOKS)? && is_script(pid) {
                self.answer(false)?;
            }
        }
        self.wrapped = false;
        Ok(())
    }

    /// When a held call must be let go at the latest.
    pub(in crate::guard) fn deadline(&self) -> Option<Duration> {
        self.held.map(|(_, since)| HOLDS.saturating_sub(since.elapsed()))
    }

    /// Lets a held connection go: there is somebody to connect to, or its time is over.
    pub(in crate::guard) fn release(&mut self, stub_listens: bool) {
        if let Some((id, since)) = self.held
            && (stub_listens || since.elapsed() >= HOLDS)
        {
            self.held = None;
            self.dials_stub &= !self.send(id, Answer::Go);
        }
    }

    /// Takes one call that waits and answers it.
    pub(in crate::guard) fn answer(&mut self, stub_listens: bool) -> io::Result<()> {
        // SAFETY: all-zero is a value of this plain structure, and what the kernel wants to be given.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the structure that the request is declared with.
        let got =
            unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut call) };
        if got != 0 {
            let error = io::Error::last_os_error();
            // The caller was interrupted and comes again, or has died.
            let gone = [libc::ENOENT, libc::EINTR].contains(&error.raw_os_error().unwrap_or(0));
            return if gone { Ok(()) } else { Err(error) };
        }
        // Looked at once: it could be another by the second look.
        let kind = self.kind(&call).unwrap_or(Call::Other);
        match self.judge(&kind, stub_listens) {
            Answer::Hold => self.held = Some((call.id, Instant::now())),
            answer => {
                if self.send(call.id, answer) && answer == Answer::Go {
                    self.count(&kind);
                }
            }
        }
        Ok(())
    }

    fn judge(&self, call: &Call, stub_listens: bool) -> Answer {
        if self.wrapped {
            return Answer::Go;
        }
        match call {
            Call::Start(path) if self.program.as_ref() == Some(path) => Answer::Go,
            Call::Start(_) => Answer::Fail(libc::EPERM),
            Call::Connect(path) if self.sockets.contains(path) => Answer::Go,
            Call::Connect(_) => Answer::Fail(libc::EACCES),
            Call::Dial if !self.dials_stub => Answer::Fail(libc::ENETUNREACH),
            Call::Dial if !stub_listens => Answer::Hold,
            Call::Dial => Answer::Go,
            Call::Other => Answer::Fail(libc::EROFS),
        }
    }

    /// What was let through is not let through again.
    fn count(&mut self, call: &Call) {
        match call {
            _ if self.wrapped => {}
            Call::Start(_) => self.program = None,
            Call::Connect(path) => self.sockets.retain(|one| one != path),
            Call::Dial => self.dials_stub = false,
            Call::Other => {}
        }
    }

    /// What is asked for; an error when it can't be read or nobody waits for the answer any more.
    fn kind(&self, call: &libc::seccomp_notif) -> io::Result<Call> {
        let [first, second, third, ..] = call.data.args;
        let kind = match i64::from(call.data.nr) {
            libc::SYS_execve => Call::Start(path(call.pid, first, MAX_PATH)?),
            libc::SYS_connect => {
                let mut family = [0; 2];
                memory(call.pid)?.read_exact_at(&mut family, second)?;
                match i32::from(u16::from_ne_bytes(family)) {
                    libc::AF_UNIX => {
                        Call::Connect(path(call.pid, second + 2, (third as usize).clamp(2, MAX_ADDRESS) - 2)?)
                    }
                    _ => Call::Dial,
                }
            }
            _ => Call::Other,
        };
        // Else its number may have passed to another process while we read.
        if self.is_valid(call.id) { Ok(kind) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Does the caller still wait?
    fn is_valid(&self, id: u64) -> bool {
        // SAFETY: reads the number that the request is declared with.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0 }
    }

    /// `false` when the caller no longer waits.
    fn send(&self, id: u64, answer: Answer) -> bool {
        let (error, flags) = match answer {
            Answer::Fail(error) => (-error, 0),
            _ => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut answer = libc::seccomp_notif_resp { id, val: 0, error, flags };
        // SAFETY: the structure that the request is declared with.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer) == 0 }
    }
}

impl AsFd for Warden {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The calls that are asked about.
#[derive(Debug)]
enum Call {
    /// To start a program.
    Start(PathBuf),
    /// To connect to a socket of this machine.
    Connect(PathBuf),
    /// To connect by the internet's protocols.
    Dial,
    Other,
}

fn memory(pid: u32) -> io::Result<std::fs::File> {
    std::fs::File::open(format!("/proc/{pid}/mem"))
}

/// A path in a process's memory: up to the byte 0, or to `most` bytes.
fn path(pid: u32, address: u64, most: usize) -> io::Result<PathBuf> {
    let memory = memory(pid)?;
    let mut text = vec![0; most];
    let mut filled = 0;
    while filled < text.len() {
        let here = address + filled as u64;
        // Page by page: the next one may not be there.
        let left = (4096 - here % 4096) as usize;
        let end = (filled + left).min(text.len());
        let count = memory.read_at(&mut text[filled..end], here)?;
        let is_over = text[filled..filled + count].contains(&0) || count == 0;
        filled += count;
        if is_over {
            break;
        }
    }
    let length = text.iter().position(|&byte| byte == 0).unwrap_or(filled);
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&text[..length])))
}

/// Is the process the interpreter of a script? The kernel puts the script's path among its first arguments (execve(2)).
fn is_script(pid: u32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = words.split(|&byte| byte == 0).skip(1).take(3);
    words.map(|word| Path::new(std::ffi::OsStr::from_bytes(word))).any(begins_as_script)
}

/// Does a file begin as scripts do?
pub(super) fn begins_as_script(path: &Path) -> bool {
    let mut begin = [0; 2];
    path.is_absolute()
        && path.is_file()
        && std::fs::File::open(path).is_ok_and(|file| file.read_exact_at(&mut begin, 0).is_ok())
        && &begin == b"#!"
}
