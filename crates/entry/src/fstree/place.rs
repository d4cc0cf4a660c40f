//! Puts what was judged in its place: first all of it beside where it goes, under names that nobody uses; then, when
//! nothing can fail any more for want of room or rights, each by one rename. A folder that is not there yet is one such thing, with
//! all that is in it. What fails is undone.
//!
//! A program that runs keeps the text it has: its file is replaced, never written to.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxAttributes, StatxFlags},
    io::Errno,
};

use super::{
    crew::{Batch, Crew, Site, Why},
    data::sum_at,
    list::{Entry, shown, split},
    make::Maker,
    tar::Kind,
    unpack::Store,
};
use crate::exit::{Exit, Fault};

/// What folders may be until they get their own mode.
const FOLDER: Mode = Mode::from_raw_mode(0o755);
/// As many folders are kept open.
const MOST_OPEN: usize = 32;
/// As many entries of one new folder are handed over at once.
const BATCH: usize = 512;
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
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Report, Fault> {
    let mut placing = Placing {
        root,
        source,
        maker: Maker::new(store),
        open: HashMap::new(),
        new: HashSet::new(),
        trees: HashMap::new(),
        places: HashMap::new(),
        prefix: format!(".pepo-entry.{:016x}.", RandomState::new().build_hasher().finish()),
        ready: Vec::new(),
        temporaries: HashMap::new(),
        report: Report::default(),
    };
    let done = placing.prepare(entries, &Site::new(store, stop)).and_then(|()| placing.commit());
    match done {
        Ok(()) => {
            placing.report.notes.append(&mut placing.maker.notes);
            Ok(placing.report)
        }
        Err(fault) => {
            placing.undo();
            Err(fault)
        }
    }
}

struct Placing<'a> {
    root: OwnedFd,
    source: &'a str,
    maker: Maker<'a>,
    open: HashMap<String, Arc<OwnedFd>>,
    /// Folders that were made: nothing of the image can be in them.
    new: HashSet<String>,
    /// Those that are in a folder of the image: which of `ready` each is.
    trees: HashMap<String, usize>,
    /// The same by the folder above (device and inode) and the name: links of the image lead to one place by several paths.
    places: HashMap<(u64, u64, String), usize>,
    /// What temporary names begin with: at random, for what was killed left some, and others may put into the same volume.
    prefix: String,
    ready: Vec<Ready>,
    /// By the path of a file in a folder of the image, where it waits.
    temporaries: HashMap<String, (String, String)>,
    report: Report,
}

/// What failed: at which path, and why.
type Step<T> = Result<T, Fault>;

/// What waits until all files are there.
#[derive(Default)]
struct Later<'a> {
    links: Vec<&'a Entry>,
    folders: Vec<&'a Entry>,
}

