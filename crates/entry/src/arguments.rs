//! The command line: tini's flags with tini's meaning.
//!
//! Flags end at the program's name, whatever the C library (Debian's tini takes the program's own flags for its own
//! unless `--` stands before them), and the `--` of tini's usage line `PROGRAM -- [ARGS]` is dropped as there.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    vec,
};

use crate::{
    exit::{Exit, Fault},
    hold::socket::Ask,
    signal, tell,
};

/// What the command line asks.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Text to standard output, and that is all.
    Show(String),
    /// A program to be the init of.
    Start(Flags),
    /// Something of the init of this container.
    Init(Ask),
    /// The small tools, in this root or another.
    Tools(Option<PathBuf>),
    /// This program, to another place.
    Copy(PathBuf),
}

/// How to be an init, and of what.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Flags {
    /// `-s`: zombies of the program's descendants become ours though we are not PID 1.
    pub(crate) subreaper: bool,
    /// `-p`: the signal that we get when our parent dies.
    pub(crate) parent_death: Option<i32>,
    /// `-v`, and `TINI_VERBOSITY`: what we tell of ourselves; 1 is the default, and says nothing.
    pub(crate) verbosity: i32,
    /// `-w`: tell each zombie that is not the program.
    pub(crate) warn: bool,
    /// `-g`: signals go to the program's group.
    pub(crate) group: bool,
    /// `-e`: statuses that become 0.
    pub(crate) remap: BTreeSet<u8>,
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
}

const USAGE: &str = "\
Usage: pepo-entry [FLAGS] [--] PROGRAM [ARGUMENTS]

Runs a program as a container's init does: zombies are reaped, signals forwarded, the terminal
handed over, and the program's status is ours (128+n when signal n ended it).

  -s          be a subreaper: for when we are not PID 1
  -g          signals go to the program's process group
  -p SIGNAL   get SIGNAL when our parent dies, as in -p SIGKILL
  -e STATUS   the program's STATUS (0 to 255) becomes 0; may be repeated
  -w          tell each zombie that is reaped
  -v          tell more; up to three times
  -l          the licence
  -h, --help  this
  --version   the version
  --copy-to FILE
              copy this program, as a pod's init container does for the others

Asked of a container's init, inside it, if that was given a word:

  status              what is going on
  rerun [-- COMMAND]  start the program again, or another command in its place
  release [STATUS]    let the program go on, or end the container
  sh [ROOT]           a few tools, for images that have none: ls, cat, df, id, env, ps, cd, run

As tini, it also knows TINI_SUBREAPER, TINI_KILL_PROCESS_GROUP and TINI_VERBOSITY.

Words, separated by commas, in PEPO_DEBUG, else in DEBUG (if it has no others), else in the file
/etc/pepo/debug:

";

const LICENCE: &str = "Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n";

/// Reads the command line (without our own name) and tini's variables.
pub(crate) fn parse(
    words: Vec<OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    is_init: bool,
) -> Result<Asked, Fault> {
    if let [word] = words.as_slice() {
        match word.as_bytes() {
            b"--version" => return Ok(Asked::Show(format!("pepo-entry {}\n", env!("CARGO_PKG_VERSION")))),
            b"--help" => return Ok(Asked::Show(usage())),
            _ => {}
        }
    }
    match words.as_slice() {
        [word, file] if word == "--copy-to" => return Ok(Asked::Copy(file.into())),
        [word, ..] if word == "--copy-to" => return Err(refused("--copy-to takes one file".to_owned())),
        _ => {}
    }
    if !is_init && let Some(asked) = of_the_init(&words)? {
        return Ok(asked);
    }
    let mut flags = Flags { verbosity: 1, ..Flags::default() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"--" => {
                flags.command.extend(words);
                break;
            }
            [b'-', b'-', ..] => return Err(refused(format!("there is no flag {}", word.display()))),
            [b'-', letters @ ..] if !letters.is_empty() => {
                if let Some(show) = cluster(&mut flags, letters, &mut words)? {
                    return Ok(show);
                }
            }
            _ => {
                flags.command.push(word);
                let next = words.next();
                flags.command.extend(next.filter(|word| word != "--").into_iter().chain(words));
                break;
            }
        }
    }
    if flags.command.is_empty() {
        return Err(Fault::new(Exit::No, "no program is named").next("pepo-entry --help"));
    }
    environment.for_each(|(name, value)| variable(&mut flags, &name, &value));
    Ok(Asked::Start(flags))
}

/// What is asked of a container's init, inside it. An init never asks, so only elsewhere these names are no program's, and
/// there `--` makes them one's.
fn of_the_init(words: &[OsString]) -> Result<Option<Asked>, Fault> {
    let texts: Vec<_> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    Ok(Some(match texts.as_slice() {
        ["sh"] => Asked::Tools(None),
        ["sh", root] => Asked::Tools(Some(root.into())),
        ["status"] => Asked::Init(Ask::Status),
        ["release"] => Asked::Init(Ask::Release(None)),
        ["release", code] => {
            let code = code
                .parse()
                .map_err(|_| refused(format!("release takes a status from 0 to 255, not {code}")))?;
            Asked::Init(Ask::Release(Some(code)))
        }
        ["rerun"] => Asked::Init(Ask::Rerun(Vec::new())),
        ["rerun", "--", _, ..] => Asked::Init(Ask::Rerun(words[2..].to_owned())),
        ["rerun", ..] => return Err(refused("rerun takes a command after --".to_owned())),
        [verb @ ("sh" | "status" | "release"), ..] => {
            return Err(refused(format!("{verb} does not take so many words")));
        }
        _ => return Ok(None),
    }))
}

