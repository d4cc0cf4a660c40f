//! The command: parse, decide, run, tell. One verb is one file in `verbs`; only `render` prints.
//!
//! A crate of its own because it puts all the others together, and because it alone meets a person.
//! **Invariant:** no domain logic: what is true of processes, engines and debuggers is said by the crates that know.

/// The command line.
mod arguments;
/// How the command was called.
mod called;
/// What a shell may offer for the last word.
mod complete;
/// From both to what verbs are given.
mod config;
/// Durations as they are typed and spoken.
mod duration;
/// The environment.
mod environment;
/// Files of this side, to be copied and to be put in place.
mod here;
/// The agent in this process.
mod local;
/// Diagnostics on stderr.
mod logging;
/// A look, brought home.
mod looking;
/// Several targets at once.
mod many;
/// Names for addresses.
mod names;
/// Files that appear whole or not at all.
mod new_file;
/// The way to an agent beside a target.
mod reach;
/// All that is printed.
mod render;
/// Opening a debugger session.
mod session;
/// Ctrl-C, SIGTERM and the like.
mod signals;
/// The verbs.
mod verbs;
/// Who asks.
mod who;

use std::process::ExitCode;

use crate::{
    arguments::{Parsed, Verb},
    config::Context,
    environment::Environment,
    render::{Outcome, Printer},
};

fn main() -> ExitCode {
    if let Some(ended) = verbs::entry::asked(std::env::args_os()) {
        return ended;
    }
    let called = called::remember(&std::env::args_os().next().unwrap_or_default());
    render::tell_panics();
    if let Some(guarded) = verbs::guard::asked(std::env::args_os()) {
        return guarded;
    }
    let environment = Environment::read();
    if let Some(words) = complete::asked(called, std::env::args_os()) {
        let quiet = Printer::early(std::iter::empty(), &environment);
        return render::finish(quiet, complete::run(&words, environment)).into();
    }
    let early = Printer::early(std::env::args_os(), &environment);
    match arguments::parse(std::env::args_os()) {
        Err(failure) => render::finish(early, Err(failure.into())).into(),
        Ok(Parsed::Show(text)) => render::finish(early, early.data(&called::spelled(&text))).into(),
        Ok(Parsed::Run(line)) => {
            let context = Context::new(line.global.clone(), environment);
            if let Some(format) = line.verb.log_format() {
                logging::start(&context, format);
            }
            let printer = context.printer;
            render::finish(printer, run(line.verb, context)).into()
        }
    }
}

/// Runs a verb: the few that need no runtime at once, the others inside one, which ends after the last thing held was let go.
fn run(verb: Verb, context: Context) -> Outcome {
    match verb {
        Verb::Completions(arguments) => verbs::completions::run(&arguments, &context),
        Verb::Generate(arguments) => verbs::generate::run(&arguments, &context),
        Verb::Entry(arguments) => verbs::entry::run(&arguments),
        Verb::Run(arguments) => verbs::run::run(&arguments, &context),
        verb => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.map_err(render::no_runtime)?;
            let outcome = runtime.block_on(verbs::run(verb, context));
            // A thread that waits for a key press must not hold the command back.
            runtime.shutdown_background();
            outcome
        }
    }
}