impl<'a> Placing<'a> {
    fn prepare(&mut self, entries: &'a [Entry], site: &Site<'a>) -> Step<()> {
        let mut later = Later::default();
        let done = thread::scope(|scope| self.files(entries, &Crew::new(scope, site), &mut later));
        // What a thread of the crew could not do comes before what was not tried for that.
        match site.why() {
            Some(Why::Failed(entry, error)) => return Err(self.failed(&entry.path, error)),
            Some(Why::Stopped) => {
                return Err(Fault::new(Exit::Limit, format!("fstree: {}: stopped by a signal", self.source)));
            }
            None => done?,
        }
        self.report.notes.append(&mut site.notes());
        for entry in later.links {
            self.beside(entry)?;
        }
        // Folders that were made take their own mode and time last: putting things in changes both.
        for entry in later.folders.into_iter().rev() {
            let folder = self.folder(&entry.path)?;
            let opened = rustix::fs::openat(
                &folder,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let dressed = opened.and_then(|opened| self.maker.dress(&opened, &entry.member));
            dressed.map_err(|error| self.failed(&entry.path, error))?;
        }
        Ok(())
    }

    /// Makes folders and files. Files of new folders go to the crew, which may end last; hard links wait for what they are names of.
    fn files(&mut self, entries: &'a [Entry], crew: &Crew<'_, 'a>, later: &mut Later<'a>) -> Step<()> {
        let mut at = 0;
        while let Some(entry) = entries.get(at) {
            if !crew.goes_on(entry) {
                return Ok(());
            }
            at += 1;
            match entry.member.kind {
                Kind::HardLink => later.links.push(entry),
                Kind::Folder => {
                    self.folder(&entry.path)?;
                    if self.new.contains(&entry.path) {
                        later.folders.push(entry);
                    }
                }
                _ => {
                    let (above, _) = split(&entry.path);
                    let folder = self.folder(above)?;
                    if self.new.contains(above) {
                        let same = |other: &&Entry| other.is_made_alone() && split(&other.path).0 == above;
                        let more = entries[at..].iter().take(BATCH - 1).take_while(same).count();
                        crew.take(&mut self.maker, Batch { folder, entries: &entries[at - 1..at + more] });
                        at += more;
                        self.report.new += more + 1;
                    } else {
                        self.beside(entry)?;
                    }
                }
            }
        }
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
                    true => rustix::fs::mkdirat(&*parent, name, FOLDER),
                    false => self.tree(&parent, path),
                };
                made.map_err(|error| self.failed(path, error))?;
                self.new.insert(path.to_owned());
                self.report.folders += 1;
                self.opened(path)
            }
            Ok(opened) => {
                // It may have been made under another path, which leads there by a link of the image.
                if matches!(self.waiting(path), Cow::Owned(_)) {
                    self.new.insert(path.to_owned());
                }
                Ok(opened)
            }
            other => other,
        };
        let opened = opened.map_err(|error| match error {
            Errno::NOTDIR => self.refused(path, "is in a folder of the archive, but a file in the image"),
            error => self.failed(path, error),
        })?;
        if is_kernels(&opened) {
            return Err(self.refused(path, "is in a file system of the kernel's"));
        }
        if self.open.len() >= MOST_OPEN {
            self.open.clear();
        }
        let opened = Arc::new(opened);
        self.open.insert(path.to_owned(), Arc::clone(&opened));
        Ok(opened)
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
        rustix::fs::mkdirat(parent, &temporary, FOLDER)?;
        self.places.insert(place, at);
        self.trees.insert(path.to_owned(), at);
        self.ready.push(Ready {
            folder: above.to_owned(),
            name: name.to_owned(),
            temporary,
            before: None,
            after: String::new(),
            is_tree: true,
            arrived: false,
        });
        Ok(())
    }

    /// Where a path is until all is in its place.
    fn waiting<'p>(&self, path: &'p str) -> Cow<'p, str> {
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
        let waiting = self.waiting(path);
        let path = if path.is_empty() { "." } else { &waiting };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), within) {
            // An old kernel, or a filter that does not know the call. From the real root the plain way is the same.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&self.root, path, flags, Mode::empty()),
            other => other,
        }
    }

    /// Makes an entry beside its place.
    fn beside(&mut self, entry: &Entry) -> Step<()> {
        let (above, name) = split(&entry.path);
        let folder = self.folder(above)?;
        if self.new.contains(above) {
            self.make(&folder, name, entry).map_err(|error| self.failed(&entry.path, error))?;
            self.report.new += 1;
            return Ok(());
        }
        let before = self.before(&folder, name, &entry.path)?;
        let temporary = format!("{}{}", self.prefix, self.ready.len());
        let made =
            self.make(&folder, &temporary, entry).and_then(|after| match (&before, entry.member.kind) {
                (None, _) => Ok(String::new()),
                (_, Kind::File) => {
                    let sum = self.maker.sum_of(entry)?;
                    Ok(format!("{} bytes sha256:{sum}", entry.member.size))
                }
                _ => Ok(after),
            });
        let after = match made {
            Ok(after) => after,
            Err(error) => {
                let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
                return Err(self.failed(&entry.path, error));
            }
        };
        if matches!(entry.member.kind, Kind::File | Kind::HardLink) {
            self.temporaries.insert(entry.path.clone(), (above.to_owned(), temporary.clone()));
        }
        let (folder, name) = (above.to_owned(), name.to_owned());
        self.ready.push(Ready { folder, name, temporary, before, after, is_tree: false, arrived: false });
        Ok(())
    }

    /// Makes what an entry is; what it is, in words.
    fn make(&mut self, folder: &OwnedFd, name: &str, entry: &Entry) -> Result<String, Errno> {
        if entry.member.kind != Kind::HardLink {
            return self.maker.make(folder, name, entry);
        }
        let waits = self.temporaries.get(&entry.same_as);
        let (above, other) = match waits {
            Some((above, other)) => (above.as_str(), other.as_str()),
            None => split(&entry.same_as),
        };
        let from = self.opened(above)?;
        rustix::fs::linkat(&from, other, folder, name, AtFlags::empty())?;
        Ok(format!("hard link to /{}", entry.same_as))
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
                format!("link to {}", link.map(|link| shown(link.as_bytes())).unwrap_or_default())
            }
            _ => "special file".to_owned(),
        };
        Ok(Some(told))
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
        for ready in std::mem::take(&mut self.ready) {
            if let Ok(folder) = self.opened(&ready.folder) {
                remove(&folder, &ready.temporary, ready.is_tree);
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

/// Whether a folder is the kernel's.
pub(super) fn is_kernels(folder: &OwnedFd) -> bool {
    let kind = rustix::fs::fstatfs(folder).map(|fs| fs.f_type.cast_unsigned());
    kind.is_ok_and(|kind| KERNELS.contains(&kind))
}

pub(super) fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Removes what we made, as far as it goes: a folder with all that is in it.
fn remove(folder: &OwnedFd, name: impl rustix::path::Arg + Copy, is_folder: bool) {
    if !is_folder {
        let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        return;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(opened) = rustix::fs::openat(folder, name, flags, Mode::empty())
        && let Ok(listed) = Dir::read_from(&opened)
    {
        for entry in listed.flatten() {
            let name = entry.file_name();
            if name != c"." && name != c".." {
                // A folder cannot be unlinked; what it is says the call that can.
                let unlinked = rustix::fs::unlinkat(&opened, name, AtFlags::empty());
                if let Err(Errno::ISDIR | Errno::PERM) = unlinked {
                    remove(&opened, name, true);
                }
            }
        }
    }
    let _ = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
}
