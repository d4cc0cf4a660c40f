//! What an archive would do, judged before anything is done: every entry, and all of them together.

use std::collections::{HashMap, HashSet};

use super::tar::{Kind, Member};
use crate::{
    exit::{Exit, Fault},
    tell,
};

/// As many entries may an archive have.
const MOST: usize = 1_000_000;
/// As deep may a path be.
const DEEPEST: usize = 128;
/// As long as this may a path, a name in it, and a file with its holes be.
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255;
const LARGEST_FILE: u64 = 16 << 40;
/// Folders by which the level of a file system's root is known.
const ROOT_FOLDERS: [&str; 16] = [
    "bin", "boot", "etc", "home", "lib", "lib32", "lib64", "libx32", "mnt", "opt", "root", "run", "sbin",
    "srv", "usr", "var",
];

/// What archives may have that is refused otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// setuid, setgid and file capabilities.
    pub(crate) setuid: bool,
    /// Device files.
    pub(crate) devices: bool,
    /// Far more data than bytes.
    pub(crate) ratio: bool,
}

/// An entry that was judged, and where its data is kept.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it goes, below the root: names joined by `/`.
    pub(crate) path: String,
    /// All else that the archive says; its own path is the one that the archive has.
    pub(crate) member: Member,
    /// For a hard link: the path of the file it is.
    pub(crate) same_as: String,
    /// Where its data begins in the store.
    pub(crate) at: u64,
}

impl Entry {
    /// Whether it can be made without anything else of the archive but its folder.
    pub(crate) fn is_made_alone(&self) -> bool {
        !matches!(self.member.kind, Kind::Folder | Kind::HardLink)
    }
}

/// A path's folder and its last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The entries of one archive.
pub(crate) struct List {
    source: String,
    allowed: Allowed,
    entries: Vec<Entry>,
}

/// What is left after stripping.
pub(crate) struct Stripped {
    /// The entries, in order.
    pub(crate) entries: Vec<Entry>,
    /// What was taken off, as it is told; nothing if nothing was.
    pub(crate) told: Option<String>,
}

