//! A line of the terminal's, read into a command. No IO.

use crate::{
    console::words::{Name, Word, find},
    error::DapError,
};

/// What a line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Nothing was typed: the last step again, if it was one.
    Empty,
    /// Set a breakpoint.
    Break(Wish),
    /// Remove by number; none: all.
    Delete(Vec<u32>),
    /// Set again what was cleared.
    Rearm,
    /// Go on.
    Continue,
    /// `next`, `stepIn` or `stepOut`, so many times.
    Move(&'static str, u32),
    /// Go on until there.
    Until(Location),
    /// Stop.
    Pause,
    /// List threads.
    Threads,
    /// Look at this one.
    Thread(i64),
    /// Show so many frames.
    Backtrace(usize),
    /// Look at a frame so many further out (negative: in).
    Climb(i64),
    /// Look at this frame; none: say which.
    Frame(Option<usize>),
    /// Variables of the frame.
    Locals,
    /// A value.
    Print(String),
    /// Change a variable.
    Set {
        /// Its name or path.
        name: String,
        /// In the target's language.
        value: String,
    },
    /// Show at each stop, or stop at a change.
    Watch {
        /// What.
        expression: String,
        /// Stop when it changes.
        data: bool,
    },
    /// Source; none: around the frame, or further.
    List(Option<Location>),
    /// What is known.
    Info(Topic),
    /// The debugger's own language.
    Raw(String),
    /// List the targets of the session.
    Targets,
    /// Look at this one, by its number or name.
    Target(String),
    /// Let go.
    Detach,
    /// Help on one word or all.
    Help(Option<&'static Word>),
}

/// What `info` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named as they are typed
pub enum Topic {
    Breakpoints,
    Session,
    Sources,
    Threads,
}

/// The topics of `info` as they are typed.
pub const TOPICS: &[(&str, Topic)] = &[
    ("breakpoints", Topic::Breakpoints),
    ("session", Topic::Session),
    ("sources", Topic::Sources),
    ("threads", Topic::Threads),
];

/// A place in the program as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `FILE:LINE`; without a file in the file that is looked at.
    Line {
        /// As typed.
        file: Option<String>,
        /// From 1.
        line: i64,
    },
    /// A function by its name in the target's language.
    Function(String),
    /// `*ADDRESS`.
    Address(String),
}

/// A breakpoint as it is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Where.
    pub location: Location,
    /// Only if this holds.
    pub condition: Option<String>,
    /// Only at these hits; in the debugger's own manner ("5", "> 5", "% 2").
    pub hits: Option<String>,
    /// Say this instead of stopping.
    pub log: Option<String>,
    /// Remove it at its first stop.
    pub temporary: bool,
}

/// Reads a line.
///
/// # Errors
/// [`DapError::Word`] with what would be right.
pub fn parse(line: &str) -> Result<Command, DapError> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Command::Empty);
    }
    let (head, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let Some(word) = find(head) else {
        return Err(DapError::word(
            format!("`{head}` is not a word of this debugger"),
            "`help` lists the words",
        ));
    };
    command(word, rest.trim())
}

