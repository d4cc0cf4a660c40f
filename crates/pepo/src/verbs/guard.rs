//! `pepo guard` (hidden): the process between a debugger and its target, started by the agent. It forks, so it runs before anything
//! else is begun, and its arguments are its own.

use std::{ffi::OsString, process::ExitCode};

/// Is this the guard? Then guards until the debugger ends.
#[cfg(target_os = "linux")]
pub(crate) fn asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    (arguments.nth(1)? == "guard").then(|| pepo_debug::guard::main(arguments))
}

/// There is nothing to guard.
#[cfg(not(target_os = "linux"))]
pub(crate) fn asked(_arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    None
}
