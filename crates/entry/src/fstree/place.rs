//! Puts what was judged in its place: first all of it beside where it goes, under names that nobody uses; then, when
//! nothing can fail any more for want of room or rights, each by one rename. A folder that is not there yet is one such thing, with
//! all that is in it. What fails is undone.
//!
//! A program that runs keeps the text it has: its file is replaced, never written to.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use ring::digest::{self, SHA256};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, StatxAttributes, StatxFlags, Uid},
    io::Errno,
};

use super::{
    data::{Ahead, errno, sum_at, zeros},
    files::{self, Waiting},
    list::Entry,
    tar::{Kind, Member},
    unpack::{Store, hex},
};
use crate::exit::{Exit, Fault};

/// As many folders are kept open.
const MOST_OPEN: usize = 32;
/// As many small files may wait until they are made.
const MOST_WAITING: usize = 4096;
/// Between so many small entries a signal may wait.
const STOP_AFTER: usize = 64;
/// Before and after a larger one it does not, in bytes.
const LARGE: u64 = 1 << 20;
/// File systems that are the kernel's: writing there is no putting of files. (proc, sysfs, control groups, terminals,
/// debugfs, tracefs, security's, BPF's.)
const KERNELS: [u64; 9] =
    [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x1cd1, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0xcafe_4a11];

/// What was done, as it is told.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Each file that took another's place.
    pub(crate) replaced: Vec<String>,
    /// Files, links and the like that were not there before.
    pub(crate) new: usize,
    /// Folders that were not there before.
    pub(crate) folders: usize,
    /// What could not be kept.
    pub(crate) notes: BTreeSet<String>,
}

/// Something that waits beside its place.
struct Ready {
    folder: String,
    name: String,
    /// What it is called until then; afterwards what it took the place of is called so.
    temporary: String,
    /// What stands in its place, if anything does.
    before: Option<String>,
    /// What comes, for files.
    after: String,
    /// Whether it is a folder that was not there, with what is in it.
    is_tree: bool,
    /// Whether it is in its place.
    arrived: bool,
}

/// Which way an entry is moved.
#[derive(Clone, Copy)]
enum Way {
    In,
    Back,
}

/// Puts entries below `root`. `stop` is asked between any two.
pub(crate) fn place(
    root: OwnedFd,
    source: &str,
    entries: &[Entry],
    store: &Store,
    stop: &dyn Fn() -> bool,
) -> Result<Report, Fault> {
    let mut placing = Placing {
        root,
        source,
        store,
        waiting: Vec::new(),
        open: HashMap::new(),
        made: Vec::new(),
        new: HashSet::new(),
        trees: HashMap::new(),
        places: HashMap::new(),
        ahead: Ahead::default(),
        prefix: format!(".pepo-entry.{}.", std::process::id()),
        ready: Vec::new(),
        temporaries: HashMap::new(),
        report: Report::default(),
    };
    let done = placing.prepare(entries, stop).and_then(|()| placing.commit());
    match done {
        Ok(()) => Ok(placing.report),
        Err(fault) => {
            placing.undo();
            Err(fault)
        }
    }
}

struct Placing<'a> {
    /// Small files for new folders, which are made many at once.
    waiting: Vec<Waiting<'a>>,
    root: OwnedFd,
    source: &'a str,
    store: &'a Store,
    open: HashMap<String, Arc<OwnedFd>>,
    /// Folders that were made and what was put into them, in order, and how each is removed.
    made: Vec<(String, AtFlags)>,
    /// The folders among them: nothing of the image can be in them.
    new: HashSet<String>,
    /// Those that are in a folder of the image: which of `ready` each is.
    trees: HashMap<String, usize>,
    /// The same by the folder above (device and inode) and the name: links of the image lead to one place by several paths.
    places: HashMap<(u64, u64, String), usize>,
    ahead: Ahead,
    /// What temporary names begin with.
    prefix: String,
    ready: Vec<Ready>,
    /// By the path of a file, where it waits.
    temporaries: HashMap<String, (String, String)>,
    report: Report,
}

/// What failed: at which path, and why.
type Step<T> = Result<T, Fault>;

