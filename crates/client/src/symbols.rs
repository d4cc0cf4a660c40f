//! Debug files on this side: which of them an agent asks for, found by build id (or by name and checksum) and sent in pieces.
//!
//! Nothing here is trusted to be small: folders are walked with a limit, files are read by ranges, and only headers until one fits.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use flate2::CrcReader;
use object::{Object as _, ObjectKind, ObjectSection as _, ReadCache};
use pepo_wire::{
    Code, Failure,
    agent::{
        SymbolFile, SymbolsEnd, SymbolsPart, SymbolsWanted, WantedSymbols, session_request::Kind as Request,
        symbols_part::Kind,
    },
};

use crate::SessionSender;

/// Most entries of one folder, and of those below it, that are looked at.
const MOST_ENTRIES: usize = 50_000;
/// How deep below a folder is looked.
const DEPTH: usize = 16;
/// Bytes sent at once.
const PIECE: usize = 256 << 10;

/// Files and folders on this side where debug files, or programs that have not been stripped, may be.
#[derive(Clone, Debug, Default)]
pub struct SymbolPaths {
    paths: Vec<PathBuf>,
    /// The agent sees the same files: names are enough.
    shared: bool,
}

/// A file that fits.
#[derive(Debug, PartialEq, Eq)]
struct Fit {
    /// Which of the wanted.
    module: usize,
    path: PathBuf,
}

impl SymbolPaths {
    /// These paths; `shared` if the agent sees them as they are here.
    ///
    /// # Errors
    /// [`Code::Usage`] for what cannot be read.
    pub fn new(paths: &[PathBuf], shared: bool) -> Result<SymbolPaths, Failure> {
        let absolute = |path: &PathBuf| {
            path.canonicalize().map_err(|error| {
                Failure::new(Code::Usage, format!("{} cannot be used for --symbols", path.display()))
                    .because(error)
            })
        };
        Ok(SymbolPaths { paths: paths.iter().map(absolute).collect::<Result<_, _>>()?, shared })
    }

    /// The folders among them.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path).filter(|path| path.is_dir())
    }

    /// The first file that fits and has debug information.
    #[must_use]
    pub fn debug_file(&self, wanted: &WantedSymbols) -> Option<PathBuf> {
        // Most folders of debug files have it there; else all is looked at.
        let by_id = wanted
            .build_id
            .split_at_checked(2)
            .map(|(first, rest)| format!(".build-id/{first}/{rest}.debug"));
        let usual = by_id.into_iter().flat_map(|name| self.folders().map(move |folder| folder.join(&name)));
        let fits = |path: &PathBuf| {
            Elf::read(path).is_some_and(|elf| elf.build_id == wanted.build_id && elf.has_debug_info)
        };
        let walked = || self.find(std::slice::from_ref(wanted)).0.into_iter().next().map(|fit| fit.path);
        usual.into_iter().find(fits).or_else(walked)
    }

    /// Answers what the agent wants.
    pub(crate) async fn bring(self, wanted: SymbolsWanted, sender: &SessionSender) -> Result<(), Failure> {
        let (shared, limit) = (self.shared, wanted.max_bytes);
        let found = tokio::task::spawn_blocking(move || self.find(&wanted.modules)).await;
        let (fits, mut notes) = found.unwrap_or_default();
        let mut left = limit;
        for fit in fits {
            let sent = if shared { name(fit, sender).await } else { send(&fit, &mut left, sender).await };
            if let Err(note) = sent? {
                notes.push(note);
            }
        }
        part(sender, Kind::End(SymbolsEnd { notes })).await
    }

    /// What fits, and why the first of the wanted was not found.
    fn find(&self, wanted: &[WantedSymbols]) -> (Vec<Fit>, Vec<String>) {
        let mut search = Search::of(wanted);
        let mut notes = Vec::new();
        for path in &self.paths {
            let before = search.fits.len();
            let mut seen = Seen::default();
            search.walk(path, DEPTH, &mut seen);
            if search.fits.len() == before {
                notes.extend(wanted.first().map(|first| seen.note(path, first)));
            }
        }
        (search.fits, notes)
    }
}

/// What was seen in a folder.
#[derive(Debug, Default)]
struct Seen {
    entries: usize,
    programs: usize,
    /// What fits, and has no debug information either.
    stripped: Option<PathBuf>,
}

impl Seen {
    fn note(&self, path: &Path, wanted: &WantedSymbols) -> String {
        let path = path.display();
        if let Some(stripped) = &self.stripped {
            return format!("{} has no debug information either", stripped.display());
        }
        if self.entries >= MOST_ENTRIES {
            return format!("only the first {MOST_ENTRIES} files of {path} were looked at");
        }
        let what = if wanted.build_id.is_empty() {
            format!("is called {} and has its checksum", wanted.debug_link)
        } else {
            format!("has the build id {}", wanted.build_id)
        };
        match self.programs {
            0 => format!("there is no program, library or debug file in {path}"),
            1 => format!("the one program, library or debug file in {path} is another: none {what}"),
            many => format!("of the {many} programs, libraries and debug files in {path} none {what}"),
        }
    }
}

