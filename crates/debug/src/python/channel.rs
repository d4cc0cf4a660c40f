//! The way into the code that runs inside the process: memfds that it made and that are filled from here through
//! `/proc/PID/fd`, and a stream that speaks DAP, taken out of the process. No file, no port.
#![allow(unsafe_code)] // pidfd_getfd(2) has no safe wrapper that may be given another process's descriptor.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use pepo_process::Process;
use serde::Deserialize;

use super::{error::InjectError, payload};

const POLL: Duration = Duration::from_millis(2);

/// What the code inside says, one JSON object a line, in a memfd.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Word {
    /// It runs, and these are its descriptors.
    Ready(Ready),
    /// pydevd speaks on the stream.
    Started,
    /// pydevd could not be started.
    Failed {
        /// Its words.
        why: String,
    },
    /// All was taken away, but for this.
    Stopped {
        left: Vec<String>,
        /// pydevd's threads, as numbered in the process's namespace.
        threads: Vec<u32>,
    },
}

/// The first word.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Ready {
    zip: u32,
    trace: u32,
    theirs: Vec<u32>,
    /// The thread, as numbered in the process's namespace.
    pub(super) thread: u32,
    pub(super) version: [u32; 3],
    /// Seconds that the interrupted thread spent.
    pub(super) took: f64,
}

/// The memfd with the words, held open here also after the process closed it.
#[derive(Debug)]
pub(super) struct Control {
    file: File,
    text: String,
}

impl Control {
    /// Waits for it to appear.
    ///
    /// # Errors
    /// [`InjectError::Silent`].
    pub(super) fn find(
        process: &Process,
        nonce: &str,
        end: Instant,
        limit: Duration,
    ) -> Result<Control, InjectError> {
        let name = format!("pepo-{nonce}");
        loop {
            if let Some(number) = find_memfd(process, &name)
                && let Ok(file) = File::open(process.proc_path().join(format!("fd/{number}")))
            {
                return Ok(Control { file, text: String::new() });
            }
            if Instant::now() >= end || !process.alive() {
                return Err(InjectError::Silent { limit });
            }
            std::thread::sleep(POLL);
        }
    }

    /// All words so far.
    pub(super) fn words(&mut self) -> Vec<Word> {
        self.text.clear();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_string(&mut self.text));
        match read {
            Ok(_) => self.text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits for a word that `pick` takes.
    pub(super) fn wait<T>(&mut self, end: Instant, mut pick: impl FnMut(Word) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = self.words().into_iter().find_map(&mut pick) {
                return Some(found);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The stream with pydevd.
#[derive(Debug)]
pub(super) enum Stream {
    /// One end of a socket pair.
    Socket(UnixStream),
    /// Two pipes: from the process, to the process.
    Pipes(File, File),
}

/// Fills the memfds, takes the stream and says that all is in place.
///
/// # Errors
/// [`InjectError::Channel`].
pub(super) fn open(process: &Process, ready: &Ready) -> Result<Stream, InjectError> {
    let fill = |number: u32, bytes: &[u8]| -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .open(process.proc_path().join(format!("fd/{number}")))?
            .write_all(bytes)
    };
    fill(ready.zip, payload::PYDEVD).map_err(InjectError::channel("writing pydevd"))?;
    // From 3.12 threads are traced by sys.monitoring.
    if ready.version < [3, 12, 0] {
        fill(ready.trace, payload::TRACE).map_err(InjectError::channel("writing the trace function"))?;
    }
    let end = |number: u32| process.proc_path().join(format!("fd/{number}"));
    let mut stream = match ready.theirs[..] {
        [socket] => {
            let fd = take_fd(process, socket).map_err(InjectError::channel("taking the socket"))?;
            Stream::Socket(UnixStream::from(fd))
        }
        [to_them, from_them] => {
            let to = OpenOptions::new().write(true).open(end(to_them));
            let from = File::open(end(from_them));
            let open = InjectError::channel("opening the pipes");
            Stream::Pipes(from.map_err(&open)?, to.map_err(&open)?)
        }
        _ => return Err(InjectError::Inside { words: "no stream".to_owned() }),
    };
    let written = match &mut stream {
        Stream::Socket(socket) => socket.write_all(b"+"),
        Stream::Pipes(_, to) => to.write_all(b"+"),
    };
    written.map_err(InjectError::channel("writing to the stream"))?;
    Ok(stream)
}

/// The number of the process's descriptor for a memfd of this name.
pub(super) fn find_memfd(process: &Process, name: &str) -> Option<u32> {
    let wanted = format!("/memfd:{name} (deleted)");
    descriptors(process).into_iter().find_map(|(number, target)| (target == wanted).then_some(number))
}

/// Memfds of ours that the process has open.
pub(super) fn our_memfds(process: &Process) -> Vec<String> {
    let targets = descriptors(process).into_iter().map(|(_, target)| target);
    targets.filter(|target| target.starts_with("/memfd:pepo-")).collect()
}

fn descriptors(process: &Process) -> Vec<(u32, String)> {
    let entries = fs::read_dir(process.proc_path().join("fd"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.to_str()?.to_owned()))
        })
        .collect()
}

/// May descriptors be taken out of the process? Asked before it is touched.
pub(super) fn may_take(process: &Process) -> bool {
    let any = descriptors(process).into_iter().map(|(number, _)| number).next();
    // Without any to try with, EBADF is the answer of one who may.
    match take_fd(process, any.unwrap_or(0)) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::EBADF),
    }
}

/// pidfd_getfd(2).
fn take_fd(process: &Process, number: u32) -> io::Result<OwnedFd> {
    let pidfd = process.pidfd().ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: it takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