fn command(word: &'static Word, rest: &str) -> Result<Command, DapError> {
    let wrong =
        || DapError::word(format!("`{}` is written: {} {}", word.word, word.word, word.usage), example(word));
    let number = |default: u32| if rest.is_empty() { Ok(default) } else { rest.parse().map_err(|_| wrong()) };
    let no_rest = |command: Command| if rest.is_empty() { Ok(command) } else { Err(wrong()) };
    let some_rest = || if rest.is_empty() { Err(wrong()) } else { Ok(rest.to_owned()) };
    match word.name {
        Name::Break => Ok(Command::Break(wish(rest, false).ok_or_else(wrong)?)),
        Name::TemporaryBreak => Ok(Command::Break(wish(rest, true).ok_or_else(wrong)?)),
        Name::Delete => {
            let numbers: Result<Vec<u32>, _> = rest.split_whitespace().map(str::parse).collect();
            numbers.map(Command::Delete).map_err(|_| wrong())
        }
        Name::Rearm => no_rest(Command::Rearm),
        Name::Continue => no_rest(Command::Continue),
        Name::Next => Ok(Command::Move("next", number(1)?)),
        Name::Step => Ok(Command::Move("stepIn", number(1)?)),
        Name::Out => no_rest(Command::Move("stepOut", 1)),
        Name::Until if rest.is_empty() => Ok(Command::Move("next", 1)),
        Name::Until => Ok(Command::Until(location(rest).ok_or_else(wrong)?)),
        Name::Pause => no_rest(Command::Pause),
        Name::Threads => no_rest(Command::Threads),
        Name::Thread => rest.parse().map(Command::Thread).map_err(|_| wrong()),
        Name::Backtrace => Ok(Command::Backtrace(number(0)? as usize)),
        Name::Up => Ok(Command::Climb(i64::from(number(1)?))),
        Name::Down => Ok(Command::Climb(-i64::from(number(1)?))),
        Name::Frame if rest.is_empty() => Ok(Command::Frame(None)),
        Name::Frame => rest.parse().map(|number| Command::Frame(Some(number))).map_err(|_| wrong()),
        Name::Locals => no_rest(Command::Locals),
        Name::Print => Ok(Command::Print(some_rest()?)),
        Name::Set => set(rest).ok_or_else(wrong),
        Name::Watch => match rest.strip_prefix("-d ") {
            Some(expression) => Ok(Command::Watch { expression: expression.trim().to_owned(), data: true }),
            None => Ok(Command::Watch { expression: some_rest()?, data: false }),
        },
        Name::List if rest.is_empty() => Ok(Command::List(None)),
        Name::List => Ok(Command::List(Some(location(rest).ok_or_else(wrong)?))),
        Name::Info => topic(rest).map(Command::Info).ok_or_else(wrong),
        Name::Raw => Ok(Command::Raw(some_rest()?)),
        Name::Targets => no_rest(Command::Targets),
        Name::Target => Ok(Command::Target(some_rest()?)),
        Name::Detach | Name::Quit => no_rest(Command::Detach),
        Name::Help if rest.is_empty() => Ok(Command::Help(None)),
        Name::Help => find(rest).map(|word| Command::Help(Some(word))).ok_or_else(|| {
            DapError::word(format!("`{rest}` is not a word of this debugger"), "`help` lists the words")
        }),
    }
}

fn example(word: &Word) -> String {
    word.examples.first().map(|example| format!("for example `{example}`")).unwrap_or_default()
}

fn topic(text: &str) -> Option<Topic> {
    let mut fits = TOPICS.iter().filter(|(name, _)| !text.is_empty() && name.starts_with(text));
    // `s` could be two; the first in the list is meant, as in gdb.
    fits.next().map(|(_, topic)| *topic)
}

/// `NAME = VALUE`, the first `=` that is not part of a comparison.
fn set(text: &str) -> Option<Command> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let whole =
        !name.is_empty() && !value.is_empty() && !value.starts_with('=') && !name.ends_with(['!', '<', '>']);
    whole.then(|| Command::Set { name: name.to_owned(), value: value.to_owned() })
}

/// A place as it is typed.
#[must_use]
pub fn location(text: &str) -> Option<Location> {
    let text = text.trim();
    if let Some(address) = text.strip_prefix('*') {
        return (!address.is_empty()).then(|| Location::Address(address.trim().to_owned()));
    }
    if let Ok(line) = text.parse() {
        return Some(Location::Line { file: None, line });
    }
    if let Some((file, line)) = text.rsplit_once(':')
        && let Ok(line) = line.parse::<i64>()
        && line > 0
        && !file.is_empty()
        && !file.ends_with(':')
    {
        return Some(Location::Line { file: Some(file.to_owned()), line });
    }
    (!text.is_empty()).then(|| Location::Function(text.to_owned()))
}

