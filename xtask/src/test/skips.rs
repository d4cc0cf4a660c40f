//! Skipped tests: testkit notes each in a folder; here they are held against `crates/testkit/skips.txt`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;

/// The folder into which the tests of one run note their skips.
pub(crate) struct Folder(PathBuf);

/// What was skipped, judged.
pub(crate) struct Judged {
    /// Every skip: its id and the reason given.
    pub(crate) known: BTreeMap<String, String>,
    /// The ids of those that the list does not expect.
    pub(crate) unexpected: Vec<String>,
}

impl Folder {
    /// A new, empty folder below the target folder.
    pub(crate) fn new() -> Result<Folder> {
        let folder = paths::target_dir().join("xtask").join(format!("skips-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Folder(folder))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Every skip noted: id and reason.
    fn read(&self) -> Result<BTreeMap<String, String>> {
        let mut noted = BTreeMap::new();
        for file in fs::read_dir(&self.0)? {
            noted.extend(parse(&fs::read_to_string(file?.path())?));
        }
        Ok(noted)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Shows what was skipped and tells the expected from the others.
pub(crate) fn judge(folder: &Folder) -> Result<Judged> {
    let file = paths::root().join("crates/testkit/skips.txt");
    let list = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let expected = parse(&list);
    let known = folder.read()?;
    for (id, reason) in &known {
        println!("skipped: {id} · {reason}");
    }
    let unexpected = known.keys().filter(|id| !expected.contains_key(*id)).cloned().collect();
    Ok(Judged { known, unexpected })
}

/// `id<TAB>reason` a line; empty lines and those that start with `#` are for people.
fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('\t')).map(|(id, why)| (id.to_owned(), why.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_without_their_comments() {
        let read = parse("# for people\n\nno-yama\tneeds Yama\n");
        assert_eq!(read.into_iter().collect::<Vec<_>>(), [("no-yama".to_owned(), "needs Yama".to_owned())]);
    }
}
