//! `pepo top`: what a process is busy with, now, without stopping it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use pepo_capture::{By, rows};
use pepo_platform::Need;
use pepo_wire::agent::StartLook;

use crate::{
    arguments::{Rows, TargetArgs},
    config::Context,
    duration,
    looking::{Looking, Scope, listen, unless_interrupted},
    reach,
    render::{Outcome, capture},
};

const EXAMPLES: &str = "\
Examples:
  pepo top docker/shop
  pepo top shop --by line
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
    /// The target.
    #[command(flatten)]
    target: TargetArgs,
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
    /// Folder with split debug files on this machine; may be given several times
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// What is looked at.
    #[command(flatten)]
    scope: Scope,
}

/// Looks and draws until nobody wants more, or the process ends.
pub(crate) async fn run(arguments: &Top, context: &Context) -> Outcome {
    let chosen = arguments.target.chosen()?;
    let mut signals = listen()?;
    let reached = unless_interrupted(&mut signals, reach::reach(context, &chosen, Need::Look)).await?;
    let request = StartLook { rate: arguments.rate, ..StartLook::default() };
    let beginning = Looking::begin(&reached, request, arguments.scope, &arguments.symbols, "top");
    let mut looking = unless_interrupted(&mut signals, beginning).await?;
    let interval = arguments.interval.max(Duration::from_millis(100));
    let mut next = Instant::now() + interval;
    loop {
        let more = tokio::select! {
            more = looking.next() => more?,
            _ = signals.next() => return Ok(()),
        };
        if more && Instant::now() < next {
            continue;
        }
        next = Instant::now() + interval;
        draw(&mut looking, arguments, context).await?;
        if arguments.once || !more {
            looking.stop();
            return Ok(());
        }
    }
}

async fn draw(looking: &mut Looking, arguments: &Top, context: &Context) -> Outcome {
    looking.name().await;
    let until = looking.collector.builder().so_far().meta.duration_nanos;
    let window = u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX);
    looking.collector.builder().forget_before(until.saturating_sub(window));
    let printer = context.printer;
    let capture = looking.collector.builder().so_far();
    let rows = rows(capture, By::from(arguments.by));
    if printer.json_wanted() {
        let data = capture::json(capture, &rows);
        return if arguments.once { printer.json(&data) } else { printer.json_line(&data) };
    }
    let height = printer.height().filter(|_| !arguments.once);
    let most = height.map_or(ROWS, |height| height.saturating_sub(4).max(3));
    let lines = capture::lines(capture, &rows, most, printer.paint);
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
