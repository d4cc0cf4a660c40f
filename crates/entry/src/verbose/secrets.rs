//! What is shown of names and values that may be secrets: that they are there, and nothing else.

use std::ffi::{OsStr, OsString};

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// Parts of names, between `_`, `-` and `.`, whose values are hidden.
const PARTS: [&str; 15] = [
    "key",
    "pass",
    "pwd",
    "auth",
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "credentials",
    "private",
    "cookie",
    "dsn",
    "apikey",
];
/// And anywhere in a name.
const WITHIN: [&str; 5] = ["token", "secret", "password", "passwd", "credential"];
/// How well-known tokens begin.
const BEGIN: [&str; 16] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "sk-",
    "sk_live_",
    "Bearer ",
    "Basic ",
];
/// As long as this, a value without a blank or a path in it is a token's.
const LONG: usize = 32;

/// `NAME=value`, or `NAME=***`.
pub(crate) fn variable(name: &OsStr, value: &OsStr) -> String {
    let (name, value) = (name.display().to_string(), value.display().to_string());
    format!("{name}={}", shown(&name, &value))
}

/// Arguments as a shell would quote them; what follows `--password` and the like is hidden.
pub(crate) fn arguments(words: &[OsString]) -> Vec<String> {
    let mut hide_next = false;
    let mut told = Vec::new();
    for word in words {
        let word = word.display().to_string();
        let named = word.strip_prefix('-').map(|rest| rest.trim_start_matches('-'));
        let shown = match (named.and_then(|rest| rest.split_once('=')), hide_next) {
            (_, true) => HIDDEN.to_owned(),
            (Some((name, value)), _) => {
                let flag = word.split_once('=').map_or("", |(flag, _)| flag);
                format!("{flag}={}", shown(name, value))
            }
            (None, _) => shown("", &word),
        };
        hide_next = named.is_some_and(|name| !name.contains('=') && is_secret_name(name));
        told.push(quoted(&shown));
    }
    told
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+*".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''").escape_debug().to_string().replace("\\'", "'")),
    }
}

fn shown(name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    if is_secret_name(name) || is_secret_value(value) {
        return HIDDEN.to_owned();
    }
    url(value)
        .chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // The shell's own, which is a folder.
    if name == "pwd" || name == "oldpwd" {
        return false;
    }
    name.split(['_', '-', '.']).any(|part| PARTS.contains(&part))
        || WITHIN.iter().any(|part| name.contains(part))
}

fn is_secret_value(value: &str) -> bool {
    BEGIN.iter().any(|begin| value.starts_with(begin) && value.len() > begin.len() + 7)
        || value.contains("PRIVATE KEY-----")
        || (value.starts_with("eyJ") && value.matches('.').count() >= 2)
        || (value.len() >= LONG && looks_random(value))
}

/// Letters and digits mixed, as in hexadecimal and base64; paths, sentences and lists are not.
fn looks_random(value: &str) -> bool {
    let body = value.trim_end_matches('=');
    let all = body.chars().all(|c| c.is_ascii_alphanumeric() || "+/_-".contains(c));
    let digits = body.chars().filter(char::is_ascii_digit).count();
    let letters = body.chars().filter(char::is_ascii_alphabetic).count();
    all && !value.starts_with('/') && digits >= 4 && letters >= 4
}

/// The text with each URL's password hidden: `redis://user:***@host`.
pub(crate) fn url(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(|c: char| c.is_whitespace() || "/?#'\"".contains(c)).unwrap_or(after.len());
        let (authority, next) = after.split_at(end);
        told.push_str(before);
        match authority.rsplit_once('@') {
            None => told.push_str(authority),
            Some((login, host)) => {
                // Without a colon the name itself is the token.
                let name = login.split_once(':').map(|(name, _)| format!("{name}:")).unwrap_or_default();
                told.push_str(&format!("{name}{HIDDEN}@{host}"));
            }
        }
        rest = next;
    }
    told + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, value: &str) -> String {
        variable(OsStr::new(name), OsStr::new(value))
    }

    #[test]
    fn secrets_are_hidden() {
        let secrets = [
            ("DB_PASSWORD", "x"),
            ("GITHUB_TOKEN", "abc"),
            ("mySecretThing", "abc"),
            ("API_KEY", "1"),
            ("X", "ghp_0123456789abcdef"),
            ("X", "AKIAIOSFODNN7EXAMPLE"),
            ("X", "eyJhbGciOiJI.eyJzdWIi.c2ln"),
            ("X", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
            ("X", "5f4dcc3b5aa765d61d8327deb882cf99"),
        ];
        for (name, value) in secrets {
            assert_eq!(told(name, value), format!("{name}=***"));
        }
        assert_eq!(told("URL", "redis://me:pw@host:1/0?x=y"), "URL=redis://me:***@host:1/0?x=y");
        assert_eq!(told("URL", "https://tok@host/"), "URL=https://***@host/");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        let plain = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("PWD", "/work"),
            ("KEYBOARD", "us"),
            ("HOSTNAME", "c0ffee123456"),
            ("URL", "https://host/a?b=c"),
            ("EMPTY_TOKEN", ""),
        ];
        for (name, value) in plain {
            assert_eq!(told(name, value), format!("{name}={value}"));
        }
        assert_eq!(told("X", "a\nb\x1b[31m"), "X=a\\nb\\u{1b}[31m");
    }

    #[test]
    fn arguments_hide_what_they_name() {
        let words = ["--password", "x", "--token=abc", "-v", "a b", "http://u:p@h/", ""].map(OsString::from);
        let expected = ["--password", "***", "--token=***", "-v", "'a b'", "http://u:***@h/", "''"];
        let quoted: Vec<_> = arguments(&words);
        assert_eq!(quoted, expected);
    }
}
