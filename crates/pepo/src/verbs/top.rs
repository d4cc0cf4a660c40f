//! `pepo top`: what a process is busy with, now, without stopping it.

/// What the live table shows.
mod view;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use futures::future::select_all;
use pepo_capture::{By, Capture, merge, rows};
use pepo_wire::{Failure, agent::StartLook};
use serde_json::Value;

use self::view::{View, Wish};

use crate::{
    arguments::Rows,
    config::Context,
    duration,
    looking::{Looking, Scope, listen, unless_interrupted},
    many::{Failed, One, TargetsArgs},
    render::{
        Outcome, capture,
        screen::{Input, Screen},
    },
    signals::Signals,
};

const EXAMPLES: &str = "\
Examples:
  pepo top docker/shop
  pepo top shop --by line
  pepo top deploy/shop --by process     all replicas
  pepo top shop --once --output json

It shows the last ten seconds and draws anew each second, until q or Ctrl-C. Keys of the live table:
1 to 4 and Tab (by function, line, thread, process), s (sort), / (filter), p (hold), ? (help).";

/// What is shown is not older than this.
const WINDOW: Duration = Duration::from_secs(10);
/// Tables do not follow each other faster.
const SHORTEST: Duration = Duration::from_millis(100);
/// Rows without a screen.
const ROWS: usize = 20;

/// Arguments of `pepo top`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Top {
    /// The targets.
    #[command(flatten)]
    targets: TargetsArgs,
    /// What rows stand for
    #[arg(long, value_enum, default_value_t = Rows::Function, value_name = "WHAT")]
    by: Rows,
    /// Samples a second: of each thread's CPU time; of Python, of all threads that run
    #[arg(short, long, value_name = "HZ", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How long to look before the table is drawn (anew)
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration::parse_seconds)]
    interval: Duration,
    /// One table, then the end
    #[arg(long)]
    once: bool,
    /// Folder on this machine with debug files, or with programs as they were before they were stripped; may be given several times
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// What is looked at.
    #[command(flatten)]
    scope: Scope,
}

/// A target that is looked at.
struct Watched {
    name: String,
    looking: Looking,
}

/// All that is looked at.
struct Looks {
    watched: Vec<Watched>,
    /// Those that have ended are shown on.
    ended: Vec<Watched>,
    several: bool,
}

/// Looks and draws until nobody wants more, or all targets have ended.
pub(crate) async fn run(arguments: &Top, context: &Context) -> Outcome {
    let mut signals = listen()?;
    let mut targets = arguments.targets.find(context, &mut signals).await?;
    targets.all_at_once("what is shown is of the same time")?;
    let watched = targets.each(|one| begin(arguments, one, context)).await;
    let mut looks = Looks { watched, ended: Vec::new(), several: targets.several };
    let mut failed = targets.failed;
    let is_live = !arguments.once && !context.printer.json_wanted() && !looks.watched.is_empty();
    let screen = if is_live { Screen::take()? } else { None };
    let outcome = match screen {
        Some(screen) => {
            let failures = live(screen, &mut looks, &mut signals, arguments, context).await?;
            failures.into_iter().for_each(|(name, failure)| failed.add(name, failure));
            // What was known last is not lost with the screen.
            if looks.watched.is_empty() {
                draw(&mut looks, &failed, arguments, context).await
            } else {
                Ok(())
            }
        }
        None => drawn(&mut looks, &mut failed, &mut signals, arguments, context).await,
    };
    looks.watched.iter().for_each(|one| one.looking.stop());
    outcome?;
    failed.outcome()
}

/// The live table, until the user or a signal ends it, or all targets have ended. What failed is told after the screen is left.
async fn live(
    mut screen: Screen,
    looks: &mut Looks,
    signals: &mut Signals,
    arguments: &Top,
    context: &Context,
) -> Outcome<Vec<(String, Failure)>> {
    let mut view = View::new(By::from(arguments.by));
    let mut tick = tokio::time::interval(arguments.interval.max(SHORTEST));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut capture = Capture::default();
    let mut failures: Vec<(String, Failure)> = Vec::new();
    while !looks.watched.is_empty() {
        tokio::select! {
            end = looks.next() => {
                failures.extend(end);
                continue;
            }
            input = screen.next() => match input {
                Some(Input::Key(key)) if view.press(key) == Wish::End => break,
                Some(_) => {}
                None => break,
            },
            _ = signals.next() => break,
            _ = tick.tick() => {
                looks.name(false).await;
                if !view.is_held() {
                    capture = looks.capture().0;
                }
            }
        }
        let said: Vec<String> = failures.iter().map(|(name, failure)| format!("{name}: {failure}")).collect();
        let said: Vec<String> = said.into_iter().chain(fetching(context)).collect();
        screen.show(view.lines(&capture, &said, Screen::size(), context.printer.paint))?;
    }
    Ok(failures)
}

