//! What a session must not leave behind: a snapshot of a target before it, compared with the same after it.
//!
//! A target that lives in this machine's own mount or network namespace shares files and ports with everybody;
//! there only its own sockets are compared, and no files but those in folders that the test names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{compile::hex, engine::Engine, wait};

/// Folders of a container in which programs may write, looked through if it has a root of its own.
const WRITABLE: [&str; 7] = ["app", "dev/shm", "home", "root", "run", "tmp", "var"];

/// How long what is ended asynchronously may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// The facts of a process that a session must leave as they were.
pub struct Snapshot {
    pid: u32,
    folders: Vec<PathBuf>,
    engine: Option<(Engine, BTreeSet<String>)>,
    facts: Facts,
}

/// All that is compared, in an order that makes messages readable.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    start_time: String,
    /// Threads that are traced or stopped, and by whom.
    held: BTreeMap<u32, String>,
    /// Address range and file of each executable mapping with a file, and the hash of its bytes.
    text: BTreeMap<String, String>,
    /// Files without a name that are mapped.
    memfds: BTreeSet<String>,
    /// How many; not counted where the runtime makes threads as it likes (Go).
    threads: Option<usize>,
    files: BTreeMap<String, String>,
    listening: BTreeSet<String>,
    children: BTreeSet<u32>,
    new_files: BTreeMap<PathBuf, (u64, i64)>,
}

impl Snapshot {
    /// Notes the facts of the process `pid` (as in this machine's `/proc`).
    ///
    /// # Panics
    /// If it is gone or cannot be looked at (this needs root).
    pub fn take(pid: u32) -> Snapshot {
        Snapshot::with_folders(pid, &[])
    }

    /// The same, with folders (in this machine's view) in which nothing may change.
    ///
    /// # Panics
    /// As [`Snapshot::take`].
    pub fn with_folders(pid: u32, folders: &[&Path]) -> Snapshot {
        let mut folders: Vec<_> = folders.iter().map(|folder| folder.to_path_buf()).collect();
        if differs(pid, "mnt") {
            folders.extend(WRITABLE.iter().map(|folder| PathBuf::from(format!("/proc/{pid}/root/{folder}"))));
        }
        let count_threads = !is_go(pid);
        let facts =
            Facts::of(pid, &folders, count_threads).unwrap_or_else(|error| panic!("process {pid}: {error}"));
        Snapshot { pid, folders, engine: None, facts }
    }

    /// Also compares which containers the engine has: no helper may stay.
    pub fn and_containers_of(mut self, engine: &Engine) -> Snapshot {
        self.engine = Some((engine.clone(), engine.containers().into_iter().collect()));
        self
    }

    /// Waits a few seconds for the target to be as it was.
    ///
    /// # Panics
    /// With every difference, if it is not.
    pub fn assert_same(&self) {
        let result = wait::try_until(PATIENCE, || match self.differences() {
            none if none.is_empty() => Ok(()),
            some => Err(some),
        });
        if let Err(differences) = result {
            panic!("left behind in process {}:\n  {}", self.pid, differences.join("\n  "));
        }
    }

    /// What is different now, in words; empty if nothing is.
    pub fn differences(&self) -> Vec<String> {
        let now = match Facts::of(self.pid, &self.folders, self.facts.threads.is_some()) {
            Ok(now) => now,
            Err(error) => return vec![format!("the target is gone: {error}")],
        };
        let mut found = self.facts.compare(&now);
        if let Some((engine, before)) = &self.engine {
            let after: BTreeSet<_> = engine.containers().into_iter().collect();
            found.extend(after.difference(before).map(|id| format!("container {id} is new")));
        }
        found
    }
}

impl Facts {
    fn of(pid: u32, folders: &[PathBuf], count_threads: bool) -> Result<Facts, String> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let stat = read(&proc.join("stat"))?;
        let after_name = stat.rsplit_once(") ").ok_or("no name in its stat")?.1;
        let mut new_files = BTreeMap::new();
        for folder in folders {
            walk(folder, &mut new_files, 6);
        }
        let tasks = names(&proc.join("task"));
        Ok(Facts {
            start_time: after_name.split(' ').nth(19).unwrap_or_default().to_owned(),
            held: tasks.iter().filter_map(|task| held(&proc, task)).collect(),
            text: text(&proc)?,
            memfds: memfds(&proc)?,
            threads: count_threads.then_some(tasks.len()),
            files: open_files(&proc),
            listening: listening(&proc, differs(pid, "net")),
            children: tasks.iter().flat_map(|task| children(&proc, task)).collect(),
            new_files,
        })
    }

    fn compare(&self, now: &Facts) -> Vec<String> {
        let mut found = Vec::new();
        if self.start_time != now.start_time {
            return vec!["the target is another process now".to_owned()];
        }
        found.extend(now.held.iter().map(|(thread, how)| format!("thread {thread} is {how}")));
        for (place, hash) in &self.text {
            match now.text.get(place) {
                Some(same) if same == hash => {}
                Some(_) => found.push(format!("changed text in {place}")),
                None => found.push(format!("mapping is gone: {place}")),
            }
        }
        if let (Some(before), Some(now)) = (self.threads, now.threads)
            && before != now
        {
            found.push(format!("{now} threads, not {before}"));
        }
        found.extend(differences("file descriptor", &self.files, &now.files));
        found.extend(now.memfds.difference(&self.memfds).map(|memfd| format!("mapped {memfd} is new")));
        found.extend(now.listening.difference(&self.listening).map(|port| format!("listens at {port}")));
        found.extend(now.children.difference(&self.children).map(|pid| format!("child {pid} is new")));
        found.extend(differences("file", &self.new_files, &now.new_files));
        found
    }
}

