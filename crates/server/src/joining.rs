//! How a node comes by its certificate: by a token at first, by the certificate before it ends. Its key never leaves it.

use std::{sync::Arc, time::Duration};

use pepo_wire::{
    Code, Failure,
    server::{CertifyRequest, CertifyResponse},
};
use rcgen::PublicKeyData as _;
use tonic::{Extensions, Request, metadata::MetadataMap};

use crate::{
    audit::Line,
    certificates,
    folder::Folder,
    identity::{self, Kind, fingerprint},
    peer::Peer,
    service::Desk,
};

/// How long a certificate of a node is good, unless it is said otherwise, and what may be said.
pub(crate) const LASTS: Duration = Duration::from_secs(24 * 3600);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long certificates of nodes shall last.
///
/// # Errors
/// [`Code::Usage`] for less than ten seconds, or more than a year.
pub(crate) fn lasting(wanted: Option<Duration>) -> Result<Duration, Failure> {
    let lasts = wanted.unwrap_or(LASTS);
    match (SHORTEST..=LONGEST).contains(&lasts) {
        true => Ok(lasts),
        false => Err(Failure::new(Code::Usage, format!("no certificate of a node lasts {lasts:?}"))
            .because("it lasts between 10 seconds and a year")),
    }
}

impl Desk {
    /// The node that calls, by the certificate of its connection.
    ///
    /// # Errors
    /// [`Code::NotGranted`] without one that counts.
    pub(crate) fn node(&self, extensions: &Extensions) -> Result<Arc<Peer>, Failure> {
        let known = extensions.get::<Arc<Peer>>().ok_or_else(|| {
            Failure::new(Code::NotGranted, "the server does not know which node calls")
                .because("the connection carries no certificate of a node")
                .hint("a node's token is good for a certificate alone: renew the agent of the node")
        });
        let known = known.and_then(|peer| peer.check(&self.folder).map(|()| Arc::clone(peer)));
        self.metrics.unknown_callers.add(usize::from(known.is_err()));
        known
    }

    /// A certificate for whoever is a node by its connection's certificate, or by a token.
    pub(crate) fn certify(&self, request: &Request<CertifyRequest>) -> Result<CertifyResponse, Failure> {
        let key = certificates::requested(&request.get_ref().request)?;
        let known = match request.extensions().get::<Arc<Peer>>() {
            Some(_) => self.node(request.extensions())?,
            None => Arc::new(self.admitted(request.metadata(), &fingerprint(key.der_bytes()))?),
        };
        let lasts = self.certificates_last;
        let authority = self.folder.authority()?;
        let certificate = certificates::node(&authority, &known, &key, lasts)?;
        self.write(Line { act: "certify", who: &known.node, ..Line::default() })?;
        // Whoever proved to have the last key has asked for this one: the connection goes on for as long.
        known.renewed(lasts);
        Ok(CertifyResponse {
            node: known.node.clone(),
            certificate,
            authority: authority.certificate,
            lasts_seconds: lasts.as_secs(),
        })
    }

    fn admitted(&self, metadata: &MetadataMap, key: &str) -> Result<Peer, Failure> {
        let admitted = admit(&self.folder, metadata, key);
        self.metrics.unknown_callers.add(usize::from(admitted.is_err()));
        admitted
    }
}

/// The node that a token admits with a key. One that counts once counts for the same key again: its answer may have been lost.
fn admit(folder: &Folder, metadata: &MetadataMap, key: &str) -> Result<Peer, Failure> {
    let caller = identity::caller(&folder.tokens()?.tokens, metadata, Kind::Node)?;
    folder.change_tokens(|tokens| {
        let known = tokens.tokens.iter_mut().find(|one| one.sha256 == caller.sha256);
        let known = known
            .filter(|known| !known.once || known.spent_on.as_deref().is_none_or(|spent| spent == key))
            .ok_or_else(|| {
                Failure::new(Code::NotGranted, format!("the token of node {} was used", caller.name))
                    .because("it is good for one node agent")
                    .hint("take its entry out of tokens.json, then `pepo serve --new-node NAME` makes another; if nobody you know used it, it was stolen")
            })?;
        let changes = known.once && known.spent_on.is_none();
        if changes {
            known.spent_on = Some(key.to_owned());
        }
        Ok((Peer::new(known.name.clone(), known.sha256.clone()), changes))
    })
}
