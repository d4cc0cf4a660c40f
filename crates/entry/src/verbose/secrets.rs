//! What is shown of names and values that may be secrets: that they are there, and nothing else.

use std::ffi::{OsStr, OsString};

use crate::tell;

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// Words of names, between `_`, `-` and `.` or by capitals, whose values are hidden.
const WORDS: [&str; 28] = [
    "key",
    "keys",
    "pass",
    "pwd",
    "pw",
    "auth",
    "authorization",
    "token",
    "tokens",
    "passphrase",
    "credentials",
    "private",
    "cookie",
    "cookies",
    "dsn",
    "sig",
    "signature",
    "salt",
    "jwt",
    "pat",
    "apikey",
    "accesskey",
    "accountkey",
    "secretkey",
    "privatekey",
    "sharedkey",
    "authkey",
    "authtoken",
];
/// And anywhere in a name.
const WITHIN: [&str; 4] = ["secret", "password", "passwd", "credential"];
/// Words of names whose values are sums, not secrets, if nothing else speaks for one.
const SUMS: [&str; 13] = [
    "hash", "md5", "sha", "sha1", "sha256", "sha512", "digest", "checksum", "sum", "commit", "revision",
    "rev", "etag",
];
/// How well-known tokens begin.
const BEGIN: [&str; 14] = [
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
];
/// What stands before the secret in a header's value.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];
/// Addresses whose path is the secret.
const HOOKS: [&str; 4] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "discord.com/api/webhooks/",
    "api.telegram.org/bot",
];
/// As long as this, a value without a blank or a path in it is a token's.
const LONG: usize = 32;

/// `NAME=value`, or `NAME=***`.
pub(crate) fn variable(name: &OsStr, value: &OsStr) -> String {
    let (name, value) = (name.display().to_string(), value.display().to_string());
    tell::plain(&format!("{name}={}", shown(&name, &value)))
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
}

/// Arguments as a shell would quote them; what follows `--password` and the like is hidden.
pub(crate) fn arguments(words: &[OsString]) -> Vec<String> {
    let mut next = Next::Plain;
    let mut told = Vec::new();
    for word in words {
        let word = word.display().to_string();
        let (shown, after) = argument(&word, next);
        told.push(quoted(&shown));
        next = after;
    }
    told
}

/// One argument as it is told, and what it says of the next.
fn argument(word: &str, said: Next) -> (String, Next) {
    let told = match said {
        Next::Secret => Some(HIDDEN.to_owned()),
        Next::Header => header(word),
        Next::Login => login(word),
        Next::Plain => None,
    };
    if let Some(told) = told {
        return (told, Next::Plain);
    }
    let Some(name) = word.strip_prefix('-') else { return (shown("", word), Next::Plain) };
    if let Some((flag, value)) = word.split_once('=') {
        let told = match of_flag(flag) {
            Next::Header => header(value),
            Next::Login => login(value),
            _ => None,
        };
        let told = told.unwrap_or_else(|| shown(flag.trim_start_matches('-'), value));
        return (format!("{flag}={told}"), Next::Plain);
    }
    if name.strip_prefix('p').is_some_and(is_attached) {
        return (format!("-p{HIDDEN}"), Next::Plain);
    }
    match name.strip_prefix('u').and_then(login) {
        Some(login) => (format!("-u{login}"), Next::Plain),
        None => (shown("", word), of_flag(word)),
    }
}

/// What follows a flag.
fn of_flag(flag: &str) -> Next {
    match flag {
        "-H" | "--header" | "--proxy-header" => Next::Header,
        "-u" | "-U" | "--user" | "--proxy-user" => Next::Login,
        _ if is_secret_name(flag.trim_start_matches('-')) => Next::Secret,
        _ => Next::Plain,
    }
}

/// Whether what follows `-p` at once is a password rather than the rest of a flag's name or a port.
fn is_attached(rest: &str) -> bool {
    let port = rest.chars().all(|c| c.is_ascii_digit() || ":./-".contains(c));
    let name = rest.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let secret = WITHIN.iter().any(|part| rest.contains(part));
    // `-password`, `-privateKey`, `-pwd` are names.
    let ours = ["ass", "riv", "w"].iter().any(|begin| rest.starts_with(begin));
    !port && !ours && (!name || secret)
}

/// `name: ***`, of a header that has a secret.
fn header(text: &str) -> Option<String> {
    let (name, value) = text.split_once(':')?;
    let blank = if value.starts_with(' ') { " " } else { "" };
    (is_secret_name(name) && !value.trim().is_empty()).then(|| format!("{name}:{blank}{HIDDEN}"))
}

/// `name:***`; not of numbers, which are a user and a group.
fn login(text: &str) -> Option<String> {
    let (name, password) = text.split_once(':')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = password.is_empty() || (number(name) && number(password)) || password.starts_with("//");
    (!plain).then(|| format!("{name}:{HIDDEN}"))
}

