//! Who may do what: rules that add up; what no rule allows is refused.

use pepo_wire::agent::Right;
use serde::{Deserialize, Serialize};

/// The policy file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) rules: Vec<Rule>,
}

/// Everyone named may do each of the verbs on every target that fits.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Names of people; `*` is everyone with a token.
    pub(crate) who: Vec<String>,
    pub(crate) verbs: Vec<Verb>,
    /// As `ps` prints them, `docker/shop@node-a`; a `*` stands for any text.
    pub(crate) targets: Vec<String>,
}

/// What can be allowed, apart from each other.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    /// Lists, stacks, profiles, files out of it.
    Look,
    /// A debugger.
    Stop,
    /// What can run code in the target; files into it.
    Modify,
}

impl Verb {
    pub(crate) const ALL: [Verb; 3] = [Verb::Look, Verb::Stop, Verb::Modify];

    /// The right that a stream is opened with.
    pub(crate) fn of(right: Right) -> Option<Verb> {
        match right {
            Right::Stop => Some(Verb::Stop),
            Right::Modify => Some(Verb::Modify),
            // A debugger's own language runs programs on the node: never by a server.
            Right::Raw | Right::Unspecified => None,
        }
    }
}

impl Policy {
    /// May `who` do this to the target?
    pub(crate) fn allows(&self, who: &str, verb: Verb, target: &str) -> bool {
        self.rules.iter().any(|rule| {
            rule.verbs.contains(&verb)
                && rule.who.iter().any(|one| one == "*" || one == who)
                && rule.targets.iter().any(|pattern| fits(pattern, target))
        })
    }
}

/// Does the text fit a pattern in which `*` stands for any text? Linear in both, with one step back.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "docker/shop@a", true),
            ("*", "", true),
            ("docker/shop@a", "docker/shop@a", true),
            ("docker/shop@a", "docker/shop@ab", false),
            ("docker/shop*", "docker/shop@ab", true),
            ("*@a", "docker/shop@a", true),
            ("*@a", "docker/shop@ab", false),
            ("docker/*@a", "docker/shop@a", true),
            ("docker/*@a", "podman/shop@a", false),
            ("d*sh*@a", "docker/shop@a", true),
            ("a*a", "a", false),
            ("", "docker/shop@a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_no_rule_allows_is_refused() {
        let text = r#"{"rules": [
            {"who": ["ann"], "verbs": ["look", "stop"], "targets": ["docker/shop@*"]},
            {"who": ["*"], "verbs": ["look"], "targets": ["*@a"]}
        ]}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        for (who, verb, target, expected) in [
            ("ann", Verb::Stop, "docker/shop@b", true),
            ("ann", Verb::Modify, "docker/shop@b", false),
            ("ann", Verb::Stop, "docker/till@b", false),
            ("bob", Verb::Stop, "docker/shop@b", false),
            ("bob", Verb::Look, "docker/till@a", true),
            ("bob", Verb::Look, "docker/till@b", false),
        ] {
            assert_eq!(policy.allows(who, verb, target), expected, "{who} {verb:?} {target}");
        }
        assert!(!Policy::default().allows("ann", Verb::Look, "docker/shop@a"));
    }

    #[test]
    fn a_word_that_is_not_known_is_an_error_and_no_silent_rule() {
        for text in [
            r#"{"rules": [{"who": ["ann"], "verbs": ["lok"], "targets": ["*"]}]}"#,
            r#"{"rules": [{"who": ["ann"], "verb": ["look"], "targets": ["*"]}]}"#,
            r#"{"rule": []}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(text).is_err(), "{text}");
        }
    }
}
