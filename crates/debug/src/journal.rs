//! Who is attached to what on this machine: one folder a session, locked by its owner for as long as it lives.
//!
//! A lock (flock(2)) ends with its process, so a journal whose lock is free belongs to a session whose owner is dead. The
//! folder is also the private place of the session's sockets; it goes with the session.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use pepo_wire::{Code, Failure, FailureExt};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Sessions of agents that keep a journal elsewhere.
mod others;

const FILE: &str = "journal.json";
/// The socket in a session's folder over which its owner is asked to let go.
pub const CONTROL: &str = "control.sock";
/// A journal is small; more is not read.
const MAX_JOURNAL: u64 = 64 << 10;
/// A session has said by then what it is: its debugger is chosen before anything of it starts.
const SAID: Duration = Duration::from_secs(60);
/// Folders looked at.
const MAX_SESSIONS: usize = 10_000;

/// What can go wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A folder or file can't be made or read.
    #[error("cannot {act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The folder belongs to somebody else, who could read or replace sockets in it.
    #[error("{path} belongs to user {owner} or is open to others")]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
}

impl FailureExt for JournalError {
    fn failure(&self) -> Failure {
        Failure::new(Code::FileDenied, "the folder for running sessions cannot be used")
            .because_of(self)
            .hint("set PEPO_RUN to a folder of your own with mode 0700")
    }
}

/// What is known of a session, for whoever looks from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The session's id.
    pub session: String,
    /// Who asked for it.
    pub who: String,
    /// What the user called the target.
    pub target_name: String,
    /// The debugger's name.
    pub debugger: String,
    /// The process in the agent's `/proc`.
    pub agent_pid: u32,
    /// Its start, in clock ticks after boot: excludes a reused number.
    pub start_time: u64,
    /// Seconds since 1970.
    pub since: u64,
}

/// The folder of all sessions of this user on this machine.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

/// A session's place in the journal, held by its owner. Dropping it removes the folder.
#[derive(Debug)]
pub struct Held {
    /// The session's private folder, mode 0700.
    pub folder: PathBuf,
    _lock: File,
}

/// A session found in the journal.
#[derive(Debug)]
pub struct Found {
    /// What its owner wrote.
    pub entry: Entry,
    /// Its folder, as its owner sees it.
    pub folder: PathBuf,
    /// Does its owner live?
    pub live: bool,
    /// The control socket, where it is in another root or another's folder.
    socket: Option<OwnedFd>,
}

/// An agent of another user's, which keeps to itself what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Its process.
    pub pid: u32,
    /// Whose it is.
    pub owner: u32,
}

impl Found {
    /// Where its owner can be asked to let go.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.socket.as_ref().map_or_else(|| self.folder.join(CONTROL), others::through)
    }
}

impl Journal {
    /// Opens the journal below `run`, making the folder when it is not there.
    ///
    /// # Errors
    /// The folder cannot be made, or it is not ours alone.
    pub fn open(run: &Path) -> Result<Journal, JournalError> {
        let folder = run.join("sessions");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(io_error("create", &folder))?;
        for path in [run, &folder] {
            let meta = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
            if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0
            {
                return Err(JournalError::NotOurs { path: path.to_owned(), owner: meta.uid() });
            }
        }
        Ok(Journal { folder })
    }

    /// Makes a session's folder and locks its journal; the entry is written later, when the debugger is known.
    ///
    /// # Errors
    /// The folder or file cannot be made.
    pub fn begin(&self, session: &str) -> Result<Held, JournalError> {
        let folder = self.folder.join(session);
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(io_error("create", &folder))?;
        let path = folder.join(FILE);
        let lock = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("create", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| io_error("lock", &path)(error.into()))?;
        Ok(Held { folder, _lock: lock })
    }

    /// The sessions there are, dead or alive. Folders that say nothing are passed over.
    #[must_use]
    pub fn list(&self) -> Vec<Found> {
        let Ok(folders) = fs::read_dir(&self.folder) else { return Vec::new() };
        folders.flatten().take(MAX_SESSIONS).filter_map(|folder| found(folder.path())).collect()
    }

    /// As [`Journal::list`], and the living sessions of all agents of this machine that we may look at: those of other users, and
    /// those in helper containers. A process that has no number here has the number 0.
    #[must_use]
    pub fn list_all(&self) -> Vec<Found> {
        let mut all = self.list();
        for other in others::all() {
            if !all.iter().any(|one| one.entry.session == other.entry.session) {
                all.push(other);
            }
        }
        all
    }

    /// An agent of this machine whose sessions [`Journal::list_all`] cannot know, if there is one.
    #[must_use]
    pub fn hidden(&self) -> Option<Hidden> {
        others::hidden()
    }

