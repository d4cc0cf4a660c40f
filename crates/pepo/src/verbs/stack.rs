//! `pepo stack`: where every thread of a process is now. Looking does not stop the target.

/// The goroutines of a program of Go.
mod goroutines;
/// Lines for people.
mod text;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use pepo_wire::{
    Code, Failure,
    agent::{Frame, Process, ProcessTarget, StackRequest, StackResponse, Target, target::Kind},
};
use serde_json::{Value, json};

use self::text::text;
use crate::{
    config::Context,
    looking::{listen, unless_interrupted},
    many::{One, Targets, TargetsArgs},
    names::Files,
    reach::{self, Reached},
    render::{Outcome, data},
    signals::Signals,
};

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  pepo stack docker/shop
  pepo stack docker/shop --thread 9
  pepo stack shop --process 'worker: .*'
  pepo stack shop --locals
  pepo stack shop --all
  pepo stack shop --watch
  pepo stack deploy/shop -n prod         all replicas, 16 at a time
  pepo stack pid/4711 --output json";

/// Arguments of `pepo stack`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Stack {
    /// The targets.
    #[command(flatten)]
    targets: TargetsArgs,
    /// Only the thread with this number, as seen in the container
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    thread: Option<u32>,
    /// All processes of the container, one after the other
    #[arg(long, conflicts_with_all = ["thread", "process", "pid", "host_pid"])]
    all: bool,
    /// Again each second, until Ctrl-C or the end of the process
    #[arg(long)]
    watch: bool,
    /// Python, JVM: also the native frames, in one stack with the program's own; Go: also the runtime's own goroutines and frames, and
    /// the threads; threads that run are held for a moment each
    #[arg(long)]
    native: bool,
    /// Python: also the variables of each frame; what looks secret is hidden
    #[arg(long)]
    locals: bool,
    /// JVM: also who holds locks of java.util.concurrent; for this the JVM goes through its heap while its threads stand still
    #[arg(long)]
    locks: bool,
    /// Folder on this machine with debug files, or with programs as they were before they were stripped; may be given several times
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
}

/// The stacks of a target.
struct Seen {
    target: String,
    stacks: Vec<StackResponse>,
}

/// Takes the stacks and shows them, once or until nobody wants more.
pub(crate) async fn run(arguments: &Stack, context: &Context) -> Outcome {
    let mut signals = listen()?;
    let mut targets = arguments.targets.find(context, &mut signals).await?;
    let mut is_first = true;
    loop {
        let answers = targets.each(|one| seen(arguments, one, context)).await;
        let mut all = Vec::new();
        for (one, answer) in answers {
            match answer {
                Ok(stacks) => {
                    all.push(Seen { target: one.name.clone(), stacks });
                    targets.all.push(one);
                }
                // What is watched ends by Ctrl-C, or by itself.
                Err(failure) if !is_first && failure.code() == Code::Interrupted => return Ok(()),
                Err(failure) if !is_first && is_end(&failure) => {
                    context.printer.say(&format!("{}: the process has ended", one.name));
                }
                Err(failure) => targets.failed.add(one.name, failure),
            }
        }
        if !all.is_empty() {
            show(arguments, &all, &targets, context)?;
        }
        if !arguments.watch || targets.all.is_empty() || !again(&mut signals).await {
            return targets.failed.outcome();
        }
        is_first = false;
    }
}

/// The stacks of one target now. The way to it is kept for the next turn, where there may be one.
async fn seen(
    arguments: &Stack,
    mut one: One,
    context: &Context,
) -> Result<(One, Result<Vec<StackResponse>, Failure>), Failure> {
    let (reached, mut files) = match one.way.take() {
        Some(way) => way,
        None => {
            let reached = one.reach(context).await?;
            let files = Files::new(&reached, &arguments.symbols, context)?;
            (reached, files)
        }
    };
    let looking = look(arguments, &reached, &mut files, context);
    let stacks = unless_interrupted(&mut one.signals, looking).await;
    one.way = arguments.watch.then_some((reached, files));
    Ok((one, stacks))
}

/// Waits for the next turn; false when no more is wanted.
async fn again(signals: &mut Signals) -> bool {
    tokio::select! {
        () = tokio::time::sleep(EVERY) => true,
        _ = signals.next() => false,
    }
}

fn is_end(failure: &Failure) -> bool {
    matches!(failure.code(), Code::ProcessGone | Code::ProcessNotFound | Code::NotRunning)
}

