//! Completion of a command line. Shells call `pepo __complete WORD…`, the last word being the one under the cursor; kubectl calls
//! `kubectl_complete-pepo WORD…`.
//!
//! The answer is in the form that kubectl's own completion has (cobra's): a candidate a line, behind a tab what it is, and last `:` with a
//! number whose bits say how a shell goes on. Completion is silent: what does not answer within a second is left out.

/// What the last word may be, by the words before it.
mod line;
/// What there is to name.
mod targets;

use std::{ffi::OsString, fmt::Write as _};

use self::line::{Line, Wanted};
use crate::{arguments, called::Called, config::Context, environment::Environment, render::Outcome};

/// The hidden verb.
const VERB: &str = "__complete";

/// No space after the candidate: it goes on.
const NO_SPACE: u8 = 2;
/// No names of files where there is no candidate.
const NO_FILES: u8 = 4;

/// One word that fits, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    word: String,
    what: String,
}

impl Candidate {
    fn new(word: impl Into<String>, what: impl Into<String>) -> Candidate {
        Candidate { word: word.into(), what: what.into() }
    }
}

/// The words to complete, where that was asked for.
pub(crate) fn asked(called: Called, mut arguments: impl Iterator<Item = OsString>) -> Option<Vec<String>> {
    arguments.next()?;
    if called != Called::ToComplete && arguments.next()? != VERB {
        return None;
    }
    Some(arguments.map(|one| one.to_string_lossy().into_owned()).collect())
}

/// Prints what the last word may be.
pub(crate) fn run(words: &[String], environment: Environment) -> Outcome {
    let line = Line::read(arguments::command(), words);
    let context = Context::new(line.global.clone(), environment);
    let mut candidates = line.candidates();
    if let Wanted::Names(names) = &line.wanted {
        candidates.extend(ask(*names, &line, &context));
    }
    context.printer.bytes(told(candidates, &line).as_bytes())
}

/// What there is by now; nothing where it cannot be known.
fn ask(names: line::Names, line: &Line, context: &Context) -> Vec<Candidate> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let answer = runtime.block_on(targets::names(names, line, context));
    // Who does not answer is not waited for.
    runtime.shutdown_background();
    answer
}

/// Those that begin with what is typed, each once, and how the shell goes on.
fn told(mut candidates: Vec<Candidate>, line: &Line) -> String {
    candidates.retain(|one| one.word.starts_with(&line.typed) && !one.word.contains(char::is_control));
    candidates.sort();
    candidates.dedup_by(|a, b| a.word == b.word);
    let goes_on = candidates.iter().any(|one| one.word.ends_with(['/', ':', '=']));
    let files = line.may_be_file() && candidates.is_empty();
    let how = if goes_on { NO_SPACE } else { 0 } | if files { 0 } else { NO_FILES };
    let mut text = String::new();
    for Candidate { word, what } in &candidates {
        let what = what.replace(char::is_control, " ");
        let _ = if what.is_empty() {
            writeln!(text, "{}{word}", line.before)
        } else {
            writeln!(text, "{}{word}\t{what}", line.before)
        };
    }
    let _ = writeln!(text, ":{how}");
    text
}
