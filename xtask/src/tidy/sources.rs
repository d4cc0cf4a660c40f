//! Rules of single files: how they open, how long they are, what does not belong in them. They hold for
//! what git knows of.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::paths;
use crate::run::cmd;

/// A file longer than this (without its tests) has two jobs.
const LONGEST: usize = 600;
/// As many packages may be locked, and no more: each is built, audited and kept up to date.
const MOST_PACKAGES: usize = 372;
/// Words of unfinished work: an issue holds that, not a file. (Put together here, or this file had them.)
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// How a test is ignored, and how that may go on: it is a process that real tests start, or it promises
/// nothing and only measures.
const IGNORE: &str = concat!("#[", "ignore");
const NO_TESTS: [&str; 2] = [" = \"the process that", " = \"measures "];

/// Every breach in every file.
pub(crate) fn check() -> Result<Vec<String>> {
    let root = paths::root();
    let listed = cmd("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).dir(&root);
    let mut troubles = Vec::new();
    for name in listed.output()?.lines() {
        // What isn't text is no business of these rules; what is listed but gone is git's.
        if let Ok(text) = fs::read_to_string(root.join(name)) {
            troubles.extend(judge(&root, name, &text).into_iter().map(|what| format!("{name}: {what}")));
        }
    }
    troubles.extend(packages(&root)?);
    Ok(troubles)
}

/// What is wrong with one file.
fn judge(root: &Path, name: &str, text: &str) -> Vec<String> {
    let mut troubles = Vec::new();
    let ours = name.starts_with("crates/") || name.starts_with("xtask/");
    if name.ends_with(".rs") && ours {
        troubles.extend(rust(name, text));
    }
    if name.ends_with(".md") {
        troubles.extend(links(&root.join(name), text));
    }
    if hand_written(name) {
        troubles.extend(words(text));
        troubles.extend(blanks(text));
    }
    troubles
}

/// Snapshots, licences, the lock file and recorded data are as others wrote them.
fn hand_written(name: &str) -> bool {
    let kinds = [".rs", ".md", ".toml", ".proto", ".sh", ".c", ".cpp", ".go", ".py", ".txt"];
    kinds.iter().any(|kind| name.ends_with(kind)) && !name.contains("/recorded/")
}

fn rust(name: &str, text: &str) -> Vec<String> {
    let mut troubles = Vec::new();
    if !text.starts_with("//!") {
        troubles.push("does not open with //! (what this room is for)".to_owned());
    }
    let in_tests = name.contains("/tests/");
    let code = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    if code > LONGEST && !in_tests {
        troubles.push(format!("{code} lines without its tests, more than {LONGEST}"));
    }
    let unsaid = |rest: &str| !NO_TESTS.iter().any(|reason| rest.starts_with(reason));
    if text.split(IGNORE).skip(1).any(unsaid) {
        troubles.push("ignores a test; one that may be skipped calls testkit's skip".to_owned());
    }
    troubles
}

/// Links to files of ours that are not there.
fn links(file: &Path, text: &str) -> Vec<String> {
    let folder = file.parent().unwrap_or(file);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
    let local = targets.filter(|target| !target.is_empty() && !target.contains("://"));
    let broken = local.filter(|target| !folder.join(target).exists());
    broken.map(|target| format!("links to {target}, which is not there")).collect()
}

fn words(text: &str) -> Vec<String> {
    let hit = |line: &str| {
        UNFINISHED
            .iter()
            .find(|word| line.split(|c: char| !c.is_alphanumeric()).any(|w| w == **word))
            .copied()
    };
    let hits = text.lines().enumerate().filter_map(|(at, line)| hit(line).map(|word| (at + 1, word)));
    hits.map(|(at, word)| format!("line {at} says {word}")).collect()
}

fn blanks(text: &str) -> Vec<String> {
    let trailing = text.lines().position(|line| line.ends_with([' ', '\t']));
    let mut troubles: Vec<_> =
        trailing.map(|at| format!("line {} ends in blanks", at + 1)).into_iter().collect();
    if !text.is_empty() && !text.ends_with('\n') {
        troubles.push("does not end with a line's end".to_owned());
    }
    troubles
}

/// Whether more packages are locked than was agreed.
fn packages(root: &Path) -> Result<Option<String>> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock is part of the repository")?;
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    let over = count > MOST_PACKAGES;
    Ok(over.then(|| format!("Cargo.lock: {count} packages, more than the {MOST_PACKAGES} that were agreed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_they_are_for() {
        assert!(rust("crates/a/src/lib.rs", "//! A room.\n").is_empty());
        assert_eq!(rust("crates/a/src/lib.rs", "use std::fs;\n").len(), 1);
        let long = format!("//! Long.\n{}", "let a = 1;\n".repeat(LONGEST));
        assert_eq!(rust("crates/a/src/lib.rs", &long).len(), 1);
        assert!(rust("crates/a/tests/it/long.rs", &long).is_empty());
        let tested = format!("//! Short.\n#[cfg(test)]\n{}", "let a = 1;\n".repeat(LONGEST));
        assert!(rust("crates/a/src/lib.rs", &tested).is_empty());
    }

    #[test]
    fn only_what_other_tests_start_is_ignored() {
        let file = |how: &str| format!("//! A room.\n#[test]\n{IGNORE}{how}]\nfn a() {{}}\n");
        assert!(rust("crates/a/src/lib.rs", &file(" = \"the process that dies\"")).is_empty());
        assert_eq!(rust("crates/a/src/lib.rs", &file("")).len(), 1);
        assert_eq!(rust("crates/a/src/lib.rs", &file(" = \"slow\"")).len(), 1);
    }

    #[test]
    fn unfinished_work_and_stray_blanks_are_found() {
        let unfinished = format!("fine\n// {}: later\n", UNFINISHED[0]);
        assert_eq!(words(&unfinished), [format!("line 2 says {}", UNFINISHED[0])]);
        assert!(words("/tmp/XXXXXX is mkdtemp's\n").is_empty());
        assert_eq!(blanks("a \nb").len(), 2);
    }

    #[test]
    fn broken_links_are_found() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = "[a](Cargo.toml) [b](https://example.org/x) [c](gone.md#part) [d](#part)";
        assert_eq!(links(&here, text), ["links to gone.md, which is not there"]);
    }
}
