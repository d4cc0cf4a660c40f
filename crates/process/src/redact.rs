//! Secrets hidden in everything that is shown: command lines, environments, texts.
//!
//! Judged by names (`--api-token`, `DB_PASSWORD`) and by the look of values (known kinds of tokens, credentials in URLs).
//! Rather hides too much than too little; paths of files are left, since what is in them is not shown.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

/// What stands where a secret stood.
pub const HIDDEN: &str = "[hidden]";

/// A command line with its secrets hidden.
#[must_use]
pub fn command_line(arguments: &[String]) -> Vec<String> {
    let program = arguments.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    let mut shown = Vec::with_capacity(arguments.len());
    let mut next_is_secret = false;
    for argument in arguments {
        if next_is_secret && !is_flag(argument) {
            shown.push(if looks_like_path(argument) { argument.clone() } else { HIDDEN.to_owned() });
            next_is_secret = false;
            continue;
        }
        next_is_secret =
            is_flag(argument) && (takes_secret(program, argument) || flag_name_is_secret(argument));
        shown.push(short_flag(program, argument).unwrap_or_else(|| text(argument).into_owned()));
    }
    shown
}

/// A variable's value, hidden when name or value look secret.
#[must_use]
pub fn variable<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if name_is_secret(name) && !value.is_empty() && !looks_like_path(value) {
        Cow::Borrowed(HIDDEN)
    } else {
        text(value)
    }
}

/// Any text with its secrets hidden: `name=value` and `"name": "value"` with secret names, credentials in URLs, known
/// kinds of tokens.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    // Compiling the patterns takes milliseconds, and most texts can have nothing for them.
    if text.contains("://") {
        text = replace(text, &CREDENTIALS, |found| format!("{}{HIDDEN}@", &found[1]));
    }
    if text.contains(char::is_whitespace) {
        text = replace(text, &BEARER, |found| format!("{} {HIDDEN}", &found[1]));
    }
    if may_have_token(&text) {
        text = replace(text, &TOKEN, |_| HIDDEN.to_owned());
    }
    if !text.contains(['=', ':']) {
        return text;
    }
    replace(text, &ASSIGNMENT, |found| {
        let (name, sign, quote, value) = (&found["name"], &found["sign"], &found["quote"], &found["value"]);
        let hide = name_is_secret(name) && !looks_like_path(value) && !value.starts_with(HIDDEN);
        if hide { format!("{name}{sign}{quote}{HIDDEN}") } else { found[0].to_owned() }
    })
}

/// Has it a word as long as the shortest token, or the beginning of a key?
fn may_have_token(text: &str) -> bool {
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    text.contains("-----BEGIN") || text.split(|letter| !is_of_word(letter)).any(|word| word.len() >= SHORTEST)
}

/// Bytes of the shortest token.
const SHORTEST: usize = 15;

/// Does a name (of a variable, flag or field) say that its value is secret?
#[must_use]
pub fn name_is_secret(name: &str) -> bool {
    let words = words(name);
    let is_about = |word: &str| words.last().is_some_and(|last| last == word);
    if ABOUT.iter().any(|word| is_about(word)) || matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    let whole = words.concat();
    words.iter().any(|word| SECRET_WORDS.contains(&word.as_str()))
        || SECRET_PARTS.iter().any(|part| whole.contains(part))
}

/// A word of a name that makes it secret.
const SECRET_WORDS: &[&str] = &[
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "creds",
    "jwt",
    "key",
    "keys",
    "otp",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pwd",
    "secret",
    "secrets",
    "token",
    "tokens",
];

/// The same where words are not set apart.
const SECRET_PARTS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "authtoken",
    "accesstoken",
];

/// A last word by which a name is only about a secret.
const ABOUT: &[&str] = &[
    "file",
    "path",
    "dir",
    "directory",
    "name",
    "type",
    "ttl",
    "length",
    "size",
    "count",
    "expiry",
    "enabled",
    "mode",
];

/// User and password before a URL's host; a lone user that is long enough to be a token.
static CREDENTIALS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"([A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#:@]*:)?)(?:[^\s/?#@]{16,}|(?:[^\s/?#@]+))@")
});
static BEARER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"));
/// Tokens that carry a mark of their issuer, JSON web tokens, keys in PEM.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{15,}|xox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"|(?:sk|pk|rk)[_-](?:live|test|proj|ant)[_-][A-Za-z0-9_-]{10,}|sk-[A-Za-z0-9]{20,}|A(?:KIA|SIA)[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,}",
        r"|hv[bs]\.[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|dckr_pat_[A-Za-z0-9_-]{20,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
        r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)",
        r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*-----)?",
    ))
});
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)(?P<sign>["']?\s*(?:=|:\s?)\s*)(?P<quote>["']?)(?P<value>[^\s"'&,;}]+)"#,
    )
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns above are constants that a test compiles")
}

fn replace<'a>(text: Cow<'a, str>, pattern: &Regex, by: impl FnMut(&Captures<'_>) -> String) -> Cow<'a, str> {
    match pattern.replace_all(&text, by) {
        Cow::Borrowed(_) => text,
        Cow::Owned(changed) => Cow::Owned(changed),
    }
}

/// The words of a name: `dbPassword`, `DB_PASSWORD` and `db-password` alike.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (letter.is_uppercase() && previous_is_lower) {
            words.push(String::new());
        }
        previous_is_lower = letter.is_lowercase() || letter.is_numeric();
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_flag(argument: &str) -> bool {
    argument.len() > 1 && argument.starts_with('-')
}