/// The stacks of the process, or of all of them. Of several those that can be read are shown, and the others told.
async fn look(
    arguments: &Stack,
    reached: &Reached,
    files: &mut Files,
    context: &Context,
) -> Result<Vec<StackResponse>, Failure> {
    let request = StackRequest {
        target: Some(reached.target.clone()),
        thread: arguments.thread.unwrap_or(0),
        native: arguments.native,
        locals: arguments.locals,
        locks: arguments.locks,
    };
    let mut stacks = Vec::new();
    if arguments.all {
        let processes = reached.agent.list(Some(reached.target.clone())).await?;
        let mut refused = None;
        for process in processes.iter().filter(|process| process.state != "Z") {
            let request = StackRequest { target: Some(of(process)), ..request.clone() };
            match reached.agent.stack(request).await {
                Ok(stack) => stacks.push(stack),
                Err(failure) if is_end(&failure) => {}
                Err(failure) => {
                    context.printer.warn(&failure);
                    refused = Some(failure);
                }
            }
        }
        if let Some(failure) = refused.filter(|_| stacks.is_empty()) {
            return Err(reach::explained(failure, reached, "stack").await);
        }
    } else {
        match reached.agent.stack(request).await {
            Ok(stack) => stacks.push(stack),
            Err(failure) => return Err(reach::explained(failure, reached, "stack").await),
        }
    }
    for stack in &mut stacks {
        name(stack, files, context).await;
    }
    Ok(stacks)
}

/// This very process, as the agent numbers it.
fn of(process: &Process) -> Target {
    let process =
        ProcessTarget { agent_pid: process.agent_pid, start_time: process.start_time, pid_namespace: 0 };
    Target { kind: Some(Kind::Process(process)), selector: None }
}

fn show(arguments: &Stack, seen: &[Seen], targets: &Targets, context: &Context) -> Outcome {
    let printer = context.printer;
    if printer.json_wanted() {
        let mut values: Vec<_> = seen.iter().map(|one| json(arguments, one)).collect();
        let value = match values.pop() {
            Some(only) if !targets.several => only,
            last => {
                values.extend(last);
                json!({ "targets": values, "failed": targets.failed.json() })
            }
        };
        return if arguments.watch { printer.json_line(&value) } else { printer.json(&value) };
    }
    let mut lines = Vec::new();
    for Seen { target, stacks } in seen {
        for stack in stacks {
            lines.extend(text(target, stack, arguments.native, printer.paint));
            lines.extend((arguments.all || arguments.watch || targets.several).then(String::new));
        }
    }
    let Some(height) = printer.height().filter(|_| arguments.watch) else {
        let text = lines.join("\n");
        return printer.data(if arguments.watch { &text } else { text.trim_end() });
    };
    if lines.len() >= height {
        let hidden = lines.len() + 2 - height;
        lines.truncate(height.saturating_sub(2));
        lines.push(format!("… {hidden} lines more: in a pipe all are shown"));
    }
    printer.screen(&lines)
}

/// The stacks of one target as data.
fn json(arguments: &Stack, Seen { target, stacks }: &Seen) -> Value {
    let mut all: Vec<_> = stacks.iter().map(|stack| data::stack(target, stack)).collect();
    match all.pop() {
        Some(only) if !arguments.all => only,
        last => {
            all.extend(last);
            json!({ "target": target, "stacks": all })
        }
    }
}

/// Names all frames that are native code, with file and line.
async fn name(stack: &mut StackResponse, files: &mut Files, context: &Context) {
    context.printer.progress("looking up names");
    // Where a goroutine began and was started is one frame each.
    let mut single: Vec<Vec<Frame>> = Vec::new();
    for one in &mut stack.goroutine_stacks {
        single.push(one.entry.take().into_iter().collect());
        single.push(one.created_at.take().into_iter().collect());
    }
    let of_threads = stack.threads.iter_mut().map(|thread| &mut thread.frames);
    let of_goroutines = stack.goroutine_stacks.iter_mut().map(|one| &mut one.frames);
    let notes = files.name(of_threads.chain(of_goroutines).chain(&mut single)).await;
    stack.notes.extend(notes);
    // Of functions compiled into each other the outermost is the one that was meant.
    let mut single = single.into_iter().map(|mut frames| frames.pop());
    for one in &mut stack.goroutine_stacks {
        one.entry = single.next().flatten();
        one.created_at = single.next().flatten();
    }
    context.printer.progress("");
}
