//! A file that appears whole or not at all: written beside its place, then moved there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use pepo_wire::{Code, Failure};

/// A file beside its place, which it takes at once; dropped before that, it was never there.
#[derive(Debug)]
pub(crate) struct Part {
    /// What is written to.
    pub(crate) file: File,
    path: PathBuf,
    part: PathBuf,
}

/// Bytes of a file's name that are in the name beside it: with what is added it is short enough for every system.
const SHORT: usize = 100;

impl Part {
    /// Begins one; `options` say who may read it until it is whole.
    pub(crate) fn beside(path: &Path, options: &mut OpenOptions) -> io::Result<Part> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let short = &name[..name.floor_char_boundary(SHORT)];
        let part = path.with_file_name(format!(".{short}.{}.part", std::process::id()));
        let file = options.write(true).create_new(true).open(&part)?;
        Ok(Part { file, path: path.to_owned(), part })
    }

    /// Puts it in its place, over what is there.
    pub(crate) fn keep(self) -> io::Result<()> {
        fs::rename(&self.part, &self.path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename nothing has this name.
        let _ = fs::remove_file(&self.part);
    }
}

/// A file being made; dropped before it was finished, it was never there.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    to: Begun,
}

#[derive(Debug)]
enum Begun {
    Part(Part),
    /// The path is a device or a pipe, which is written at once.
    AtOnce(File),
}

impl NewFile {
    /// Finds out before any work whether it can be written.
    ///
    /// # Errors
    /// [`Code::FileDenied`].
    pub(crate) fn begin(path: &Path) -> Result<NewFile, Failure> {
        let to = match fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            true => OpenOptions::new().write(true).open(path).map(Begun::AtOnce),
            false => Part::beside(path, &mut OpenOptions::new()).map(Begun::Part),
        };
        Ok(NewFile { path: path.to_owned(), to: to.map_err(|error| cannot(path, &error))? })
    }

    fn file(&mut self) -> &mut File {
        match &mut self.to {
            Begun::Part(part) => &mut part.file,
            Begun::AtOnce(file) => file,
        }
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// [`Code::FileDenied`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file().write_all(bytes).map_err(|error| cannot(&self.path, &error))
    }

    /// So many zeros come next, which take no room where the file system knows holes. Only in a regular file.
    ///
    /// # Errors
    /// [`Code::FileDenied`].
    pub(crate) fn hole(&mut self, length: u64) -> Result<(), Failure> {
        let file = self.file();
        let longer = file.stream_position().and_then(|at| {
            file.set_len(at + length)?;
            file.seek(SeekFrom::Start(at + length))
        });
        longer.map(|_| ()).map_err(|error| cannot(&self.path, &error))
    }

    /// Is it a regular file?
    pub(crate) fn is_regular(&self) -> bool {
        matches!(self.to, Begun::Part(_))
    }

    /// Writes it and puts it in its place.
    ///
    /// # Errors
    /// [`Code::FileDenied`]; what was at the path before is still there.
    pub(crate) fn finish(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file().write_all(bytes).and_then(|()| match self.to {
            Begun::Part(part) => part.file.sync_data().and_then(|()| part.keep()),
            Begun::AtOnce(_) => Ok(()),
        });
        written.map_err(|error| cannot(&self.path, &error))
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::FileDenied, format!("{} cannot be written", path.display()))
        .because_of(error)
        .hint("choose another place with `-o`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        fs::write(&path, "old").unwrap();
        drop(NewFile::begin(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        NewFile::begin(&path).unwrap().finish(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = NewFile::begin(&folder.path().join("no/where.svg")).unwrap_err();
        assert_eq!(error.code(), Code::FileDenied);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_one_clear_error_and_a_device_stays_a_device() {
        let error = NewFile::begin(Path::new("/dev/full")).unwrap().finish(b"much").unwrap_err();
        assert!(error.to_string().contains("/dev/full cannot be written"), "{error}");
        assert!(!fs::metadata("/dev/full").unwrap().is_file());
    }
}
