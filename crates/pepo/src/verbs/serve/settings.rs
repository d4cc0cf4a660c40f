//! What a server is told at its start, from four places: a flag goes before the environment, that before the file, that before what is usual.

use std::{fmt, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use clap::ValueEnum as _;
use pepo_wire::{Code, Failure};
use serde_json::{Map, Value, json};

use super::Serve;
use crate::{duration, environment::Environment, logging::LogFormat};

/// One thing that can be set.
pub(crate) struct Setting {
    /// In the file; its flag is the same behind `--`.
    pub(crate) key: &'static str,
    /// In the environment.
    pub(crate) variable: &'static str,
    /// As it would be typed; empty where there is nothing usual to type.
    pub(crate) usual: &'static str,
    /// For the page.
    pub(crate) meaning: &'static str,
}

const LISTEN: Setting = setting(
    "listen",
    "PEPO_SERVE_LISTEN",
    "127.0.0.1:7411",
    "Where to listen; port 0 takes any that is free.",
);
const STATE: Setting = setting(
    "state",
    "PEPO_SERVE_STATE",
    "",
    "Folder of what is kept; without it, `~/.local/state/pepo/server`.",
);
const NAME: Setting = setting(
    "name",
    "PEPO_SERVE_NAME",
    "",
    "Further names and addresses by which it is called, for its certificate: a list in the file, separated by commas in the environment.",
);
const PROXIES: Setting = setting(
    "proxies",
    "PEPO_SERVE_PROXIES",
    "",
    "Where proxies are answered that hold calls, in cleartext and without any proof of who asks; without it, nowhere.",
);
const CERTIFICATES_LAST: Setting = setting(
    "certificates-last",
    "PEPO_SERVE_CERTIFICATES_LAST",
    "24h",
    "How long a certificate of a node is good, 10 seconds to a year.",
);
const DRAIN: Setting = setting(
    "drain",
    "PEPO_SERVE_DRAIN",
    "20s",
    "How long open sessions may go on when the server is asked to end.",
);
const LOG_FORMAT: Setting = setting(
    "log-format",
    "PEPO_SERVE_LOG_FORMAT",
    "text",
    "Shape of the log: `text` on standard error, with `-v`; `json`, an object a line, on standard output.",
);

/// All that can be set.
pub(crate) const SETTINGS: [&Setting; 7] =
    [&LISTEN, &STATE, &NAME, &PROXIES, &CERTIFICATES_LAST, &DRAIN, &LOG_FORMAT];

const fn setting(
    key: &'static str,
    variable: &'static str,
    usual: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { key, variable, usual, meaning }
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Variable,
    File(PathBuf),
    Usual,
}

/// What was decided.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    /// None: in the user's state folder.
    pub(crate) state: Option<PathBuf>,
    pub(crate) names: Vec<String>,
    pub(crate) proxies: Option<SocketAddr>,
    pub(crate) certificates_last: Duration,
    pub(crate) drain: Duration,
    pub(crate) log_format: LogFormat,
    told: Vec<(&'static str, Vec<String>, Source)>,
}

/// The places that are asked.
struct Places<'a> {
    arguments: &'a Serve,
    environment: &'a Environment,
    file: Option<(PathBuf, Map<String, Value>)>,
    told: Vec<(&'static str, Vec<String>, Source)>,
}

impl Settings {
    /// Decides.
    ///
    /// # Errors
    /// [`Code::Usage`] for what is not understood, with where it stands; [`Code::FileDenied`].
    pub(crate) fn of(arguments: &Serve, environment: &Environment) -> Result<Settings, Failure> {
        let path = arguments.config.clone().or_else(|| environment.serve_config.as_ref().map(PathBuf::from));
        let file = path.map(|path| read(&path).map(|map| (path, map))).transpose()?;
        let mut places = Places { arguments, environment, file, told: Vec::new() };
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        let address =
            |text: &str| text.parse::<SocketAddr>().map_err(|_| "it is written as ADDRESS:PORT".to_owned());
        let perhaps = |text: &str| Some(text).filter(|text| !text.is_empty()).map(address).transpose();
        Ok(Settings {
            listen: places.one(&LISTEN, address)?,
            state: Some(places.one(&STATE, text)?).filter(|state| !state.is_empty()).map(PathBuf::from),
            names: places.texts(&NAME)?.0,
            proxies: places.one(&PROXIES, perhaps)?,
            certificates_last: places.one(&CERTIFICATES_LAST, duration::parse)?,
            drain: places.one(&DRAIN, duration::parse)?,
            log_format: places.one(&LOG_FORMAT, |text| LogFormat::from_str(text, false))?,
            told: places.told,
        })
    }

    /// As a file says it.
    pub(crate) fn as_file(&self) -> Value {
        let value = |key: &str, texts: &[String]| match key == NAME.key {
            true => json!(texts),
            false => json!(texts.first().cloned().unwrap_or_default()),
        };
        let settings = self.told.iter().filter(|(_, texts, _)| texts.iter().any(|text| !text.is_empty()));
        Value::Object(settings.map(|(key, texts, _)| ((*key).to_owned(), value(key, texts))).collect())
    }

    /// For people: each with where it is from.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(key, texts, source): &(&str, Vec<String>, Source)| {
            format!("{key:<18} {:<24} {source}", texts.join(","))
        };
        self.told.iter().map(line).collect()
    }
}

