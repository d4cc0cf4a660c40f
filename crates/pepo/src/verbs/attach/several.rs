//! `pepo attach --all` and `--first`: debuggers on several targets, spoken to together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pepo_dap::{
    console::{
        Console,
        group::{Group, Together},
        output::Output,
    },
    source_map::Rule,
};
use pepo_platform::Need;
use pepo_wire::{Code, Failure};
use tokio::sync::Notify;

use super::{Attach, Making, interrupted, speak};
use crate::{
    arguments::{Chosen, choose},
    config::Context,
    looking::unless_interrupted,
    many::{self, One, Targets},
    reach::{self, Question},
    render::{Outcome, no_runtime},
    signals::Signals,
};

/// Attaches to all that can be attached to, then runs the commands or asks for them. Those that cannot are told.
pub(super) async fn run(arguments: &Attach, rules: Vec<Rule>, context: &Context) -> Outcome {
    let mut signals = Signals::listen().map_err(no_runtime)?;
    let chosen = chosen(arguments)?;
    let finding = many::find(context, &chosen, Need::Debug, arguments.at_once, &mut signals);
    let mut targets = finding.await?;
    targets.all_at_once("a debugger stands beside each of them at the same time")?;
    let production = targets.all.iter().find_map(One::production);
    let asking = agreed(production, targets.all.len(), &chosen, arguments, context);
    unless_interrupted(&mut signals, asking).await?;
    let interrupt = Arc::new(Notify::new());
    let begun = begin(&mut targets, arguments, rules, &interrupt, context).await;
    let together = if arguments.first { Together::First } else { Together::All };
    let (consoles, sayings): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
    let failed = targets.failed;
    if consoles.is_empty() {
        return failed.outcome();
    }
    let mut group = Group::new(consoles, together);
    let mut voice = speak::Voice::new(context.printer, !arguments.talk.commands.is_empty());
    sayings.iter().flatten().for_each(|saying| voice.say(saying));
    if failed.was_interrupted() {
        // The interruption is what is told.
        let _ = group.detach(&mut |saying| voice.say(&saying)).await;
        return Err(interrupted().into());
    }
    let speaker = speak::Speaker::new(group, voice, signals, interrupt);
    super::speak(speaker, &arguments.talk, context).await?;
    failed.outcome()
}

/// All that was named.
fn chosen(arguments: &Attach) -> Result<Vec<Chosen>, Failure> {
    let process = &arguments.target.process;
    let named = arguments.target.target.iter().chain(&arguments.more);
    let chosen = named.map(|name| choose(Some(name), process)).collect::<Result<Vec<_>, _>>()?;
    if chosen.is_empty() { Ok(vec![choose(None, process)?]) } else { Ok(chosen) }
}

/// Asks once for all where a name says that this is production.
async fn agreed(
    production: Option<&str>,
    count: usize,
    chosen: &[Chosen],
    arguments: &Attach,
    context: &Context,
) -> Result<(), Failure> {
    let names: Vec<String> = chosen.iter().map(|one| one.name.to_string()).collect();
    let name = format!("{} ({count} targets)", names.join(", "));
    let how = if arguments.first { "--first" } else { "--all" };
    let words = ["pepo", "attach"].into_iter().chain(names.iter().map(String::as_str)).chain([how]);
    let line: Vec<&str> = words.collect();
    let question = Question {
        name: &name,
        done: "stopped",
        doing: "put debuggers there",
        needs: "a debugger needs",
        line: &line,
    };
    reach::agree(context, production, &question, true).await
}

/// A debugger beside each, so many at a time; what was said meanwhile belongs to each.
async fn begin(
    targets: &mut Targets,
    arguments: &Attach,
    rules: Vec<Rule>,
    interrupt: &Arc<Notify>,
    context: &Context,
) -> Vec<(Console, Vec<Output>)> {
    let (count, done) = (targets.all.len(), AtomicUsize::new(0));
    let tell =
        || context.printer.progress(&format!("attaching: {} of {count}", done.load(Ordering::Relaxed)));
    tell();
    let (rules, tell, done) = (&rules, &tell, &done);
    let begun = targets.each(|mut one| async move {
        let reached = one.reach(context).await?;
        let session =
            super::put_in_place(context, &reached, &arguments.talk.session, &mut one.signals).await?;
        let making = Making { rules: rules.clone(), interrupt: Arc::clone(interrupt) };
        let mut said = Vec::new();
        let mut hear = |saying| said.push(saying);
        let starting = super::start(session, &reached, &arguments.talk, making, &mut one.signals, &mut hear);
        let console = starting.await?;
        done.fetch_add(1, Ordering::Relaxed);
        tell();
        Ok((console, said.into_iter().map(|saying| saying.of(&reached.name)).collect()))
    });
    let begun = begun.await;
    context.printer.progress("");
    begun
}

impl Attach {
    /// Does this mean several targets?
    pub(super) fn is_of_several(&self) -> bool {
        self.all || self.first || !self.more.is_empty()
    }

    /// A stop at the entry is none that tells one target from another.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let process = &self.target.process;
        if self.is_of_several() && (process.host_pid.is_some() || process.pid.is_some()) {
            return Err(Failure::new(Code::Usage, "a process number belongs to one target")
                .hint("leave out --all, --first and further targets, or name the process by --process"));
        }
        Ok(())
    }
}
