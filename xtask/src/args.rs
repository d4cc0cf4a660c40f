//! What was typed. Seven verbs with a handful of switches need no parser from outside: this one
//! knows words, `--switch`, `--key VALUE` and `--key=VALUE`, and refuses what nobody asked for.

use anyhow::{Result, bail};

/// The words after the verb; each is taken once, and [`Args::done`] refuses what is left.
pub(crate) struct Args(Vec<String>);

impl Args {
    /// The verb (empty when there is none) and what follows it.
    pub(crate) fn from_command_line() -> (String, Args) {
        let mut words = std::env::args().skip(1);
        let verb = words.next().unwrap_or_default();
        (verb, Args(words.collect()))
    }

    /// Whether `--name` was typed.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word.strip_prefix("--") != Some(name));
        self.0.len() != before
    }

    /// The value of `--name VALUE` or `--name=VALUE`; the first if typed more than once.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let wanted = |word: &String| {
            word.strip_prefix("--").is_some_and(|w| w == name || w.starts_with(&format!("{name}=")))
        };
        let Some(at) = self.0.iter().position(wanted) else { return Ok(None) };
        let word = self.0.remove(at);
        if let Some((_, value)) = word.split_once('=') {
            return Ok(Some(value.to_owned()));
        }
        if at >= self.0.len() {
            bail!("--{name} needs a value");
        }
        Ok(Some(self.0.remove(at)))
    }

    /// Every value of `--name`, in the order typed.
    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        while let Some(value) = self.value(name)? {
            found.push(value);
        }
        Ok(found)
    }

    /// The plain words that are left; an unknown switch among them is an error.
    pub(crate) fn words(self) -> Result<Vec<String>> {
        match self.0.iter().find(|word| word.starts_with('-')) {
            Some(unknown) => bail!("no switch `{unknown}` here; `cargo xtask help` lists them"),
            None => Ok(self.0),
        }
    }

    /// Refuses whatever has not been taken.
    pub(crate) fn done(self) -> Result<()> {
        match self.words()?.first() {
            Some(word) => bail!("nothing to do with `{word}` here"),
            None => Ok(()),
        }
    }

    /// All that is left, to be handed on untouched.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Args {
        Args(words.iter().map(|w| w.to_string()).collect())
    }

    #[test]
    fn switches_values_and_words_are_told_apart() {
        let mut given = args(&["unit", "--yes", "--for", "demo", "--target=a", "--target", "b"]);
        assert!(given.switch("yes"));
        assert!(!given.switch("list"));
        assert_eq!(given.value("for").unwrap().as_deref(), Some("demo"));
        assert_eq!(given.values("target").unwrap(), ["a", "b"]);
        assert_eq!(given.words().unwrap(), ["unit"]);
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        assert!(args(&["--frob"]).words().is_err());
        assert!(args(&["word"]).done().is_err());
        assert!(args(&["--for"]).value("for").is_err());
    }
}
