//! A change of what makes pods, made or only told: what `pepo inject` and `pepo eject` share.

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use pepo_platform::{Apply, Changed, Injected, Workload};
use pepo_wire::{Failure, name::TargetName};
use serde_json::json;

use crate::{
    arguments::{Output, To},
    config::Context,
    reach::{self, Question},
    render::{Outcome, shell, yaml},
};

/// How a change is made.
#[derive(Args, Debug)]
pub(crate) struct Change {
    /// Change nothing, and print as YAML what would come of it: as this command has it, or as the API server would
    #[arg(long, value_enum, value_name = "WHO")]
    dry_run: Option<Who>,
    /// Do not wait until all pods are new
    #[arg(long)]
    no_wait: bool,
    /// Shape of what is printed; of a dry run, text is YAML
    #[arg(id = "output", short = 'o', long = "output", value_name = "SHAPE", default_value = "text")]
    #[arg(value_parser = PossibleValuesParser::new(["text", "yaml", "wide", "json"]).map(shape))]
    to: To,
}

/// For kubectl's users, text has a second name here.
fn shape(word: String) -> To {
    To::Shape(Output::from_str(&word, false).unwrap_or(Output::Text))
}

/// Who says what would come of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    // This command.
    Client,
    // The API server.
    Server,
}

impl Change {
    /// Whether anything was said of how.
    pub(crate) fn is_said(&self) -> bool {
        self.dry_run.is_some() || self.no_wait
    }

    fn apply(&self) -> Apply {
        match self.dry_run {
            None => Apply::Really,
            Some(Who::Client) => Apply::ClientDry,
            Some(Who::Server) => Apply::ServerDry,
        }
    }
}

/// Injects what makes pods.
///
/// # Errors
/// As [`Workload::inject`] and [`Workload::roll_out`].
pub(crate) async fn inject(
    (name, line): (&str, &[&str]),
    change: &Change,
    injecting: &mut (dyn FnMut(&str) -> Result<Injected, Failure> + Send),
    context: &Context,
) -> Outcome {
    let workload = agreed(name, line, change, context).await?;
    let changed = workload.inject(change.apply(), injecting).await?;
    tell(name, &workload, change, &changed, context, Told { done: "injected", back: true }).await
}

/// Takes back what was injected.
///
/// # Errors
/// As [`Workload::eject`] and [`Workload::roll_out`].
pub(crate) async fn eject(name: &str, change: &Change, context: &Context) -> Outcome {
    let workload = agreed(name, &["pepo", "eject", name], change, context).await?;
    let changed = workload.eject(change.apply()).await?;
    tell(name, &workload, change, &changed, context, Told { done: "ejected", back: false }).await
}

/// The workload, once it may be changed: its pods are made anew.
async fn agreed(name: &str, line: &[&str], change: &Change, context: &Context) -> Result<Workload, Failure> {
    let workload = reach::workload(context, name.parse::<TargetName>()?)?;
    if change.dry_run.is_none() {
        let question =
            Question { name, done: "changed", doing: "make its pods anew", needs: "a roll-out needs", line };
        reach::agree(context, workload.production().await?.as_deref(), &question, true).await?;
    }
    Ok(workload)
}

/// What was done, in words.
struct Told {
    done: &'static str,
    /// Whether it can be taken back.
    back: bool,
}

async fn tell(
    name: &str,
    workload: &Workload,
    change: &Change,
    changed: &Changed,
    context: &Context,
    told: Told,
) -> Outcome {
    let printer = context.printer;
    changed.notes.iter().for_each(|note| printer.say(note));
    if change.dry_run.is_some() {
        return match change.to == To::Shape(Output::Json) {
            true => printer.json(&json!({"object": changed.object, "notes": changed.notes})),
            false => printer.bytes(yaml::text(&changed.object).as_bytes()),
        };
    }
    let Told { done, back } = told;
    if !changed.was_changed {
        printer.say(&format!("{name} has nothing of Pepo's in it"));
    } else if back {
        let eject = reach::in_this_cluster(context, None, &["pepo", "eject", name]);
        printer.say(&format!("{name} is {done}; `{}` takes it back", shell::command(&eject)));
    } else {
        printer.say(&format!("{name} is {done}: it is as it was"));
    }
    let mut left = None;
    if changed.was_changed && !change.no_wait {
        left = workload.roll_out(&|text| printer.progress(text)).await?;
        printer.progress("");
        printer.say(left.unwrap_or("all pods are new"));
    }
    if printer.json_wanted() {
        let waited = changed.was_changed && !change.no_wait && left.is_none();
        return printer.json(&json!({
            "workload": name, "changed": changed.was_changed, "rolled_out": waited, "notes": changed.notes,
        }));
    }
    Ok(())
}
