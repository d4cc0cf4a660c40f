//! `pepo attach --copy`: the same on a copy of the pod, which is made for it and goes with it.

use std::time::Duration;

use pepo_dap::source_map::Rule;
use pepo_platform::{COPY_LIVES, Need, PodCopy};
use pepo_wire::{Code, Failure};

use super::Attach;
use crate::{
    arguments::{Chosen, PodArgs},
    config::Context,
    looking::{unless_ended, unless_interrupted},
    reach::{self, Question},
    render::{Outcome, no_runtime, shell},
    signals::Signals,
    verbs::inject::{self, EntryArgs},
};

/// Copies, attaches, removes.
pub(super) async fn run(arguments: &Attach, chosen: &Chosen, rules: Vec<Rule>, context: &Context) -> Outcome {
    // From here on a signal does not end the command: the copy is removed first.
    let mut signals = Signals::listen().map_err(no_runtime)?;
    let copy = unless_ended(&mut signals, super::untouched, agreed(chosen, context)).await?;
    let is_held = made(&copy, &arguments.entry, chosen, context).await?;
    let progress = |text: &str| context.printer.progress(text);
    let there = unless_interrupted(&mut signals, copy.come_up(is_held, &progress)).await;
    progress("");
    let outcome = match there {
        Ok(()) => {
            let mut talk = arguments.talk.clone();
            // Nobody waits for it, and nothing ends it.
            talk.session.pause_budget.get_or_insert(Duration::ZERO);
            let pod = PodArgs { container: None, labels: None, ..chosen.pod.clone() };
            let copied = Chosen { name: copy.name(), pod, ..chosen.clone() };
            let reaching = reach::reach(context, &copied, Need::Stop);
            super::talk(&talk, rules, signals, reaching, context).await
        }
        Err(failure) => Err(failure.into()),
    };
    // The stream to the pod's helper ends before the pod does.
    context.local.finish().await;
    let removed = copy.remove().await;
    if removed.is_ok() {
        context.printer.say("the copy is gone");
    }
    let by_hand = by_hand(&copy).await?;
    context
        .printer
        .undone(outcome, removed.map_err(|failure| failure.try_command("remove the copy", by_hand)))
}

/// The pod, once a copy of it may be made.
async fn agreed(chosen: &Chosen, context: &Context) -> Result<PodCopy, Failure> {
    let copy = reach::copy(context, chosen).await?;
    let name = format!("pod/{}/{}", copy.of(), copy.container());
    let question = Question {
        name: &name,
        done: "copied",
        doing: "make a copy of it",
        needs: "one more pod needs",
        line: &["pepo", "attach", &name, "--copy"],
    };
    reach::agree(context, copy.production().await?.as_deref(), &question, true).await?;
    Ok(copy)
}

/// The command that removes it, without this one.
async fn by_hand(copy: &PodCopy) -> Result<Vec<String>, Failure> {
    let (name, namespace) = (copy.name(), copy.namespace().await?);
    Ok(["kubectl", "delete", "pod", "-n", namespace, name.parts().0].map(str::to_owned).into())
}

/// Makes it, by the entry where the container's program can be known. Will it be held?
async fn made(
    copy: &PodCopy,
    entry: &EntryArgs,
    chosen: &Chosen,
    context: &Context,
) -> Result<bool, Failure> {
    let line = ["pepo", "attach", &chosen.name.to_string(), "--copy"].map(str::to_owned).into();
    let wish = entry.wish(copy.container(), chosen.pod.image.as_deref(), line, context)?;
    let mut is_held = true;
    let mut injecting = |text: &str| match inject::injected(&wish, text, context) {
        Err(failure) if entry.entrypoint.is_none() && failure.code() == Code::Usage => {
            is_held = false;
            let note = format!("it is not held at its start: {}", failure.what);
            Ok(pepo_platform::Injected { text: text.to_owned(), notes: vec![note] })
        }
        injected => injected,
    };
    let notes = copy.make(&mut injecting).await?;
    let name = copy.name();
    let (pod, by_hand) = (name.parts().0, shell::command(&by_hand(copy).await?));
    let hours = COPY_LIVES.as_secs() / 3600;
    context.printer.say(&format!(
        "pod/{pod} is a copy of pod/{}, without health checks, and no Service selects it; it is removed at the end. If this command is \
         killed, it ends after {hours} hours, and `{by_hand}` removes it",
        copy.of()
    ));
    copy.notes.iter().chain(&notes).for_each(|note| context.printer.say(note));
    Ok(is_held)
}