/// As a shell reads it.
fn quoted(word: &str) -> String {
    let simple = |c: char| c.is_alphanumeric() || "-_./=:,@%+*".contains(c);
    let plain = tell::plain(word);
    match !word.is_empty() && word.chars().all(simple) {
        true => word.to_owned(),
        // With control characters, as bash reads them.
        false if plain != word => {
            format!("$'{}'", tell::plain(&word.replace('\\', "\\\\").replace('\'', "\\'")))
        }
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn shown(name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    let sum = value.bytes().all(|byte| byte.is_ascii_hexdigit())
        && words(name).iter().any(|word| SUMS.contains(&word.as_str()));
    if is_secret_name(name) || (!sum && is_secret_value(value)) {
        return HIDDEN.to_owned();
    }
    masked(value)
}

/// A name's words, in small letters: by `_`, `-`, `.`, blanks, and where capitals begin one.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_small = chars.peek().is_some_and(char::is_ascii_lowercase);
        let begins = c.is_ascii_uppercase()
            && (before.is_ascii_lowercase() || (before.is_ascii_uppercase() && next_is_small));
        if begins || !c.is_ascii_alphanumeric() {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric() {
            words.last_mut().into_iter().for_each(|word| word.push(c.to_ascii_lowercase()));
        }
        before = c;
    }
    words
}

fn is_secret_word(word: &str) -> bool {
    WORDS.contains(&word) || word.ends_with("token") || WITHIN.iter().any(|part| word.contains(part))
}

fn is_secret_name(name: &str) -> bool {
    // The shell's own, which is a folder.
    if name.eq_ignore_ascii_case("pwd") || name.eq_ignore_ascii_case("oldpwd") {
        return false;
    }
    words(name).iter().any(|word| is_secret_word(word))
        || WITHIN.iter().any(|part| name.to_ascii_lowercase().contains(part))
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

/// The text without what looks like a secret in it: logins and secret paths of URLs, `password=…` of queries and of
/// connection strings, `"password": "…"` of JSON, `Bearer …`, and tokens that are known by how they begin.
pub(crate) fn masked(text: &str) -> String {
    let text = urls(text);
    let text = schemes(&pairs(&text));
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let tokens = text.split_inclusive(|c| !is_part(c)).map(|piece| {
        let token = piece.trim_end_matches(|c| !is_part(c));
        let known = BEGIN.iter().any(|begin| token.starts_with(begin));
        let digits = token.bytes().filter(u8::is_ascii_digit).count();
        match known && token.len() >= 20 && digits >= 2 {
            true => format!("{HIDDEN}{}", &piece[token.len()..]),
            false => piece.to_owned(),
        }
    });
    tokens.collect()
}

/// The text with each URL's password hidden: `redis://user:***@host`.
fn urls(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(|c: char| c.is_whitespace() || "/?#'\"".contains(c)).unwrap_or(after.len());
        let (authority, next) = after.split_at(end);
        told.push_str(before);
        let host = match authority.rsplit_once('@') {
            None => authority,
            Some((login, host)) => {
                // Without a colon the name itself is the token.
                let name = login.split_once(':').map(|(name, _)| format!("{name}:")).unwrap_or_default();
                told.push_str(&format!("{name}{HIDDEN}@"));
                host
            }
        };
        told.push_str(host);
        rest = next;
        let hook =
            HOOKS.iter().find_map(|hook| hook.strip_prefix(host).filter(|path| next.starts_with(path)));
        if let Some(path) = hook.filter(|_| !host.is_empty()) {
            told.push_str(path);
            told.push_str(HIDDEN);
            let end = next.find(|c: char| c.is_whitespace() || "'\"".contains(c)).unwrap_or(next.len());
            rest = &next[end..];
        }
    }
    told + rest
}

/// The text with the values of secret names hidden: `password=***`, `"password": "***"`, `password: ***`.
fn pairs(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at);
        told.push_str(before);
        told.push_str(&after[..1]);
        rest = &after[1..];
        let Some(span) = secret_after(before, &after[..1], rest) else { continue };
        told.push_str(&rest[..span.0]);
        told.push_str(HIDDEN);
        rest = &rest[span.1..];
    }
    told + rest
}

