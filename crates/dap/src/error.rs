//! What can go wrong on the user's side of a session, and how it is told.

use std::time::Duration;

use pepo_wire::{Code, Failure, FailureExt};

/// What can go wrong on the user's side of a session.
#[derive(Debug, thiserror::Error)]
pub enum DapError {
    /// The agent or the stream to it failed.
    #[error("the session failed")]
    Session(#[source] Failure),
    /// The stream ended while an answer was due.
    #[error("the debugger's stream ended before it answered `{command}`")]
    Ended {
        /// What was asked.
        command: String,
    },
    /// No answer in time.
    #[error("the debugger did not answer `{command}` within {limit:?}")]
    TimedOut {
        /// What was asked.
        command: String,
        /// How long was waited.
        limit: Duration,
        /// The session's target, as the user named it; empty where nobody did.
        target: String,
    },
    /// The adapter said no.
    #[error("the debugger refused `{command}`")]
    Refused {
        /// What was asked.
        command: String,
        /// Its own words.
        words: String,
    },
    /// The adapter does not announce the ability, so it is not asked.
    #[error("this debugger does not offer {what}")]
    NotOffered {
        /// In words for people.
        what: String,
    },
    /// Nothing stopped in time.
    #[error("the target did not stop within {limit:?}")]
    NoStop {
        /// How long was waited.
        limit: Duration,
        /// The session's target, as the user named it.
        target: String,
        /// The session's debugger.
        debugger: String,
    },
    /// A word that needs a target which stands still.
    #[error("the target is running")]
    Running,
    /// A word of the terminal's that is not understood.
    #[error("{what}")]
    Word {
        /// What is wrong, in a clause.
        what: String,
        /// What would be right.
        hint: String,
    },
    /// Something named in a word is not there.
    #[error("{what}")]
    NotThere {
        /// What is missing.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A name that fits several things.
    #[error("{what}")]
    Ambiguous {
        /// What was named.
        what: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// The session is over.
    #[error("the session is over ({reason})")]
    Over {
        /// As the agent said.
        reason: String,
    },
    /// The session was over before a script was.
    #[error("the session was over ({reason}) before {}", listed(lines))]
    NotReached {
        /// As the agent said.
        reason: String,
        /// What was not carried out.
        lines: Vec<String>,
    },
}

/// The reason of a session whose target ended.
const TARGET_EXITED: &str = "target exited";

fn listed(lines: &[String]) -> String {
    lines.iter().map(|line| format!("`{line}`")).collect::<Vec<_>>().join(", ")
}

impl DapError {
    /// A word that is not understood.
    pub(crate) fn word(what: impl Into<String>, hint: impl Into<String>) -> DapError {
        DapError::Word { what: what.into(), hint: hint.into() }
    }

    /// Something named that is not there.
    pub(crate) fn not_there(what: impl Into<String>, hint: impl Into<String>) -> DapError {
        DapError::NotThere { what: what.into(), hint: hint.into() }
    }

    /// An ability that is missing.
    pub(crate) fn not_offered(what: impl Into<String>) -> DapError {
        DapError::NotOffered { what: what.into() }
    }
}

impl From<Failure> for DapError {
    fn from(failure: Failure) -> DapError {
        DapError::Session(failure)
    }
}

impl FailureExt for DapError {
    fn failure(&self) -> Failure {
        let text = self.to_string();
        match self {
            DapError::Session(failure) => failure.clone(),
            DapError::Ended { .. } => {
                Failure::new(Code::StreamBroken, text).hint("the agent lets the target go by itself")
            }
            DapError::TimedOut { target, .. } => {
                let failure = Failure::new(Code::TimedOut, text).hint("the machine may be busy: try again");
                match target.as_str() {
                    "" => failure.try_command("see who holds the target", ["pepo", "sessions"]),
                    target => failure.try_command("let the target go", ["pepo", "release", target]),
                }
            }
            DapError::Refused { words, .. } => Failure::new(Code::DebuggerRefused, text).because(words),
            DapError::NotOffered { .. } => {
                Failure::new(Code::NotInDebugger, text).hint("`info session` shows what this debugger can do")
            }
            DapError::NoStop { target, debugger, .. } => {
                let failure = Failure::new(Code::TimedOut, text)
                    .hint("`pause` stops it where it is; `--timeout` lets a script wait longer");
                match debugger.as_str() {
                    "lldb" => failure.try_command(
                        "lldb does not pause what hits a breakpoint all the time: remove that first, or take gdb",
                        ["pepo", "attach", target, "--debugger", "gdb"],
                    ),
                    _ => failure,
                }
            }
            DapError::Running => Failure::new(Code::NotNow, text)
                .hint("`pause` or Ctrl-C stops it; so does a breakpoint (`break FILE:LINE`)"),
            DapError::Word { hint, .. } => Failure::new(Code::Usage, text).hint(hint),
            DapError::NotThere { hint, .. } => Failure::new(Code::FileNotFound, text).hint(hint),
            DapError::Ambiguous { candidates, .. } => {
                Failure::new(Code::Usage, text).hint(format!("write more of it: {}", candidates.join(", ")))
            }
            DapError::Over { .. } => Failure::new(Code::NotNow, text),
            DapError::NotReached { reason, .. } if reason == TARGET_EXITED => {
                Failure::new(Code::ProcessGone, text).hint(
                    "set a breakpoint that it meets before its end (`break FILE:LINE`), then `continue`",
                )
            }
            DapError::NotReached { .. } => Failure::new(Code::NotNow, text)
                .hint("`detach` comes last in a script; `pepo sessions` shows who holds the target now"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_stop(debugger: &str) -> DapError {
        let limit = Duration::from_secs(1);
        DapError::NoStop { limit, target: "docker/shop".into(), debugger: debugger.into() }
    }

    #[test]
    fn what_is_late_is_told_with_the_target_and_the_debugger_at_hand() {
        let late = DapError::TimedOut {
            command: "next".into(),
            limit: Duration::from_secs(1),
            target: "docker/shop".into(),
        };
        let commands = |error: DapError| -> Vec<String> {
            error
                .failure()
                .hints
                .iter()
                .map(|hint| hint.command.join(" "))
                .filter(|line| !line.is_empty())
                .collect()
        };
        assert_eq!(commands(late), ["pepo release docker/shop"]);
        assert_eq!(commands(no_stop("lldb")), ["pepo attach docker/shop --debugger gdb"]);
        for other in ["gdb", "delve", "python"] {
            let told = format!("{:?}", no_stop(other).failure());
            assert!(!told.contains("lldb") && !told.contains("--debugger"), "{told}");
        }
    }

    #[test]
    fn every_error_says_what_to_do_or_why() {
        let errors = [
            DapError::Ended { command: "next".into() },
            DapError::TimedOut {
                command: "next".into(),
                limit: Duration::from_secs(1),
                target: "docker/shop".into(),
            },
            DapError::Refused { command: "evaluate".into(), words: "no symbol".into() },
            DapError::not_offered("data breakpoints"),
            no_stop("gdb"),
            DapError::Running,
            DapError::NotReached { reason: TARGET_EXITED.into(), lines: vec!["bt".into()] },
            DapError::NotReached { reason: "detached".into(), lines: vec!["bt".into()] },
            DapError::word("`brk` is not a word", "`help` lists the words"),
            DapError::Ambiguous {
                what: "`x` is two files".into(),
                candidates: vec!["a/x".into(), "b/x".into()],
            },
        ];
        for error in errors {
            let failure = error.failure();
            assert!(!failure.hints.is_empty() || !failure.why.is_empty(), "{failure}");
            assert!(!failure.what.ends_with('.'), "{failure}");
        }
    }
}
