//! Who calls: tokens, of which only the digests are kept.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use pepo_wire::{Code, Failure};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;

use crate::peer::since_1970;

/// Secret bytes of a token: no one guesses them, so a plain digest keeps them.
const SECRET: usize = 24;

/// What a token is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person, who may do what the policy says.
    Person,
    /// A node agent, which may speak for the node of this name alone.
    Node,
}

/// A caller whose token is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    /// Which of the known tokens proved it.
    pub(crate) sha256: String,
}

/// A token as it is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// SHA-256 of the secret, base64url. It names the entry, too: certificates of a node are good while it is here.
    pub(crate) sha256: String,
    /// The secret counts until then, in seconds since 1970; for ever without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
    /// The secret counts once: for one key of a node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) once: bool,
    /// The key that it counted for: SHA-256 of the public one, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spent_on: Option<String>,
}

/// What a token is good for, beside its kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// How long.
    pub lasts: Option<Duration>,
    /// Once.
    pub once: bool,
}

impl Known {
    /// Whether its secret still counts.
    pub(crate) fn is_good(&self) -> bool {
        self.until.is_none_or(|until| since_1970().as_secs() < until)
    }
}

/// A token that was just made: told once, kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose it is.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// `SECRET` or `SECRET.AUTHORITY`: with the digest of the server's authority it says whom to trust, too.
    pub text: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Makes a token; `authority` is the certificate (DER) that callers shall trust, where it is our own.
///
/// # Errors
/// [`Code::Internal`] without random numbers.
pub(crate) fn make(
    name: &str,
    kind: Kind,
    terms: Terms,
    authority: Option<&[u8]>,
) -> Result<(NewToken, Known), Failure> {
    let mut text = random::<SECRET>()?;
    let known = Known {
        name: name.to_owned(),
        kind,
        sha256: fingerprint(text.as_bytes()),
        until: terms.lasts.map(|lasts| (since_1970() + lasts).as_secs()),
        once: terms.once,
        spent_on: None,
    };
    if let Some(authority) = authority {
        text = format!("{text}.{}", fingerprint(authority));
    }
    Ok((NewToken { name: name.to_owned(), kind, text }, known))
}

/// So many random bytes, base64url.
///
/// # Errors
/// [`Code::Internal`] without random numbers.
pub(crate) fn random<const LENGTH: usize>() -> Result<String, Failure> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::new(Code::Internal, "no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// SHA-256, base64url.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

/// The caller whom `authorization: Bearer SECRET` proves.
///
/// # Errors
/// [`Code::NotGranted`]: there is no such token. What was said is not repeated.
pub(crate) fn caller(known: &[Known], metadata: &MetadataMap, kind: Kind) -> Result<Caller, Failure> {
    let refused = |why: &str| {
        Failure::new(Code::NotGranted, "the server does not know who calls")
            .because(why)
            .hint("PEPO_TOKEN holds the token; `pepo serve --new-token NAME`, run where the server keeps its state, makes one")
    };
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|header| header.strip_prefix("Bearer "))
        .ok_or_else(|| refused("the call carries no token"))?;
    // Digests are compared, not secrets: how long that takes tells nothing of use.
    let digest = fingerprint(token.as_bytes());
    let found = known
        .iter()
        .find(|one| one.sha256 == digest)
        .ok_or_else(|| refused("the token is unknown or was taken back"))?;
    if !found.is_good() {
        return Err(refused("the time of the token is over"));
    }
    if found.kind != kind {
        return Err(refused(match kind {
            Kind::Person => "the token is a node's, not a person's",
            Kind::Node => "the token is a person's, not a node's",
        }));
    }
    Ok(Caller { name: found.name.clone(), sha256: digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(token: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        metadata
    }

    #[test]
    fn a_token_proves_its_owner_and_nothing_else_does() {
        let (ann, ann_known) = make("ann", Kind::Person, Terms::default(), None).unwrap();
        let (node, node_known) = make("a", Kind::Node, Terms::default(), None).unwrap();
        let known = [ann_known.clone(), node_known];
        assert_eq!(caller(&known, &with(&ann.text), Kind::Person).unwrap().name, "ann");
        assert_eq!(caller(&known, &with(&node.text), Kind::Node).unwrap().name, "a");
        for (metadata, kind) in [
            (with(&ann.text), Kind::Node),
            (with(&node.text), Kind::Person),
            (with(""), Kind::Person),
            (with(&ann_known.sha256), Kind::Person),
            (MetadataMap::new(), Kind::Person),
        ] {
            assert_eq!(caller(&known, &metadata, kind).unwrap_err().code(), Code::NotGranted);
        }
    }

    #[test]
    fn a_token_is_said_once_and_kept_as_a_digest() {
        let (new, known) = make("ann", Kind::Person, Terms::default(), Some(b"authority")).unwrap();
        let (secret, authority) = new.text.split_once('.').unwrap();
        assert_eq!(authority, fingerprint(b"authority"));
        assert_eq!(known.sha256, fingerprint(secret.as_bytes()));
        assert!(!format!("{new:?}{known:?}").contains(secret));
        assert_ne!(
            make("ann", Kind::Person, Terms::default(), None).unwrap().0.text,
            make("ann", Kind::Person, Terms::default(), None).unwrap().0.text
        );
    }
}
