//! Paths as components, POSIX and Windows, on any machine: the target's are POSIX, the user's may be either.

/// A path taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parts {
    /// `C:` in lower case, or empty.
    pub drive: String,
    /// Does it begin at a root?
    pub rooted: bool,
    /// Is it written in the manner of Windows?
    pub windows: bool,
    /// The names, without `.` and empty ones; `..` is resolved where it can be.
    pub names: Vec<String>,
}

impl Parts {
    /// Takes a path apart. A drive letter or a backslash makes it one of Windows'.
    #[must_use]
    pub fn of(path: &str) -> Parts {
        let bytes = path.as_bytes();
        let drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
        let windows = drive || path.contains('\\');
        let (drive, rest) = if drive { path.split_at(2) } else { ("", path) };
        let separators: &[char] = if windows { &['/', '\\'] } else { &['/'] };
        let mut names: Vec<String> = Vec::new();
        for name in rest.split(separators) {
            match name {
                "" | "." => {}
                ".." if names.last().is_some_and(|last| last != "..") => drop(names.pop()),
                name => names.push(name.to_owned()),
            }
        }
        Parts { drive: drive.to_ascii_lowercase(), rooted: rest.starts_with(separators), windows, names }
    }

    /// This path with more names behind, in its own manner of writing.
    #[must_use]
    pub fn join(&self, more: &[String]) -> String {
        let separator = if self.windows { "\\" } else { "/" };
        let names: Vec<&str> = self.names.iter().chain(more).map(String::as_str).collect();
        let root = if self.rooted { separator } else { "" };
        format!("{}{root}{}", self.drive.to_ascii_uppercase(), names.join(separator))
    }

    /// How many names at the end are the same.
    #[must_use]
    pub fn common_tail(&self, other: &Parts) -> usize {
        self.names.iter().rev().zip(other.names.iter().rev()).take_while(|(one, two)| one == two).count()
    }

    /// Without the last `count` names.
    #[must_use]
    pub fn without_tail(mut self, count: usize) -> Parts {
        self.names.truncate(self.names.len().saturating_sub(count));
        self
    }

    /// Are these its last names?
    #[must_use]
    pub fn ends_with(&self, tail: &[String]) -> bool {
        self.names.ends_with(tail)
    }
}

/// The names of `path` behind `prefix`; `None` when it does not begin so.
#[must_use]
pub fn strip(path: &Parts, prefix: &Parts) -> Option<Vec<String>> {
    let same_root = path.drive == prefix.drive && path.rooted == prefix.rooted;
    let rest = path.names.strip_prefix(prefix.names.as_slice())?;
    same_root.then(|| rest.to_vec())
}

/// A path of the user's made absolute; one that is absolute already (on any system) stays.
#[must_use]
pub fn absolute(path: &str) -> String {
    let parts = Parts::of(path);
    if parts.rooted || !parts.drive.is_empty() {
        return path.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    Parts::of(&here.to_string_lossy()).join(&parts.names)
}

/// Folders that hold other people's code: never matched with the user's files by their names alone.
const LIBRARIES: &[&[&str]] = &[
    &["site-packages"],
    &["dist-packages"],
    &["node_modules"],
    &["usr", "lib"],
    &["usr", "include"],
    &["usr", "local", "go"],
    &["usr", "local", "lib"],
    &["go", "pkg", "mod"],
    &[".cargo", "registry"],
    &["cargo", "registry"],
    &["rustc"],
    &["rustlib"],
];

/// Does the path lie in a folder of libraries? One without a root is a library's too: the C library is built so.
#[must_use]
pub fn is_library(path: &Parts) -> bool {
    let names = &path.names;
    if !path.rooted && path.drive.is_empty() {
        return true;
    }
    LIBRARIES.iter().any(|folder| {
        names.windows(folder.len()).any(|window| window.iter().zip(*folder).all(|(one, two)| one == two))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_they_were_read() {
        for path in ["/a/b", "a/b", r"C:\a\b", "/"] {
            assert_eq!(Parts::of(path).join(&[]), path);
        }
        assert_eq!(Parts::of("/a/./b/../c//d").join(&[]), "/a/c/d");
        assert_eq!(Parts::of("../a").join(&[]), "../a");
    }

    #[test]
    fn a_prefix_counts_whole_names_and_the_same_root() {
        let strip =
            |path: &str, prefix: &str| strip(&Parts::of(path), &Parts::of(prefix)).map(|rest| rest.join("/"));
        assert_eq!(strip("/a/b/c", "/a").as_deref(), Some("b/c"));
        assert_eq!(strip("/ab/c", "/a"), None);
        assert_eq!(strip("a/b", "/a"), None);
        assert_eq!(strip(r"c:\a\b", "C:/a").as_deref(), Some("b"));
    }
}
