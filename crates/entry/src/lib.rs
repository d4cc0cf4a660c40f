//! The start of a container: a PID 1 as good as tini, and words (`verbose`, `fstree`, `stayalive`, `wait`) that make
//! any image debuggable from its first instruction.
//!
//! A crate of its own because it must stay small (3 MB with TLS, 1.5 MB of memory at work, under 1 ms to start) and
//! because it stands where nothing else of ours may: before the program, as its parent, for as long as it lives.
//! **Invariant:** knows no other crate of ours, no async runtime; without words it says nothing and costs nothing.

/// The command line: tini's flags, and what is asked of a held container.
mod arguments;
/// How it ends when it is not the program that ends.
mod exit;
/// Archives put into the file system.
mod fstree;
/// What is kept: the program at its first instruction, the container after its fault.
mod hold;
/// The init: signals, zombies, the terminal, the status.
mod init;
/// What is run: looked up as `execvp` would, with its arguments and environment.
mod program;
/// Signals by name and number.
mod signal;
/// Every system call that needs `unsafe`.
mod sys;
/// All that is said.
mod tell;
/// A few tools for images that have none.
mod tools;
/// What is run is told, and shells are traced.
mod verbose;
/// The words and where they come from.
mod words;

use std::{ffi::OsString, fs, io, path::Path};

use crate::{
    arguments::Asked,
    exit::{Exit, Fault},
    init::Init,
    program::Program,
    words::Words,
};

/// Does what the command line (without the program's own name) asks; gives the exit status.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> u8 {
    let asked = arguments::parse(arguments, std::env::vars_os(), rustix::process::getpid().is_init());
    match asked.and_then(act) {
        Ok(status) => status,
        Err(fault) => {
            tell::fault(&fault);
            fault.status()
        }
    }
}

/// The same in a program whose start is Rust's: that ignores SIGPIPE, and the program that is started here must not. It gets
/// the default, as an engine would give it.
#[must_use]
pub fn run_as_verb(arguments: Vec<OsString>) -> u8 {
    sys::default_pipe();
    run(arguments)
}

/// Whether these are words of ours; `source` is how they were given.
///
/// # Errors
/// What is not, and the list of words.
pub fn judge_words(words: &str, source: &str) -> Result<(), String> {
    Words::judge(words, source).map_err(|fault| fault.to_string())
}

fn act(asked: Asked) -> Result<u8, Fault> {
    match asked {
        Asked::Show(text) => {
            tell::show(&text);
            Ok(0)
        }
        Asked::Start(flags) => start(&flags),
        Asked::Init(ask) => {
            hold::socket::ask(&ask)?;
            Ok(0)
        }
        Asked::Tools(root) => Ok(tools::run(root.as_deref())),
        Asked::Copy(to) => copy(&to).map(|()| 0),
    }
}

/// Copies this program. It is there whole or not at all: somebody may be about to run it.
fn copy(to: &Path) -> Result<(), Fault> {
    let mut new = to.to_owned().into_os_string();
    new.push(".new");
    let copied = fs::copy("/proc/self/exe", &new).and_then(|_| fs::rename(&new, to));
    copied.map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::StorageFull => Exit::Limit,
            _ => Exit::Permission,
        };
        Fault::new(exit, format!("cannot copy this program to {}: {error}", to.display()))
            .next("--copy-to takes a file's name in a folder that is there, and where we may write")
    })
}

/// Reads the words, does what they ask before the program starts, and then is its init.
fn start(flags: &arguments::Flags) -> Result<u8, Fault> {
    let mut init = Init::new(flags)?;
    let (mut words, environment) = Words::read(std::env::vars_os())?;
    words.warn();
    let mut program = Program::new(flags.command.clone(), environment);
    let mut socket = None;
    if words != Words::default() {
        match hold::Socket::open() {
            Ok(Some(opened)) => socket = Some(opened),
            Ok(None) => words = left_to_the_first(&program),
            Err(error) => tell::line(format!("cannot be asked at a socket: {error}")),
        }
    }
    if words == Words::default() {
        return init.run(&program);
    }
    let mut unprepared = None;
    if !words.fstree.is_empty()
        && let Some(status) = init.work(|blocked| fstree::apply(&words.fstree, &words.rules, blocked))?
    {
        if words.rules.optional && !init.was_asked_to_end() {
            tell::line("fstree-optional: the program starts all the same");
        } else if words.stayalive.is_some() && !init.was_asked_to_end() {
            unprepared = Some(status);
        } else {
            return Ok(status);
        }
    }
    if let Some(output) = &words.verbose {
        program = verbose::begin(output, program)?;
    }
    if words.wait.is_some() {
        program.wait_for_debuggers();
    }
    let wishes = hold::Wishes { stay: words.stayalive.as_ref(), wait: words.wait };
    hold::run(&mut init, &program, wishes, socket, unprepared)
}

/// What is executed in a container has its environment, and with it the words, which its first process has done.
fn left_to_the_first(program: &Program) -> Words {
    tell::line(format!(
        "the words are for this container's init, of which status, rerun, release and sh are asked; this runs {}",
        program.name().display()
    ));
    Words::default()
}

/// What an archive of these bytes would do: how many entries it would put in place, or why it is refused. For tests
/// that feed it what no server would send.
///
/// # Errors
/// The fault, in words.
#[doc(hidden)]
pub fn judge_archive(bytes: &[u8]) -> Result<usize, String> {
    fstree::judge(bytes).map_err(|fault| fault.to_string())
}