/// How the command line is.
fn usage() -> String {
    format!("{USAGE}{}", crate::words::LIST)
}

/// One word of flags: `-gw`, `-p SIGKILL`, `-e143`.
fn cluster(
    flags: &mut Flags,
    letters: &[u8],
    rest: &mut vec::IntoIter<OsString>,
) -> Result<Option<Asked>, Fault> {
    for (at, letter) in letters.iter().enumerate() {
        match letter {
            b's' => flags.subreaper = true,
            b'v' => flags.verbosity += 1,
            b'w' => flags.warn = true,
            b'g' => flags.group = true,
            b'h' => return Ok(Some(Asked::Show(usage()))),
            b'l' => return Ok(Some(Asked::Show(LICENCE.to_owned()))),
            b'p' | b'e' => {
                let letter = char::from(*letter);
                let here = letters.get(at + 1..).filter(|value| !value.is_empty());
                let value = here.map(|value| OsString::from_vec(value.to_owned())).or_else(|| rest.next());
                let value = value.ok_or_else(|| refused(format!("-{letter} needs a value")))?;
                value_of(flags, letter, &value)?;
                return Ok(None);
            }
            other => return Err(refused(format!("there is no flag -{}", other.escape_ascii()))),
        }
    }
    Ok(None)
}

fn value_of(flags: &mut Flags, letter: char, value: &OsStr) -> Result<(), Fault> {
    let text = value.to_str().unwrap_or_default();
    let shown = value.display();
    if letter == 'p' {
        let signal = signal::number(text)
            .ok_or_else(|| refused(format!("-p takes a signal's name as in SIGTERM, not {shown}")))?;
        flags.parent_death = Some(signal);
    } else {
        let status =
            text.parse().map_err(|_| refused(format!("-e takes a status from 0 to 255, not {shown}")))?;
        flags.remap.insert(status);
    }
    Ok(())
}

fn refused(what: String) -> Fault {
    Fault::new(Exit::No, what).next("pepo-entry --help")
}

/// Tini's variables: the first two count when they are there at all.
fn variable(flags: &mut Flags, name: &OsStr, value: &OsStr) {
    match name.as_bytes() {
        b"TINI_SUBREAPER" => flags.subreaper = true,
        b"TINI_KILL_PROCESS_GROUP" => flags.group = true,
        b"TINI_VERBOSITY" => flags.verbosity = value.to_str().and_then(|text| text.parse().ok()).unwrap_or(0),
        _ => {}
    }
}

impl Flags {
    /// Tells what only `-v` asks for: 2 is what happens, 3 why.
    pub(crate) fn tell(&self, level: i32, text: impl FnOnce() -> String) {
        if self.verbosity >= level {
            tell::line(text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Flags {
        let words = line.split_whitespace().map(OsString::from).collect();
        match parse(words, std::iter::empty(), true) {
            Ok(Asked::Start(flags)) => flags,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn command(line: &str) -> String {
        flags(line).command.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn flags_end_at_the_program() {
        for (line, expected) in [
            ("-g -- prog -x -- y", "prog -x -- y"),
            ("prog -s x", "prog -s x"),
            ("-s prog -- --flag", "prog --flag"),
            ("-- -odd", "-odd"),
            ("prog x -- y", "prog x -- y"),
        ] {
            assert_eq!(command(line), expected, "{line}");
        }
    }

    #[test]
    fn flags_are_tinis() {
        let read = flags("-gsw -vv -p SIGKILL -e143 -e 7 prog");
        assert!(read.group && read.subreaper && read.warn);
        assert_eq!((read.parent_death, read.verbosity), (Some(9), 3));
        assert_eq!(read.remap, BTreeSet::from([7, 143]));
    }

    #[test]
    fn what_tini_refuses_is_refused() {
        for line in ["", "-g", "-x prog", "-e 256 prog", "-e", "-p TERM prog", "--"] {
            let words = line.split_whitespace().map(OsString::from).collect();
            let fault = parse(words, std::iter::empty(), true).unwrap_err();
            assert_eq!(fault.status(), 1, "{line}: {fault}");
        }
    }

    #[test]
    fn what_a_flag_takes_is_said() {
        for (line, said) in [
            ("-e 300 prog", "-e takes a status from 0 to 255, not 300"),
            ("-p TERM prog", "-p takes a signal's name as in SIGTERM, not TERM"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            let fault = parse(words, std::iter::empty(), true).unwrap_err();
            assert!(fault.to_string().contains(said), "{fault}");
        }
    }

    #[test]
    fn tinis_variables_count() {
        let variables = [("TINI_SUBREAPER", ""), ("TINI_VERBOSITY", "3")];
        let variables = variables.map(|(name, value)| (name.into(), value.into())).into_iter();
        let Ok(Asked::Start(flags)) = parse(vec!["prog".into()], variables, true) else { panic!() };
        assert!(flags.subreaper && !flags.group);
        assert_eq!(flags.verbosity, 3);
    }
}