impl Places<'_> {
    fn one<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        let (texts, source) = self.texts(setting)?;
        let [text] = texts.as_slice() else {
            return Err(bad(setting, &texts.join(","), &source, "it has one value"));
        };
        parse(text).map_err(|why| bad(setting, text, &source, &why))
    }

    /// The values as they are typed, and where they are from.
    fn texts(&mut self, setting: &Setting) -> Result<(Vec<String>, Source), Failure> {
        let (texts, source) = self.found(setting)?;
        self.told.push((setting.key, texts.clone(), source.clone()));
        Ok((texts, source))
    }

    fn found(&self, setting: &Setting) -> Result<(Vec<String>, Source), Failure> {
        if let Some(texts) = self.arguments.flag(setting.key) {
            return Ok((texts, Source::Flag));
        }
        let split = |text: &str| match setting.key == NAME.key {
            true => text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect(),
            false => vec![text.to_owned()],
        };
        if let Some(text) = variable(self.environment, setting) {
            return Ok((split(text), Source::Variable));
        }
        if let Some((path, map)) = &self.file
            && let Some(value) = map.get(setting.key)
        {
            let source = Source::File(path.clone());
            let texts = match value {
                Value::String(text) if setting.key != NAME.key => Some(vec![text.clone()]),
                Value::Array(all) if setting.key == NAME.key => {
                    all.iter().map(|one| one.as_str().map(str::to_owned)).collect()
                }
                _ => None,
            };
            let shape = if setting.key == NAME.key { "it is a list of texts" } else { "it is a text" };
            return texts
                .map(|texts| (texts, source.clone()))
                .ok_or_else(|| bad(setting, &value.to_string(), &source, shape));
        }
        Ok((split(setting.usual), Source::Usual))
    }
}

fn variable<'e>(environment: &'e Environment, setting: &Setting) -> Option<&'e str> {
    let value = match setting.variable {
        "PEPO_SERVE_LISTEN" => &environment.serve_listen,
        "PEPO_SERVE_STATE" => &environment.serve_state,
        "PEPO_SERVE_NAME" => &environment.serve_name,
        "PEPO_SERVE_PROXIES" => &environment.serve_proxies,
        "PEPO_SERVE_CERTIFICATES_LAST" => &environment.serve_certificates_last,
        "PEPO_SERVE_DRAIN" => &environment.serve_drain,
        "PEPO_SERVE_LOG_FORMAT" => &environment.serve_log_format,
        _ => return None,
    };
    value.as_deref()
}

/// The file's settings, all of which are known.
fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = std::fs::read(path).map_err(|error| {
        Failure::new(Code::FileDenied, format!("{} cannot be read", path.display())).because(error)
    })?;
    let broken = |why: String| {
        let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        Failure::new(Code::Usage, format!("{} is not understood", path.display()))
            .because(why)
            .hint(format!("it is a JSON object with any of {}", known.join(", ")))
    };
    let map: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    match map.keys().find(|key| SETTINGS.iter().all(|setting| setting.key != *key)) {
        Some(unknown) => Err(broken(format!("there is no setting `{unknown}`"))),
        None => Ok(map),
    }
}

