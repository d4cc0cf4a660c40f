//! What a HotSpot JVM says of its threads, asked by its own attach protocol.
//!
//! Frames of Java cannot be told from outside without the JVM's help: compiled methods have no unwind tables. So it is asked, as
//! `jstack` asks it: a file says that somebody wants to talk, SIGQUIT says to look for the file, and a socket takes the question.
//! Each step is taken only when it is known to do no harm: a JVM that does not catch SIGQUIT dies of it, and one that was told not to
//! listen writes its threads into its log instead.
//!
//! Open `attach.rs` first.

/// An answer, line by line.
mod answer;
/// The attach protocol.
mod attach;
/// The text of a thread dump.
mod dump;
/// Options the JVM was started with, from its memory.
mod flags;
/// Samples over a time, by its own recorder.
mod flight;
/// Stacks as a profiler writes them.
mod folded;
/// What its own recorder writes.
mod jfr;
/// Who lends files to a JVM.
mod lender;
/// Names of methods as people read them.
mod names;
/// Samples over a time.
mod profiler;
/// A file for a moment.
mod spare;

use std::time::Duration;

use pepo_process::{
    Process,
    runtime::{Language, RuntimeFacts},
};

pub(crate) use self::{
    attach::{Listener, Unattachable},
    dump::{Dump, JavaFrame, JavaThread},
    flight::Flight,
    folded::{Folded, FoldedFrame, parse as parse_stack, split as split_stack},
    jfr::Sample as JavaSample,
    profiler::Profiler,
};

/// The whole of a question and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Frames of a thread that [`read_dump`] keeps.
const MOST_IN_TESTS: usize = 64;

/// A thread dump, and for how long the JVM stood still for it at most.
///
/// # Errors
/// Why it cannot be had.
pub(crate) fn threads(
    process: &Process,
    facts: &RuntimeFacts,
    with_locks: bool,
    most_frames: usize,
) -> Result<(Dump, Duration), Unattachable> {
    let listener = Listener::open(process, facts)?;
    let mut dump = Dump::new(most_frames);
    let arguments = if with_locks { "-l" } else { "" };
    let pause = listener.ask(&["threaddump", arguments], PATIENCE, &mut |line| dump.line(line))?;
    dump.finish();
    if dump.threads.is_empty() {
        return Err(Unattachable::new("its answer names no thread", "try again"));
    }
    Ok((dump, pause))
}

/// Reads the text of a thread dump and says how many threads and frames it names: for tests with hostile bytes.
#[must_use]
pub fn read_dump(text: &[u8]) -> (usize, usize) {
    let mut dump = Dump::new(MOST_IN_TESTS);
    text.split(|&byte| byte == b'\n').for_each(|line| dump.line(line));
    dump.finish();
    (dump.threads.len(), dump.threads.iter().map(|thread| thread.frames.len()).sum())
}

/// Reads stacks as async-profiler writes them and says how many there are and how deep the deepest is: for tests with hostile bytes.
#[must_use]
pub fn read_stacks(text: &[u8]) -> (usize, usize) {
    let text = String::from_utf8_lossy(text);
    let stacks = text.lines().filter_map(split_stack).map(|(stack, count)| parse_stack(stack, count));
    let depths: Vec<usize> = stacks.map(|stack| stack.frames.len()).collect();
    (depths.len(), depths.into_iter().max().unwrap_or(0))
}

/// Reads what a JVM's own recorder writes and says how many samples there are and how deep the deepest is: for tests with hostile bytes.
#[must_use]
pub fn read_recording(bytes: &[u8]) -> (usize, usize) {
    let (mut samples, mut deepest) = (0, 0);
    let _ = jfr::read(bytes, &mut |sample| {
        samples += 1;
        deepest = deepest.max(sample.stack.frames.len());
    });
    (samples, deepest)
}

/// By what the frames of a JVM can be sampled, in words, or why not. Nothing is done to it. Nothing for what is no JVM.
#[must_use]
pub fn samples(process: &Process, facts: &RuntimeFacts) -> Option<Result<String, String>> {
    if facts.language != Language::Jvm {
        return None;
    }
    let why = match profiler::foreseen(process, facts) {
        Ok(_) => return Some(Ok("async-profiler is loaded into the JVM, and stays there, idle".to_owned())),
        Err(why) => why,
    };
    Some(match flight::foreseen(process, facts) {
        Ok(_) => {
            Ok(format!("the JVM's own recorder (JFR) takes samples, where async-profiler cannot: {why}"))
        }
        Err(no) => Err(both(&why, &no)),
    })
}

/// Why neither async-profiler nor JFR.
pub(crate) fn both(profiler: &Unattachable, recorder: &Unattachable) -> String {
    if profiler == recorder { profiler.to_string() } else { format!("{profiler}; and {recorder}") }
}

/// Can a JVM be asked: which version, or why not? Nothing is sent. Nothing for what is no JVM.
#[must_use]
pub fn answers(process: &Process, facts: &RuntimeFacts) -> Option<Result<String, String>> {
    if facts.language != Language::Jvm {
        return None;
    }
    let version = facts.version.clone().unwrap_or_else(|| "of an unknown version".to_owned());
    Some(Listener::open(process, facts).map(|_| version).map_err(|no| no.to_string()))
}