    /// Removes the folders of owners that died before they said what their session is. One that is young may be about to.
    pub fn forget_unsaid(&self) {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten().take(MAX_SESSIONS);
        for folder in folders.map(|folder| folder.path()).filter(|folder| is_unsaid(folder)) {
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// Removes what a dead owner left: the folder and what is in it.
    pub fn forget(&self, found: &Found) {
        if !found.live && found.folder.parent() == Some(&self.folder) {
            let _ = fs::remove_dir_all(&found.folder);
        }
    }
}

impl Held {
    /// Writes what the session is, for others to see.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        let path = self.folder.join(FILE);
        let text = serde_json::to_vec(entry).unwrap_or_default();
        let mut file: &File = &self._lock;
        file.write_all(&text).map_err(io_error("write", &path))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn found(folder: PathBuf) -> Option<Found> {
    let file = File::open(folder.join(FILE)).ok()?;
    let entry = read(&file)?;
    // The lock is given back at once: `file` is dropped here.
    let live = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
    Some(Found { entry, folder, live, socket: None })
}

fn is_unsaid(folder: &Path) -> bool {
    let made = fs::symlink_metadata(folder).and_then(|folder| folder.modified());
    let age = made.ok().and_then(|made| made.elapsed().ok());
    age.is_some_and(|age| age > SAID)
        && match File::open(folder.join(FILE)) {
            Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_ok() && read(&file).is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
}

fn read(file: &File) -> Option<Entry> {
    let mut text = Vec::new();
    file.take(MAX_JOURNAL).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { act, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(session: &str) -> Entry {
        Entry {
            session: session.into(),
            who: "me".into(),
            target_name: "docker/x".into(),
            debugger: "gdb".into(),
            agent_pid: 1,
            start_time: 2,
            since: 3,
        }
    }

    #[test]
    fn a_session_is_live_as_long_as_it_is_held_and_leaves_nothing() {
        let run = tempfile::tempdir().unwrap();
        let journal = Journal::open(&run.path().join("run")).unwrap();
        let held = journal.begin("a").unwrap();
        assert!(journal.list().is_empty(), "not written yet");
        held.write(&entry("a")).unwrap();
        let listed = journal.list();
        assert_eq!((listed.len(), &listed[0].entry, listed[0].live), (1, &entry("a"), true));
        journal.forget(&listed[0]);
        assert_eq!(journal.list().len(), 1, "what lives is not removed");
        drop(held);
        assert!(journal.list().is_empty());
    }

    #[test]
    fn the_journal_of_a_dead_owner_is_told_apart_and_removed() {
        let run = tempfile::tempdir().unwrap();
        let journal = Journal::open(&run.path().join("run")).unwrap();
        let held = journal.begin("a").unwrap();
        held.write(&entry("a")).unwrap();
        // What a kill leaves: the folder without the lock.
        flock(&held._lock, FlockOperation::Unlock).unwrap();
        let listed = journal.list();
        assert!(!listed[0].live);
        journal.forget(&listed[0]);
        assert!(journal.list().is_empty());
    }

    #[test]
    fn what_says_nothing_is_removed_when_nobody_holds_it_and_it_is_old() {
        let run = tempfile::tempdir().unwrap();
        let journal = Journal::open(&run.path().join("run")).unwrap();
        let [live, dead, said] = ["live", "dead", "said"].map(|name| journal.begin(name).unwrap());
        flock(&dead._lock, FlockOperation::Unlock).unwrap();
        said.write(&entry("said")).unwrap();
        flock(&said._lock, FlockOperation::Unlock).unwrap();
        let place = run.path().join("run/sessions");
        fs::create_dir(place.join("bare")).unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&place)
                .unwrap()
                .map(|one| one.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        journal.forget_unsaid();
        assert_eq!(names(), ["bare", "dead", "live", "said"], "all are young");
        let old = std::time::SystemTime::now() - 2 * SAID;
        for name in names() {
            File::open(place.join(name)).unwrap().set_modified(old).unwrap();
        }
        journal.forget_unsaid();
        assert_eq!(names(), ["live", "said"]);
        drop(live);
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let run = tempfile::tempdir().unwrap();
        fs::set_permissions(run.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Journal::open(run.path()), Err(JournalError::NotOurs { .. })));
    }

    #[test]
    fn hostile_journals_are_passed_over() {
        let run = tempfile::tempdir().unwrap();
        let journal = Journal::open(&run.path().join("run")).unwrap();
        let folder = run.path().join("run/sessions/x");
        fs::create_dir(&folder).unwrap();
        for text in [b"".as_slice(), b"{", b"[1]", &[0xff; 100]] {
            fs::write(folder.join(FILE), text).unwrap();
            assert!(journal.list().is_empty());
        }
    }
}
