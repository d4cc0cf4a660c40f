//! Values that are secret by their look, whatever their name.

use crate::names;

/// How tokens begin that carry a mark of their issuer, and how many bytes follow at least.
const KNOWN: &[(&str, usize)] = &[
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 9),
    ("glpat-", 14),
    ("xoxa-", 10),
    ("xoxb-", 10),
    ("xoxe-", 10),
    ("xoxo-", 10),
    ("xoxp-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("sk-live-", 10),
    ("sk-test-", 10),
    ("sk-proj-", 10),
    ("sk-ant-", 10),
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("pk_live_", 10),
    ("pk_test_", 10),
    ("rk_live_", 10),
    ("rk_test_", 10),
    ("sk-", 17),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 16),
    ("hvs.", 20),
    ("hvb.", 20),
    ("npm_", 30),
    ("pypi-", 30),
    ("dckr_pat_", 20),
    ("SG.", 33),
];
/// Words of names whose values are sums, not secrets, if nothing else speaks for one.
const SUMS: &[&str] = &[
    "hash", "md5", "sha", "sha1", "sha256", "sha512", "digest", "checksum", "sum", "commit", "revision", "rev", "etag",
];
/// So many letters of a token are judged.
const JUDGED: usize = 1024;
/// As long as this, a value without a blank or a path in it is a token's.
const LONG: usize = 32;

/// Is the whole value one secret?
pub(crate) fn is_secret(name: &str, value: &str, random: bool) -> bool {
    let begins = |(begin, _): &(&str, usize)| value.len() > begin.len() + 7 && value.starts_with(begin);
    let sum = value.bytes().all(|byte| byte.is_ascii_hexdigit())
        && names::words(name).iter().any(|word| SUMS.contains(&word.as_str()));
    let is_word = value.chars().all(is_of_token);
    (is_word && KNOWN.iter().any(begins))
        || value.contains("PRIVATE KEY-----")
        || (is_word && value.starts_with("eyJ") && value.matches('.').count() >= 2)
        || (random && !sum && value.len() >= LONG && looks_random(value))
}

/// How many bytes of the text are a known token that it begins with.
pub(crate) fn token(text: &str) -> Option<usize> {
    let known = KNOWN.iter().find(|(begin, _)| text.starts_with(begin));
    let is_web_token = text.starts_with("eyJ");
    let (begin, least) = known.copied().or(is_web_token.then_some(("eyJ", 17)))?;
    // Enough to tell by; a text of nothing but such beginnings would be read from each of them else.
    let head: String = text.chars().take_while(|letter| is_of_token(*letter)).take(JUDGED).collect();
    let digits = head.bytes().filter(u8::is_ascii_digit).count();
    let fits = match is_web_token {
        true => head.matches('.').count() >= 2,
        false => digits >= 2 || begin == "AKIA",
    };
    if !fits {
        return None;
    }
    let length = text.find(|letter| !is_of_token(letter)).unwrap_or(text.len());
    // A sentence may end behind it.
    let token = text[..length].trim_end_matches('.');
    (token.len() >= begin.len() + least).then_some(token.len())
}

/// May it be a letter of a token?
fn is_of_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_-.".contains(letter)
}

/// Letters and digits mixed, as in hexadecimal and base64; paths, sentences and lists are not.
fn looks_random(value: &str) -> bool {
    let body = value.trim_end_matches('=');
    let all = body.chars().all(|c| c.is_ascii_alphanumeric() || "+/_-".contains(c));
    let digits = body.chars().filter(char::is_ascii_digit).count();
    let letters = body.chars().filter(char::is_ascii_alphabetic).count();
    all && !value.starts_with('/') && digits >= 4 && letters >= 4
}

/// A file's path: what is in it is not shown.
pub(crate) fn looks_like_path(value: &str) -> bool {
    let plain = value.chars().all(|letter| letter.is_alphanumeric() || "/._-@".contains(letter));
    let rooted = value.starts_with('/') || value.starts_with("./") || value.starts_with("../");
    plain && rooted && value.len() < 256
}
