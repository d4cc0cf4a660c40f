//! `pepo attach`: a debugger in this terminal, the same words for every language.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{arguments::TargetArgs, config::Context, duration, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo attach docker/shop
  pepo attach docker/shop -ex 'break main.go:42' -ex continue -ex bt -ex detach
  pepo attach shop --process 'worker: .*' --pause-budget 10s
  pepo attach cri/cart --symbols ./build --source-map /src=.
  pepo attach pid/4711 -ex 'break serve' -ex continue -ex locals --output json

In it, `help` lists the words. Ctrl-C pauses the target, `detach` or Ctrl-D lets go. With -ex the target is let go after the last
command. The target never stands still for longer than the pause budget: then all breakpoints are cleared and it runs.";

/// Arguments of `pepo attach`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Attach {
    /// The target.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What a session is opened with.
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// Run this command and, after the last, let go; may be repeated; also spelled -ex, as in gdb
    #[arg(long = "ex", value_name = "COMMAND", allow_hyphen_values = true)]
    pub(crate) commands: Vec<String>,
    /// With -ex: the longest a command may wait for the target to stop
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
}

/// What a session is opened with, in `attach` and in `dap` alike.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SessionArgs {
    /// This debugger, not the one that fits the process best
    #[arg(long, value_name = "NAME")]
    pub(crate) debugger: Option<String>,
    /// The longest the target may stand still within a minute, as in 30s; 0 is unlimited; without it, what the container's health check allows, else 60s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) pause_budget: Option<Duration>,
    /// Protect the target from the debugger's death; without it, as measured best for the debugger
    #[arg(long, value_enum, value_name = "WHETHER")]
    pub(crate) guard: Option<OnOff>,
    /// Allow the debugger's own command language
    #[arg(long)]
    pub(crate) raw: bool,
    /// Folder with split debug files; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) symbols: Vec<PathBuf>,
    /// A folder in the target's debug information is this folder here; may be repeated; without it, found by comparing names
    #[arg(long, value_name = "REMOTE=LOCAL")]
    pub(crate) source_map: Vec<String>,
    /// Stop the target as soon as the debugger is there
    #[arg(long)]
    pub(crate) stop_on_entry: bool,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    /// Yes
    On,
    /// No
    Off,
}

/// Attaches, then runs the commands or asks for them.
pub(crate) async fn run(_arguments: &Attach, _context: &Context) -> Outcome {
    Ok(())
}
