//! `pepo eject`: what was injected into what makes pods, taken back; all that others changed since stays.

use clap::Args;

use crate::{
    config::Context,
    render::Outcome,
    verbs::change::{self, Change},
};

const EXAMPLES: &str = "\
Examples:
  pepo eject deploy/shop
  pepo eject deploy/shop --dry-run server    what would come of it";

/// Arguments of `pepo eject`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Eject {
    /// What makes the pods, as it was injected: deploy/NAME, sts/NAME or ds/NAME
    workload: String,
    #[command(flatten)]
    change: Change,
}

/// Takes it back.
pub(crate) async fn run(arguments: &Eject, context: &Context) -> Outcome {
    change::eject(&arguments.workload, &arguments.change, context).await
}
