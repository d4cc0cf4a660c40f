//! Runs test programs and counts what they say of themselves.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::build::{self, Program};
use super::groups::Cut;
use crate::run::{Cmd, cmd};

/// What tests came to.
#[derive(Default)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Tests that failed; a program that died counts as one.
    pub(crate) failed: usize,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
}

/// Runs the tests of `programs` that `cut` names; `told` are variables of the environment that name folders.
pub(crate) fn run(programs: &[Program], cut: &Cut, told: &[(&str, &Path)]) -> Result<Counts> {
    let mut counts = Counts::default();
    for program in programs {
        if has_tests(program, cut)? {
            let command = prepared(program, cut);
            let command = told.iter().fold(command, |command, (name, folder)| command.env(name, folder));
            run_one(&program.name, command, cut, &mut counts)?;
        }
    }
    if cut.examples && !programs.is_empty() {
        let examples = build::cargo("test").args(["--quiet", "--workspace", "--doc"]);
        run_one("examples in documentation", build::with_toolkit(examples), cut, &mut counts)?;
    }
    Ok(counts)
}

/// A test program with the words that choose its tests.
fn prepared(program: &Program, cut: &Cut) -> Cmd {
    let mut command = build::with_toolkit(cmd(&program.path))
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .env("RUST_BACKTRACE", "1")
        .dir(&program.folder)
        .quiet()
        .args(cut.within);
    for module in cut.outside {
        command = command.args(["--skip", module]);
    }
    command
}

fn has_tests(program: &Program, cut: &Cut) -> Result<bool> {
    let list = prepared(program, cut).args(["--list", "--format", "terse"]).output()?;
    Ok(list.lines().any(|line| line.ends_with(": test")))
}

/// A test that says nothing for so long hangs: the longest takes two or three minutes on a busy machine.
const SILENCE: Duration = Duration::from_mins(6);

/// Runs one program, shows what is not "ok", and adds up.
fn run_one(name: &str, command: Cmd, cut: &Cut, counts: &mut Counts) -> Result<()> {
    let start = Instant::now();
    let threads = if cut.one_by_one { vec!["--test-threads=1"] } else { vec![] };
    let mut child = command.args(threads).piped()?;
    let mut tally = Tally::default();
    let limits = Limits { silence: SILENCE, whole: Duration::from_secs(cut.limit * 60) };
    let ended = follow(&mut child, limits, &mut tally).with_context(|| name.to_owned())?;
    let trouble = match ended {
        Ended::Not(why) => {
            println!("{}", processes());
            child.kill().with_context(|| format!("cannot end {name}"))?;
            child.wait()?;
            Some(format!("{name}: {why}, ended; it last said: {}", tally.last()))
        }
        Ended::With(status) if !status.success() && tally.failed == 0 => Some(format!("{name}: {status}")),
        Ended::With(_) => None,
    };
    if let Some(trouble) = &trouble {
        println!("{trouble}");
    }
    counts.passed += tally.passed;
    counts.failed += tally.failed + usize::from(trouble.is_some());
    counts.failures.extend(tally.failures.into_iter().chain(trouble));
    println!("{name}: {} passed, {:.1} s", tally.passed, start.elapsed().as_secs_f32());
    Ok(())
}

/// What every process of this machine does, to find out why a test hangs.
fn processes() -> String {
    let list = cmd("ps").args(["-eo", "pid,ppid,stat,etime,wchan:20,args", "--forest"]).quiet().output();
    let list = list.unwrap_or_else(|error| format!("{error:#}"));
    let lines: Vec<String> = list.lines().map(|line| line.chars().take(180).collect()).collect();
    lines.join("\n")
}

/// How long a program may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Without a word.
    silence: Duration,
    /// In all.
    whole: Duration,
}

/// What became of a program.
enum Ended {
    With(ExitStatus),
    /// It did not end, and why it is not waited for.
    Not(String),
}