/// Where in `value` the secret is that a name at the end of `before` and this mark announce.
fn secret_after(before: &str, mark: &str, value: &str) -> Option<(usize, usize)> {
    let named = before.trim_end();
    let bare = named.trim_end_matches(['"', '\'', '\\']);
    let is_quoted = bare.len() < named.len();
    let start =
        bare.rfind(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).map_or(0, |at| at + 1);
    // A name begins after one byte, or after another character, whose end is found.
    let start = (start..=bare.len()).find(|at| bare.is_char_boundary(*at)).unwrap_or(bare.len());
    let name = &bare[start..];
    if name.is_empty() || !is_secret_name(name) {
        return None;
    }
    let blank = value.len() - value.trim_start().len();
    let quotes = value[blank..].len() - value[blank..].trim_start_matches(['"', '\'', '\\']).len();
    // A folder's name in a list of paths is followed by a colon, too.
    if mark == ":" && !is_quoted && blank == 0 && quotes == 0 {
        return None;
    }
    let first = blank + quotes;
    let inside = &value[first..];
    let leading = bare[..start].chars().next_back();
    let end = match (quotes, mark, leading) {
        (1.., _, _) => {
            let quote = value[..first].chars().next_back().unwrap_or('"');
            closing(inside, quote)
        }
        (0, ":", _) => inside.find(['\n', '"', '\'']),
        (_, _, Some(';')) => inside.find([';', '\n', '"', '\'']),
        (_, _, Some('?' | '&')) => inside.find(|c: char| c.is_whitespace() || "&#\"'".contains(c)),
        (_, _, Some(',' | '{')) => inside.find(|c: char| c.is_whitespace() || ",}\"'".contains(c)),
        _ => inside.find(|c: char| c.is_whitespace() || "\"'".contains(c)),
    };
    let end = first + end.unwrap_or(inside.len());
    (end > first && &value[first..end] != HIDDEN).then_some((first, end))
}

/// Where a quotation ends.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// The text with what follows `Bearer ` and `Basic ` hidden.
fn schemes(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    let lower = text.to_ascii_lowercase();
    while let Some(end) = {
        let lower = &lower[text.len() - rest.len()..];
        SCHEMES.iter().filter_map(|scheme| Some(lower.find(scheme)? + scheme.len())).min()
    } {
        let (before, after) = rest.split_at(end);
        let length = after.find(|c: char| c.is_whitespace() || "\"',;".contains(c)).unwrap_or(after.len());
        told.push_str(before);
        told.push_str(if length > 0 { HIDDEN } else { "" });
        rest = &after[length..];
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
        for (value, expected) in [
            ("https://h/a?password=pw&x=1", "https://h/a?password=***&x=1"),
            ("https://h/a?x=1&token=abc#top", "https://h/a?x=1&token=***#top"),
            (
                "https://h/?X-Amz-Credential=AK%2F&X-Amz-Signature=f00&sig=a%3D",
                "https://h/?X-Amz-Credential=***&X-Amz-Signature=***&sig=***",
            ),
            ("https://h/?api_key=1 and more", "https://h/?api_key=*** and more"),
            ("Server=db;User Id=sa;Password=p w1;Timeout=3", "Server=db;User Id=sa;Password=***;Timeout=3"),
            ("AccountName=a;AccountKey=bXlrZXk=;Suffix=x", "AccountName=a;AccountKey=***;Suffix=x"),
            ("host=h password='a b' user=u", "host=h password='***' user=u"),
            (
                "{\"user\": \"u\", \"password\": \"a\\\"b\", \"n\": 1}",
                "{\"user\": \"u\", \"password\": \"***\", \"n\": 1}",
            ),
            ("Basic dTpw", "Basic ***"),
            ("bearer xyz", "bearer ***"),
            ("https://hooks.slack.com/services/T0/B0/x", "https://hooks.slack.com/services/***"),
            ("use ghp_0123456789abcdef0 there", "use *** there"),
            ("é=token=x", "é=token=***"),
        ] {
            assert_eq!(told("X", value), format!("X={expected}"));
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
            ("HASH", "5f4dcc3b5aa765d61d8327deb882cf99"),
            ("TOKENIZER", "bert"),
            ("FOLDERS", "/x/auth:/srv/token:/y"),
            ("LIST", "a=b;c=d,e: f"),
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
        for (line, expected) in [
            ("--header|Authorization: Bearer xyz", "--header 'Authorization: ***'"),
            ("-H|X-Api-Key: abc", "-H 'X-Api-Key: ***'"),
            ("-H|X-Api-Key:abc|-H|Accept: a", "-H X-Api-Key:*** -H 'Accept: a'"),
            ("-psecret|-u|user:pw", "-p*** -u user:***"),
            ("-pHunter2|-uuser:pw|--user=me:pw", "-p*** -uuser:*** --user=me:***"),
            ("-p|8080:80|-p22|-port|80|-u|1000:1000", "-p 8080:80 -p22 -port 80 -u 1000:1000"),
            (
                "-privateKey|x|-password|x|--auth-token|y|--password=z",
                "-privateKey *** -password *** --auth-token *** --password=***",
            ),
            ("-c|echo \"it's\" \\n", "-c 'echo \"it'\\''s\" \\n'"),
            ("a\nb'c", "$'a\\nb\\'c'"),
        ] {
            let words: Vec<_> = line.split('|').map(OsString::from).collect();
            assert_eq!(arguments(&words).join(" "), expected);
        }
    }
}
