//! From bytes to a judged list, with all data kept in files without names: nothing is written where it could be seen.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufWriter, IntoInnerError, Read, Seek, Write},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::fs::{MemfdFlags, Mode, OFlags};

use super::{
    Rules,
    decode::{self, Content},
    fetch::{Count, Fetched, Trace},
    list::{Allowed, List, Stripped},
    tar::{Kind, Member, Tar},
    url::Source,
};
use crate::exit::{Exit, Fault};

/// From so many bytes on, so much more data than bytes is a bomb.
const RATIO_FROM: u64 = 64 << 20;
const RATIO: u64 = 300;
/// As much is kept in memory when there is no place for files.
const MOST_IN_MEMORY: u64 = 64 << 20;
/// As long may a symbolic link of a zip be.
const LONGEST_LINK: u64 = 4096;

/// An archive that is here, whole and judged.
pub(crate) struct Unpacked {
    /// What is to be put where.
    pub(crate) stripped: Stripped,
    /// The data of all files.
    pub(crate) store: Store,
    /// What it was: `tar.gz`.
    pub(crate) kind: String,
    /// How many bytes were fetched.
    pub(crate) bytes: u64,
    /// Their SHA-256.
    pub(crate) sum: [u8; 32],
}

/// Data kept until it is put in place: a file without a name.
pub(crate) struct Store {
    file: BufWriter<File>,
    /// So much is in it.
    length: u64,
    most: u64,
}

impl Store {
    /// A new one, where there is room: beside the root's files, or in a folder for such things.
    pub(crate) fn new(most: u64) -> io::Result<Store> {
        for folder in ["/", "/var/tmp", "/tmp"] {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            if let Ok(file) = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
                return Ok(Store::of(file.into(), most));
            }
        }
        let file = rustix::fs::memfd_create("pepo-entry", MemfdFlags::CLOEXEC)?;
        Ok(Store::of(file.into(), most.min(MOST_IN_MEMORY)))
    }

    fn of(file: File, most: u64) -> Store {
        Store { file: BufWriter::with_capacity(256 * 1024, file), length: 0, most }
    }

    /// Where the next data goes.
    pub(crate) fn end(&self) -> u64 {
        self.length
    }

    /// What is kept.
    pub(crate) fn file(&self) -> &File {
        self.file.get_ref()
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > self.most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more data than allowed"));
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The same as a file, from its beginning.
    fn into_file(self) -> io::Result<File> {
        let mut file = self.file.into_inner().map_err(IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }

    /// Nothing more comes: from now on it can be read.
    fn finish(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Data from `at` on.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file().read_at(buffer, at)
    }
}

/// Reads all of a source and judges it.
pub(crate) fn unpack(source: &Source, rules: &Rules, fetched: Fetched) -> Result<Unpacked, Fault> {
    let mut work = Work {
        source,
        rules,
        trace: fetched.trace(),
        list: List::new(source.to_string(), rules.allowed),
        store: Store::new(rules.limit).map_err(|error| no_room(&error))?,
        buffer: vec![0; 256 * 1024],
    };
    let counted = Counted { count: fetched.count(), fetched: Arc::new(Mutex::new(fetched)) };
    let (content, kind) =
        decode::recognise(Box::new(counted.clone())).map_err(|error| work.fault(&error, None))?;
    match content {
        Content::Tar(bytes) => work.tar(bytes, &counted)?,
        Content::Zip(bytes) => work.zip(bytes)?,
        Content::Other(what) => return Err(work.other(what)),
    }
    work.store.finish().map_err(|error| no_room(&error))?;
    let (bytes, sum) = counted.finish().map_err(|error| work.fault(&error, None))?;
    if let Some(expected) = source.sum.filter(|expected| *expected != sum) {
        let what =
            format!("fstree: {source} is refused: its SHA-256 is {}, not {}", hex(&sum), hex(&expected));
        return Err(Fault::new(Exit::Unsupported, what).next("it was changed, or the sum is another file's"));
    }
    let stripped = work.list.finish(source.strip)?;
    Ok(Unpacked { stripped, store: work.store, kind, bytes, sum })
}

/// The fetched bytes, which decoders read and we count.
#[derive(Clone)]
struct Counted {
    fetched: Arc<Mutex<Fetched>>,
    count: Count,
}

impl Counted {
    fn fetched(&self) -> MutexGuard<'_, Fetched> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what decoders left, so that the sum is the whole file's.
    fn finish(&self) -> io::Result<(u64, [u8; 32])> {
        io::copy(&mut self.clone(), &mut io::sink())?;
        Ok((self.count.get(), self.fetched().sum()))
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fetched().read(buffer)
    }
}

struct Work<'a> {
    source: &'a Source,
    rules: &'a Rules,
    trace: Trace,
    list: List,
    store: Store,
    buffer: Vec<u8>,
}

