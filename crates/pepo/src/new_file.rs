//! A file that appears whole or not at all: written beside its place, then moved there.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use pepo_wire::{Code, Failure};

/// A file being made; dropped before it was finished, it was never there.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    /// Where it is until it is whole; nothing when the path is a device or a pipe, which is written at once.
    part: Option<PathBuf>,
    file: File,
}

impl NewFile {
    /// Finds out before any work whether it can be written.
    ///
    /// # Errors
    /// [`Code::FileDenied`].
    pub(crate) fn begin(path: &Path) -> Result<NewFile, Failure> {
        let denied = |error: &std::io::Error| cannot(path, error);
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let file = OpenOptions::new().write(true).open(path).map_err(|error| denied(&error))?;
            return Ok(NewFile { path: path.to_owned(), part: None, file });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file =
            OpenOptions::new().write(true).create_new(true).open(&part).map_err(|error| denied(&error))?;
        Ok(NewFile { path: path.to_owned(), part: Some(part), file })
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// [`Code::FileDenied`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| cannot(&self.path, &error))
    }

    /// So many zeros come next, which take no room where the file system knows holes. Only in a regular file.
    ///
    /// # Errors
    /// [`Code::FileDenied`].
    pub(crate) fn hole(&mut self, length: u64) -> Result<(), Failure> {
        let longer = self.file.stream_position().and_then(|at| {
            self.file.set_len(at + length)?;
            self.file.seek(SeekFrom::Start(at + length))
        });
        longer.map(|_| ()).map_err(|error| cannot(&self.path, &error))
    }

    /// Is it a regular file?
    pub(crate) fn is_regular(&self) -> bool {
        self.part.is_some()
    }

    /// Writes it and puts it in its place.
    ///
    /// # Errors
    /// [`Code::FileDenied`]; what was at the path before is still there.
    pub(crate) fn finish(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes).and_then(|()| match &self.part {
            Some(part) => self.file.sync_data().and_then(|()| fs::rename(part, &self.path)),
            None => Ok(()),
        });
        written.map_err(|error| cannot(&self.path, &error))?;
        self.part = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let _ = fs::remove_file(part);
        }
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
