//! Trees of files on their way, in either direction: what they may be, how they are told in parts, and how parts become files again.
//!
//! A tree is told from its top down, one name at a time: what is received opens a folder inside the folder that it has open, and
//! never resolves a path, so no name and no link can lead out of it. Files themselves are behind two traits, [`Source`] and [`Sink`],
//! that stand where the files are: beside a target, and on the user's side.

/// From files to parts.
mod walk;

/// From parts to files.
mod build;

use std::{borrow::Cow, io};

use crate::{Code, Failure, agent::tree_part};

pub use build::Build;
pub use walk::walk;

/// What a part says.
pub type Part = tree_part::Kind;

/// Files, folders, links and what is skipped, in one tree.
pub const MOST_ENTRIES: u64 = 1_000_000;
/// Folders in each other. On the way down each takes a descriptor or two.
pub const DEEPEST: usize = 100;
/// Bytes of a name (NAME_MAX of Linux, limits.h).
pub const LONGEST_NAME: usize = 255;
/// Bytes of where a link leads (PATH_MAX without its end).
pub const LONGEST_LINK: usize = 4095;
/// Bytes of a file in one part; no side accepts parts of more than [`LARGEST_PORTION`].
pub const PORTION: usize = 64 << 10;
/// See [`PORTION`].
pub const LARGEST_PORTION: usize = 1 << 20;
/// How many of what was skipped are kept by name.
const MOST_TOLD: usize = 1000;

/// What is kept of a file beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who may read, write and execute: nine bits.
    pub mode: u32,
    /// When it was changed last: seconds after 1970, and nanoseconds after these.
    pub modified: (i64, u32),
}

impl Attributes {
    /// The bits of a mode that are kept: none that gives a program its owner's rights.
    pub const MODE: u32 = 0o777;
}

/// What a name in a folder stands for.
#[derive(Debug)]
pub enum Node<S: Source> {
    /// A regular file, open, and its size in bytes.
    File(S::File, u64),
    /// A folder.
    Folder(S),
    /// A link, and where it leads.
    Link(Vec<u8>),
    /// Something that is not copied, in words: "a socket".
    Other(&'static str),
}

/// A folder whose files are sent.
pub trait Source: Sized {
    /// An open file.
    type File: io::Read;

    /// The names in it, in no order, without `.` and `..`.
    ///
    /// # Errors
    /// What the system says.
    fn names(&self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>>;

    /// Opens what has this name, never what a link of this name leads to.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &[u8]) -> io::Result<(Attributes, Node<Self>)>;
}

/// A folder in which files are put.
pub trait Sink: Sized {
    /// A file that is being written and has no name yet; dropped, it was never there.
    type File: io::Write;

    /// Opens the folder of this name and makes it if it is not there; was it made? A link is never followed. The attributes are for those that
    /// have to know them beforehand; [`Sink::settle`] gives them.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::NotADirectory`] for something else of this name.
    fn enter(&self, name: &[u8], attributes: Attributes) -> io::Result<(Self, bool)>;

    /// Begins a file of so many bytes, as far as is known; [`Sink::put`] gives it its attributes.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &[u8], attributes: Attributes, size: u64) -> io::Result<Self::File>;

    /// Gives a file that is whole its attributes and its name, at once; a file or a link of this name is replaced, nothing else is.
    ///
    /// # Errors
    /// What the system says.
    fn put(&self, file: Self::File, name: &[u8], attributes: Attributes) -> io::Result<()>;

    /// Makes a link, as [`Sink::put`] does.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::Unsupported`] where there are none.
    fn link(&self, name: &[u8], to: &[u8]) -> io::Result<()>;

    /// Gives the folder itself its attributes.
    ///
    /// # Errors
    /// What the system says.
    fn settle(&self, attributes: Attributes) -> io::Result<()>;
}

/// What was copied so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links.
    pub links: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was not copied; of very many the first.
    pub skipped: Vec<Skipped>,
    /// How many should have been copied and could not be.
    pub failed: u64,
    entries: u64,
}

/// Something that was not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Below the source; what is no UTF-8 is replaced.
    pub path: String,
    /// In words.
    pub why: String,
}

impl Tally {
    /// Counts one more of anything.
    ///
    /// # Errors
    /// [`Code::TooLarge`] for too many.
    pub fn count(&mut self) -> Result<(), Failure> {
        self.entries += 1;
        if self.entries <= MOST_ENTRIES {
            return Ok(());
        }
        Err(Failure::new(Code::TooLarge, format!("there are more than {MOST_ENTRIES} files"))
            .hint("copy the folders in it one by one"))
    }