/// `--name`, whose value is the next argument.
fn flag_name_is_secret(argument: &str) -> bool {
    let name = argument.trim_start_matches('-');
    name.len() > 1 && !name.contains(['=', ' ', ':']) && name_is_secret(name)
}

/// Short flags of well-known programs that take a secret as the next argument.
fn takes_secret(program: &str, argument: &str) -> bool {
    matches!(
        (program, argument),
        ("sshpass", "-p") | ("redis-cli", "-a") | ("curl", "-u" | "--user") | ("ldapsearch", "-w")
    )
}

/// Short flags of well-known programs with the secret in the same argument.
fn short_flag(program: &str, argument: &str) -> Option<String> {
    let flag = match program {
        "sshpass" => "-p",
        _ if program.starts_with("mysql") || program.starts_with("mariadb") => "-p",
        _ => return None,
    };
    (argument.len() > 2 && argument.starts_with(flag)).then(|| format!("{flag}{HIDDEN}"))
}

fn looks_like_path(value: &str) -> bool {
    let plain = value.chars().all(|letter| letter.is_alphanumeric() || "/._-@".contains(letter));
    let rooted = value.starts_with('/') || value.starts_with("./") || value.starts_with("../");
    plain && rooted && value.len() < 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_command_lines_are_hidden() {
        for (line, shown) in [
            ("app --password hunter2 -v", "app --password [hidden] -v"),
            ("app --api-key=abc --port=80", "app --api-key=[hidden] --port=80"),
            ("app --apiToken abc", "app --apiToken [hidden]"),
            ("app --token-file /run/secrets/t", "app --token-file /run/secrets/t"),
            ("nginx --key /etc/tls/server.key", "nginx --key /etc/tls/server.key"),
            ("app --password --verbose", "app --password --verbose"),
            ("/usr/bin/mysqldump -psecret -uroot db", "/usr/bin/mysqldump -p[hidden] -uroot db"),
            ("sshpass -p secret ssh host", "sshpass -p [hidden] ssh host"),
            ("redis-cli -a secret ping", "redis-cli -a [hidden] ping"),
            ("curl -u ada:lovelace https://x", "curl -u [hidden] https://x"),
            ("java -Ddb.password=x -Dport=1 -jar a.jar", "java -Ddb.password=[hidden] -Dport=1 -jar a.jar"),
            ("env DB_PASSWORD=x sh", "env DB_PASSWORD=[hidden] sh"),
            ("containerd-shim -namespace moby -id 3f2a", "containerd-shim -namespace moby -id 3f2a"),
            ("python -m http.server 8000", "python -m http.server 8000"),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(command_line(&arguments).join(" "), shown);
        }
    }

    #[test]
    fn values_that_look_secret_are_hidden_whatever_their_name() {
        for (plain, shown) in [
            ("postgres://shop:pw@db:5432/shop", "postgres://shop:[hidden]@db:5432/shop"),
            ("amqp://user:p%40ss@mq", "amqp://user:[hidden]@mq"),
            (
                "https://ghp_0123456789abcdefghij0123456789abcdef@github.com/x",
                "https://[hidden]@github.com/x",
            ),
            ("Authorization: Bearer abcdefgh12345678", "Authorization: [hidden] [hidden]"),
            ("x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc y", "x [hidden] y"),
            ("AKIAIOSFODNN7EXAMPLE", "[hidden]"),
            (
                r#"{"user":"ada","password":"x y","port":1}"#,
                r#"{"user":"ada","password":"[hidden] y","port":1}"#,
            ),
            ("https://x/cb?code=1&access_token=abc&z=2", "https://x/cb?code=1&access_token=[hidden]&z=2"),
            ("host:8080 key=value", "host:8080 key=[hidden]"),
            ("http://example.org/a@b", "http://example.org/a@b"),
            ("nothing to hide here: 1", "nothing to hide here: 1"),
        ] {
            assert_eq!(text(plain), shown);
        }
    }

    #[test]
    fn variables_are_judged_by_name_and_value() {
        for (name, value, shown) in [
            ("PWD", "/srv", "/srv"),
            ("DB_PASSWORD", "x", HIDDEN),
            ("GITHUB_TOKEN", "abc", HIDDEN),
            ("AWS_SECRET_ACCESS_KEY", "abc", HIDDEN),
            ("PASSWORD_FILE", "/run/x", "/run/x"),
            ("KEYBOARD", "us", "us"),
            ("AUTHOR", "ada", "ada"),
            ("PGPASSWORD", "x", HIDDEN),
            ("TOKENIZER", "bpe", "bpe"),
            ("DATABASE_URL", "mysql://a:b@c/d", "mysql://a:[hidden]@c/d"),
            ("SECRET", "", ""),
        ] {
            assert_eq!(variable(name, value), shown, "{name}");
        }
    }

    #[test]
    fn hostile_text_is_neither_a_panic_nor_slow() {
        let long = "a:/".repeat(100_000);
        let start = std::time::Instant::now();
        assert!(!text(&long).is_empty());
        assert!(start.elapsed().as_secs() < 10, "took {:?}", start.elapsed());
        for odd in ["://@", "=:=", "\u{0}\u{1f383}=\u{1f383}", "--", "-", ""] {
            let _ = command_line(&[odd.to_owned(), odd.to_owned()]);
        }
    }
}
