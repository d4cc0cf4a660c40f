//! The files of the working folder by name: one bounded walk, made when it is first needed.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
};

/// Folders that hold no source of the user's.
const SKIPPED: &[&str] = &[
    "target",
    "node_modules",
    "__pycache__",
    "venv",
    "vendor",
    "dist",
    "build",
    "bin",
    "obj",
    "site-packages",
];
/// The most files noted.
const MAX_FILES: usize = 50_000;
/// The most folders entered.
const MAX_FOLDERS: usize = 10_000;
/// The deepest folder entered.
const MAX_DEPTH: usize = 24;

/// A folder and, once walked, its files by name.
#[derive(Debug)]
pub struct Folder {
    root: String,
    files: Option<HashMap<String, Vec<String>>>,
}

impl Folder {
    /// The folder at `root`, not yet walked.
    #[must_use]
    pub fn new(root: &Path) -> Folder {
        Folder { root: super::paths::absolute(&root.to_string_lossy()), files: None }
    }

    /// Its path.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The files with this name, as absolute paths.
    pub fn named(&mut self, name: &str) -> &[String] {
        let root = Path::new(&self.root);
        let files = self.files.get_or_insert_with(|| walk(root));
        files.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Is there such a file, inside this folder?
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let parts = super::paths::Parts::of(path);
        super::paths::strip(&parts, &super::paths::Parts::of(&self.root)).is_some()
            && Path::new(path).is_file()
    }
}

/// Breadth first, so that the bound cuts off what lies deepest. Links are not followed.
fn walk(root: &Path) -> HashMap<String, Vec<String>> {
    let mut files: HashMap<String, Vec<String>> = HashMap::new();
    let mut folders: VecDeque<(PathBuf, usize)> = VecDeque::from([(root.to_path_buf(), 0)]);
    let (mut entered, mut count) = (0, 0);
    while let Some((folder, depth)) = folders.pop_front() {
        entered += 1;
        if entered > MAX_FOLDERS {
            tracing::debug!(root = %root.display(), "the working folder is larger than is searched for sources");
            break;
        }
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir()
                && depth < MAX_DEPTH
                && !name.starts_with('.')
                && !SKIPPED.contains(&name.as_str())
            {
                folders.push_back((entry.path(), depth + 1));
            } else if kind.is_file() && count < MAX_FILES {
                count += 1;
                files.entry(name).or_default().push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    for list in files.values_mut() {
        list.sort();
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_sources_are_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["src/a.c", "target/a.c", ".git/a.c", "node_modules/x/a.c"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut folder = Folder::new(dir.path());
        assert_eq!(folder.named("a.c"), [dir.path().join("src/a.c").to_str().unwrap()]);
        assert!(folder.has(dir.path().join("src/a.c").to_str().unwrap()));
        assert!(!folder.has("/etc/passwd"));
    }
}