/// What names are waited for.
fn fetching(context: &Context) -> Option<String> {
    context.debuginfod.as_ref()?.under_way()
}

/// Tables one after the other, for whoever has no keys.
async fn drawn(
    looks: &mut Looks,
    failed: &mut Failed,
    signals: &mut Signals,
    arguments: &Top,
    context: &Context,
) -> Outcome {
    let interval = arguments.interval.max(SHORTEST);
    let mut next = Instant::now() + interval;
    while !looks.watched.is_empty() {
        tokio::select! {
            end = looks.next() => end.into_iter().for_each(|(name, failure)| failed.add(name, failure)),
            _ = signals.next() => return Ok(()),
        }
        if Instant::now() < next && !looks.watched.is_empty() {
            continue;
        }
        next = Instant::now() + interval;
        tokio::select! {
            drawn = draw(looks, failed, arguments, context) => drawn?,
            _ = signals.next() => return Ok(()),
        }
        if arguments.once {
            break;
        }
    }
    Ok(())
}

async fn begin(arguments: &Top, mut one: One, context: &Context) -> Result<Watched, Failure> {
    let reached = one.reach(context).await?;
    let request = StartLook { rate: arguments.rate, ..StartLook::default() };
    let beginning = Looking::begin(&reached, request, arguments.scope, &arguments.symbols, ("top", context));
    let looking = unless_interrupted(&mut one.signals, beginning).await?;
    Ok(Watched { name: one.name, looking })
}

impl Looks {
    /// Takes in what comes next of any; what has ended otherwise than by itself, and why.
    async fn next(&mut self) -> Option<(String, Failure)> {
        let all = self.watched.iter_mut().map(|one| Box::pin(one.looking.next()));
        let (index, failure) = match select_all(all).await {
            (Ok(true), ..) => return None,
            (Ok(false), index, _) => (index, None),
            (Err(failure), index, _) => (index, Some(failure)),
        };
        let one = self.watched.swap_remove(index);
        let name = one.name.clone();
        self.ended.push(one);
        failure.map(|failure| (name, failure))
    }

    /// Looks up names: all, or those that are not waited for.
    async fn name(&mut self, all: bool) {
        let window = u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX);
        for Watched { looking, .. } in self.watched.iter_mut().chain(&mut self.ended) {
            match all {
                true => looking.name().await,
                false => looking.name_so_far().await,
            }
            let builder = looking.collector.builder();
            let until = builder.so_far().meta.duration_nanos;
            builder.forget_before(until.saturating_sub(window));
        }
    }

    /// All targets in one capture, and each as data.
    fn capture(&mut self) -> (Capture, Vec<Value>) {
        let all = self.watched.iter_mut().chain(&mut self.ended);
        let captures: Vec<&Capture> = all.map(|one| one.looking.collector.builder().so_far()).collect();
        (merge(captures.iter().copied()), captures.into_iter().map(capture::of_target).collect())
    }
}

async fn draw(looks: &mut Looks, failed: &Failed, arguments: &Top, context: &Context) -> Outcome {
    looks.name(arguments.once || looks.watched.is_empty()).await;
    let (capture, targets) = looks.capture();
    let printer = context.printer;
    let rows = rows(&capture, By::from(arguments.by));
    if printer.json_wanted() {
        let mut data = capture::json(&capture, &rows);
        if looks.several {
            data["targets"] = targets.into();
            data["failed"] = failed.json();
        }
        return if arguments.once { printer.json(&data) } else { printer.json_line(&data) };
    }
    printer.data(&capture::lines(&capture, &rows, ROWS, printer.paint).join("\n"))
}

impl From<Rows> for By {
    fn from(rows: Rows) -> By {
        match rows {
            Rows::Function => By::Function,
            Rows::Line => By::Line,
            Rows::Thread => By::Thread,
            Rows::Process => By::Process,
        }
    }
}