fn differences<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
) -> Vec<String> {
    let gone = before.iter().filter(|(key, _)| !now.contains_key(key));
    let changed = now.iter().filter(|(key, value)| before.get(key) != Some(value));
    gone.map(|(key, value)| format!("{what} {key:?} ({value:?}) is gone"))
        .chain(changed.map(|(key, value)| format!("{what} {key:?} ({value:?}) is new or changed")))
        .collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether the process has another namespace of this kind than this test.
fn differs(pid: u32, kind: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
        != fs::read_link(format!("/proc/self/ns/{kind}")).ok()
}

/// Whether a thread is traced or stopped.
fn held(proc: &Path, task: &str) -> Option<(u32, String)> {
    let status = read(&proc.join("task").join(task).join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let how = match (field("TracerPid:")?, field("State:")?) {
        ("0", state) if state.starts_with(['T', 't']) => "stopped".to_owned(),
        ("0", _) => return None,
        (tracer, _) => format!("traced by {tracer}"),
    };
    Some((task.parse().ok()?, how))
}

/// Whether its executable has Go's build information.
fn is_go(pid: u32) -> bool {
    let mark = b"\xff Go buildinf:";
    fs::read(format!("/proc/{pid}/exe"))
        .is_ok_and(|bytes| bytes.windows(mark.len()).any(|window| window == mark))
}

fn memfds(proc: &Path) -> Result<BTreeSet<String>, String> {
    let maps = read(&proc.join("maps"))?;
    let name = |line: &str| {
        line.split_whitespace().nth(5).filter(|name| name.starts_with("/memfd:")).map(str::to_owned)
    };
    Ok(maps.lines().filter_map(name).collect())
}

fn children(proc: &Path, task: &str) -> Vec<u32> {
    let list = read(&proc.join("task").join(task).join("children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The hash of each executable mapping that has a file, read from memory, so that breakpoints are seen.
fn text(proc: &Path) -> Result<BTreeMap<String, String>, String> {
    let maps = read(&proc.join("maps"))?;
    let mut memory = File::open(proc.join("mem")).map_err(|error| format!("its memory: {error}"))?;
    let mut found = BTreeMap::new();
    for line in maps.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [range, rights, _, _, inode, file, ..] = fields.as_slice() else { continue };
        if !rights.contains('x') || *inode == "0" {
            continue;
        }
        let (start, end) = range.split_once('-').ok_or("a mapping without a range")?;
        let parse = |digits: &str| u64::from_str_radix(digits, 16).map_err(|error| error.to_string());
        let (start, end) = (parse(start)?, parse(end)?);
        let mut bytes = vec![0; usize::try_from(end - start).map_err(|error| error.to_string())?];
        let filled = memory.seek(SeekFrom::Start(start)).and_then(|_| memory.read_exact(&mut bytes));
        // Pages beyond the end of the file cannot be read; no breakpoint can stand in them either.
        let hash = filled.map_or_else(|error| error.to_string(), |()| hex(&Sha256::digest(&bytes)));
        found.insert(format!("{range} {file}"), hash);
    }
    Ok(found)
}

/// Descriptor numbers and what they are open at.
fn open_files(proc: &Path) -> BTreeMap<String, String> {
    let folder = proc.join("fd");
    names(&folder)
        .into_iter()
        .filter_map(|fd| Some((fd.clone(), fs::read_link(folder.join(fd)).ok()?.display().to_string())))
        .collect()
}

/// Listening TCP and unix sockets: all of its network namespace, or its own ones only.
fn listening(proc: &Path, whole_namespace: bool) -> BTreeSet<String> {
    let own: BTreeSet<String> = open_files(proc)
        .into_values()
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let counts = |inode: &str| whole_namespace || own.contains(inode);
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        for line in read(&proc.join("net").join(table)).unwrap_or_default().lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            if fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|inode| counts(inode)) {
                found.insert(format!("{table} {}", fields[1]));
            }
        }
    }
    for line in read(&proc.join("net/unix")).unwrap_or_default().lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        if fields.get(3) == Some(&"00010000") && fields.get(6).is_some_and(|inode| counts(inode)) {
            found.insert(format!("unix {}", fields.get(7).unwrap_or(&"(no name)")));
        }
    }
    found
}

/// Size and time of change of all files below `folder`, to `depth` folders down; its own mounts and links are
/// not followed.
fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, (u64, i64)>, depth: u32) {
    for name in names(folder) {
        let path = folder.join(name);
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        if facts.is_dir() && depth > 0 {
            found.insert(path.clone(), (0, 0));
            walk(&path, found, depth - 1);
        } else {
            found.insert(path, (facts.size(), facts.mtime()));
        }
    }
}
