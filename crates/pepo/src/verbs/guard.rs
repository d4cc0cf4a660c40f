//! `pepo guard` (hidden): the process between a debugger and its target, started by the agent.

use std::ffi::OsString;

use clap::Args;

use crate::render::Outcome;

/// Arguments of `pepo guard`; they are the guard's own.
#[derive(Args, Debug)]
pub(crate) struct Guard {
    /// What the agent says to its guard
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// Guards until the debugger ends.
pub(crate) fn run(_arguments: &Guard) -> Outcome {
    Ok(())
}
