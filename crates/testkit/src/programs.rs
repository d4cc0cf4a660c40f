//! The one place where this room makes command lines of other programs.

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

/// A command without standard input; what it says can be collected by `output()`.
#[expect(clippy::disallowed_methods, reason = "this is the helper")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// The path of a program of this machine, looked up in PATH and in the folders for root's programs.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} on this machine; `cargo xtask setup` installs what tests need"))
}

/// The toolkit folder that `cargo xtask setup` fills: `PROGRAM/bin/…`.
pub fn tools() -> PathBuf {
    env::var_os("PEPO_TOOLS").map_or_else(|| home().join(".cache/pepo/tools"), PathBuf::from)
}

/// The folder of this user.
pub(crate) fn home() -> PathBuf {
    PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()))
}
