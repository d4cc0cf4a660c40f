//! What the terminal's debugger says, as data: one value per saying, the same for a person and for `--output json`.

use pepo_wire::Failure;
use serde::{Serialize, Serializer, ser::Error as _};

/// One saying.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Output {
    /// A debugger is in place.
    Attached(Attached),
    /// A line of a script, before it is carried out.
    Command {
        /// As written.
        line: String,
    },
    /// The target stands still.
    Stopped(Stop),
    /// The target goes on.
    Running,
    /// The target has ended.
    Exited {
        /// Its exit status, when the debugger says.
        code: Option<i64>,
    },
    /// A breakpoint was set or changed.
    Breakpoint(Point),
    /// Breakpoints were removed.
    Deleted {
        /// Their numbers.
        numbers: Vec<u32>,
    },
    /// All breakpoints and watches.
    Breakpoints {
        /// By number.
        points: Vec<Point>,
    },
    /// A stack.
    Stack {
        /// Whose.
        thread: i64,
        /// From the innermost.
        frames: Vec<Frame>,
        /// There are more.
        more: bool,
    },
    /// The frame that is looked at now.
    Frame(Box<Place>),
    /// The threads.
    Threads {
        /// All of them.
        threads: Vec<Thread>,
    },
    /// Variables of a frame.
    Locals {
        /// By scope.
        scopes: Vec<Scope>,
    },
    /// A value.
    Value(Value),
    /// A variable was changed.
    Changed(Value),
    /// Source lines.
    Source(Lines),
    /// What is known of the session.
    Session(Session),
    /// Which paths belong together.
    Sources {
        /// Target and here.
        pairs: Vec<SourcePair>,
    },
    /// Words of the target's or of the debugger's.
    Program {
        /// `stdout`, `stderr`, `console`.
        category: String,
        /// As it came.
        text: String,
    },
    /// Help and the like.
    Text {
        /// Lines.
        text: String,
    },
    /// A remark of ours.
    Notice {
        /// In words.
        text: String,
    },
    /// The target has stood still for a good part of its budget.
    Pause {
        /// Of the window.
        stood_still_millis: u64,
        /// What it may.
        budget_millis: u64,
    },
    /// The budget is spent: the target runs, without breakpoints.
    BudgetSpent {
        /// In all.
        stood_still_millis: u64,
        /// How many were cleared.
        breakpoints_cleared: u32,
    },
    /// A line could not be carried out.
    Failed(Trouble),
    /// The session is over.
    Closed {
        /// "detached", "target exited", …
        reason: String,
        /// How long the target stood still in all.
        stood_still_millis: u64,
        /// What could not be cleaned; empty when nothing was left behind.
        left_behind: Vec<String>,
        /// What went wrong, if anything did.
        failure: Option<Trouble>,
    },
    /// Targets of the session.
    Targets {
        /// In the order of their numbers.
        targets: Vec<TargetRow>,
    },
    /// In a session with several targets: which of them said it.
    #[serde(untagged)]
    Of(Said),
}

impl Output {
    /// As this target's, in a session with several.
    #[must_use]
    pub fn of(self, target: &str) -> Output {
        Output::Of(Said { targets: vec![target.to_owned()], saying: Box::new(self) })
    }

    /// The saying alone, whoever said it.
    #[must_use]
    pub fn bare(&self) -> &Output {
        match self {
            Output::Of(said) => &said.saying,
            saying => saying,
        }
    }

    /// Is it of one or some targets of a session with several?
    #[must_use]
    pub fn is_of_one_of_several(&self) -> bool {
        matches!(self, Output::Of(_))
    }

    /// Another saying of whoever said this one.
    #[must_use]
    pub fn instead(&self, saying: Output) -> Output {
        match self {
            Output::Of(said) => Output::Of(Said { targets: said.targets.clone(), saying: Box::new(saying) }),
            _ => saying,
        }
    }
}

/// A saying of one or several targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// As the user named them.
    pub targets: Vec<String>,
    /// What they said.
    pub saying: Box<Output>,
}

/// The saying with one field more.
impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut value = serde_json::to_value(&*self.saying).map_err(S::Error::custom)?;
        value["targets"] = self.targets.clone().into();
        value.serialize(serializer)
    }
}

