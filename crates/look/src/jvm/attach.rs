//! HotSpot's attach protocol, as the client of it.
//!
//! The JVM listens at `/tmp/.java_pidN`, in its own file system and by its own number, once it was asked to: by a file
//! `.attach_pidN` there, which belongs to its user, and SIGQUIT. It answers its own user (and, from 11 on, root). So the thread that
//! connects becomes that user for as long as it lives; the kernel tells the JVM who connected, not who writes.
//!
//! SIGQUIT kills a JVM that does not catch it, and one that finds no such file writes its threads into its own output. Neither may
//! happen by our doing: what the JVM was told is read from its memory, the file is there before the signal, and whoever finds that
//! another has made the file sends none.

use std::{
    fmt,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant, UNIX_EPOCH},
};

use pepo_process::{
    Process, ProcessError,
    runtime::{Module, RuntimeFacts},
    status::Status,
};
use rustix::{
    fs::{FileType, Mode, OFlags, StatVfsMountFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
    process::{Gid, Pid, Signal, Uid},
};

use super::{answer::Answer, flags::Flags};

/// So long is waited for the JVM to begin to listen.
const BEGIN: Duration = Duration::from_secs(5);
/// So long another's file is taken for that of somebody who is about to send the signal.
const ANOTHER: Duration = Duration::from_secs(1);
/// So long is waited before it is looked again.
const PAUSE: Duration = Duration::from_millis(2);
/// From this version on a JVM answers root, too.
const ROOT_IS_HEARD: u32 = 11;

/// Why a JVM cannot be asked, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unattachable {
    why: String,
    hint: String,
}

impl Unattachable {
    pub(crate) fn new(why: impl Into<String>, hint: impl Into<String>) -> Unattachable {
        Unattachable { why: why.into(), hint: hint.into() }
    }

    fn of_process(error: &ProcessError) -> Unattachable {
        use std::error::Error as _;
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Unattachable::new(format!("{error}{cause}"), "")
    }
}

impl fmt::Display for Unattachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hint.as_str() {
            "" => f.write_str(&self.why),
            hint => write!(f, "{} ({hint})", self.why),
        }
    }
}

/// A JVM that can be asked.
pub(crate) struct Listener<'a> {
    process: &'a Process,
    /// Its `/tmp`.
    folder: OwnedFd,
    /// Its own number of itself.
    number: u32,
    uid: u32,
    gid: u32,
    hears_root: bool,
    refuses_agents: bool,
}

