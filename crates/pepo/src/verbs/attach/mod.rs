//! `pepo attach`: a debugger in this terminal, the same words for every language.

/// On a copy of a pod.
mod copy;
/// The line editor.
mod prompt;
/// Several targets.
mod several;
/// Lines in, sayings out, and the way out.
mod speak;

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use clap::Args;
use pepo_client::Session;
use pepo_dap::{
    AgentLink, SourceMap,
    console::{Console, ConsoleOptions, Show, group::Group, parse::parse},
    source_map::Rule,
};
use pepo_wire::{Code, Failure, FailureExt as _};
use tokio::sync::Notify;

use self::speak::{Lines, Speaker, Voice};
use crate::{
    arguments::TargetArgs,
    config::Context,
    duration,
    looking::unless_ended,
    reach::{self, Reached},
    render::{Outcome, no_runtime},
    session::{self, RemoteFiles, SessionArgs, Spoken},
    signals::Signals,
    verbs::inject::EntryArgs,
};

const EXAMPLES: &str = "\
Examples:
  pepo attach docker/shop
  pepo attach docker/shop -ex 'break main.go:42' -ex continue -ex bt -ex detach
  pepo attach shop --process 'worker: .*' --pause-budget 10s
  pepo attach deploy/shop --copy
  pepo attach cri/cart --symbols ./build --source-map /src=.
  pepo attach pid/4711 -ex 'break serve' -ex continue -ex locals --output json
  pepo attach deploy/shop --first -ex 'break serve.py:22' -ex continue -ex locals

In it, `help` lists the words. Ctrl-C pauses the target, `detach` or Ctrl-D lets go. With -ex the
target is let go after the last command. The target never stands still for longer than the pause
budget: then all breakpoints are cleared and it runs.

Of a workload, a service or labels one pod is taken, and named. With --all, or when several targets
are named, a breakpoint is set in each; when one stops, other words mean that one, `targets` lists
them and `target` looks at another. With --first the first that stops is kept and the others are let
go, untouched.";

/// Arguments of `pepo attach`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Attach {
    /// The target.
    #[command(flatten)]
    target: TargetArgs,
    /// Further targets, in the same session
    #[arg(value_name = "TARGET", conflicts_with = "copy")]
    more: Vec<String>,
    /// All that the name means, in one session: of a workload, a service and labels all pods that are ready
    #[arg(long, conflicts_with = "copy")]
    all: bool,
    /// As --all, until one stops: that one is kept, the others are let go
    #[arg(long, conflicts_with_all = ["all", "copy", "stop_on_entry"])]
    first: bool,
    /// The most targets of a session
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    at_once: u16,
    /// How it is spoken with.
    #[command(flatten)]
    pub(crate) talk: Talk,
    /// In a cluster: on a copy of the pod without health checks and traffic, held at its start where that can be, which goes at the end
    #[arg(long)]
    copy: bool,
    /// What holds it.
    #[command(flatten)]
    entry: EntryArgs,
}

/// A session in this terminal.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Talk {
    /// What a session is opened with.
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// This folder of the target's debug information is that folder here; may be repeated
    #[arg(long, value_name = "REMOTE=LOCAL")]
    source_map: Vec<String>,
    /// Run this command and, after the last, let go; may be repeated; may be spelled -ex
    #[arg(long = "ex", value_name = "COMMAND", allow_hyphen_values = true)]
    pub(crate) commands: Vec<String>,
    /// The longest a command waits for the target to stop [default: 60s in a script, for ever in a terminal]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

/// How long putting a debugger in place may take to be undone. The agent goes on with that when nobody waits.
const UNDOING: Duration = Duration::from_secs(10);
/// How long a script waits for a stop when it is not told.
const SCRIPT_WAIT: Duration = Duration::from_secs(60);

/// Attaches, then runs the commands or asks for them.
pub(crate) async fn run(arguments: &Attach, context: &Context) -> Outcome {
    arguments.check()?;
    let rules = arguments.talk.judged()?;
    if arguments.entry.is_said() && !arguments.copy {
        let what = "--entry-image and --entrypoint are about a start, and only a copy is started: --copy";
        return Err(Failure::new(Code::Usage, what).into());
    }
    if arguments.is_of_several() {
        return several::run(arguments, rules, context).await;
    }
    let chosen = arguments.target.chosen()?;
    if arguments.copy {
        return copy::run(arguments, &chosen, rules, context).await;
    }
    // From here on a signal does not end the command: it lets go first.
    let signals = Signals::listen().map_err(no_runtime)?;
    let reaching = reach::reach_to_stop(context, &chosen, true, &["attach"]);
    talk(&arguments.talk, rules, signals, reaching, context).await
}

