//! `verbose`: what is run, as whom and within which bounds; and shells traced with nothing installed in the image.

/// What Linux says of us, in lines.
pub(crate) mod facts;
/// What is shown of names and values that may be secrets.
pub(crate) mod secrets;
/// Whether the program is a shell's, and how that shell is made to trace.
mod shell;
/// Programs that start another one.
mod wrapper;

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use rustix::{
    fs::MemfdFlags,
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
};

use crate::{
    exit::{Exit, Fault},
    program::Program,
    tell,
    words::Output,
};

/// Tells what is about to run, and gives the program with its shells traced.
pub(crate) fn begin(output: &Output, program: Program) -> Result<Program, Fault> {
    let sink = open(output)?;
    let file = program.found();
    let traced = file.as_deref().and_then(|file| shell::trace(&program, file));
    let mut lines = told(&program, file.as_deref(), traced.as_ref());
    let program = match traced {
        None => program,
        Some(traced) => {
            let elsewhere = *output != Output::Error;
            if elsewhere && !traced.anywhere {
                lines.push(format!("{} can trace to standard error alone", traced.shell));
            }
            with_traces(traced, if elsewhere { Some(&sink) } else { None })?
        }
    };
    say(&sink, &lines);
    Ok(program)
}

/// One write, so that the lines stand together; what cannot be said is not.
fn say(sink: &OwnedFd, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("pepo-entry: {}\n", tell::plain(line))).collect();
    if let Ok(copy) = sink.try_clone() {
        let _ = std::fs::File::from(copy).write_all(text.as_bytes());
    }
}

fn told(program: &Program, file: Option<&Path>, traced: Option<&shell::Traced>) -> Vec<String> {
    let mut lines = vec![match file {
        Some(file) if file.as_os_str() == program.name() => format!("runs {}", file.display()),
        Some(file) => format!("runs {} as {}", file.display(), program.name().display()),
        None => format!("runs {}, which is in no folder of PATH", program.name().display()),
    }];
    match traced {
        Some(traced) => lines.push(format!("traces {}", traced.shell)),
        None if wrapper::is_one(program.name()) => lines.push(format!(
            "traces nothing: {} starts another program, and if that is a shell's, it is not seen here",
            program.name().display()
        )),
        None => {}
    }
    let arguments = secrets::arguments(program.command.get(1..).unwrap_or_default());
    if !arguments.is_empty() {
        lines.push(format!("arguments: {}", arguments.join(" ")));
    }
    lines.extend(facts::lines());
    let mut variables: Vec<_> =
        program.environment.iter().map(|(name, value)| secrets::variable(name, value)).collect();
    variables.sort();
    lines.extend(variables.into_iter().map(|variable| format!("environment: {variable}")));
    lines
}

fn open(output: &Output) -> Result<OwnedFd, Fault> {
    let opened = match output {
        Output::Error => rustix::io::dup(rustix::stdio::stderr()).map_err(io::Error::from),
        Output::File(file) => {
            // What is told is nobody else's business.
            OpenOptions::new().append(true).create(true).mode(0o600).open(file).map(OwnedFd::from)
        }
        Output::Descriptor(number) => {
            OpenOptions::new().append(true).open(format!("/proc/self/fd/{number}")).map(OwnedFd::from)
        }
    };
    let name = match output {
        Output::Error => "standard error".to_owned(),
        Output::File(file) => file.display().to_string(),
        Output::Descriptor(number) => format!("descriptor {number}"),
    };
    opened.map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::Unreachable,
            _ => Exit::Permission,
        };
        Fault::new(exit, format!("verbose: cannot write to {name}: {error}"))
            .next("verbose without a value goes to standard error")
    })
}

/// Descriptors from here on are out of the way of those that scripts open by number.
const HIGH: i32 = 200;

/// The program with what its shells need: settings in a file without a name, and where traces go.
fn with_traces(traced: shell::Traced, sink: Option<&OwnedFd>) -> Result<Program, Fault> {
    let failed =
        |error: io::Error| Fault::new(Exit::Internal, format!("verbose: cannot trace shells: {error}"));
    let mut program = traced.program;
    let sink = sink.map(inherited).transpose().map_err(failed)?;
    let before = program.variable("BASH_ENV").map(ToOwned::to_owned);
    let settings = shell::bash_settings(sink, before.as_deref());
    let file = rustix::fs::memfd_create("pepo-entry", MemfdFlags::CLOEXEC).map_err(io::Error::from);
    let file = file.map_err(failed)?;
    rustix::io::write(&file, settings.as_bytes()).map_err(|error| failed(error.into()))?;
    let number = inherited(&file).map_err(failed)?;
    program.set("BASH_ENV", format!("/proc/self/fd/{number}"));
    program.set("PS4", traced.prompt);
    Ok(program)
}

/// A copy of a descriptor that the program and all below it have; its number.
fn inherited(fd: &OwnedFd) -> io::Result<i32> {
    let copy = fcntl_dupfd_cloexec(fd, HIGH).or_else(|_| fcntl_dupfd_cloexec(fd, 3))?;
    fcntl_setfd(&copy, FdFlags::empty())?;
    let number = copy.as_raw_fd();
    // It stays open for the program, and for the ones that come after it in a held container.
    std::mem::forget(copy);
    Ok(number)
}
