//! `pepo release`: let go of a target now, whoever holds it, and repair what a dead debugger left.

use clap::Args;
use pepo_platform::Need;
use pepo_wire::agent::Released;
use serde_json::json;

use crate::{
    arguments::{ProcessArgs, choose},
    config::Context,
    reach,
    render::{End, Outcome, data, table::printable},
};

const EXAMPLES: &str = "\
Examples:
  pepo release docker/shop
  pepo release pid/4711
  pepo release --all";

/// Arguments of `pepo release`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Release {
    /// What to let go of, named as `pepo ps` prints it
    #[arg(value_name = "TARGET", required_unless_present_any = ["all", "host_pid", "labels"], conflicts_with = "all")]
    target: Option<String>,
    /// The process inside.
    #[command(flatten)]
    process: ProcessArgs,
    /// Everything that is held on this machine
    #[arg(long)]
    all: bool,
}

/// Lets go and tells what had to be repaired.
pub(crate) async fn run(arguments: &Release, context: &Context) -> Outcome {
    let released = if arguments.all {
        reach::local(context).await?.release(None).await?
    } else {
        let chosen = choose(arguments.target.as_deref(), &arguments.process)?;
        let reached = reach::reach(context, &chosen, Need::Stop).await?;
        let mut released = reached.agent.release(Some(reached.target.clone())).await?;
        for one in &mut released {
            one.failure = one.failure.take().map(|failure| reached.told_here(failure));
        }
        released
    };
    show(&released, arguments.all, context)?;
    match released.iter().filter_map(|one| one.failure.as_ref()).next() {
        None => Ok(()),
        Some(failure) => Err(End::Failed(Box::new(failure.clone()))),
    }
}

fn show(released: &[Released], all: bool, context: &Context) -> Outcome {
    let printer = context.printer;
    if printer.json_wanted() {
        return printer.json(&json!({ "released": released.iter().map(data::released).collect::<Vec<_>>() }));
    }
    if released.is_empty() {
        printer.say(if all { "nothing is held" } else { "nobody held it" });
    }
    for one in released.iter().filter(|one| one.failure.is_none()) {
        printer.data(&line(one))?;
    }
    // The first failure ends the verb; the others are told here.
    for failure in released.iter().filter_map(|one| one.failure.as_ref()).skip(1) {
        printer.warn(failure);
    }
    Ok(())
}

fn line(released: &Released) -> String {
    let repairs = if released.repairs.is_empty() {
        "nothing to repair".to_owned()
    } else {
        released.repairs.join(", ")
    };
    printable(&format!("released {}: {repairs}", released.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_told() {
        let released = Released {
            what: "session 1a on docker/shop".into(),
            repairs: vec!["resumed 3 threads".into(), "restored 1 text byte".into()],
            failure: None,
        };
        assert_eq!(
            line(&released),
            "released session 1a on docker/shop: resumed 3 threads, restored 1 text byte"
        );
    }
}
