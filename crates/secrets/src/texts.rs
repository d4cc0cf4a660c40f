//! Any text, with what is secret in it hidden: logins and secret paths of URLs, `password=…` of queries and of connection strings,
//! `"password": "…"` of JSON, `Bearer …`, keys in PEM, and tokens that are known by how they begin.

use crate::{Hiding, names::name_is_secret, values};

/// What stands before the secret in a header's value.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];
/// Addresses whose path is the secret.
const HOOKS: [&str; 4] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "discord.com/api/webhooks/",
    "api.telegram.org/bot",
];
const PEM: &str = "-----BEGIN ";

impl Hiding {
    /// Any text with its secrets hidden.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let text = self.urls(text);
        let text = self.schemes(&self.pairs(&text));
        self.tokens(&self.keys(&text))
    }

    /// The text with each URL's password hidden: `redis://user:[hidden]@host`.
    fn urls(&self, text: &str) -> String {
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
                    told.push_str(&format!("{name}{}@", self.mark));
                    host
                }
            };
            told.push_str(host);
            rest = next;
            let hook =
                HOOKS.iter().find_map(|hook| hook.strip_prefix(host).filter(|path| next.starts_with(path)));
            if let Some(path) = hook.filter(|_| !host.is_empty()) {
                told.push_str(path);
                told.push_str(self.mark);
                let end = next.find(|c: char| c.is_whitespace() || "'\"".contains(c)).unwrap_or(next.len());
                rest = &next[end..];
            }
        }
        told + rest
    }

    /// The text with the values of secret names hidden: `password=[hidden]`, `"password": "[hidden]"`, `password: [hidden]`.
    fn pairs(&self, text: &str) -> String {
        let mut told = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['=', ':']) {
            let (before, after) = rest.split_at(at);
            told.push_str(before);
            told.push_str(&after[..1]);
            rest = &after[1..];
            let Some((start, end)) = secret_after(before, &after[..1], rest) else { continue };
            let value = &rest[start..end];
            if value.starts_with(self.mark) || values::looks_like_path(value) {
                continue;
            }
            told.push_str(&rest[..start]);
            told.push_str(self.mark);
            rest = &rest[end..];
        }
        told + rest
    }

    /// The text with what follows `Bearer ` and `Basic ` hidden.
    fn schemes(&self, text: &str) -> String {
        let mut told = String::new();
        let mut rest = text;
        let lower = text.to_ascii_lowercase();
        while let Some(end) = {
            let lower = &lower[text.len() - rest.len()..];
            SCHEMES.iter().filter_map(|scheme| Some(lower.find(scheme)? + scheme.len())).min()
        } {
            let (before, after) = rest.split_at(end);
            let length =
                after.find(|c: char| c.is_whitespace() || "\"',;".contains(c)).unwrap_or(after.len());
            told.push_str(before);
            told.push_str(if length > 0 { self.mark } else { "" });
            rest = &after[length..];
        }
        told + rest
    }

    /// The text with private keys hidden (RFC 7468), to their ends if those are there.
    fn keys(&self, text: &str) -> String {
        let mut told = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(PEM) {
            let (before, after) = rest.split_at(at);
            told.push_str(before);
            let label = after[PEM.len()..].split("-----").next().unwrap_or_default();
            if !label.ends_with("PRIVATE KEY") {
                told.push_str(PEM);
                rest = &after[PEM.len()..];
                continue;
            }
            let end = format!("-----END {label}-----");
            let end = after.find(&end).map_or(after.len(), |at| at + end.len());
            told.push_str(self.mark);
            rest = &after[end..];
        }
        told + rest
    }

    /// The text with known tokens hidden, where words begin.
    fn tokens(&self, text: &str) -> String {
        let mut told = String::new();
        let (mut from, mut at) = (0, 0);
        let mut within = false;
        while let Some(letter) = text[at..].chars().next() {
            if !within && let Some(length) = values::token(&text[at..]) {
                told.push_str(&text[from..at]);
                told.push_str(self.mark);
                at += length;
                from = at;
                continue;
            }
            within = letter.is_alphanumeric() || letter == '_';
            at += letter.len_utf8();
        }
        told + &text[from..]
    }
}

/// Where in `value` the secret is that a name at the end of `before` and this mark announce.
fn secret_after(before: &str, mark: &str, value: &str) -> Option<(usize, usize)> {
    let named = before.trim_end();
    let bare = named.trim_end_matches(['"', '\'', '\\']);
    let is_quoted = bare.len() < named.len();
    let start = bare.rfind(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)));
    // A name begins after one byte, or after another character, whose end is found.
    let start = start.map_or(0, |at| at + 1);
    let start = (start..=bare.len()).find(|at| bare.is_char_boundary(*at)).unwrap_or(bare.len());
    let name = &bare[start..];
    if name.is_empty() || !name_is_secret(name) {
        return None;
    }
    let blank = value.len() - value.trim_start().len();
    let quotes = value[blank..].len() - value[blank..].trim_start_matches(['"', '\'', '\\']).len();
    let first = blank + quotes;
    let inside = &value[first..];
    // A folder's name in a list of paths is followed by a colon, too.
    if mark == ":" && !is_quoted && first == 0 && inside.starts_with(['/', '.']) {
        return None;
    }
    let leading = bare[..start].chars().next_back();
    let until = |ends: &str| inside.find(|c: char| c.is_whitespace() || ends.contains(c));
    let end = match (quotes, mark, leading) {
        (1.., _, _) => closing(inside, value[..first].chars().next_back().unwrap_or('"')),
        // JSON's and Python's numbers and words.
        (0, ":", _) if is_quoted => until(",}]\"'"),
        (0, ":", _) if blank == 0 => until("&,;}\"'"),
        (0, ":", _) => inside.find(['\n', '"', '\'']),
        (_, _, Some(';')) => inside.find([';', '\n', '"', '\'']),
        (_, _, Some('?' | '&')) => until("&#\"'"),
        (_, _, Some(',' | '{')) => until(",}\"'"),
        _ => until("\"'"),
    };
    let end = first + end.unwrap_or(inside.len());
    (end > first).then_some((first, end))
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
