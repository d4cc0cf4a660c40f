//! The words and where they come from: `PEPO_DEBUG`, else `DEBUG`, else the file `/etc/pepo/debug`.
//!
//! `PEPO_DEBUG` and the file are ours: what is not understood there is an error. `DEBUG` belongs to many programs, so
//! it is taken only when each word in it is one of ours. What was taken the program does not see: an entry within the
//! entry would act on it again.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    exit::{Exit, Fault},
    fstree::{Rules, Source},
    tell,
    verbose::secrets,
};

/// The words as `--help` and errors list them.
pub(crate) const LIST: &str = concat!(
    "  verbose[=FILE|=fd:N]  tell what is run, and trace shells\n",
    "  fstree=URL            put an archive into the file system: http, https or file;\n",
    "                        #sha256=SUM&strip=N; may be repeated; write %2C for a comma\n",
    "  fstree-allow=WHAT     let archives have setuid, devices, ratio (joined by +)\n",
    "  fstree-limit=SIZE     unpacked, as in 20G; else 8G\n",
    "  fstree-time=TIME      for fetching, as in 1h; else 10m\n",
    "  fstree-optional       start the program also when an archive was refused\n",
    "  stayalive[=TIME]      keep the container when the program fails, at most for TIME\n",
    "  stayalive=always      keep it also when the program ends well\n",
    "  wait[=TIME]           hold the program at its first instruction, at most for TIME\n",
);

/// The file that an operator can mount.
const FILE: &str = "/etc/pepo/debug";

/// Words that may be there several times.
const REPEATED: [&str; 2] = ["fstree", "fstree-allow"];

/// What the words ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Words {
    /// Tell what is run and trace shells, and where to.
    pub(crate) verbose: Option<Output>,
    /// Archives, in order.
    pub(crate) fstree: Vec<Source>,
    /// What holds for them.
    pub(crate) rules: Rules,
    /// Keep the container.
    pub(crate) stayalive: Option<Stay>,
    /// Hold the program at its first instruction; for at most so long.
    pub(crate) wait: Option<Option<Duration>>,
}

/// Where `verbose` goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Output {
    /// Standard error.
    #[default]
    Error,
    /// The end of a file.
    File(PathBuf),
    /// A descriptor that we were started with.
    Descriptor(u32),
}

/// When and for how long a container is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stay {
    /// Not for longer than this.
    pub(crate) limit: Option<Duration>,
    /// Also after the program ended well.
    pub(crate) always: bool,
}

/// One word: a name, with the value after `=` if it has one.
type Reader = fn(&mut Words, Option<&str>) -> Result<(), String>;

const NAMES: &[(&str, Reader)] = &[
    ("verbose", |words, value| {
        words.verbose = Some(output(value)?);
        Ok(())
    }),
    ("fstree", |words, value| {
        words.fstree.push(Source::parse(value.unwrap_or_default())?);
        Ok(())
    }),
    ("fstree-allow", |words, value| {
        for what in value.unwrap_or_default().split('+') {
            match what {
                "setuid" => words.rules.allowed.setuid = true,
                "devices" => words.rules.allowed.devices = true,
                "ratio" => words.rules.allowed.ratio = true,
                other => return Err(format!("{other:?} is none of setuid, devices and ratio")),
            }
        }
        Ok(())
    }),
    ("fstree-limit", |words, value| {
        words.rules.limit = size(value.unwrap_or_default())?;
        Ok(())
    }),
    ("fstree-time", |words, value| {
        words.rules.time = duration(value.unwrap_or_default())?;
        Ok(())
    }),
    ("fstree-optional", |words, value| {
        words.rules.optional = true;
        value.map_or(Ok(()), |_| Err("takes no value".to_owned()))
    }),
    ("stayalive", |words, value| {
        words.stayalive = Some(match value {
            None => Stay::default(),
            Some("always") => Stay { limit: None, always: true },
            Some(value) => Stay { limit: Some(duration(value)?), always: false },
        });
        Ok(())
    }),
    ("wait", |words, value| {
        words.wait = Some(value.map(duration).transpose()?);
        Ok(())
    }),
];

impl Words {
    /// Reads the words; gives them with the environment that is left for the program.
    pub(crate) fn read(
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(Words, Vec<(OsString, OsString)>), Fault> {
        Words::read_with(environment.collect(), Path::new(FILE))
    }

    /// Whether these are words.
    pub(crate) fn judge(words: &str, source: &str) -> Result<(), Fault> {
        parse(OsStr::new(words), source).map(drop)
    }

    fn read_with(
        mut environment: Vec<(OsString, OsString)>,
        file: &Path,
    ) -> Result<(Words, Vec<(OsString, OsString)>), Fault> {
        if let Some(value) = variable(&environment, "PEPO_DEBUG") {
            let words = parse(&value, "PEPO_DEBUG")?;
            environment.retain(|(name, _)| name != "PEPO_DEBUG");
            return Ok((words, environment));
        }
        if let Some(value) = variable(&environment, "DEBUG").filter(|value| ours(value)) {
            let words = parse(&value, "DEBUG")?;
            environment.retain(|(name, _)| name != "DEBUG");
            return Ok((words, environment));
        }
        Ok((from_file(file)?, environment))
    }
}

impl Words {
    /// Says what was asked for in vain.
    pub(crate) fn warn(&self) {
        if self.fstree.is_empty() && self.rules != Rules::default() {
            tell::line(
                "fstree-limit, fstree-time, fstree-allow and fstree-optional do nothing without fstree=URL",
            );
        }
    }
}

fn variable(environment: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
}

/// Whether all words of `DEBUG` are ours. Of a mixture one line is said, for it may be a mistake.
fn ours(value: &OsStr) -> bool {
    let Some(value) = value.to_str() else { return false };
    let (known, unknown): (Vec<_>, Vec<_>) = split(value).partition(|word| reader(name_of(word)).is_some());
    if !known.is_empty() && !unknown.is_empty() {
        tell::line(format!(
            "DEBUG is left to the program: {} is a word of ours, but {} is not; set PEPO_DEBUG={} if it was meant",
            name_of(known[0]),
            name_of(unknown[0]),
            known.iter().map(|word| secrets::masked(word)).collect::<Vec<_>>().join(",")
        ));
    }
    !known.is_empty() && unknown.is_empty()
}

/// The file's words: separated by commas or lines; lines that begin with `#` are comments.
fn from_file(file: &Path) -> Result<Words, Fault> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Words::default());
        }
        Err(error) => {
            return Err(Fault::new(Exit::Permission, format!("cannot read {}: {error}", file.display()))
                .next("let the container's user read it, or remove it"));
        }
    };
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).collect();
    parse(OsStr::from_bytes(&lines.join(&b',')), FILE)
}

