//! Names of variables, flags, fields and headers that say that their value is secret.

/// A word of a name that makes it secret.
const WORDS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "accountkey",
    "apikey",
    "auth",
    "authkey",
    "authorization",
    "bearer",
    "cookie",
    "cookies",
    "creds",
    "dsn",
    "jwt",
    "key",
    "keys",
    "otp",
    "pass",
    "passphrase",
    "pat",
    "private",
    "privatekey",
    "pw",
    "pwd",
    "salt",
    "secretkey",
    "sharedkey",
    "sig",
    "signature",
    "tokens",
];
/// The same where words are not set apart.
const WITHIN: &[&str] = &[
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "authtoken",
    "accesstoken",
];
/// A last word by which a name is only about a secret.
const ABOUT: &[&str] = &[
    "file", "path", "dir", "directory", "name", "type", "ttl", "length", "size", "count", "expiry", "enabled", "mode",
];

/// Does a name (of a variable, flag or field) say that its value is secret?
#[must_use]
pub fn name_is_secret(name: &str) -> bool {
    // The shell's own, which are folders.
    if name.eq_ignore_ascii_case("pwd") || name.eq_ignore_ascii_case("oldpwd") {
        return false;
    }
    let words = words(name);
    if words.last().is_some_and(|last| ABOUT.contains(&last.as_str())) {
        return false;
    }
    words.iter().any(|word| WORDS.contains(&word.as_str()) || word.ends_with("token"))
        || has_secret_part(&words.concat())
}

/// Is there such a part in it, in small letters?
pub(crate) fn has_secret_part(name: &str) -> bool {
    WITHIN.iter().any(|part| name.contains(part))
}

/// A name's words, in small letters: `dbPassword`, `DB_PASSWORD`, `db-password` and `DBPassword` alike.
pub(crate) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        let next_is_small = letters.peek().is_some_and(|next| next.is_lowercase());
        let begins = letter.is_uppercase()
            && (before.is_lowercase() || before.is_numeric() || (before.is_uppercase() && next_is_small));
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}
