//! What is told of a fault, and how to enter: in the container's log, where whoever looks for the fault looks first.

use std::{fs, time::Duration};

use super::whereabouts::Whereabouts;
use crate::{init::Ended, program::Program, signal, tell};

/// How a program ended, in words.
pub(super) fn how(ended: Ended) -> String {
    match ended {
        Ended::Exited(0) => "ended well".to_owned(),
        Ended::Exited(status) => format!("failed with status {status}"),
        Ended::Killed { signal, core } => {
            format!("was ended by {}{}", signal::name(signal), if core { ", which left a core" } else { "" })
        }
    }
}

/// The program has ended and its container is kept.
pub(super) fn kept(program: &Program, ended: Ended, last: Option<i32>, limit: Option<Duration>) {
    let mut lines = vec![format!("{} {}", program.name().display(), how(ended))];
    lines.extend(last.map(|last| format!("the last signal that it was sent is {}", signal::name(last))));
    lines.extend(core(ended));
    let until = limit.map(|limit| format!(" for {} s", limit.as_secs())).unwrap_or_default();
    lines.push(format!("stayalive: the container is kept{until}. To enter it:"));
    let place = Whereabouts::find();
    lines.extend(place.enter().into_iter().map(|line| format!("  {line}")));
    let ours = place.ours();
    lines.push(format!(
        "inside, {ours} status tells, {ours} rerun starts it again, {ours} release ends the container"
    ));
    lines.extend(probe(&place));
    tell::line(lines.join("\n"));
}

/// The program is held at its first instruction.
pub(super) fn held(program: &Program, pid: i32, limit: Option<Duration>) {
    let place = Whereabouts::find();
    let until = limit.map(|limit| format!(" for {} s", limit.as_secs())).unwrap_or_default();
    let mut lines = vec![
        format!("wait: {} is held at its first instruction{until}, as PID {pid}", program.name().display()),
        format!("it goes on by {} release, by SIGCONT, or when a debugger lets it", place.ours()),
    ];
    lines.extend(place.attach().map(|line| format!("  {line}")));
    lines.extend(probe(&place));
    tell::line(lines.join("\n"));
}

/// Where a core is, as far as it can be known here.
fn core(ended: Ended) -> Option<String> {
    let Ended::Killed { core: true, .. } = ended else { return None };
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").ok()?;
    let pattern = pattern.trim();
    Some(match pattern.strip_prefix('|') {
        Some(handler) => format!("the core went to the machine's own handler: {handler}"),
        None if pattern.starts_with('/') => format!("the core is at {pattern}"),
        None => format!("the core is in the program's working folder: {pattern}"),
    })
}

/// A liveness probe ends what is held.
fn probe(place: &Whereabouts) -> Option<String> {
    let told = "a livenessProbe or startupProbe would end a held container: take them out of spec.containers[].livenessProbe \
                and .startupProbe";
    place.in_kubernetes().then(|| told.to_owned())
}
