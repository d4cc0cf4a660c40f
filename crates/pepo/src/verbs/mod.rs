//! The verbs: one file each, with its arguments and one entry function.

/// Hidden: the agent beside a target.
pub(crate) mod agent;
/// A debugger in this terminal.
pub(crate) mod attach;
/// Sessions through a server.
pub(crate) mod attachments;
/// The next start of a container.
pub(crate) mod catch;
/// A change of what makes pods.
mod change;
/// Would it work, and if not, why.
pub(crate) mod check;
/// Completions for a shell.
pub(crate) mod completions;
/// The memory and threads of a process, in a file.
pub(crate) mod core;
/// A core file.
mod core_file;
/// Files out of a target and into it.
pub(crate) mod cp;
/// A debugger for an editor.
pub(crate) mod dap;
/// Two captures compared.
pub(crate) mod diff;
/// What was injected, taken back.
pub(crate) mod eject;
/// The engines' own commands.
mod engines;
/// The start of a container.
pub(crate) mod entry;
/// Hidden: the generated pages of docs.
pub(crate) mod generate;
/// Hidden: the guard between a debugger and its target.
pub(crate) mod guard;
/// The entry before the programs of pods.
pub(crate) mod inject;
/// Configuration for a proxy that holds calls.
pub(crate) mod install;
/// Hidden: the agent of a node.
pub(crate) mod node;
/// What can be debugged.
pub(crate) mod ps;
/// A profile.
pub(crate) mod record;
/// Let go, now.
pub(crate) mod release;
/// The next container of an image or a service.
pub(crate) mod requests;
/// What attachments and requests have in common.
mod resources;
/// A container with the entry before its program.
pub(crate) mod run;
/// A server for a team.
pub(crate) mod serve;
/// Who is attached to what.
pub(crate) mod sessions;
/// A look around inside a container.
pub(crate) mod shell;
/// Where every thread is now.
pub(crate) mod stack;
/// Debuggers for this machine.
pub(crate) mod tools;
/// What it is busy with now.
pub(crate) mod top;

use std::sync::Arc;

use pepo_wire::{Code, Failure};

use crate::{
    arguments::Verb,
    config::Context,
    render::{End, Outcome, no_runtime},
    signals::Signals,
};

/// Runs a verb and waits until this process's agent has let go of everything, even when the verb panicked or was interrupted.
pub(crate) async fn run(verb: Verb, context: Context) -> Outcome {
    let local = Arc::clone(&context.local);
    // These let go in their own order, or end with what they have.
    let hears = matches!(
        verb,
        Verb::Attach(_)
            | Verb::Dap(_)
            | Verb::Catch(_)
            | Verb::Agent(_)
            | Verb::Serve(_)
            | Verb::Node(_)
            | Verb::Record(_)
            | Verb::Top(_)
            | Verb::Stack(_)
            | Verb::Shell(_)
    );
    let mut signals = if hears { None } else { Some(Signals::listen().map_err(no_runtime)?) };
    let signal = async {
        match &mut signals {
            Some(signals) => signals.next().await,
            None => std::future::pending().await,
        }
    };
    let mut running = tokio::spawn(dispatch(verb, context));
    let outcome = tokio::select! {
        outcome = &mut running => outcome.unwrap_or(Err(End::Panicked)),
        _ = signal => {
            running.abort();
            // Its end, and with it that of all it held.
            let _ = running.await;
            Err(Failure::new(Code::Interrupted, "interrupted").into())
        }
    };
    local.finish().await;
    outcome
}

async fn dispatch(verb: Verb, context: Context) -> Outcome {
    match verb {
        Verb::Ps(arguments) => ps::run(&arguments, &context).await,
        Verb::Check(arguments) => check::run(&arguments, &context).await,
        Verb::Stack(arguments) => stack::run(&arguments, &context).await,
        Verb::Top(arguments) => top::run(&arguments, &context).await,
        Verb::Record(arguments) => record::run(&arguments, &context).await,
        Verb::Core(arguments) => self::core::run(&arguments, &context).await,
        Verb::Diff(arguments) => diff::run(&arguments, &context),
        Verb::Attach(arguments) => attach::run(&arguments, &context).await,
        Verb::Dap(arguments) => dap::run(&arguments, &context).await,
        Verb::Catch(arguments) => self::catch::run(&arguments, &context).await,
        Verb::Attachments(arguments) => attachments::run(&arguments, &context).await,
        Verb::Requests(arguments) => requests::run(&arguments, &context).await,
        Verb::Sessions(arguments) => sessions::run(&arguments, &context).await,
        Verb::Release(arguments) => release::run(&arguments, &context).await,
        Verb::Shell(arguments) => shell::run(&arguments, &context).await,
        Verb::Cp(arguments) => cp::run(&arguments, &context).await,
        Verb::Tools(arguments) => tools::run(&arguments, &context).await,
        Verb::Serve(arguments) => serve::run(&arguments, &context).await,
        Verb::Install(arguments) => install::run(&arguments, &context),
        Verb::Node(arguments) => node::run(&arguments, &context).await,
        Verb::Agent(arguments) => agent::run(&arguments, &context).await,
        Verb::Completions(arguments) => completions::run(&arguments, &context),
        Verb::Generate(arguments) => generate::run(&arguments, &context),
        Verb::Entry(arguments) => entry::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments, &context),
        Verb::Inject(arguments) => inject::run(&arguments, &context).await,
        Verb::Eject(arguments) => eject::run(&arguments, &context).await,
    }
}
