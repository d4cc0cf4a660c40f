//! `pepo catch`: the next start of a container, held at its first instruction, for a debugger to begin there.

use std::time::Duration;

use clap::{Args, Subcommand};
use pepo_platform::{Begun, Held, Need};
use pepo_wire::{Code, Failure, name::TargetName};
use serde_json::json;

use crate::{
    arguments::{Chosen, PodArgs},
    config::Context,
    looking::{unless_ended, unless_interrupted},
    reach::{self, Question},
    render::{Outcome, no_runtime, shell},
    signals::Signals,
    verbs::{
        attach::{self, Talk},
        inject::{self, EntryArgs},
    },
};

const EXAMPLES: &str = "\
Examples:
  pepo catch start pod/shop-7c9f         holds the next start, and names the pod in which it is held
  pepo attach pod/shop-5d2b/app --pause-budget 0
  pepo catch stop deploy/shop            takes it back
  pepo catch start deploy/shop --attach  all of these: at the end all is as it was";

const START: &str = "\
Examples:
  pepo catch start pod/shop-7c9f
  pepo catch start sts/db -c db --entry-image registry/pepo-entry:0.1
  pepo catch start deploy/shop --attach
  pepo catch start deploy/shop --attach -ex 'break main.go:42' -ex continue -ex bt

What makes the pods is changed, so that new pods run the entry before the program, which holds it;
what is held takes no traffic and is ended by no health check. Pods that work stay, as in a roll-out.
IMAGE has the entry at /pepo-entry, as Pepo's own has. With --attach, and by Ctrl-C before the start
is held, all is taken back; else by `pepo catch stop`.";

const STOP: &str = "\
Examples:
  pepo catch stop deploy/shop
  pepo catch stop pod/shop-5d2b          what makes it is meant";

/// Asked in production before a start is held.
const START_QUESTION: Question<'static> = Question {
    name: "",
    done: "caught",
    doing: "make its pods anew",
    needs: "a roll-out needs",
    line: &["pepo", "catch", "start"],
};

/// And before that is taken back.
const STOP_QUESTION: Question<'static> = Question {
    done: "changed",
    doing: "make its pods anew, as they were",
    line: &["pepo", "catch", "stop"],
    ..START_QUESTION
};

/// Arguments of `pepo catch`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Catch {
    #[command(subcommand)]
    act: Act,
}

/// What is caught.
#[derive(Debug, Subcommand)]
enum Act {
    /// Hold the next start of a container at its first instruction
    #[command(after_help = START)]
    Start(Box<Start>),
    /// Take it back: all is as it was, and what was held goes
    #[command(after_help = STOP)]
    Stop(Stop),
}

/// Arguments of `pepo catch start`.
#[derive(Args, Debug)]
struct Start {
    /// A pod, or what makes the pods: pod/NAME, deploy/NAME, sts/NAME or ds/NAME
    target: String,
    /// Put a debugger on it once it is held, and take all back at the end
    #[arg(long)]
    attach: bool,
    /// What holds it.
    #[command(flatten)]
    entry: EntryArgs,
    /// How it is spoken with.
    #[command(flatten)]
    talk: Talk,
    /// In a pod.
    #[command(flatten)]
    pod: PodArgs,
}

/// Arguments of `pepo catch stop`.
#[derive(Args, Debug)]
struct Stop {
    /// A pod, or what makes the pods: pod/NAME, deploy/NAME, sts/NAME or ds/NAME
    target: String,
}

/// Catches, or takes back.
pub(crate) async fn run(arguments: &Catch, context: &Context) -> Outcome {
    match &arguments.act {
        Act::Start(arguments) => start(arguments, context).await,
        Act::Stop(arguments) => stop(&arguments.target, context).await,
    }
}

async fn start(arguments: &Start, context: &Context) -> Outcome {
    let name = arguments.target.parse::<TargetName>()?;
    if arguments.pod.labels.is_some() {
        return Err(Failure::new(Code::Usage, "labels (-l) name no start: name what makes the pods").into());
    }
    if !arguments.attach && !arguments.talk.commands.is_empty() {
        return Err(Failure::new(Code::Usage, "commands (-ex) are for a debugger: --attach").into());
    }
    let rules = arguments.talk.judged()?;
    // From here on a signal does not end the command: what was changed is taken back first.
    let mut signals = Signals::listen().map_err(no_runtime)?;
    let agreed = agreed(&name, &arguments.pod, START_QUESTION, context);
    let catch = unless_ended(&mut signals, unchanged, agreed).await?;
    let line = ["pepo", "catch", "start", &arguments.target].map(str::to_owned).into();
    let wish = arguments.entry.wish(catch.container(), arguments.pod.image.as_deref(), line, context)?;
    let mut injecting = |text: &str| inject::injected(&wish, text, context);
    let begun = catch.begin(&mut injecting).await?;
    let this = Caught { catch: &catch, begun: &begun, namespace: catch.namespace().await?, context };
    this.say_begun();
    let progress = |text: &str| context.printer.progress(text);
    let held = unless_interrupted(&mut signals, catch.held(&begun, &progress)).await;
    context.printer.progress("");
    let held = match held {
        Ok(held) => held,
        Err(failure) => return this.taken_back(Err(failure.into())).await,
    };
    if !arguments.attach {
        return this.tell(&held);
    }
    this.say_held(&held);
    let mut talk = arguments.talk.clone();
    // Nobody waits for it, and nothing ends it.
    talk.session.pause_budget.get_or_insert(Duration::ZERO);
    let chosen = chosen(&held.name, &arguments.pod);
    let reaching = reach::reach(context, &chosen, Need::Stop);
    let outcome = attach::talk(&talk, rules, signals, reaching, context).await;
    // The stream to the pod's helper ends before the pod does.
    context.local.finish().await;
    this.taken_back(outcome).await
}