impl<'a> Placing<'a> {
    fn prepare(&mut self, entries: &'a [Entry], stop: &dyn Fn() -> bool) -> Step<()> {
        let mut folders = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if (at % STOP_AFTER == 0 || entry.member.size >= LARGE) && stop() {
                return Err(Fault::new(Exit::Limit, format!("fstree: {}: stopped by a signal", self.source)));
            }
            if entry.member.kind == Kind::Folder {
                let known = self.new.len();
                self.folder(&entry.path)?;
                if self.new.len() > known {
                    folders.push(entry);
                }
            } else {
                self.beside(entry)?;
            }
        }
        self.settle()?;
        // Folders that were made take their own mode and time last: putting things in changes both.
        for entry in folders.into_iter().rev() {
            let folder = self.folder(&entry.path)?;
            let opened = rustix::fs::openat(
                &folder,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let opened = opened.map_err(|error| self.failed(&entry.path, error))?;
            files::dress(&opened, &entry.member, &mut self.report.notes)
                .map_err(|error| self.failed(&entry.path, error))?;
        }
        self.report.folders = self.new.len();
        Ok(())
    }

    /// A folder, opened; made if it is not there. Links of the image are followed, within the root.
    fn folder(&mut self, path: &str) -> Step<Arc<OwnedFd>> {
        if let Some(open) = self.open.get(path) {
            return Ok(Arc::clone(open));
        }
        let opened = match self.opened(path) {
            Err(Errno::NOENT) => {
                let (above, name) = split(path);
                let parent = self.folder(above)?;
                let made = match self.new.contains(above) {
                    true => self.made_in(&parent, name, path),
                    false => self.tree(&parent, path),
                };
                made.map_err(|error| self.failed(path, error))?;
                self.new.insert(path.to_owned());
                self.opened(path)
            }
            other => other,
        };
        let opened = opened.map_err(|error| match error {
            Errno::NOTDIR => self.refused(path, "is in a folder of the archive, but a file in the image"),
            error => self.failed(path, error),
        })?;
        let kind = rustix::fs::fstatfs(&opened).map(|fs| fs.f_type.cast_unsigned());
        if kind.is_ok_and(|kind| KERNELS.contains(&kind)) {
            return Err(self.refused(path, "is in a file system of the kernel's"));
        }
        if self.open.len() >= MOST_OPEN {
            self.open.clear();
        }
        let opened = Arc::new(opened);
        self.open.insert(path.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }

    fn made_in(&mut self, parent: &OwnedFd, name: &str, path: &str) -> Result<(), Errno> {
        self.made.push((path.to_owned(), AtFlags::REMOVEDIR));
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
    }

    /// A folder that comes with all that will be in it.
    fn tree(&mut self, parent: &OwnedFd, path: &str) -> Result<(), Errno> {
        let (above, name) = split(path);
        let stat = rustix::fs::fstat(parent)?;
        let place = (stat.st_dev, stat.st_ino, name.to_owned());
        if let Some(&known) = self.places.get(&place) {
            self.trees.insert(path.to_owned(), known);
            return Ok(());
        }
        let at = self.ready.len();
        let temporary = format!("{}{at}", self.prefix);
        self.places.insert(place, at);
        self.trees.insert(path.to_owned(), at);
        self.ready.push(Ready {
            folder: above.to_owned(),
            name: name.to_owned(),
            temporary: temporary.clone(),
            before: None,
            after: String::new(),
            is_tree: true,
            arrived: false,
        });
        self.made_in(parent, &temporary, path)
    }

    /// Where a path is until all is in its place.
    fn standing<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let mut ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let tree = ends.find_map(|end| Some((end, self.ready.get(*self.trees.get(&path[..end])?)?)));
        match tree {
            Some((end, tree)) if !tree.arrived => {
                Cow::Owned(format!("{}{}", joined(&tree.folder, &tree.temporary), &path[end..]))
            }
            _ => Cow::Borrowed(path),
        }
    }

