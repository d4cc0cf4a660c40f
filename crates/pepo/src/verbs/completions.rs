//! `pepo completions`: what a shell needs to complete the command.
//!
//! The scripts of bash, zsh and fish are short: they hand the words to `pepo __complete`, which knows what there is at the moment.
//! Others know verbs and flags alone.

use clap::Args;
use clap_complete::Shell;

use crate::{arguments, config::Context, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo completions bash > ~/.local/share/bash-completion/completions/pepo
  pepo completions zsh > ~/.zfunc/_pepo
  pepo completions fish > ~/.config/fish/completions/pepo.fish

In bash, zsh and fish targets, containers, namespaces, contexts and processes are completed too, as
far as they answer within a second. A cluster is asked when what is typed names it, as in pod/.";

/// Arguments of `pepo completions`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Completions, context: &Context) -> Outcome {
    match arguments.shell {
        Shell::Bash => context.printer.bytes(include_bytes!("completions/pepo.bash")),
        Shell::Zsh => context.printer.bytes(include_bytes!("completions/pepo.zsh")),
        Shell::Fish => context.printer.bytes(include_bytes!("completions/pepo.fish")),
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, &mut arguments::command(), "pepo", &mut script);
            context.printer.bytes(&script)
        }
    }
}
