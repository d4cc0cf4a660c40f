//! What is told of a fault, and how to enter: in the container's log, where whoever looks for the fault looks first.

use std::time::Duration;

use super::{cores, whereabouts::Whereabouts};
use crate::{init::Ended, program::Program, signal, tell};

/// How a program ended, in words.
pub(super) fn how(ended: Ended) -> String {
    match ended {
        Ended::Exited(0) => "ended well".to_owned(),
        Ended::Exited(status) => format!("failed with status {status}"),
        Ended::Unprepared(status) => format!("was not started: fstree failed with status {status}"),
        Ended::Killed { signal, core } => {
            format!("was ended by {}{}", signal::name(signal), if core { ", which left a core" } else { "" })
        }
    }
}

/// The program, whose process was `pid`, has ended and its container is kept.
pub(super) fn kept(
    program: &Program,
    ended: Ended,
    pid: Option<i32>,
    last: Option<i32>,
    limit: Option<Duration>,
) {
    let mut lines = vec![format!("{} {}", program.title().display(), how(ended))];
    lines.extend(last.map(|last| format!("the last signal that it was sent is {}", signal::name(last))));
    if let (Ended::Killed { core: true, signal }, Some(pid)) = (ended, pid) {
        lines.extend(cores::told(pid, signal));
    }
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
        format!("wait: {} is held at its first instruction{until}, as PID {pid}", program.title().display()),
        format!("it goes on by {} release, by SIGCONT, or when a debugger lets it", place.ours()),
    ];
    lines.extend(place.attach().map(|line| format!("  {line}")));
    lines.extend(probe(&place));
    tell::line(lines.join("\n"));
}

/// A liveness probe ends what is held.
fn probe(place: &Whereabouts) -> Option<String> {
    let told = "a livenessProbe or startupProbe would end a held container: take them out of spec.containers[].livenessProbe \
                and .startupProbe";
    place.in_kubernetes().then(|| told.to_owned())
}