/// `LOCATION [hits N] [log "TEXT"] [if CONDITION]`; `if` takes the rest of the line.
fn wish(text: &str, temporary: bool) -> Option<Wish> {
    let (text, condition) = match find_word(text, "if") {
        Some((before, after)) => (before, Some(non_empty(after)?)),
        None => (text, None),
    };
    let (text, log) = match find_word(text, "log") {
        Some((before, after)) => (before, Some(non_empty(unquoted(after))?)),
        None => (text, None),
    };
    let (text, hits) = match find_word(text, "hits") {
        Some((before, after)) => (before, Some(non_empty(after)?)),
        None => (text, None),
    };
    Some(Wish { location: location(text)?, condition, hits, log, temporary })
}

/// Cuts `text` at the first `word` that stands alone outside quotes.
fn find_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let mut quoted = false;
    let mut before = None;
    for (at, c) in text.char_indices() {
        let alone = !quoted && before.is_none_or(char::is_whitespace) && text[at..].starts_with(word);
        let after = &text[at..].get(word.len()..).unwrap_or_default();
        if alone && (after.is_empty() || after.starts_with(char::is_whitespace)) {
            return Some((text[..at].trim(), after.trim()));
        }
        quoted ^= c == '"';
        before = Some(c);
    }
    None
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(file: &str, line: i64) -> Location {
        Location::Line { file: Some(file.to_owned()), line }
    }

    #[test]
    fn places_are_read_as_they_are_typed() {
        for (text, expected) in [
            ("main.go:42", line("main.go", 42)),
            (r"C:\src\a.c:7", line(r"C:\src\a.c", 7)),
            ("42", Location::Line { file: None, line: 42 }),
            ("shop::cart::total", Location::Function("shop::cart::total".into())),
            ("main.main", Location::Function("main.main".into())),
            ("*0x4011f2", Location::Address("0x4011f2".into())),
            ("a.c:0", Location::Function("a.c:0".into())),
        ] {
            assert_eq!(location(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn breakpoints_take_their_parts_in_any_dress() {
        let Ok(Command::Break(wish)) = parse("b serve.py:22 hits 5 log \"n if {n}\" if n == \"log\"") else {
            panic!()
        };
        assert_eq!(wish.location, line("serve.py", 22));
        assert_eq!(wish.hits.as_deref(), Some("5"));
        assert_eq!(wish.log.as_deref(), Some("n if {n}"));
        assert_eq!(wish.condition.as_deref(), Some("n == \"log\""));
        let Ok(Command::Break(wish)) = parse("tbreak notify") else { panic!() };
        assert!(wish.temporary);
        assert_eq!(wish.location, Location::Function("notify".into()), "`if` inside a name is no word");
    }

    #[test]
    fn gdbs_short_forms_work() {
        for (text, expected) in [
            ("c", Command::Continue),
            ("n 3", Command::Move("next", 3)),
            ("s", Command::Move("stepIn", 1)),
            ("fin", Command::Move("stepOut", 1)),
            ("until", Command::Move("next", 1)),
            ("bt", Command::Backtrace(0)),
            ("i b", Command::Info(Topic::Breakpoints)),
            ("down 2", Command::Climb(-2)),
            ("set a.b = x == 1", Command::Set { name: "a.b".into(), value: "x == 1".into() }),
            ("watch -d n", Command::Watch { expression: "n".into(), data: true }),
            ("q", Command::Detach),
            ("", Command::Empty),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_says_what_is_right() {
        for text in [
            "frob",
            "break",
            "break if x",
            "print",
            "set n",
            "set n == 4",
            "thread x",
            "info zzz",
            "continue 3",
        ] {
            let error = parse(text).expect_err(text);
            assert!(matches!(error, DapError::Word { .. }), "{text}");
        }
    }

    #[test]
    fn any_line_is_answered() {
        let mut seed = 7_u64;
        let letters: Vec<char> = "break if:*\"= hits log é\u{1f383}\\ 42 -d set".chars().collect();
        for _ in 0..5000 {
            let mut text = String::new();
            for _ in 0..20 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push(letters[(seed >> 33) as usize % letters.len()]);
            }
            let _ = parse(&text);
            let _ = parse(&format!("break {text}"));
        }
    }
}