fn parse(value: &OsStr, source: &str) -> Result<Words, Fault> {
    let wrong = |what: String| Fault::new(Exit::Usage, format!("{source}: {what}"));
    let list = || format!("the words, separated by commas, are:\n{}", LIST.trim_end());
    let value = value.to_str().ok_or_else(|| wrong("is not UTF-8".to_owned()).next(list()))?;
    let mut words = Words::default();
    let mut seen = HashSet::new();
    for word in split(value) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let reader = reader(name).ok_or_else(|| wrong(format!("there is no word {name:?}")).next(list()))?;
        if !seen.insert(name) && !REPEATED.contains(&name) {
            return Err(
                wrong(format!("{name} is there twice")).next("write it once, with the value that is meant")
            );
        }
        reader(&mut words, value).map_err(|what| wrong(format!("{name}: {what}")).next(list()))?;
    }
    Ok(words)
}

fn split(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn name_of(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
}

fn reader(name: &str) -> Option<Reader> {
    NAMES.iter().find(|(other, _)| *other == name).map(|(_, reader)| *reader)
}

fn output(value: Option<&str>) -> Result<Output, String> {
    match value {
        None => Ok(Output::Error),
        Some("") => Err("names no file".to_owned()),
        Some(value) => match value.strip_prefix("fd:") {
            None => Ok(Output::File(PathBuf::from(value))),
            Some(number) => {
                number.parse().map(Output::Descriptor).map_err(|_| format!("{number:?} is no descriptor"))
            }
        },
    }
}

/// `90`, `90s`, `30m`, `2h`, `500ms`.
fn duration(value: &str) -> Result<Duration, String> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let wrong = || format!("{value:?} is no duration: write 90s, 30m or 2h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" | "" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let total = milliseconds.and_then(|unit| number.checked_mul(unit)).ok_or_else(wrong)?;
    Ok(Duration::from_millis(total))
}

/// `20G`, `512M`, `4096`.
fn size(value: &str) -> Result<u64, String> {
    let wrong = || format!("{value:?} is no size: write 512M or 20G");
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let shift = match unit.trim_end_matches(['B', 'i']) {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], file: Option<&str>) -> Result<Words, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug");
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
        }
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Words::read_with(variables, &path).map(|(words, _)| words).map_err(|fault| fault.to_string())
    }

    #[test]
    fn words_are_chained_in_any_order() {
        let text = "stayalive=30m, fstree=http://h/a%2Cb.tgz?x=y#strip=1,verbose=fd:3,fstree=file:///b,fstree-limit=2G";
        let words = read(&[("PEPO_DEBUG", text)], None).unwrap();
        assert_eq!(words.verbose, Some(Output::Descriptor(3)));
        assert_eq!((words.fstree.len(), words.fstree[0].strip), (2, Some(1)));
        assert_eq!(words.rules.limit, 2 << 30);
        assert_eq!(words.stayalive.unwrap().limit, Some(Duration::from_secs(1800)));
    }

    #[test]
    fn the_file_counts_when_no_variable_does() {
        let file = Some("# for tonight\nstayalive\nwait=5s\n");
        let words = read(&[], file).unwrap();
        assert!(words.stayalive.is_some() && words.wait == Some(Some(Duration::from_secs(5))));
        assert!(read(&[("DEBUG", "express:*")], file).unwrap().stayalive.is_some());
        assert!(read(&[("PEPO_DEBUG", "")], file).unwrap().stayalive.is_none());
        assert!(read(&[("DEBUG", "verbose")], file).unwrap().stayalive.is_none());
        assert!(read(&[], Some("stayaliv")).unwrap_err().contains("no word \"stayaliv\""));
    }

    #[test]
    fn values_are_judged() {
        for wrong in [
            "wait=x",
            "verbose=/a,verbose=/b",
            "stayalive,wait,stayalive=3s",
            "verbose=",
            "verbose=fd:x",
            "fstree=x",
            "fstree",
            "fstree-limit=1X",
            "fstree-allow=all",
        ] {
            assert!(read(&[("PEPO_DEBUG", wrong)], None).is_err(), "{wrong}");
        }
    }
}