impl Listener<'_> {
    /// Finds out whether it can be asked; nothing is done to it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn open<'a>(process: &'a Process, facts: &RuntimeFacts) -> Result<Listener<'a>, Unattachable> {
        let failed = |error: ProcessError| Unattachable::of_process(&error);
        let maps = process.maps().map_err(failed)?;
        let is_library = |path: &Path| path.file_name().is_some_and(|name| name == "libjvm.so");
        let flags = Module::find(process, &maps, is_library).and_then(|file| Flags::read(process, &file));
        let Some(flags) = flags else {
            return Err(Unattachable::new(
                "it is no HotSpot JVM, or has not begun yet",
                "HotSpot 8 and newer can be asked",
            ));
        };
        let status = process.status().map_err(failed)?;
        let listener = Listener {
            process,
            folder: process.folder_in_root("/tmp").map_err(failed)?,
            number: status.container_pid(),
            uid: status.uid[1],
            gid: status.gid[1],
            refuses_agents: flags.agents_refused,
            hears_root: facts.version.as_deref().and_then(major).is_some_and(|major| major >= ROOT_IS_HEARD),
        };
        listener.judge(flags, &status)?;
        Ok(listener)
    }

    fn judge(&self, flags: Flags, status: &Status) -> Result<(), Unattachable> {
        if flags.attach_disabled {
            return Err(Unattachable::new(
                "it was started with -XX:+DisableAttachMechanism",
                "start it without this option",
            ));
        }
        if matches!(status.state.letter(), 'T' | 't') {
            return Err(Unattachable::new("it is stopped", "let it run"));
        }
        if self.socket().map_err(|error| self.no_socket(&error))?.is_some() {
            return Ok(());
        }
        if flags.signals_reduced || !status.catches(Signal::QUIT.as_raw()) {
            return Err(Unattachable::new(
                "it does not catch SIGQUIT, by which it would be asked to listen, and would die of it",
                "start it without -Xrs, or with -XX:+StartAttachListener",
            ));
        }
        let is_read_only = rustix::fs::fstatvfs(&self.folder)
            .is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
        if is_read_only {
            return Err(Unattachable::new(
                "its /tmp is read-only, and there it would listen",
                "mount a writable /tmp, or start it with -XX:+StartAttachListener and one",
            ));
        }
        Ok(())
    }

    /// Asks, and hands on the answer line by line. Tells how long it took until all was said: for no longer than that did the JVM hold its
    /// threads.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) fn ask(
        &self,
        words: &[&str],
        patience: Duration,
        line: &mut dyn FnMut(&[u8]),
    ) -> Result<Duration, Unattachable> {
        let end = Instant::now() + patience;
        let mut stream = self.reach()?;
        // Version, command, three arguments.
        let mut question = b"1\0".to_vec();
        for index in 0..4 {
            question.extend_from_slice(words.get(index).unwrap_or(&"").as_bytes());
            question.push(0);
        }
        let asked = Instant::now();
        let unanswered = |error: &io::Error| self.unanswered(error, patience);
        stream.write_all(&question).map_err(|error| unanswered(&error))?;
        let mut answer = Answer::new(&stream, end);
        let code = answer.line().map_err(|error| unanswered(&error))?;
        let Some(code) = code else {
            return Err(Unattachable::new(
                "it closed the connection without an answer",
                "a JVM answers its own user alone: run Pepo as that user, or as root",
            ));
        };
        if code != b"0" {
            let reason = answer.line().ok().flatten().unwrap_or_default();
            let reason = String::from_utf8_lossy(&reason).into_owned();
            let code = String::from_utf8_lossy(&code).into_owned();
            return Err(Unattachable::new(format!("it refuses `{}`: {code} {reason}", words[0]), ""));
        }
        while let Some(text) = answer.line().map_err(|error| unanswered(&error))? {
            line(&text);
        }
        Ok(asked.elapsed())
    }

    /// A connection, which whoever has become the JVM's user has made.
    fn reach(&self) -> Result<UnixStream, Unattachable> {
        self.as_its_user(|| self.connect_or_wake())
    }

    /// Does some work in a thread that has become the JVM's user.
    ///
    /// # Errors
    /// Of the work, or that this cannot be.
    pub(super) fn as_its_user<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Unattachable> + Send,
    ) -> Result<T, Unattachable> {
        // A change of users makes the kernel guard this process like one that has gained rights; it has not.
        let before = rustix::process::dumpable_behavior();
        let done = std::thread::scope(|scope| {
            let work = || {
                self.become_its_user()?;
                work()
            };
            scope
                .spawn(work)
                .join()
                .unwrap_or_else(|_| Err(Unattachable::new("Pepo failed as the JVM's user", "")))
        });
        if let Ok(before) = before {
            let _ = rustix::process::set_dumpable_behavior(before);
        }
        done
    }

    /// Was it told to load nothing?
    pub(super) fn refuses_agents(&self) -> bool {
        self.refuses_agents
    }

    /// Its `/tmp`, and its own number of itself.
    pub(super) fn place(&self) -> (BorrowedFd<'_>, u32) {
        (self.folder.as_fd(), self.number)
    }

    /// Of this thread alone: the C library, which would change all of them, is not asked.
    pub(super) fn become_its_user(&self) -> Result<(), Unattachable> {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if own == (self.uid, self.gid) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let changed = rustix::thread::set_thread_res_gid(None, Some(gid), None)
            .and_then(|()| rustix::thread::set_thread_res_uid(None, Some(uid), None));
        match changed {
            Ok(()) => Ok(()),
            Err(_) if own.0 == 0 && self.hears_root => Ok(()),
            Err(error) => Err(Unattachable::new(
                format!("it answers user {} alone, and Pepo may not become that user: {error}", self.uid),
                "run Pepo as that user, or with CAP_SETUID and CAP_SETGID",
            )),
        }
    }

    fn connect_or_wake(&self) -> Result<UnixStream, Unattachable> {
        if let Some(stream) = self.connect()? {
            self.sweep();
            return Ok(stream);
        }
        let begun = Instant::now();
        let mut mark = self.mark()?;
        let mut is_woken = false;
        loop {
            // Also before the signal: another client may just have been done.
            if let Some(stream) = self.connect()? {
                return Ok(stream);
            }
            if mark.is_some() && !is_woken {
                self.process.signal(Signal::QUIT).map_err(|error| Unattachable::of_process(&error))?;
                is_woken = true;
            }
            if !self.process.alive() {
                return Err(Unattachable::new("it has ended", ""));
            }
            if mark.is_none() && begun.elapsed() > ANOTHER {
                // Who made it is dead.
                let _ = self.remove_mark();
                mark = self.mark()?;
            }
            if begun.elapsed() > BEGIN {
                return Err(Unattachable::new(
                    format!("it did not begin to listen within {} s", BEGIN.as_secs()),
                    "it may be about to start or to end, or stand still: try again",
                ));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The file that says that somebody wants to talk; nothing when another's is there.
    fn mark(&self) -> Result<Option<Mark<'_, '_>>, Unattachable> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, self.mark_name(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(_) => Ok(Some(Mark(self))),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(Unattachable::new(
                format!("no file can be made in its /tmp, by which it would be asked: {error}"),
                "mount a writable /tmp",
            )),
        }
    }

    /// Takes away the file of one who was killed after the JVM had begun to listen.
    fn sweep(&self) {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        let Ok(stat) = rustix::fs::statat(&self.folder, self.mark_name(), flags) else { return };
        let made = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        if stat.st_size == 0 && made.elapsed().is_ok_and(|age| age > 2 * ANOTHER) {
            let _ = self.remove_mark();
        }
    }

    fn remove_mark(&self) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(&self.folder, self.mark_name(), rustix::fs::AtFlags::empty())
    }

    fn mark_name(&self) -> String {
        format!(".attach_pid{}", self.number)
    }

    /// The socket's own place, if there is one.
    fn socket(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(&self.folder, self.socket_name(), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let stat = rustix::fs::fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_uid != self.uid {
            return Err(io::Error::other("it is not a socket of the JVM's user"));
        }
        Ok(Some(found))
    }

    fn socket_name(&self) -> String {
        format!(".java_pid{}", self.number)
    }

    fn no_socket(&self, error: &io::Error) -> Unattachable {
        Unattachable::new(format!("/tmp/{} cannot be used: {error}", self.socket_name()), "")
    }

    /// Nothing when nobody listens there.
    fn connect(&self) -> Result<Option<UnixStream>, Unattachable> {
        let try_it = || -> io::Result<Option<UnixStream>> {
            let Some(place) = self.socket()? else { return Ok(None) };
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(BEGIN))?;
            // A path of its own would be led by links that stand in the target.
            let path = SocketAddrUnix::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
            match rustix::net::connect(&socket, &path) {
                Ok(()) => {}
                Err(Errno::CONNREFUSED | Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let peer = sockopt::socket_peercred(&socket)?.pid;
            if Pid::as_raw(Some(peer)) != self.process.pid().as_raw() {
                return Err(io::Error::other(format!("process {peer} listens there, not this one")));
            }
            Ok(Some(UnixStream::from(socket)))
        };
        try_it().map_err(|error| self.no_socket(&error))
    }

    fn unanswered(&self, error: &io::Error, patience: Duration) -> Unattachable {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Unattachable::new(
                format!("it did not answer within {} s", patience.as_secs()),
                "it may stand still, or be answering somebody else: try again",
            ),
            _ => Unattachable::new(format!("the connection was lost: {error}"), "try again"),
        }
    }
}

/// The file that says that somebody wants to talk, which goes with this.
struct Mark<'a, 'b>(&'a Listener<'b>);

impl Drop for Mark<'_, '_> {
    fn drop(&mut self) {
        let _ = self.0.remove_mark();
    }
}

/// `17.0.15` is 17, `1.8.0_392` is 8.
pub(super) fn major(version: &str) -> Option<u32> {
    let version = version.strip_prefix("1.").unwrap_or(version);
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}