impl Talk {
    /// What can be wrong with it before anything is done.
    ///
    /// # Errors
    /// [`Code::Usage`].
    pub(crate) fn judged(&self) -> Result<Vec<Rule>, Failure> {
        // A program that is held at its start would be let go for a word that is mistyped.
        for command in &self.commands {
            parse(command).map_err(|error| error.failure())?;
        }
        self.source_map.iter().map(|rule| rule.parse()).collect()
    }

    /// Does a person type?
    fn is_interactive(&self) -> bool {
        self.commands.is_empty() && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }
}

/// Attaches to what is being reached, then runs the commands or asks for them.
pub(crate) async fn talk(
    arguments: &Talk,
    rules: Vec<Rule>,
    mut signals: Signals,
    reaching: impl Future<Output = Result<Reached, Failure>>,
    context: &Context,
) -> Outcome {
    let reached = unless_ended(&mut signals, untouched, reaching).await?;
    let session = put_in_place(context, &reached, &arguments.session, &mut signals).await?;
    let interrupt = Arc::new(Notify::new());
    let making = Making { rules, interrupt: Arc::clone(&interrupt) };
    let mut voice = Voice::new(context.printer, !arguments.commands.is_empty());
    let started =
        start(session, &reached, arguments, making, &mut signals, &mut |saying| voice.say(&saying)).await;
    let speaker = Speaker::new(Group::from(started?), voice, signals, interrupt);
    speak(speaker, arguments, context).await
}

/// What a console is made with besides the arguments.
struct Making {
    rules: Vec<Rule>,
    interrupt: Arc<Notify>,
}

/// Brings a session to where words can be said.
async fn start(
    session: Session,
    reached: &Reached,
    arguments: &Talk,
    making: Making,
    signals: &mut Signals,
    show: Show<'_>,
) -> Result<Console, Failure> {
    let options = ConsoleOptions {
        target: reached.name.clone(),
        source_map: SourceMap::new(making.rules, std::env::current_dir().ok().as_deref()),
        files: Some(RemoteFiles::of(reached)),
        stop_on_entry: arguments.session.stop_on_entry,
        wait: arguments.timeout.or((!arguments.is_interactive()).then_some(SCRIPT_WAIT)),
        interrupt: making.interrupt,
        raw: arguments.session.raw,
        scripted: !arguments.commands.is_empty(),
    };
    let opened = session.opened.clone();
    let link = Box::new(AgentLink::new(session));
    unless_ended(signals, interrupted, Console::start(link, &opened, options, show)).await
}

/// The commands, or whoever types, to the end.
async fn speak(mut speaker: Speaker, arguments: &Talk, context: &Context) -> Outcome {
    if arguments.commands.is_empty() {
        speaker.converse(Lines::new(context)?).await
    } else {
        speaker.recite(&arguments.commands).await
    }
}

/// Puts a debugger in place. Asked to end meanwhile, it waits until that is undone, and tells how the target is then.
async fn put_in_place(
    context: &Context,
    reached: &Reached,
    arguments: &SessionArgs,
    signals: &mut Signals,
) -> Result<Session, Failure> {
    let opening = session::open(context, reached, arguments, Spoken::InWords);
    tokio::pin!(opening);
    tokio::select! {
        session = &mut opening => return session,
        _ = signals.next() => {}
    }
    let undone = async {
        match opening.await {
            Ok(session) => session.close().await.map_or_else(|failure| failure, |_| interrupted()),
            Err(failure) => failure,
        }
    };
    let failure = tokio::select! {
        failure = undone => failure,
        _ = signals.next() => unfinished(&reached.name),
        () = tokio::time::sleep(UNDOING) => unfinished(&reached.name),
    };
    Err(failure)
}

/// Asked to end before anything was done to the target.
fn untouched() -> Failure {
    Failure::new(Code::Interrupted, "interrupted; no debugger was put in place")
}

/// Asked to end while a debugger was being put in place, and not waited for.
fn unfinished(target: &str) -> Failure {
    Failure::new(Code::Interrupted, "interrupted; the agent lets the target go by itself")
        .try_command("see how it is", ["pepo", "check", target, "--for", "attach"])
}

/// Asked to end while a debugger was there.
fn interrupted() -> Failure {
    Failure::new(Code::Interrupted, "interrupted; the target was let go")
}
