//! `pepo completions`: what a shell needs to complete the command.

use clap::Args;
use clap_complete::Shell;

use crate::{arguments, config::Context, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo completions bash > ~/.local/share/bash-completion/completions/pepo
  pepo completions zsh > ~/.zfunc/_pepo
  pepo completions fish > ~/.config/fish/completions/pepo.fish";

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
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut arguments::command(), "pepo", &mut script);
    context.printer.bytes(&script)
}
