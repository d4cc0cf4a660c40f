//! `pepo ps`: what can be debugged, on all platforms that are found. Each has ten seconds to answer; one that failed is
//! named on stderr while the others are shown.

/// Which rows are shown.
mod filter;
/// From what platforms and the agent say to rows.
mod rows;
/// The table, its footnotes, and the rows as data.
mod view;

use clap::Args;
use pepo_platform::Need;
use pepo_wire::{Code, Failure, agent::Process};

use self::filter::Filter;
use crate::{arguments::PodArgs, config::Context, reach, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo ps
  pepo ps shop                       rows whose name, image or command line fits the expression
  pepo ps --filter runtime=python --filter stop=yes
  pepo ps --all --output wide        also what has ended, and this machine's own processes
  pepo ps --on docker --output json
  pepo ps --on kubernetes            pods of the current context's namespace
  pepo ps -n shop -l app=cart        pods of another one, beside what is here

Every name in the first column works with every verb.";

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
    /// Also the pods with these labels, as in app=shop
    #[arg(short = 'l', long = "selector", value_name = "LABELS")]
    labels: Option<String>,
}

/// Asks all sources at once and shows what they have.
pub(crate) async fn run(arguments: &Ps, context: &Context) -> Outcome {
    let filter = Filter::read(arguments.pattern.as_deref(), &arguments.filter)?;
    let pods = PodArgs { labels: arguments.labels.clone(), ..PodArgs::default() };
    let platforms = reach::platforms(context, reach::usual(context), Need::Look, &pods);
    let waits = |name: &str| context.printer.say(&format!("{name} has not answered yet; waiting for it"));
    let (listing, here) = tokio::join!(platforms.list_telling(&waits), processes(context));
    let summary = view::Summary {
        answered: listing.asked - listing.failed.len(),
        asked: listing.asked,
        took: listing.took,
    };
    let mut failures: Vec<_> = listing.failed.into_iter().map(named).collect();
    if summary.answered == 0 && !failures.is_empty() {
        return Err(failures.remove(0).into());
    }
    failures.iter().for_each(|failure| context.printer.warn(failure));
    let here = here.unwrap_or_else(|failure| {
        context.printer.warn(&failure);
        Vec::new()
    });
    let mut rows = rows::rows(listing.listed, &here, arguments.all);
    rows.retain(|row| filter.fits(row));
    view::show(&rows, &summary, context)
}

/// A source's failure with its name, when it does not tell it already.
fn named((source, failure): (String, Failure)) -> Failure {
    let kind = source.split(' ').next().unwrap_or(&source);
    match failure.what.contains(kind) {
        true => failure,
        false => Failure { what: format!("{source} did not answer: {}", failure.what), ..failure },
    }
}

/// What the agent of this machine sees; nothing where there is none.
async fn processes(context: &Context) -> Result<Vec<Process>, Failure> {
    match reach::local(context).await {
        Ok(agent) => agent.list(None).await,
        Err(failure) if failure.code() == Code::NotReachable => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}