impl Work<'_> {
    fn tar(&mut self, bytes: Box<dyn Read>, counted: &Counted) -> Result<(), Fault> {
        let mut tar = Tar::new(bytes);
        while let Some(member) = tar.next().map_err(|error| self.fault(&error, None))? {
            let at = self.store.end();
            let path = member.path.clone();
            self.list.add(member, at)?;
            loop {
                let count = tar.read(&mut self.buffer).map_err(|error| self.fault(&error, Some(&path)))?;
                if count == 0 {
                    break;
                }
                self.keep(count, &path, counted.count.get())?;
            }
        }
        tar.finish().map_err(|error| self.fault(&error, None))
    }

    /// Keeps what is in the buffer.
    fn keep(&mut self, count: usize, path: &[u8], fetched: u64) -> Result<(), Fault> {
        let kept = self.store.add(&self.buffer[..count]);
        kept.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => self.too_much(),
            _ => no_room(&error),
        })?;
        let length = self.store.end();
        if !self.rules.allowed.ratio && length > RATIO_FROM && length / RATIO > fetched {
            let what = format!(
                "fstree: {} is refused: at the entry {} it has more than {RATIO} times as much data as bytes",
                self.source,
                super::list::shown(path)
            );
            return Err(Fault::new(Exit::Unsupported, what).next("fstree-allow=ratio, if that is wanted"));
        }
        Ok(())
    }

    /// A zip's list stands at its end, so it is kept whole first.
    fn zip(&mut self, mut bytes: Box<dyn Read>) -> Result<(), Fault> {
        let mut whole = Store::new(self.rules.limit).map_err(|error| no_room(&error))?;
        loop {
            let count = bytes.read(&mut self.buffer).map_err(|error| self.fault(&error, None))?;
            if count == 0 {
                break;
            }
            whole.add(&self.buffer[..count]).map_err(|error| no_room(&error))?;
        }
        let size = whole.end();
        let whole = whole.into_file().map_err(|error| no_room(&error))?;
        let reader = io::BufReader::with_capacity(128 * 1024, whole);
        let mut archive =
            zip::ZipArchive::new(reader).map_err(|error| self.broken(&error.to_string(), None))?;
        if archive.has_duplicate_names() {
            let first = archive.central_directory_start();
            let twice = twice(&mut archive.into_inner(), first).unwrap_or_default();
            let what = format!(
                "fstree: {} is refused: the entry {} is there twice",
                self.source,
                super::list::shown(&twice)
            );
            return Err(Fault::new(Exit::Unsupported, what).next("make the archive without it"));
        }
        if archive.has_overlapping_files().map_err(|error| self.broken(&error.to_string(), None))? {
            return Err(self.broken("entries share their data", None));
        }
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).map_err(|error| self.broken(&error.to_string(), None))?;
            self.zipped(&mut file, size)?;
        }
        Ok(())
    }

    fn zipped<R: Read>(&mut self, file: &mut zip::read::ZipFile<'_, R>, fetched: u64) -> Result<(), Fault> {
        let mut member = from_zip(file);
        let at = self.store.end();
        let path = member.path.clone();
        if member.kind == Kind::SymLink {
            let read = file.take(LONGEST_LINK).read_to_end(&mut member.link);
            read.map_err(|error| self.fault(&error, Some(&path)))?;
            (member.size, member.pieces) = (0, Vec::new());
            return self.list.add(member, at);
        }
        let said = member.size;
        self.list.add(member, at)?;
        loop {
            let count = file.read(&mut self.buffer).map_err(|error| self.fault(&error, Some(&path)))?;
            if count == 0 {
                break;
            }
            self.keep(count, &path, fetched)?;
        }
        match self.store.end() - at == said {
            true => Ok(()),
            false => Err(self.broken("is not as long as it says", Some(&path))),
        }
    }

    /// What a reader's error means: the fetch's own fault, or an archive that is broken.
    fn fault(&self, error: &io::Error, path: Option<&[u8]>) -> Fault {
        if let Some(fault) = self.trace.take() {
            return fault;
        }
        self.broken(&error.to_string(), path)
    }

    fn broken(&self, what: &str, path: Option<&[u8]>) -> Fault {
        let entry = path.map(|path| format!("the entry {}: ", super::list::shown(path))).unwrap_or_default();
        let at = match self.list.len() {
            0 => String::new(),
            at => format!(" (after {at} entries)"),
        };
        let what = format!("fstree: {} is refused: {entry}{what}{at}", self.source);
        Fault::new(Exit::Unsupported, what).next("fetch it by hand, and list it: tar -t, unzip -l")
    }

    fn too_much(&self) -> Fault {
        let what = format!(
            "fstree: {} is refused: unpacked it has more than {} bytes",
            self.source, self.store.most
        );
        Fault::new(Exit::Limit, what)
            .next("fstree-limit=SIZE allows more; without a writable /tmp data is kept in memory")
    }

    fn other(&self, what: &str) -> Fault {
        let fault =
            Fault::new(Exit::Unsupported, format!("fstree: {} is no archive but {what}", self.source));
        match what {
            "an HTML page" => {
                fault.next("the server answered with a page: is this the link for the download itself?")
            }
            _ => fault.next("give a tar (also as gz, bz2, xz or zst) or a zip"),
        }
    }
}