    /// Keeps in mind what was not copied; `failed` if it should have been.
    pub fn skip(&mut self, path: String, why: String, failed: bool) {
        self.failed += u64::from(failed);
        if self.skipped.len() < MOST_TOLD {
            self.skipped.push(Skipped { path, why });
        }
    }
}

/// What a destination is before anything is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Not there.
    Nothing,
    /// A folder, or a link to one.
    Folder,
    /// Anything else.
    Other,
}

/// Where a source goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the very path that was named.
    Itself,
    /// Into that folder, by the source's own name.
    Inside,
    /// Into that folder, without a folder of its own.
    Contents,
}

/// A source, as far as its place depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Is it a folder?
    pub is_folder: bool,
    /// What is in it, not itself.
    pub contents: bool,
}

/// Where a source goes, as `docker cp` and cp(1) have it. `to` is the destination as it was typed.
///
/// # Errors
/// [`Code::FileNotFound`] when the destination has to be a folder and is none.
pub fn place(wanted: Wanted, to: &str, existing: Existing) -> Result<Place, Failure> {
    let no_folder = |why: &str| Failure::new(Code::FileNotFound, format!("{to} is no folder")).because(why);
    match existing {
        Existing::Folder if wanted.is_folder && wanted.contents => Ok(Place::Contents),
        Existing::Folder => Ok(Place::Inside),
        Existing::Other if wanted.is_folder => Err(no_folder("a folder is not put over a file")),
        Existing::Other if to.ends_with('/') => Err(no_folder("the slash at its end says that it is one")),
        Existing::Nothing if to.ends_with('/') && !wanted.is_folder => {
            Err(no_folder("it is not there, and the slash at its end says that it is one")
                .hint("make it first, or leave the slash out to copy to this name"))
        }
        Existing::Other | Existing::Nothing => Ok(Place::Itself),
    }
}

/// A path of the target's, cut before its last name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut<'a> {
    /// The folder that it is in; empty for the root.
    pub folder: &'a str,
    /// The last name; nothing where the path ends with none of its own (`/`, `.`, `..`).
    pub name: Option<&'a str>,
    /// It ends with a slash or a dot, so it is what a link leads to, not the link.
    pub is_folder: bool,
    /// It ends with `/.` or has no name: what is in it is meant.
    pub contents: bool,
}

impl<'a> Cut<'a> {
    /// Cuts a path.
    #[must_use]
    pub fn of(path: &'a str) -> Cut<'a> {
        let mut rest = path;
        let mut dotted = false;
        loop {
            let shorter = rest.trim_end_matches('/');
            match shorter.strip_suffix("/.") {
                Some(before) => (rest, dotted) = (before, true),
                None => {
                    rest = shorter;
                    break;
                }
            }
        }
        let (folder, name) = rest.rsplit_once('/').unwrap_or(("", rest));
        let name = Some(name).filter(|name| !matches!(*name, "" | "." | ".."));
        let is_folder = dotted || name.is_none() || path.ends_with('/');
        Cut { folder, name, is_folder, contents: dotted || name.is_none() }
    }
}

/// Is it one name, which leads nowhere else? It may still not be one that every system takes.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= LONGEST_NAME
        && !name.iter().any(|b| matches!(b, b'/' | 0))
}

/// A path below the source, for people.
fn shown<'a>(folders: impl Iterator<Item = &'a str>, name: &'a [u8]) -> String {
    let mut path = String::new();
    for one in folders.map(Cow::Borrowed).chain([String::from_utf8_lossy(name)]).filter(|one| !one.is_empty())
    {
        path.push_str(if path.is_empty() { "" } else { "/" });
        path.push_str(&one);
    }
    if path.is_empty() { "the source itself".to_owned() } else { path }
}

/// A failure for what the system said of a file.
fn failed(what: String, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Code::TooLarge
        }
        io::ErrorKind::NotFound => Code::FileNotFound,
        _ => Code::FileDenied,
    };
    let failure = Failure::new(code, what).because(error);
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => failure.hint("choose a folder that can be written to, such as that of a volume"),
        io::ErrorKind::NotADirectory => failure.hint("a file or a link has that name there, and no link is followed: remove it, or copy to another place"),
        io::ErrorKind::ResourceBusy => failure.hint("the file is a mount of its own, which cannot be replaced"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests;