/// What is still wanted, by what it is known by.
struct Search<'a> {
    by_id: HashMap<&'a str, usize>,
    by_name: HashMap<&'a str, (usize, u32)>,
    fits: Vec<Fit>,
}

impl<'a> Search<'a> {
    fn of(wanted: &'a [WantedSymbols]) -> Search<'a> {
        let all = || wanted.iter().enumerate();
        let by_id = all().filter(|(_, one)| !one.build_id.is_empty());
        // A name alone is many programs' name.
        let by_name = all().filter(|(_, one)| one.build_id.is_empty() && !one.debug_link.is_empty());
        Search {
            by_id: by_id.map(|(number, one)| (one.build_id.as_str(), number)).collect(),
            by_name: by_name
                .map(|(number, one)| (one.debug_link.as_str(), (number, one.debug_link_crc)))
                .collect(),
            fits: Vec::new(),
        }
    }

    /// Looks at a file, or at all in a folder. Links to files are followed, links to folders are not: there may be rings.
    fn walk(&mut self, path: &Path, depth: usize, seen: &mut Seen) {
        if (self.by_id.is_empty() && self.by_name.is_empty()) || seen.entries >= MOST_ENTRIES {
            return;
        }
        seen.entries += 1;
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.is_file() {
            self.look(path, seen);
        } else if metadata.is_dir() && depth > 0 {
            let linked =
                |path: &Path| fs::symlink_metadata(path).is_ok_and(|one| one.is_symlink() && path.is_dir());
            let mut below: Vec<PathBuf> =
                fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            below.sort();
            for path in below.into_iter().filter(|path| !linked(path)) {
                self.walk(&path, depth - 1, seen);
            }
        }
    }

    fn look(&mut self, path: &Path, seen: &mut Seen) {
        let Some(elf) = Elf::read(path) else { return };
        seen.programs += 1;
        let by_id = self.by_id.get(elf.build_id.as_str()).copied();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let by_name = || {
            let (number, crc) = self.by_name.get(name)?;
            (checksum(path).ok()? == *crc).then_some(*number)
        };
        let Some(module) = by_id.or_else(by_name) else { return };
        if !elf.has_debug_info {
            seen.stripped = Some(path.to_owned());
            return;
        }
        self.by_id.retain(|_, number| *number != module);
        self.by_name.retain(|_, (number, _)| *number != module);
        self.fits.push(Fit { module, path: path.to_owned() });
    }
}

/// What is asked of a file.
struct Elf {
    build_id: String,
    has_debug_info: bool,
}

impl Elf {
    /// A program, a library, or what was split from one; `None` for anything else.
    fn read(path: &Path) -> Option<Elf> {
        let mut file = File::open(path).ok()?;
        let mut magic = [0; 4];
        file.read_exact(&mut magic).ok().filter(|()| magic == *b"\x7fELF")?;
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).ok()?;
        matches!(elf.kind(), ObjectKind::Executable | ObjectKind::Dynamic).then_some(())?;
        let build_id = elf.build_id().ok().flatten().unwrap_or_default();
        let is_info = |name: &str| matches!(name, ".debug_info" | ".zdebug_info");
        Some(Elf {
            build_id: build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            has_debug_info: elf.sections().any(|one| one.name().is_ok_and(is_info) && one.size() > 0),
        })
    }
}

/// CRC-32 of a whole file, as `.gnu_debuglink` has it.
fn checksum(path: &Path) -> io::Result<u32> {
    let mut reader = CrcReader::new(File::open(path)?);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.crc().sum())
}

async fn part(sender: &SessionSender, kind: Kind) -> Result<(), Failure> {
    sender.send(Request::Symbols(SymbolsPart { kind: Some(kind) })).await
}

/// The name of a file that the agent reads by itself.
async fn name(fit: Fit, sender: &SessionSender) -> Result<Result<(), String>, Failure> {
    let name = fit.path.display().to_string();
    let file = SymbolFile { module: fit.module as u32, agent_path: name.clone(), name };
    part(sender, Kind::File(file)).await.map(Ok)
}

/// A file, piece by piece; a note when it cannot be read or is too large.
async fn send(fit: &Fit, left: &mut u64, sender: &SessionSender) -> Result<Result<(), String>, Failure> {
    use tokio::io::AsyncReadExt as _;
    let name = fit.path.display().to_string();
    let opened = match tokio::fs::File::open(&fit.path).await {
        Ok(file) => file.metadata().await.map(|metadata| (file, metadata.len())),
        Err(error) => Err(error),
    };
    let (file, size) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(format!("{name}: {error}"))),
    };
    if size > *left {
        return Ok(Err(format!("{name} has {} MiB, and the agent takes {} MiB", size >> 20, *left >> 20)));
    }
    *left -= size;
    tracing::info!(%name, size, "sending a debug file");
    part(sender, Kind::File(SymbolFile { module: fit.module as u32, name, agent_path: String::new() }))
        .await?;
    let mut file = file.take(size);
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await;
        match read {
            Ok(0) => return Ok(Ok(())),
            Ok(_) => part(sender, Kind::Data(piece)).await?,
            // Half of it is there already.
            Err(error) => {
                let what = format!("{} cannot be read to its end", fit.path.display());
                return Err(Failure::new(Code::FileDenied, what).because(error));
            }
        }
    }
}