/// The first name that the list of a zip, which begins at `first`, has for the second time.
fn twice(zip: &mut (impl Read + Seek), first: u64) -> io::Result<Vec<u8>> {
    zip.seek(io::SeekFrom::Start(first))?;
    let mut names = HashSet::new();
    loop {
        // The fixed part of a list's entry; its lengths of the name, of what is added and of the comment (APPNOTE 4.3.12).
        let mut head = [0; 46];
        zip.read_exact(&mut head)?;
        let length = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let mut name = vec![0; length(28)];
        zip.read_exact(&mut name)?;
        io::copy(&mut zip.by_ref().take((length(30) + length(32)) as u64), &mut io::sink())?;
        if !names.insert(name.clone()) {
            return Ok(name);
        }
    }
}

fn no_room(error: &io::Error) -> Fault {
    Fault::new(Exit::Limit, format!("fstree: cannot keep an archive's data: {error}"))
        .next("free some room in the container's file system, or mount a volume at /tmp")
}

fn from_zip<R: Read>(file: &zip::read::ZipFile<'_, R>) -> Member {
    let mode = file.unix_mode();
    let kind = match mode.map(|mode| mode & 0o170_000) {
        Some(0o120_000) => Kind::SymLink,
        _ if file.is_dir() => Kind::Folder,
        _ => Kind::File,
    };
    let size = if kind == Kind::File { file.size() } else { 0 };
    let usual = if kind == Kind::Folder { 0o755 } else { 0o644 };
    let mut path = file.name_raw().to_owned();
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    Member {
        path,
        kind,
        link: Vec::new(),
        mode: mode.map(|mode| mode & 0o7777).filter(|mode| *mode != 0).unwrap_or(usual),
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        time: (file.last_modified().map_or(0, seconds), 0),
        attributes: Vec::new(),
        size,
        pieces: if size > 0 { vec![(0, size)] } else { Vec::new() },
    }
}

/// Seconds since 1970 of a date without a time zone, taken as UTC.
fn seconds(date: zip::DateTime) -> i64 {
    let (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
    // Days since 1970 by the civil calendar, with years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    days * 86_400 + i64::from(date.hour()) * 3600 + i64::from(date.minute()) * 60 + i64::from(date.second())
}

/// A sum as it is written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Judges what `bytes` would do, as any source's: for those who feed it what no server would send.
pub(crate) fn judge(bytes: &[u8]) -> Result<usize, Fault> {
    let source = Source { place: super::url::Place::File("bytes".into()), sum: None, strip: None };
    let rules = Rules { limit: 1 << 20, allowed: Allowed::default(), ..Rules::default() };
    let fetched = Fetched::of(bytes.to_owned());
    unpack(&source, &rules, fetched).map(|unpacked| unpacked.stripped.entries.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_seconds() {
        let date = zip::DateTime::from_date_and_time(2024, 2, 29, 12, 30, 10).unwrap();
        assert_eq!(seconds(date), 1_709_209_810);
        let date = zip::DateTime::from_date_and_time(1980, 1, 1, 0, 0, 0).unwrap();
        assert_eq!(seconds(date), 315_532_800);
    }
}