/// What is to be held, or was, once its pods may be made anew. In the question the name is missing.
async fn agreed(
    name: &TargetName,
    pod: &PodArgs,
    question: Question<'_>,
    context: &Context,
) -> Result<pepo_platform::Catch, Failure> {
    let catch = reach::catch(context, name, pod).await?;
    let name = match (name.parts().1, &pod.container) {
        (None, Some(container)) => format!("{name}/{container}"),
        _ => name.to_string(),
    };
    let line = [question.line, &[&name]].concat();
    let question = Question { name: &name, line: &line, ..question };
    reach::agree(context, catch.production().await?.as_deref(), &question, true).await?;
    Ok(catch)
}

fn chosen(name: &TargetName, pod: &PodArgs) -> Chosen {
    let pod = PodArgs { container: None, ..pod.clone() };
    Chosen { name: name.clone(), on: None, process: None, container_pid: None, host_pid: None, pod }
}

/// A start that is being held.
struct Caught<'a> {
    catch: &'a pepo_platform::Catch,
    begun: &'a Begun,
    namespace: &'a str,
    context: &'a Context,
}

impl Caught<'_> {
    fn stop(&self) -> Vec<String> {
        stopping(self.catch, self.namespace, self.context)
    }

    fn attach(&self, held: &Held) -> Vec<String> {
        let line = ["pepo", "attach", &held.name.to_string(), "--pause-budget", "0"];
        reach::in_this_cluster(self.context, Some(self.namespace), &line)
    }

    fn say_begun(&self) {
        self.catch.notes.iter().chain(&self.begun.notes).for_each(|note| self.context.printer.say(note));
        let (name, container) = (self.catch.workload(), self.catch.container());
        let was = if self.begun.was_there { "was caught before" } else { "is caught" };
        let stop = shell::command(&self.stop());
        self.context
            .printer
            .say(&format!("the next start of {container} in {name} {was}; `{stop}` takes it back"));
    }

    fn say_held(&self, held: &Held) {
        let others = match held.others {
            0 => String::new(),
            count => format!(" ({count} more are made so)"),
        };
        self.context.printer.say(&format!(
            "{} is held at its first instruction; it takes no traffic, and no health check ends it{others}",
            held.name
        ));
    }

    /// Where it is held, and what comes next.
    fn tell(&self, held: &Held) -> Outcome {
        let printer = self.context.printer;
        let (attach, stop) = (self.attach(held), self.stop());
        if printer.json_wanted() {
            return printer.json(&json!({
                "workload": self.catch.workload().to_string(), "held": held.name.to_string(), "others": held.others,
                "attach": attach, "stop": stop,
            }));
        }
        self.say_held(held);
        printer.say(&format!("next: {}", shell::command(&attach)));
        printer.say(&format!("then: {}", shell::command(&stop)));
        printer.data(&held.name.to_string())
    }

    /// The outcome, once all is as it was, unless it was so before.
    async fn taken_back(&self, outcome: Outcome) -> Outcome {
        if self.begun.was_there {
            return outcome;
        }
        let undone = end(self.catch, self.context).await;
        self.context
            .printer
            .undone(outcome, undone.map_err(|failure| failure.try_command("take it back", self.stop())))
    }
}

async fn stop(name: &str, context: &Context) -> Outcome {
    let name = name.parse::<TargetName>()?;
    let mut signals = Signals::listen().map_err(no_runtime)?;
    let pod = PodArgs::default();
    let agreed = agreed(&name, &pod, STOP_QUESTION, context);
    let catch = unless_ended(&mut signals, unchanged, agreed).await?;
    let ended = unless_interrupted(&mut signals, end(&catch, context)).await;
    let namespace = catch.namespace().await?;
    ended.map_err(|failure| match failure.code() {
        Code::Interrupted => {
            failure.try_command("take back the rest", stopping(&catch, namespace, context)).into()
        }
        _ => failure.into(),
    })
}

/// Asked to end before anything was done.
fn unchanged() -> Failure {
    Failure::new(Code::Interrupted, "interrupted; nothing was changed")
}

fn stopping(catch: &pepo_platform::Catch, namespace: &str, context: &Context) -> Vec<String> {
    let name = catch.workload().to_string();
    reach::in_this_cluster(context, Some(namespace), &["pepo", "catch", "stop", &name])
}

async fn end(catch: &pepo_platform::Catch, context: &Context) -> Result<(), Failure> {
    let ended = catch.end(&|text| context.printer.progress(text)).await;
    context.printer.progress("");
    let name = catch.workload();
    context.printer.say(&match ended? {
        true => format!("{name} is as it was, and what was held is gone"),
        false => format!("no start of {name} is caught"),
    });
    Ok(())
}