/// Reads what a program prints until it ends, or a limit is over.
///
/// Its own end counts, not the end of its stream: something it left running may hold that open.
fn follow(child: &mut Child, limits: Limits, tally: &mut Tally) -> Result<Ended> {
    let out = child.stdout.take().context("the test's output is piped")?;
    let (pieces, arriving) = channel();
    std::thread::spawn(move || pass_on(out, &pieces));
    let end = Instant::now() + limits.whole;
    let mut silent = Instant::now();
    while Instant::now() < end {
        match arriving.recv_timeout(Duration::from_millis(200)) {
            Ok(piece) => {
                silent = Instant::now();
                tally.hear(&piece);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Ended::With(child.wait()?)),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    return Ok(Ended::With(status));
                }
                if silent.elapsed() > limits.silence {
                    return Ok(Ended::Not(format!("nothing for {} s", limits.silence.as_secs())));
                }
            }
        }
    }
    Ok(Ended::Not(format!("not done after {} s", limits.whole.as_secs())))
}

/// Sends on what comes, also a line that has begun, until the stream or the listener ends.
fn pass_on(mut out: impl Read, pieces: &Sender<Vec<u8>>) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = out.read(&mut piece) {
        if pieces.send(piece[..count].to_vec()).is_err() {
            return;
        }
    }
}

/// What one program's lines add up to.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    /// Names from the list at the end (the last one, when there are several).
    failures: Vec<String>,
    in_list: bool,
    /// The last line, for a program that hangs.
    line: String,
    /// A line that has begun: of tests that run one by one the name of the one that runs.
    begun: Vec<u8>,
    /// When a test last ended: what tests that run one by one took.
    before: Option<Instant>,
}

/// A test that takes longer is named.
const SLOW: Duration = Duration::from_secs(20);

impl Tally {
    /// Counts the lines that a piece of output ends. Bytes that are no UTF-8 are shown as such.
    fn hear(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if let Some(line) = self.begun.strip_suffix(b"\n") {
                let line = String::from_utf8_lossy(line).into_owned();
                self.begun.clear();
                self.note(&line);
            }
        }
    }

    /// What it said last.
    fn last(&self) -> String {
        if self.begun.is_empty() {
            self.line.clone()
        } else {
            String::from_utf8_lossy(&self.begun).into_owned()
        }
    }

    /// Counts one line, and shows it unless it only says that all is well.
    fn note(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, "passed");
            self.failed += number_before(result, "failed");
            self.in_list = false;
        } else if line == "failures:" {
            self.failures.clear();
            self.in_list = true;
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.in_list) {
            self.failures.push(name.to_owned());
        }
        if !line.is_empty() {
            line.clone_into(&mut self.line);
        }
        let dull = line.is_empty() || line.starts_with("running ") || line.starts_with("test result: ok");
        let passed = line.starts_with("test ") && line.ends_with(" ok");
        if line.starts_with("running ") || line.starts_with("test ") {
            let took = self.before.replace(Instant::now()).map(|before| before.elapsed()).unwrap_or_default();
            if passed && took > SLOW {
                println!("{line}, after {:.0} s", took.as_secs_f32());
            }
        }
        if !dull && !passed {
            println!("{line}");
        }
    }
}

/// The number that stands before `word` in `12 passed; 0 failed; …`.
fn number_before(result: &str, word: &str) -> usize {
    let mut parts = result.split([';', '.']).map(str::trim);
    let part = parts.find_map(|part| part.strip_suffix(word));
    part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_failures_named() {
        let mut tally = Tally::default();
        let lines = "test a::b ... ok\ntest a::c ... FAILED\n\nfailures:\n\n---- a::c stdout ----\n    at x\n\n\
                     failures:\n    a::c\n\ntest result: FAILED. 7 passed; 1 failed; 2 ignored; 0 measured; \
                     3 filtered out; finished in 0.01s";
        lines.lines().for_each(|line| tally.note(line));
        assert_eq!((tally.passed, tally.failed), (7, 1));
        assert_eq!(tally.failures, ["a::c"]);
    }

    #[test]
    fn a_program_that_falls_silent_is_not_waited_for_and_its_last_words_are_kept() {
        let limits = Limits { silence: Duration::from_millis(300), whole: Duration::from_mins(5) };
        let hangs = cmd("sh").args(["-c", "echo test a::b ... ok; printf 'test a::c ... '; exec sleep 60"]);
        let mut child = hangs.quiet().piped().unwrap();
        let mut tally = Tally::default();
        let ended = follow(&mut child, limits, &mut tally).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(ended, Ended::Not(_)));
        assert_eq!(tally.last(), "test a::c ... ");
    }
}
