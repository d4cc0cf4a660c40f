//! What becomes of a target after something around it has died.

use std::{fmt, time::Duration};

use pepo_testkit::{Life, clean::Snapshot};
use serde::{Deserialize, Serialize};

/// How a target ends up that does not simply go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Its process is gone.
    Dead,
    /// It lives and does no work any more.
    StandsStill,
    /// It goes on with a breakpoint in its code, of which it will die.
    Mined,
    /// It goes on with something else of the debugger's: a tracer, a thread, a descriptor, a child.
    Marked,
}

impl Fate {
    /// All of them.
    pub const ALL: [Fate; 4] = [Fate::Dead, Fate::StandsStill, Fate::Mined, Fate::Marked];
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fate::Dead => "dead",
            Fate::StandsStill => "standing still",
            Fate::Mined => "with a breakpoint left in their code",
            Fate::Marked => "with something else of the debugger's left",
        })
    }
}

/// How long a target may take to go on, looked at in steps.
const STEPS: u32 = 10;
const STEP: Duration = Duration::from_secs(1);
/// How long what ends by itself may take to be gone, looked at in steps.
const LEAVING_STEPS: u32 = 50;
const LEAVING_STEP: Duration = Duration::from_millis(100);

/// Waits until the target goes on, or why it does not. The words are for people.
pub(crate) fn goes_on(target: &impl Life) -> Result<(), (Fate, String)> {
    let mut last = String::new();
    for _ in 0..STEPS {
        match target.goes_on(STEP) {
            _ if !target.is_alive() => return Err((Fate::Dead, String::new())),
            Ok(()) => return Ok(()),
            Err(state) => last = state,
        }
    }
    Err((Fate::StandsStill, last))
}

/// Waits for what the target does in the end: `None` when it goes on as it was.
pub(crate) async fn of(target: &impl Life, before: &Snapshot) -> Option<(Fate, String)> {
    if let Err(fate) = goes_on(target) {
        return Some(fate);
    }
    let mut differences = before.differences();
    for _ in 0..LEAVING_STEPS {
        if differences.is_empty() {
            return None;
        }
        tokio::time::sleep(LEAVING_STEP).await;
        differences = before.differences();
    }
    let mined = differences.iter().any(|one| one.starts_with("changed text"));
    let fate = match (target.is_alive(), mined) {
        (false, _) => Fate::Dead,
        (true, true) => Fate::Mined,
        (true, false) => Fate::Marked,
    };
    Some((fate, differences.join("; ")))
}
