//! The only place that prints: data to stdout, words to stderr; errors, tables, JSON.
//!
//! **Invariant:** nothing else in the command writes to stdout or stderr (the line editor of `attach` draws its own prompt, `shell` hands
//! on what a pod's program writes),
//! and a closed stdout is a quiet end, not an error.

/// Captures as tables and data.
pub(crate) mod capture;
/// The wire's types as data.
pub(crate) mod data;
/// Failures for people and as data.
pub(crate) mod failure;
/// A whole terminal for a live display.
pub(crate) mod screen;
/// Commands quoted for a shell.
pub(crate) mod shell;
/// Colours by meaning.
pub(crate) mod style;
/// Aligned tables.
pub(crate) mod table;
/// Processes: the words several verbs share.
pub(crate) mod words;
/// Objects as YAML.
pub(crate) mod yaml;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write},
};

use pepo_wire::{Code, Failure, failure::Exit};
use serde_json::{Value, json};

use self::style::Paint;
use crate::{arguments::Output, called, environment::Environment};

/// How a verb ends when it does not end well.
#[derive(Debug)]
pub(crate) enum End {
    /// It failed: to be told.
    Failed(Box<Failure>),
    /// It said all it had to say; the status stands for the answer.
    Told(Exit),
    /// Another program did the work; the status is its own.
    Status(u8),
    /// Whoever read stdout has gone: no one wants more.
    OutputClosed,
    /// A fault of ours, told already by the hook of [`tell_panics`].
    Panicked,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(Box::new(failure))
    }
}

/// What verbs return.
pub(crate) type Outcome<T = ()> = Result<T, End>;

/// The printer, made once from the command line and the environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// Shape of the data.
    pub(crate) output: Output,
    /// Colours on stdout.
    pub(crate) paint: Paint,
    /// Colours on stderr.
    pub(crate) error_paint: Paint,
}

impl Printer {
    /// For what goes wrong before the arguments are understood: the shape is guessed from them.
    pub(crate) fn early(arguments: impl Iterator<Item = OsString>, environment: &Environment) -> Printer {
        let arguments: Vec<_> = arguments.map(|one| one.to_string_lossy().into_owned()).collect();
        let pairs =
            arguments.windows(2).any(|two| matches!(two[0].as_str(), "-o" | "--output") && two[1] == "json");
        let joined =
            arguments.iter().any(|one| matches!(one.as_str(), "-ojson" | "-o=json" | "--output=json"));
        let colourless = environment.no_color.is_some() || environment.term.as_deref() == Some("dumb");
        let never = arguments.windows(2).any(|two| two[0] == "--color" && two[1] == "never");
        let never = never || arguments.iter().any(|one| one == "--color=never");
        let output = if pairs || joined { Output::Json } else { Output::Text };
        let error_paint = Paint(io::stderr().is_terminal() && !colourless && !never);
        Printer { output, paint: Paint::NEVER, error_paint }
    }

    /// Is data wanted by a program?
    pub(crate) fn json_wanted(&self) -> bool {
        self.output == Output::Json
    }

    /// One line, or several, of data.
    pub(crate) fn data(&self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(ended)
    }

    /// Bytes of data, as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(ended)
    }

    /// One JSON value: for people's eyes over several lines.
    pub(crate) fn json(&self, value: &Value) -> Outcome {
        self.data(&format!("{value:#}"))
    }

    /// One JSON value on one line, for streams of values.
    pub(crate) fn json_line(&self, value: &Value) -> Outcome {
        self.data(&value.to_string())
    }

    /// What goes on, on one line of a terminal that the next call writes over; nothing where there is no terminal.
    pub(crate) fn progress(&self, text: &str) {
        if io::stderr().is_terminal() && !self.json_wanted() {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
        }
    }

    /// Lines on a screen that is cleared before.
    pub(crate) fn screen(&self, lines: &[String]) -> Outcome {
        self.data(&format!("\x1b[H\x1b[2J{}", lines.join("\n")))
    }

    /// Lines of the terminal that stdout is; nothing where it is none.
    pub(crate) fn height(&self) -> Option<usize> {
        terminal().map(|(rows, _)| rows)
    }

    /// Columns of the terminal that stdout is; nothing where it is none.
    pub(crate) fn width(&self) -> Option<usize> {
        terminal().map(|(_, columns)| columns)
    }

    /// Words for the person; never part of the data.
    pub(crate) fn say(&self, text: &str) {
        if self.json_wanted() {
            self.error_line(&json!({ "note": text }).to_string());
        } else {
            self.error_line(&called::spelled(text));
        }
    }

    /// The outcome of what was done, once what was made for it is undone; why that is not, is told besides.
    pub(crate) fn undone(&self, outcome: Outcome, undone: Result<(), Failure>) -> Outcome {
        match (outcome, undone) {
            (outcome, Ok(())) => outcome,
            (Ok(()), Err(failure)) => Err(failure.into()),
            (outcome, Err(failure)) => {
                self.warn(&failure);
                outcome
            }
        }
    }

    /// What went wrong although the verb went on.
    pub(crate) fn warn(&self, failure: &Failure) {
        if self.json_wanted() {
            self.error_line(&json!({ "warning": failure::json(failure) }).to_string());
        } else {
            self.error_line(&failure::warning(failure, self.error_paint));
        }
    }

    /// What ended the verb.
    pub(crate) fn error(&self, failure: &Failure) {
        if self.json_wanted() {
            self.error_line(&json!({ "error": failure::json(failure) }).to_string());
        } else {
            self.error_line(&failure::text(failure, self.error_paint));
        }
    }

    /// A closed stderr is nobody's loss.
    fn error_line(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = writeln!(err, "{text}");
    }
}

/// Rows and columns of the terminal that stdout is; nothing where it is none, or does not say.
#[cfg(unix)]
fn terminal() -> Option<(usize, usize)> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok())??;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row.into(), size.ws_col.into()))
}

/// The usual size.
#[cfg(not(unix))]
fn terminal() -> Option<(usize, usize)> {
    io::stdout().is_terminal().then_some((24, 80))
}

/// What a failed write to stdout means.
fn ended(error: io::Error) -> End {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return End::OutputClosed;
    }
    Failure::new(Code::FileDenied, "the output could not be written").because(error).into()
}

/// The runtime's threads could not be started.
pub(crate) fn no_runtime(error: io::Error) -> Failure {
    Failure::new(Code::Internal, "the command's threads could not be started").because(error)
}

/// Tells the end of a verb and returns the exit status.
pub(crate) fn finish(printer: Printer, outcome: Outcome) -> u8 {
    match outcome {
        Ok(()) | Err(End::OutputClosed) => 0,
        Err(End::Told(exit)) => exit as u8,
        Err(End::Status(status)) => status,
        Err(End::Panicked) => Exit::Internal as u8,
        Err(End::Failed(failure)) => {
            printer.error(&failure);
            failure.code().exit() as u8
        }
    }
}

/// From here on a panic is told like every error, without a trace of Rust.
pub(crate) fn tell_panics() {
    std::panic::set_hook(Box::new(|info| {
        screen::leave();
        let words = info.payload_as_str().unwrap_or("no words");
        let place =
            info.location().map_or_else(String::new, |place| format!("{}:{}", place.file(), place.line()));
        let failure = Failure::new(Code::Internal, "a fault inside Pepo")
            .because(format!("{words} ({place})"))
            .hint("what was held is let go; please report this message with the command that led to it");
        let _ = writeln!(io::stderr().lock(), "{}", failure::text(&failure, Paint::NEVER));
    }));
}
