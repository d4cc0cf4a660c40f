//! `pepo top`: what a process is busy with, now, without stopping it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use futures::future::select_all;
use pepo_capture::{By, merge, rows};
use pepo_wire::{Failure, agent::StartLook};

use crate::{
    arguments::Rows,
    config::Context,
    duration,
    looking::{Looking, Scope, listen, unless_interrupted},
    many::{Failed, One, TargetsArgs},
    render::{Outcome, capture},
};

const EXAMPLES: &str = "\
Examples:
  pepo top docker/shop
  pepo top shop --by line
  pepo top deploy/shop --by process     all replicas
  pepo top shop --once --output json

It shows the last ten seconds and draws anew each second, until Ctrl-C.";

/// What is shown is not older than this.
const WINDOW: Duration = Duration::from_secs(10);
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

/// Looks and draws until nobody wants more, or all targets have ended.
pub(crate) async fn run(arguments: &Top, context: &Context) -> Outcome {
    let mut signals = listen()?;
    let mut targets = arguments.targets.find(context, &mut signals).await?;
    targets.all_at_once("what is shown is of the same time")?;
    let mut watched = targets.each(|one| begin(arguments, one, context)).await;
    let several = targets.several;
    let mut failed = targets.failed;
    let interval = arguments.interval.max(Duration::from_millis(100));
    let mut next = Instant::now() + interval;
    // Those that have ended are shown once more.
    let mut ended = Vec::new();
    while !watched.is_empty() {
        tokio::select! {
            end = any(&mut watched) => ended.extend(end.map(|(index, failure)| {
                let one = watched.swap_remove(index);
                if let Some(failure) = failure {
                    failed.add(one.name.clone(), failure);
                }
                one
            })),
            _ = signals.next() => return failed.outcome(),
        }
        if Instant::now() < next && !watched.is_empty() {
            continue;
        }
        next = Instant::now() + interval;
        draw(watched.iter_mut().chain(&mut ended), (several, &failed), arguments, context).await?;
        if arguments.once {
            break;
        }
    }
    watched.iter().for_each(|one| one.looking.stop());
    failed.outcome()
}

async fn begin(arguments: &Top, mut one: One, context: &Context) -> Result<Watched, Failure> {
    let reached = one.reach(context).await?;
    let request = StartLook { rate: arguments.rate, ..StartLook::default() };
    let beginning = Looking::begin(&reached, request, arguments.scope, &arguments.symbols, ("top", context));
    let looking = unless_interrupted(&mut one.signals, beginning).await?;
    Ok(Watched { name: one.name, looking })
}

/// Takes in what comes next of any; which has ended, and why when not by itself.
async fn any(watched: &mut [Watched]) -> Option<(usize, Option<Failure>)> {
    let all = watched.iter_mut().map(|one| Box::pin(one.looking.next()));
    match select_all(all).await {
        (Ok(true), ..) => None,
        (Ok(false), index, _) => Some((index, None)),
        (Err(failure), index, _) => Some((index, Some(failure))),
    }
}

async fn draw(
    watched: impl Iterator<Item = &mut Watched>,
    (several, failed): (bool, &Failed),
    arguments: &Top,
    context: &Context,
) -> Outcome {
    let window = u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX);
    let mut captures = Vec::new();
    for Watched { looking, .. } in watched {
        if arguments.once {
            looking.name().await;
        } else {
            looking.name_so_far().await;
        }
        let builder = looking.collector.builder();
        let until = builder.so_far().meta.duration_nanos;
        builder.forget_before(until.saturating_sub(window));
        captures.push(builder.so_far());
    }
    let capture = merge(captures.iter().copied());
    let printer = context.printer;
    let rows = rows(&capture, By::from(arguments.by));
    if printer.json_wanted() {
        let mut data = capture::json(&capture, &rows);
        if several {
            data["targets"] = captures.into_iter().map(capture::of_target).collect();
            data["failed"] = failed.json();
        }
        return if arguments.once { printer.json(&data) } else { printer.json_line(&data) };
    }
    let height = printer.height().filter(|_| !arguments.once);
    let most = height.map_or(ROWS, |height| height.saturating_sub(4).max(3));
    let lines = capture::lines(&capture, &rows, most, printer.paint);
    if height.is_some() { printer.screen(&lines) } else { printer.data(&lines.join("\n")) }
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