impl List {
    /// An empty list.
    pub(crate) fn new(source: String, allowed: Allowed) -> List {
        List { source, allowed, entries: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Judges an entry by itself; its data, if it is taken, is at `at`.
    pub(crate) fn add(&mut self, member: Member, at: u64) -> Result<(), Fault> {
        if self.entries.len() >= MOST {
            return Err(self
                .fault(Exit::Limit, format!("more than {MOST} entries"))
                .next("make several archives of it"));
        }
        let path = self.judge(&member)?;
        let same_as = match member.kind {
            Kind::HardLink => normal(&member.link)
                .map_err(|what| self.refuse(&member, &format!("links to a path that {what}")))?,
            _ => String::new(),
        };
        self.entries.push(Entry { path, member, same_as, at });
        Ok(())
    }

    fn judge(&self, member: &Member) -> Result<String, Fault> {
        let path = normal(&member.path).map_err(|what| self.refuse(member, what))?;
        let special = member.attributes.iter().any(|(name, _)| name == b"security.capability");
        if !self.allowed.setuid && member.kind == Kind::File && (member.mode & 0o6000 != 0 || special) {
            let what = if special { "has file capabilities" } else { "is setuid or setgid" };
            return Err(self.refuse(member, what).next("fstree-allow=setuid, if that is wanted"));
        }
        if !self.allowed.devices && matches!(member.kind, Kind::Device { .. }) {
            return Err(self.refuse(member, "is a device").next("fstree-allow=devices, if that is wanted"));
        }
        if member.kind == Kind::SymLink {
            let fine = !member.link.is_empty() && member.link.len() < LONGEST_PATH;
            let Ok(link) = std::str::from_utf8(&member.link) else {
                return Err(self.refuse(member, "leads to no valid path"));
            };
            if !fine || link.chars().any(char::is_control) {
                return Err(self.refuse(member, "leads to no valid path, or to one with control characters"));
            }
        }
        if member.size > LARGEST_FILE {
            return Err(self.refuse(member, "is too large"));
        }
        Ok(path)
    }

    /// Strips (`strip` names, or what is found out) and judges the entries together.
    pub(crate) fn finish(self, strip: Option<usize>) -> Result<Stripped, Fault> {
        let (prefix, told) = match strip {
            Some(count) => (
                Prefix::Count(count),
                (count > 0)
                    .then(|| format!("stripped {} of each path, as asked", tell::counted(count, "name"))),
            ),
            None => self.found()?,
        };
        let List { source, allowed, entries } = self;
        let before = entries.len();
        let mut kept = Vec::with_capacity(before);
        for mut entry in entries {
            let Some(path) = prefix.off(&entry.path) else { continue };
            entry.path = path.to_owned();
            if entry.member.kind == Kind::HardLink {
                entry.same_as = prefix.off(&entry.same_as).unwrap_or_default().to_owned();
            }
            kept.push(entry);
        }
        if let (Some(count @ 1..), true, true) = (strip, kept.is_empty(), before > 0) {
            let list = List { source, allowed, entries: kept };
            return Err(list
                .fault(
                    Exit::Unsupported,
                    format!(
                        "no path of it has more than {}: #strip={count} leaves nothing",
                        tell::counted(count, "name")
                    ),
                )
                .next("strip fewer names; without #strip=N the level is found out"));
        }
        let left_out = before - kept.len();
        let told = told.map(|told| {
            if left_out > 1 { format!("{told}; {left_out} entries are not below it") } else { told }
        });
        let list = List { source, allowed, entries: kept };
        list.together()?;
        Ok(Stripped { entries: list.entries, told })
    }

    /// Below which folder the root's folders are; else the one folder that all is in.
    fn found(&self) -> Result<(Prefix, Option<String>), Fault> {
        let roots = self.entries.iter().filter_map(|entry| {
            let names: Vec<_> = entry.path.split('/').collect();
            let folders =
                if entry.member.kind == Kind::Folder { names.len() } else { names.len().saturating_sub(1) };
            let depth = names.iter().take(folders).position(|name| ROOT_FOLDERS.contains(name))?;
            Some((depth, names.get(..depth)?.join("/")))
        });
        let roots: Vec<_> = roots.collect();
        let Some(depth) = roots.iter().map(|(depth, _)| *depth).min() else { return Ok(self.one_folder()) };
        let above: HashSet<_> =
            roots.iter().filter(|(other, _)| *other == depth).map(|(_, above)| above.as_str()).collect();
        let mut above: Vec<_> = above.into_iter().collect();
        above.sort_unstable();
        match above.as_slice() {
            [""] => Ok((Prefix::Count(0), None)),
            [one] => Ok((Prefix::Below(format!("{one}/")), Some(format!("took what is below {one}/")))),
            several => Err(self
                .fault(
                    Exit::Unsupported,
                    format!("folders like bin, etc and usr are in {}", several.join(" and in ")),
                )
                .next("#strip=N after the URL says how many names to take off")),
        }
    }

    /// GitHub's archives, and most of source code, have all in one folder.
    fn one_folder(&self) -> (Prefix, Option<String>) {
        let mut tops = self.entries.iter().filter(|entry| !entry.path.is_empty());
        let top = |entry: &Entry| entry.path.split('/').next().unwrap_or_default().to_owned();
        let Some(first) = tops.next().map(top) else { return (Prefix::Count(0), None) };
        let below = format!("{first}/");
        let inside = self.entries.iter().any(|entry| entry.path.starts_with(&below));
        match inside && tops.all(|entry| top(entry) == first) {
            true => (Prefix::Below(below.clone()), Some(format!("took what is below {below}"))),
            false => (Prefix::Count(0), None),
        }
    }

    /// No path twice, nothing below what is no folder, no hard link to what is no earlier file.
    fn together(&self) -> Result<(), Fault> {
        let mut kinds: HashMap<&str, Kind> = HashMap::with_capacity(self.entries.len());
        for entry in &self.entries {
            let kind = entry.member.kind;
            if kind == Kind::HardLink && kinds.get(entry.same_as.as_str()) != Some(&Kind::File) {
                return Err(
                    self.refuse(&entry.member, "is a hard link to what is no earlier file of the archive")
                );
            }
            // Another name of a file is a file.
            let kind = if kind == Kind::HardLink { Kind::File } else { kind };
            match kinds.insert(&entry.path, kind) {
                Some(Kind::Folder) if kind == Kind::Folder => {}
                Some(_) => return Err(self.refuse(&entry.member, "is there twice")),
                None => {}
            }
        }
        for entry in &self.entries {
            for (at, _) in entry.path.match_indices('/') {
                match kinds.get(&entry.path[..at]) {
                    None | Some(Kind::Folder) => {}
                    Some(Kind::SymLink) => {
                        return Err(
                            self.refuse(&entry.member, "would be written through a link of the same archive")
                        );
                    }
                    Some(_) => return Err(self.refuse(&entry.member, "is below what is no folder")),
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, member: &Member, what: &str) -> Fault {
        self.fault(Exit::Unsupported, format!("the entry {} {what}", shown(&member.path)))
            .next("make the archive without it")
    }

    fn fault(&self, exit: Exit, what: String) -> Fault {
        Fault::new(exit, format!("fstree: {} is refused: {what}", self.source))
    }
}

/// What is taken off each path.
enum Prefix {
    /// So many names.
    Count(usize),
    /// These, which end with `/`; what is not below is left out.
    Below(String),
}

impl Prefix {
    /// The path that is left; none if nothing is.
    fn off<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = match self {
            Prefix::Below(prefix) => path.strip_prefix(prefix.as_str()),
            Prefix::Count(0) => Some(path),
            Prefix::Count(count) => path.match_indices('/').nth(count - 1).map(|(at, _)| &path[at + 1..]),
        };
        rest.filter(|rest| !rest.is_empty())
    }
}

/// An entry's name as it is told.
pub(crate) fn shown(path: &[u8]) -> String {
    format!("\"{}\"", path.escape_ascii())
}

/// The path without `.` and doubled slashes; what is wrong with it, if it leads elsewhere or cannot be told.
fn normal(path: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(path).map_err(|_| "is not UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("has a newline or another control character in its name");
    }
    if text.starts_with('/') {
        return Err("is absolute");
    }
    if text.len() > LONGEST_PATH {
        return Err("has a path that is too long");
    }
    let names: Vec<_> = text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") {
        return Err("leads out (..)");
    }
    if names.len() > DEEPEST {
        return Err("is too deep");
    }
    if names.iter().any(|name| name.len() > LONGEST_NAME) {
        return Err("has a name that is too long");
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str) -> Member {
        let (path, kind, link) = match path.split_once(" -> ") {
            Some((path, link)) => (path, Kind::SymLink, link),
            None => match path.split_once(" = ") {
                Some((path, link)) => (path, Kind::HardLink, link),
                None if path.ends_with('/') => (path, Kind::Folder, ""),
                None => (path, Kind::File, ""),
            },
        };
        Member {
            path: path.as_bytes().to_owned(),
            kind,
            link: link.as_bytes().to_owned(),
            mode: 0o644,
            user: 0,
            group: 0,
            time: (0, 0),
            attributes: Vec::new(),
            size: 0,
            pieces: Vec::new(),
        }
    }

    fn judged(paths: &[&str], strip: Option<usize>) -> Result<Vec<String>, String> {
        let mut list = List::new("x.tar".to_owned(), Allowed::default());
        for path in paths {
            list.add(member(path), 0).map_err(|fault| fault.to_string())?;
        }
        let stripped = list.finish(strip).map_err(|fault| fault.to_string())?;
        Ok(stripped.entries.into_iter().map(|entry| entry.path).collect())
    }

    #[test]
    fn the_level_of_the_root_is_found() {
        for (paths, expected) in [
            (vec!["./", "./etc/a", "./x"], vec!["etc/a", "x"]),
            (vec!["repo-1/", "repo-1/README", "repo-1/src/a"], vec!["README", "src/a"]),
            (vec!["repo-1/README", "repo-1/tree/usr/bin/a", "repo-1/tree/x"], vec!["usr/bin/a", "x"]),
            // By whole names: neither is a root's folder.
            (vec!["cabin/a", "usrlocal/b"], vec!["cabin/a", "usrlocal/b"]),
            // A file of such a name is none, either.
            (vec!["a/bin", "a/b"], vec!["bin", "b"]),
            (vec!["single"], vec!["single"]),
        ] {
            assert_eq!(judged(&paths, None).unwrap(), expected, "{paths:?}");
        }
        assert!(judged(&["a/b/", "a/b/x"], Some(9)).unwrap_err().contains("#strip=9 leaves nothing"));
        assert!(judged(&[], Some(9)).unwrap().is_empty());
        assert!(judged(&["a/etc/x", "b/usr/y"], None).unwrap_err().contains("#strip=N"));
        assert_eq!(judged(&["a/etc/x", "b/usr/y", "c"], Some(1)).unwrap(), ["etc/x", "usr/y"]);
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (paths, expected) in [
            (vec!["/etc/passwd"], "\"/etc/passwd\" is absolute"),
            (vec!["a/../../etc/passwd"], "leads out"),
            (vec!["a\nb"], "newline"),
            (vec!["l -> a\nb"], "\"l\" leads to no valid path, or to one with control characters"),
            (vec!["l -> \u{1b}[31m"], "\"l\" leads to no valid path, or to one with control characters"),
            (vec!["l -> /etc", "l/passwd"], "\"l/passwd\" would be written through a link"),
            (vec!["l/passwd", "l -> /etc"], "would be written through a link"),
            (vec!["f", "f/x"], "below what is no folder"),
            (vec!["h = ../etc/shadow"], "links to a path that leads out"),
            (vec!["h = etc/shadow"], "hard link to what is no earlier file"),
            (vec!["l -> /etc/shadow", "h = l"], "hard link to what is no earlier file"),
            (vec!["a", "./a"], "is there twice"),
            (vec!["a -> b", "a"], "is there twice"),
        ] {
            let said = judged(&paths, Some(0)).unwrap_err();
            assert!(said.contains(expected), "{paths:?}: {said}");
        }
        assert!(judged(&["d/", "d/", "d/a", "l -> ../../x", "h = d/a"], Some(0)).is_ok());
        let deep = "d/".repeat(200);
        assert!(judged(&[&deep], None).unwrap_err().contains("too deep"));
    }

    #[test]
    fn names_that_are_not_utf8_are_refused() {
        let mut list = List::new("x.tar".to_owned(), Allowed::default());
        let member = Member { path: b"a\xff".to_vec(), ..member("a") };
        assert!(list.add(member, 0).unwrap_err().to_string().contains(r#""a\xff" is not UTF-8"#));
    }

    #[test]
    fn rights_and_devices_need_to_be_allowed() {
        let setuid = Member { mode: 0o4755, ..member("su") };
        let device = Member { kind: Kind::Device { block: true, numbers: (8, 0) }, ..member("sda") };
        let mut strict = List::new("x".to_owned(), Allowed::default());
        assert!(strict.add(setuid.clone(), 0).is_err() && strict.add(device.clone(), 0).is_err());
        let mut open = List::new("x".to_owned(), Allowed { setuid: true, devices: true, ratio: false });
        assert!(open.add(setuid, 0).is_ok() && open.add(device, 0).is_ok());
    }
}
