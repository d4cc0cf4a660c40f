//! `pepo ps`: what can be debugged, on all platforms that are found. Each has two seconds to answer; one that failed is
//! named on stderr while the others are shown.

/// Which rows are shown.
mod filter;
/// From what platforms and the agent say to rows.
mod rows;
/// The table, its footnotes, and the rows as data.
mod view;

use std::time::{Duration, Instant};

use clap::Args;
use futures::future::join_all;
use pepo_platform::{Listed, Platform};
use pepo_wire::{Code, Failure, agent::Process};

use self::filter::Filter;
use crate::{config::Context, reach, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo ps
  pepo ps shop                       rows whose name, image or command line fits the expression
  pepo ps --filter runtime=python --filter stop=yes
  pepo ps --all --output wide        also what has ended, and this machine's own processes
  pepo ps --on docker --output json

Every name in the first column works with every verb.";

/// How long a source may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of `pepo ps`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Ps {
    /// Only rows whose target, image or command line fits this regular expression
    #[arg(value_name = "REGEX")]
    pattern: Option<String>,
    /// Only rows with this: name=, image=, runtime=, user=, state=, look=, stop=; several must all fit
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Also containers that do not run, and processes outside of containers
    #[arg(short, long)]
    all: bool,
}

/// One source and what it said.
struct Answer {
    /// Where it is: `docker at unix:///run/docker.sock`.
    label: String,
    /// What it has.
    listed: Result<Vec<Listed>, Failure>,
}

impl Answer {
    /// Why it said nothing, with its name.
    fn failure(&self) -> Option<Failure> {
        let failure = self.listed.as_ref().err()?;
        Some(Failure { what: format!("{} did not answer: {}", self.label, failure.what), ..failure.clone() })
    }
}

/// Asks all sources at once and shows what they have.
pub(crate) async fn run(arguments: &Ps, context: &Context) -> Outcome {
    let filter = Filter::read(arguments.pattern.as_deref(), &arguments.filter)?;
    let start = Instant::now();
    let platforms = reach::platforms(context)?;
    let (answers, processes) =
        tokio::join!(join_all(platforms.iter().map(|platform| ask(platform.as_ref()))), processes(context));
    let answered = answers.iter().filter(|answer| answer.listed.is_ok()).count();
    let summary = view::Summary { answered, asked: answers.len(), took: start.elapsed() };
    let mut failures: Vec<_> = answers.iter().filter_map(Answer::failure).collect();
    if answered == 0 && !failures.is_empty() {
        return Err(failures.remove(0).into());
    }
    failures.iter().for_each(|failure| context.printer.warn(failure));
    let here = processes.unwrap_or_else(|failure| {
        context.printer.warn(&failure);
        Vec::new()
    });
    let listed = answers.into_iter().filter_map(|answer| answer.listed.ok()).flatten().collect();
    let mut rows = rows::rows(listed, &here, arguments.all);
    rows.retain(|row| filter.fits(row));
    view::show(&rows, &summary, context)
}

/// What a source has, within [`PATIENCE`].
async fn ask(platform: &dyn Platform) -> Answer {
    let label = format!("{} at {}", platform.kind().prefix(), platform.address());
    let late = |_| Failure::new(Code::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()));
    let listed = tokio::time::timeout(PATIENCE, platform.list()).await.map_err(late).and_then(|listed| listed);
    Answer { label, listed }
}

/// What the agent of this machine sees; nothing where there is none.
async fn processes(context: &Context) -> Result<Vec<Process>, Failure> {
    match reach::local(context).await {
        Ok(agent) => agent.list(None).await,
        Err(failure) if failure.code() == Code::NotReachable => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}