fn bad(setting: &Setting, text: &str, source: &Source, why: &str) -> Failure {
    let place = match source {
        Source::Flag => format!("--{}", setting.key),
        Source::Variable => setting.variable.to_owned(),
        Source::File(path) => format!("`{}` in {}", setting.key, path.display()),
        Source::Usual => setting.key.to_owned(),
    };
    Failure::new(Code::Usage, format!("{place} cannot be `{text}`")).because(why)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Variable => f.write_str("environment"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Usual => f.write_str("usual"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::environment::VARIABLES;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn settings(words: &[&str], environment: &Environment) -> Result<Settings, Failure> {
        let line = [&["serve"], words].concat();
        Settings::of(&Line::parse_from(line).serve, environment)
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().display().to_string();
        (file, path)
    }

    #[test]
    fn a_flag_goes_before_the_environment_before_the_file_before_what_is_usual() {
        let (_file, path) = file(r#"{"drain": "1s", "listen": "127.0.0.1:1", "name": ["a", "b"]}"#);
        let drain = |words: &[&str], environment| settings(words, environment).unwrap().drain.as_secs();
        let empty = Environment::default();
        let named = Environment { serve_drain: Some("2s".into()), ..Environment::default() };
        assert_eq!(drain(&[], &empty), 20);
        assert_eq!(drain(&["--config", &path], &empty), 1);
        assert_eq!(drain(&["--config", &path], &named), 2);
        assert_eq!(drain(&["--config", &path, "--drain", "3s"], &named), 3);
        let by_variable = Environment {
            serve_config: Some(path),
            serve_name: Some("c, d".into()),
            ..Environment::default()
        };
        let settings = settings(&[], &by_variable).unwrap();
        assert_eq!(settings.listen.port(), 1);
        assert_eq!(settings.names, ["c", "d"]);
    }

    #[test]
    fn every_setting_is_a_flag_and_a_variable() {
        for setting in SETTINGS {
            let value = match setting.key {
                "listen" | "proxies" => "127.0.0.1:1",
                "log-format" => "json",
                _ => "1m",
            };
            let decided = settings(&[&format!("--{}", setting.key), value], &Environment::default()).unwrap();
            let told = (setting.key, vec![value.to_owned()], Source::Flag);
            assert!(decided.told.contains(&told), "{:?}", decided.told);
            assert!(VARIABLES.iter().any(|(name, _)| *name == setting.variable), "{}", setting.variable);
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_says_where_it_stands() {
        for (text, expected) in [
            (r#"{"lisen": "127.0.0.1:1"}"#, "there is no setting `lisen`"),
            (r#"{"listen": 7411}"#, "`listen` in "),
            (r#"{"name": "a"}"#, "it is a list of texts"),
            (r#"{"drain": "soon"}"#, "cannot be `soon`"),
            (r#"{"log-format": "xml"}"#, "cannot be `xml`"),
            ("[]", "is not understood"),
        ] {
            let (_file, path) = file(text);
            let failure = settings(&["--config", &path], &Environment::default()).unwrap_err();
            assert_eq!(failure.code(), Code::Usage);
            assert!(failure.to_string().contains(expected), "{text}: {failure}");
            if text.contains("lisen\"") {
                assert!(failure.hints.iter().any(|hint| hint.text.contains("certificates-last")));
            }
        }
        let odd = Environment { serve_listen: Some("here".into()), ..Environment::default() };
        assert!(settings(&[], &odd).unwrap_err().what.contains("PEPO_SERVE_LISTEN cannot be `here`"));
        assert_eq!(settings(&["--config", "/no/such"], &odd).unwrap_err().code(), Code::FileDenied);
    }

    #[test]
    fn what_is_printed_is_a_file_that_says_the_same() {
        let words = ["--listen", "127.0.0.1:9", "--name", "a", "--name", "b", "--drain", "90s"];
        let first = settings(&words, &Environment::default()).unwrap();
        let (_file, path) = file(&first.as_file().to_string());
        let again = settings(&["--config", &path], &Environment::default()).unwrap();
        assert_eq!(again.as_file(), first.as_file());
        assert_eq!((again.listen, again.names), (first.listen, first.names));
        assert_eq!(
            SETTINGS.map(|setting| setting.key).to_vec(),
            again.told.iter().map(|one| one.0).collect::<Vec<_>>()
        );
    }
}
