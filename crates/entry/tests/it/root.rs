//! A small root file system that our entry is the init of: it can be looked at before and after.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use pepo_testkit::{Image, command};
use tempfile::TempDir;

use crate::support::{Outcome, run};

/// A root with busybox and our entry.
pub(crate) struct Root {
    folder: TempDir,
}

impl Root {
    pub(crate) fn new() -> Root {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let image = Image::new("pepo.test/root:1").with_shell();
        image.file(Path::new(env!("CARGO_BIN_EXE_pepo-entry")), "/pepo-entry").unpack(folder.path()).unwrap();
        Root { folder }
    }

    /// A path in it, as this machine sees it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(path), bytes).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// `words` for the entry that runs `script` in it.
    pub(crate) fn command(&self, words: &str, script: &str) -> Command {
        self.command_after("", words, script)
    }

    /// The same after `setup` was run by a shell in the same mount namespace, with the root as `$ROOT`.
    pub(crate) fn command_after(&self, setup: &str, words: &str, script: &str) -> Command {
        let enter =
            "exec unshare --pid --fork --kill-child --root \"$ROOT\" -- /pepo-entry -- /bin/sh -c \"$0\"";
        let mut command = command("unshare");
        command.args(["--mount", "--", "sh", "-c", &format!("{setup}\n{enter}"), script]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("ROOT", self.folder.path());
        command.env("PEPO_DEBUG", words);
        command
    }

    /// The entry that runs `script` in it with these variables instead of words.
    pub(crate) fn with(&self, variables: &[(&str, &str)], script: &str) -> Outcome {
        run(self.command("", script).env_remove("PEPO_DEBUG").envs(variables.iter().copied()))
    }

    pub(crate) fn run(&self, words: &str, script: &str) -> Outcome {
        run(&mut self.command(words, script))
    }

    /// All there is: mode, owner, and content.
    pub(crate) fn all(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        collect(self.folder.path(), &mut all);
        all
    }
}

fn collect(folder: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            kind if kind.is_file() && metadata.len() < 100_000 => format!("{:?}", fs::read(&path).unwrap()),
            _ => String::new(),
        };
        let told = format!("{:o} {} {} {content}", metadata.mode(), metadata.uid(), metadata.ino());
        if metadata.is_dir() {
            collect(&path, all);
        }
        all.insert(path, told);
    }
}
