//! How a target is after something went wrong: whether it runs, or is held as it was. Looked at when it is told, never assumed.

use pepo_process::{Process, held};
use pepo_wire::Failure;

/// A debugger could not be put in place: what was held at its start may still be. The target is `called` so by the user.
pub(super) fn of_attach(failure: Failure, process: &Process, called: &str) -> Failure {
    let told = failure.hints.iter().any(|hint| hint.command.get(1).is_some_and(|verb| verb == "release"));
    if told || !held::at_first_instruction(process) {
        return failure;
    }
    failure.try_command(
        "the program is still held at its first instruction; to let it go",
        ["pepo".to_owned(), "release".to_owned(), called.to_owned()],
    )
}

/// A session broke, and its target, which was `held` at its start until then or not, was let go.
pub(super) fn of_session(failure: Failure, process: &Process, held: bool) -> Failure {
    let Some(status) = process.status().ok().filter(|_| process.alive()) else { return failure };
    match (status.tracer, status.state.is_stopped()) {
        (0, true) => failure.hint("the program stands still, stopped by a signal: `pepo release` lets it go"),
        (0, false) if held => failure.hint(
            "the program, held at its first instruction until then, runs on now: to be there again, hold its next start",
        ),
        (0, false) => failure.hint("the target runs on; `pepo attach` can be tried again"),
        _ => failure,
    }
}
