//! `pepo dap`: the debug adapter protocol for an editor, on stdin and stdout or on a loopback address.

use std::net::SocketAddr;

use clap::Args;

use crate::{config::Context, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo dap                           on stdin and stdout, as editors start it
  pepo dap --listen 127.0.0.1:0      prints the address and the token for other users

What the editor's attach request may say: target, on, process, pid, debugger, sourceMap,
stopOnEntry, pauseBudget, guard, symbols; docs/editors.md shows configurations.";

/// Arguments of `pepo dap`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Dap {
    /// Listen here instead; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Serves one editor, or those that connect.
pub(crate) async fn run(_arguments: &Dap, _context: &Context) -> Outcome {
    Ok(())
}
