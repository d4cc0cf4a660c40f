//! What a chain of archives would do together, judged before the first is put: each against the image as those before
//! it will leave it. Links of the image are followed here by their text, so that one that an earlier archive exchanges
//! is seen.

use std::{collections::HashMap, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, StatxAttributes, StatxFlags},
    io::Errno,
};

use super::{
    list::{Entry, shown, split},
    place::{is_kernels, joined},
    tar::Kind,
};
use crate::exit::{Exit, Fault};

/// As many links of the image may be on the way to one folder, as for the kernel.
const MOST_LINKS: usize = 40;

/// What an archive leaves at a path without links.
#[derive(Clone, Copy)]
struct Left {
    kind: Kind,
    /// Which archive of the chain.
    archive: usize,
}

/// The chain, as far as it was judged.
struct Chain<'a> {
    root: &'a OwnedFd,
    left: HashMap<String, Left>,
}

/// Judges archives, each with its name, in order.
pub(super) fn judge<'a>(
    root: &OwnedFd,
    archives: impl Iterator<Item = (String, &'a [Entry])>,
) -> Result<(), Fault> {
    let mut chain = Chain { root, left: HashMap::new() };
    for (archive, (name, entries)) in archives.enumerate() {
        let mut folders = HashMap::from([("", String::new())]);
        for entry in entries {
            chain.add(archive, entry, &mut folders).map_err(|what| {
                let entry = shown(&entry.member.path);
                Fault::new(Exit::Unsupported, format!("fstree: {name} is refused: the entry {entry} {what}"))
                    .next("leave it out of the archive; none of the chain was put")
            })?;
        }
    }
    Ok(())
}

impl Chain<'_> {
    /// Judges one entry. `folders` are those of its archive, with where each really is.
    fn add<'e>(
        &mut self,
        archive: usize,
        entry: &'e Entry,
        folders: &mut HashMap<&'e str, String>,
    ) -> Result<(), String> {
        let kind = entry.member.kind;
        let folder = if kind == Kind::Folder { entry.path.as_str() } else { split(&entry.path).0 };
        let place = self.folder(archive, folder, folders)?;
        if kind == Kind::Folder {
            return Ok(());
        }
        let path = joined(&place, split(&entry.path).1);
        match self.left.get(&path) {
            Some(left) if left.kind == Kind::Folder => {
                return Err("is a folder that the chain makes".to_owned());
            }
            Some(left) if left.archive == archive => {
                return Err("is there twice, where links of the image lead".to_owned());
            }
            Some(_) => {}
            None => match self.there(&path)? {
                Some(FileType::Directory) => return Err("is a folder in the image".to_owned()),
                // A link that stays as it is in the image is the image's.
                Some(FileType::Symlink)
                    if kind == Kind::SymLink && self.link(&path)? == entry.member.link =>
                {
                    return Ok(());
                }
                _ => {}
            },
        }
        self.left.insert(path, Left { kind, archive });
        Ok(())
    }

    /// Where a folder of an archive really is: its path without links. It will be there from now on.
    fn folder<'e>(
        &mut self,
        archive: usize,
        path: &'e str,
        folders: &mut HashMap<&'e str, String>,
    ) -> Result<String, String> {
        if let Some(place) = folders.get(path) {
            return Ok(place.clone());
        }
        let (above, name) = split(path);
        let above = self.folder(archive, above, folders)?;
        let place = self.followed(archive, above, name)?;
        folders.insert(path, place.clone());
        Ok(place)
    }

    /// The folder `name` in `above`, by all links of the image.
    fn followed(&mut self, archive: usize, above: String, name: &str) -> Result<String, String> {
        let mut place = above;
        let mut names = vec![name.to_owned()];
        let mut links = 0;
        while let Some(name) = names.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    place.truncate(split(&place).0.len());
                    continue;
                }
                _ => {}
            }
            let path = joined(&place, &name);
            match self.left.get(&path).map(|left| left.kind) {
                Some(Kind::Folder) => place = path,
                Some(Kind::SymLink) => {
                    return Err(format!("would be written through /{path}, a link that the chain makes"));
                }
                Some(_) => return Err(format!("is below /{path}, a file that the chain makes")),
                None => match self.there(&path)? {
                    Some(FileType::Directory) => {
                        self.not_the_kernels(&path)?;
                        place = path;
                    }
                    Some(FileType::Symlink) => {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(format!(
                                "is below /{path}, from where too many links of the image lead"
                            ));
                        }
                        let link = String::from_utf8_lossy(&self.link(&path)?).into_owned();
                        if link.starts_with('/') {
                            place.clear();
                        }
                        names.extend(link.split('/').rev().map(str::to_owned));
                    }
                    Some(_) => {
                        return Err(format!(
                            "is in a folder of the archive, but a file in the image: /{path}"
                        ));
                    }
                    None if links > 0 => {
                        return Err(format!(
                            "is below a link of the image that leads to /{path}, which is not there"
                        ));
                    }
                    None => {
                        self.left.insert(path.clone(), Left { kind: Kind::Folder, archive });
                        place = path;
                    }
                },
            }
        }
        Ok(place)
    }

    /// What stands at a path of the image.
    fn there(&self, path: &str) -> Result<Option<FileType>, String> {
        match rustix::fs::statx(self.root, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.stx_mode.into());
                match kind != FileType::Directory && stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
                {
                    true => Err("is a mount of its own, which cannot be replaced".to_owned()),
                    false => Ok(Some(kind)),
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            // Who may not look may not put, either: that is told when it is tried.
            Err(_) => Ok(None),
        }
    }

    fn link(&self, path: &str) -> Result<Vec<u8>, String> {
        let link = rustix::fs::readlinkat(self.root, path, Vec::new());
        link.map(|link| link.into_bytes()).map_err(|error| format!("is below /{path}: {error}"))
    }

    fn not_the_kernels(&self, path: &str) -> Result<(), String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.root, path, flags, Mode::empty()) {
            Ok(folder) if is_kernels(&folder) => {
                Err(format!("is below /{path}, in a file system of the kernel's"))
            }
            _ => Ok(()),
        }
    }
}