/// One of the session's targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TargetRow {
    /// What `target` takes.
    pub number: usize,
    /// As the user named it.
    pub target: String,
    /// `running`, `stands still`, `over`.
    pub state: &'static str,
    /// Is it looked at?
    pub current: bool,
}

/// The session as it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// As the user named it.
    pub target: String,
    /// Name and version of the debugger.
    pub debugger: String,
    /// How the target is protected.
    pub guard: String,
    /// While attaching.
    pub stood_still_micros: u64,
    /// 0: unlimited.
    pub pause_budget_millis: u64,
    /// Where the budget comes from.
    pub budget_source: String,
    /// What should be known before going on.
    pub warnings: Vec<Trouble>,
}

/// A failure as data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// `P0112`.
    pub code: String,
    /// What failed and why.
    pub message: String,
    /// What to do.
    pub hints: Vec<String>,
}

impl From<&Failure> for Trouble {
    fn from(failure: &Failure) -> Trouble {
        let hint = |hint: &pepo_wire::Hint| match (hint.text.is_empty(), hint.command.is_empty()) {
            (_, true) => hint.text.clone(),
            (true, false) => hint.command.join(" "),
            (false, false) => format!("{}: {}", hint.text, hint.command.join(" ")),
        };
        Trouble {
            code: failure.code().to_string(),
            message: failure.to_string(),
            hints: failure.hints.iter().map(hint).collect(),
        }
    }
}

/// A stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stop {
    /// `breakpoint`, `step`, `pause`, `exception`, …
    pub reason: String,
    /// The debugger's own words for it.
    pub description: Option<String>,
    /// More, as an exception's text.
    pub text: Option<String>,
    /// Which thread.
    pub thread: Thread,
    /// Numbers of the breakpoints that were met.
    pub breakpoints: Vec<u32>,
    /// Where.
    pub place: Option<Place>,
    /// What is watched.
    pub watches: Vec<Value>,
}

/// A frame and the lines around it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The frame.
    pub frame: Frame,
    /// Its source; none when it is not to be had.
    pub lines: Option<Lines>,
}

/// One frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// 0 is the innermost.
    pub number: usize,
    /// Function.
    pub function: String,
    /// Path in the target.
    pub path: Option<String>,
    /// The file here.
    pub local: Option<String>,
    /// From 1; 0 for none.
    pub line: i64,
    /// As the debugger writes it.
    pub address: Option<String>,
    /// Is it looked at?
    pub current: bool,
}

/// Source lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// The file here, else the path in the target.
    pub path: String,
    /// Number of the first, from 1.
    pub first: i64,
    /// Their text.
    pub lines: Vec<String>,
    /// The one that is meant.
    pub current: Option<i64>,
}

/// One thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// As the debugger counts.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Is it looked at?
    pub current: bool,
}

/// Variables of one scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scope {
    /// Name.
    pub name: String,
    /// In the debugger's order.
    pub variables: Vec<Value>,
    /// There are more.
    pub more: bool,
}

/// A value with a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Value {
    /// The expression or the variable's name.
    pub name: String,
    /// As the debugger writes it.
    pub value: String,
    /// Type, when known.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its parts, one level.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Value>,
    /// It could not be had, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A breakpoint or a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    /// What `delete` takes.
    pub number: u32,
    /// `breakpoint`, `watch`, `data`.
    pub what: &'static str,
    /// Where, as a person writes it.
    pub place: String,
    /// Is it in place in the target?
    pub verified: bool,
    /// The debugger's remark.
    pub message: Option<String>,
    /// Only if.
    pub condition: Option<String>,
    /// Only at.
    pub hits: Option<String>,
    /// Says this instead of stopping.
    pub log: Option<String>,
    /// Goes after its first stop.
    pub temporary: bool,
    /// Cleared when the budget was spent; `rearm` sets it again.
    pub cleared: bool,
    /// How often it stopped the target.
    pub stops: u32,
}

/// Two paths that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourcePair {
    /// In the target.
    pub remote: String,
    /// Here.
    pub local: String,
}

/// What is known of the session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Session {
    /// How it began.
    #[serde(flatten)]
    pub attached: Attached,
    /// The agent's name for it.
    pub session: String,
    /// Does the target stand still?
    pub standing: bool,
    /// Within the budget's window, as last told.
    pub stood_still_millis: u64,
    /// Abilities of the debugger.
    pub abilities: Vec<String>,
}
