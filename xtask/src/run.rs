//! The one place that starts programs: each command is shown before it runs, and a failure names it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command to be run. Built with [`cmd`].
pub(crate) struct Cmd {
    command: Command,
    shown: String,
    quiet: bool,
}

/// Starts to build a command.
#[expect(clippy::disallowed_methods, reason = "this is the one helper that runs commands")]
pub(crate) fn cmd(program: impl AsRef<OsStr>) -> Cmd {
    let program = program.as_ref();
    Cmd { command: Command::new(program), shown: program.to_string_lossy().into_owned(), quiet: false }
}

impl Cmd {
    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let arg = arg.as_ref();
        let text = arg.to_string_lossy();
        let quote = if text.is_empty() || text.contains([' ', '*', '$', '"']) { "'" } else { "" };
        let _ = write!(self.shown, " {quote}{text}{quote}");
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Cmd::arg)
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the folder to run in.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Does not show the command before it runs.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Runs it with this terminal's own streams; anything but success is an error.
    pub(crate) fn run(mut self) -> Result<()> {
        self.show();
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }

    /// Runs it with nothing to read, its words into `log` (appended); a failure shows the log's end.
    pub(crate) fn logged(mut self, log: &Path) -> Result<()> {
        let file = File::options().create(true).append(true).open(log)?;
        self.command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` ended with {status}\n{}", self.shown, tail(log, 25));
        }
        Ok(())
    }

    /// Runs it and gives what it printed; its own complaints come with the error.
    pub(crate) fn output(mut self) -> Result<String> {
        let done = self.command.stdin(Stdio::null()).output();
        let done = done.with_context(|| format!("cannot start `{}`", self.shown))?;
        if !done.status.success() {
            let words = String::from_utf8_lossy(&done.stderr);
            bail!("`{}` ended with {}\n{}", self.shown, done.status, words.trim_end());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Starts it with its output to be read through a pipe (standard error goes the same way it came).
    pub(crate) fn piped(mut self) -> Result<std::process::Child> {
        self.show();
        self.command.stdin(Stdio::null()).stdout(Stdio::piped());
        self.command.spawn().with_context(|| format!("cannot start `{}`", self.shown))
    }

    /// Starts it with its input and output as pipes: it ends when this process does, if it ends with its input.
    pub(crate) fn held(mut self) -> Result<std::process::Child> {
        self.show();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        self.command.spawn().with_context(|| format!("cannot start `{}`", self.shown))
    }

    fn show(&self) {
        if !self.quiet {
            eprintln!("$ {}", self.shown);
        }
    }
}

/// Where `program` is, looked for on PATH and in the folders of administrators.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The last `lines` of a file, for an error message.
fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    format!("{}\n(all of it: {})", all[all.len().saturating_sub(lines)..].join("\n"), file.display())
}