    fn opened(&self, path: &str) -> Result<OwnedFd, Errno> {
        let standing = self.standing(path);
        let path = if path.is_empty() { "." } else { &standing };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), within) {
            // An old kernel, or a filter that does not know the call. From the real root the plain way is the same.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&self.root, path, flags, Mode::empty()),
            other => other,
        }
    }

    /// Makes an entry beside its place.
    fn beside(&mut self, entry: &'a Entry) -> Step<()> {
        let (above, name) = split(&entry.path);
        let folder = self.folder(above)?;
        if self.new.contains(above) {
            self.made.push((entry.path.clone(), AtFlags::empty()));
            self.report.new += 1;
            if entry.member.kind == Kind::File {
                self.temporaries.insert(entry.path.clone(), (above.to_owned(), name.to_owned()));
            }
            if entry.member.kind == Kind::File && entry.member.size < LARGE {
                self.waiting.push(Waiting { folder, entry });
                return if self.waiting.len() < MOST_WAITING { Ok(()) } else { self.settle() };
            }
            self.settle()?;
            self.make(&folder, name, entry).map_err(|error| self.failed(&entry.path, error))?;
            return Ok(());
        }
        self.settle()?;
        let before = self.before(&folder, name, &entry.path)?;
        let temporary = format!("{}{}", self.prefix, self.ready.len());
        let made = self.make(&folder, &temporary, entry);
        let after = match made {
            Ok(after) if before.is_some() => after,
            Ok(_) => String::new(),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
                return Err(self.failed(&entry.path, error));
            }
        };
        if entry.member.kind == Kind::File {
            self.temporaries.insert(entry.path.clone(), (above.to_owned(), temporary.clone()));
        }
        let (folder, name) = (above.to_owned(), name.to_owned());
        self.ready.push(Ready { folder, name, temporary, before, after, is_tree: false, arrived: false });
        if self.ready.last().is_some_and(|ready| ready.before.is_some()) && entry.member.kind == Kind::File {
            let sum = self.sum_of(entry).map_err(|error| self.failed(&entry.path, error))?;
            if let Some(ready) = self.ready.last_mut() {
                ready.after = format!("{} bytes sha256:{sum}", entry.member.size);
            }
        }
        Ok(())
    }

    /// Makes the files that wait.
    fn settle(&mut self) -> Step<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let made = files::make_all(&waiting, self.store, &mut self.ahead, &mut self.report.notes);
        made.map_err(|(entry, error)| self.failed(&entry.path, error))
    }

    /// What stands in the place of an entry, in words.
    fn before(&self, folder: &OwnedFd, name: &str, path: &str) -> Step<Option<String>> {
        let stat = match rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|error| self.failed(path, error))?,
        };
        if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(self.refused(path, "is a mount of its own, which cannot be replaced"));
        }
        let told = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => return Err(self.refused(path, "is a folder in the image")),
            FileType::RegularFile => {
                let sum = sum_at(folder, name).unwrap_or_else(|error| format!("unknown ({error})"));
                format!("{} bytes sha256:{sum}", stat.stx_size)
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(folder, name, Vec::new());
                format!(
                    "link to {}",
                    link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
                )
            }
            _ => "special file".to_owned(),
        };
        Ok(Some(told))
    }

    /// Makes what an entry is, under a name that nobody uses; what it is, in words.
    fn make(&mut self, folder: &OwnedFd, temporary: &str, entry: &Entry) -> Result<String, Errno> {
        let member = &entry.member;
        match member.kind {
            Kind::File => {
                files::make(folder, temporary, entry, self.store, &mut self.ahead, &mut self.report.notes)?;
                Ok(String::new())
            }
            Kind::HardLink => {
                let (above, other) = self.temporaries.get(&entry.same_as).cloned().ok_or(Errno::NOENT)?;
                let from = self.opened(&above)?;
                rustix::fs::linkat(&from, other, folder, temporary, AtFlags::empty())?;
                Ok(format!("hard link to /{}", entry.same_as))
            }
            Kind::SymLink => {
                rustix::fs::symlinkat(member.link.as_slice(), folder, temporary)?;
                self.own_link(folder, temporary, member);
                Ok(format!("link to {}", String::from_utf8_lossy(&member.link)))
            }
            Kind::Pipe => {
                rustix::fs::mknodat(folder, temporary, FileType::Fifo, Mode::from_raw_mode(member.mode), 0)?;
                self.own_link(folder, temporary, member);
                Ok("pipe".to_owned())
            }
            Kind::Device { block, numbers } => {
                let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
                let device = rustix::fs::makedev(numbers.0, numbers.1);
                rustix::fs::mknodat(folder, temporary, kind, Mode::from_raw_mode(member.mode), device)?;
                self.own_link(folder, temporary, member);
                Ok("device".to_owned())
            }
            Kind::Folder => Err(Errno::ISDIR),
        }
    }

    /// The same for what has no data.
    fn own_link(&mut self, folder: &OwnedFd, name: &str, member: &Member) {
        let (user, group) = (Some(Uid::from_raw(member.user)), Some(Gid::from_raw(member.group)));
        if rustix::fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            self.report.notes.insert("owners".to_owned());
        }
        let _ = rustix::fs::utimensat(folder, name, &files::times(member), AtFlags::SYMLINK_NOFOLLOW);
    }

    /// The SHA-256 of a file of the archive, holes and all.
    fn sum_of(&self, entry: &Entry) -> Result<String, Errno> {
        let mut sum = digest::Context::new(&SHA256);
        let mut buffer = vec![0; 128 * 1024];
        let (mut at, mut from) = (0, entry.at);
        for (offset, length) in &entry.member.pieces {
            zeros(&mut sum, offset - at);
            let mut left = *length;
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count = self.store.read_at(&mut buffer[..most], from).map_err(|error| errno(&error))?;
                if count == 0 {
                    return Err(Errno::IO);
                }
                sum.update(&buffer[..count]);
                from += count as u64;
                left -= count as u64;
            }
            at = offset + length;
        }
        zeros(&mut sum, entry.member.size - at);
        Ok(hex(sum.finish().as_ref()))
    }

    /// All that is ready goes to its place. What was replaced waits under the other's name until all is done.
    fn commit(&mut self) -> Step<()> {
        for at in 0..self.ready.len() {
            if let Err((path, error)) = self.exchange(at, Way::In) {
                let fault = self.failed(&path, error);
                // The ones before go back.
                for done in (0..at).rev() {
                    let _ = self.exchange(done, Way::Back);
                }
                return Err(fault);
            }
        }
        for ready in std::mem::take(&mut self.ready) {
            match &ready.before {
                None => self.report.new += usize::from(!ready.is_tree),
                Some(before) => {
                    if let Ok(folder) = self.opened(&ready.folder) {
                        let _ = rustix::fs::unlinkat(folder.as_fd(), &ready.temporary, AtFlags::empty());
                    }
                    let path = joined(&ready.folder, &ready.name);
                    self.report.replaced.push(format!("/{path}: {before} → {}", ready.after));
                }
            }
        }
        self.made.clear();
        Ok(())
    }

    /// Exchanges what is ready with what is in its place, or moves it there, or back again.
    fn exchange(&mut self, at: usize, way: Way) -> Result<(), (String, Errno)> {
        let Some(ready) = self.ready.get(at) else { return Ok(()) };
        let (path, name, temporary) = (ready.folder.clone(), ready.name.clone(), ready.temporary.clone());
        let before = ready.before.is_some();
        let failed = |error| (format!("{path}/{name}"), error);
        let folder = match self.open.get(&path) {
            Some(open) => Arc::clone(open),
            None => {
                let opened = Arc::new(self.opened(&path).map_err(failed)?);
                if self.open.len() >= MOST_OPEN {
                    self.open.clear();
                }
                self.open.insert(path.clone(), Arc::clone(&opened));
                opened
            }
        };
        let (from, to) = match way {
            Way::In => (&temporary, &name),
            Way::Back => (&name, &temporary),
        };
        let how = if before { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        match rustix::fs::renameat_with(&*folder, from, &*folder, to, how) {
            // A file system that cannot exchange; what was replaced is then gone at once.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(&*folder, from, &*folder, to),
            other => other,
        }
        .map_err(failed)?;
        if let Some(ready) = self.ready.get_mut(at) {
            ready.arrived = matches!(way, Way::In);
        }
        Ok(())
    }

    /// Removes all that was made and is in no place.
    fn undo(&mut self) {
        for (path, how) in std::mem::take(&mut self.made).iter().rev() {
            let standing = self.standing(path);
            let (above, name) = split(&standing);
            if let Ok(folder) = self.opened(above) {
                let _ = rustix::fs::unlinkat(folder.as_fd(), name, *how);
            }
        }
        for ready in std::mem::take(&mut self.ready) {
            if let Ok(folder) = self.opened(&ready.folder) {
                let _ = rustix::fs::unlinkat(folder.as_fd(), &ready.temporary, AtFlags::empty());
            }
        }
    }

    fn refused(&self, path: &str, what: &str) -> Fault {
        Fault::new(Exit::Unsupported, format!("fstree: {} is refused: /{path} {what}", self.source))
            .next("leave it out of the archive")
    }

    fn failed(&self, path: &str, error: Errno) -> Fault {
        let (exit, next) = match error {
            Errno::ROFS => (
                Exit::Permission,
                "the file system is read-only: mount a volume there, or leave --read-only out",
            ),
            Errno::ACCESS | Errno::PERM => {
                (Exit::Permission, "run the container as a user that may write there")
            }
            Errno::NOSPC | Errno::DQUOT => (Exit::Limit, "free some room there"),
            _ => (Exit::Unsupported, "see what stands there in the image"),
        };
        let why = io::Error::from(error);
        Fault::new(exit, format!("fstree: {}: cannot put /{path}: {why}; nothing of it was put", self.source))
            .next(next)
    }
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
