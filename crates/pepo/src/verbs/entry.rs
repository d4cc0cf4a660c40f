//! `pepo entry`: the start of a container, as `pepo-entry` is. It is a container's first process, so it runs before anything
//! else is begun, and its arguments are its own.

use std::{ffi::OsString, process::ExitCode};

use clap::Args;
use pepo_wire::{Code, Failure};

use crate::render::Outcome;

/// Called by this name the command is the entry: so it is when it is mounted into a container.
pub(crate) const NAME: &str = "pepo-entry";

const EXAMPLES: &str = "\
Examples:
  pepo entry -- /app --flag          as a container's entry point
  pepo entry --help                  flags (tini's) and words
  pepo entry status                  in a container that it holds; also rerun, release, sh";

/// Arguments of `pepo entry`, for the help: they are read by the entry itself.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Entry {
    /// Flags, and the program with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// Is this the entry? Then it is, until its program has ended.
#[cfg(target_os = "linux")]
pub(crate) fn asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = arguments.next()?;
    let mounted = std::path::Path::new(&name).file_name().is_some_and(|name| name == NAME);
    (mounted || arguments.next()? == "entry").then(|| pepo_entry::run_as_verb(arguments.collect()).into())
}

/// Are these words of the entry's? It would not start with others.
#[cfg(target_os = "linux")]
pub(crate) fn judge(words: &str) -> Result<(), Failure> {
    pepo_entry::judge_words(words, "--debug").map_err(|why| Failure::new(Code::Usage, why))
}

/// The entry, which knows the words, is a program for Linux: there it will tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn judge(_words: &str) -> Result<(), Failure> {
    Ok(())
}

/// There are no containers here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn asked(_arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    None
}

/// It was asked for behind flags of other verbs, or where it cannot be.
pub(crate) fn run(arguments: &Entry) -> Outcome {
    let failure = if cfg!(target_os = "linux") {
        Failure::new(Code::Usage, "`entry` takes no flag before it")
    } else {
        Failure::new(Code::NotReachable, "the entry runs in containers, so on Linux alone")
    };
    let words = arguments.words.iter().map(|word| word.to_string_lossy().into_owned());
    let line = ["pepo", "entry"].map(str::to_owned).into_iter().chain(words);
    Err(failure.try_command("write it so", line).into())
}
