//! What looks like a secret, hidden in everything that is shown: command lines, environments, texts.
//!
//! Judged by names (`--api-token`, `DB_PASSWORD`) and by the look of values (known kinds of tokens, logins in URLs). Rather hides too much
//! than too little; paths of files are left, since what is in them is not shown.
//!
//! A crate of its own because two rooms that may not know each other hide the same: the agent, and the entry, which has to stay small.
//! **Invariant:** no dependency at all, no IO; time grows with the length of a text.

/// Names, by their words.
mod names;
/// Texts, with what is secret within them.
mod texts;
/// Values, as a whole.
mod values;

pub use names::name_is_secret;

/// How it is hidden.
#[derive(Clone, Copy, Debug)]
pub struct Hiding {
    /// What stands where a secret stood.
    pub mark: &'static str,
    /// Also hides values of letters and digits that are long enough to be a token of whatever kind. Ids of containers look so, too.
    pub random: bool,
}

/// What the word before says of the next one.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Plain,
    /// `--password`.
    Secret,
    /// `-H`, `--header`: `name: value`.
    Header,
    /// `-u`, `--user`: `name:password`.
    Login,
    /// The same of a program that takes nothing else there: without a colon it is a token.
    OnlyLogin,
}

impl Hiding {
    /// A variable's value, hidden when name or value look secret.
    #[must_use]
    pub fn variable(&self, name: &str, value: &str) -> String {
        if value.is_empty() {
            return String::new();
        }
        let named = name_is_secret(name) && !values::looks_like_path(value);
        if named || values::is_secret(name, value, self.random) {
            return self.mark.to_owned();
        }
        self.text(value)
    }

    /// Arguments of a program, with what is secret in them, or follows `--password` and the like, hidden.
    pub fn arguments<'a>(&self, program: &str, words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let program = program.rsplit('/').next().unwrap_or(program);
        let mut next = Next::Plain;
        let shown = words.into_iter().map(|word| {
            let (shown, after) = self.argument(program, word, next);
            next = after;
            shown
        });
        shown.collect()
    }

    /// One argument as it is shown, and what it says of the next.
    fn argument(&self, program: &str, word: &str, said: Next) -> (String, Next) {
        let told = match said {
            // Another flag has taken its place.
            Next::Secret if is_flag(word) => None,
            Next::Secret if values::looks_like_path(word) => Some(word.to_owned()),
            Next::Secret => Some(self.mark.to_owned()),
            Next::Header => self.header(word),
            Next::Login => self.login(word),
            Next::OnlyLogin => Some(self.login(word).unwrap_or_else(|| self.mark.to_owned())),
            Next::Plain => None,
        };
        if let Some(told) = told {
            return (told, Next::Plain);
        }
        let Some(name) = word.strip_prefix('-') else { return (self.variable("", word), Next::Plain) };
        if let Some((flag, value)) = word.split_once('=') {
            let told = match of_flag(program, flag) {
                Next::Header => self.header(value),
                Next::Login | Next::OnlyLogin => self.login(value),
                _ => None,
            };
            let told = told.unwrap_or_else(|| self.variable(flag.trim_start_matches('-'), value));
            return (format!("{flag}={told}"), Next::Plain);
        }
        if name.strip_prefix('p').is_some_and(|rest| is_attached(program, rest)) {
            return (format!("-p{}", self.mark), Next::Plain);
        }
        match name.strip_prefix('u').and_then(|rest| self.login(rest)) {
            Some(login) => (format!("-u{login}"), Next::Plain),
            None => (self.variable("", word), of_flag(program, word)),
        }
    }

    /// `name: [hidden]`, of a header that has a secret.
    fn header(&self, text: &str) -> Option<String> {
        let (name, value) = text.split_once(':')?;
        let blank = if value.starts_with(' ') { " " } else { "" };
        (name_is_secret(name) && !value.trim().is_empty()).then(|| format!("{name}:{blank}{}", self.mark))
    }

    /// `name:[hidden]`; not of numbers, which are a user and a group.
    fn login(&self, text: &str) -> Option<String> {
        let (name, password) = text.split_once(':')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let plain = password.is_empty() || (number(name) && number(password)) || password.starts_with("//");
        (!plain).then(|| format!("{name}:{}", self.mark))
    }
}

/// A flag, rather than a password that begins with a dash.
fn is_flag(word: &str) -> bool {
    word.starts_with("--") || (word.len() == 2 && word.starts_with('-'))
}

/// What follows a flag.
fn of_flag(program: &str, flag: &str) -> Next {
    let name = flag.trim_start_matches('-');
    match (program, flag) {
        ("curl", "-u" | "--user") => Next::OnlyLogin,
        ("sshpass", "-p") | ("redis-cli", "-a") | ("ldapsearch", "-w") => Next::Secret,
        (_, "-H" | "--header" | "--proxy-header") => Next::Header,
        (_, "-u" | "-U" | "--user" | "--proxy-user") => Next::Login,
        _ if name.len() > 1 && !name.contains([' ', ':']) && name_is_secret(name) => Next::Secret,
        _ => Next::Plain,
    }
}

/// Whether what follows `-p` at once is a password rather than the rest of a flag's name or a port.
fn is_attached(program: &str, rest: &str) -> bool {
    let takes_passwords = program == "sshpass" || program.starts_with("mysql") || program.starts_with("mariadb");
    if takes_passwords {
        return !rest.is_empty();
    }
    let port = rest.chars().all(|c| c.is_ascii_digit() || ":./-".contains(c));
    let name = rest.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let secret = names::has_secret_part(rest);
    // `-password`, `-privateKey`, `-pwd` are names.
    let ours = ["ass", "riv", "w"].iter().any(|begin| rest.starts_with(begin));
    !port && !ours && (!name || secret)
}

#[cfg(test)]
mod tests;
