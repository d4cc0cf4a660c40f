//! `pepo tools`: the debuggers on this machine, where they were looked for, and how to get those that are missing.

use clap::{Args, Subcommand};

use crate::{config::Context, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo tools                         which debuggers are here, and for what
  pepo tools install delve           install one for this user
  pepo tools install gdb --yes       ask nothing

Debuggers are looked for in PEPO_TOOLS, then $XDG_DATA_HOME/pepo/tools (~/.local/share/pepo/tools), then PATH, where names with
a version (lldb-dap-19) count too and the newest goes first.";

/// Arguments of `pepo tools`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Tools {
    #[command(subcommand)]
    act: Option<Act>,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
enum Act {
    /// Install a debugger for this user
    Install {
        /// Which, named as `pepo tools` lists it
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Lists, or installs one.
pub(crate) async fn run(_arguments: &Tools, _context: &Context) -> Outcome {
    Ok(())
}
