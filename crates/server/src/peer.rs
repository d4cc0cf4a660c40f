//! The node at the other end of a connection, as the certificate says that it was opened with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pepo_wire::{Code, Failure};
use rustls::ServerConnection;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{folder::Folder, identity::Kind};

/// How often an open connection is asked whether its certificate still counts.
const AGAIN: Duration = Duration::from_secs(2);
/// How a certificate names its node: this, the node, and the entry that admitted it, as in `pepo:node:node-7:DIGEST`.
const URI: &str = "pepo:node:";

/// The time, since 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A node that has proven to have the key of a certificate of ours.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: String,
    /// The entry by which it was admitted: the digest of its token.
    pub(crate) entry: String,
    /// The end of its certificate, in seconds since 1970; later when another was given on this connection.
    until: AtomicU64,
}

impl Peer {
    pub(crate) fn new(node: String, entry: String) -> Peer {
        Peer { node, entry, until: AtomicU64::new(0) }
    }

    /// The node that dialled, if it was one. TLS has checked that the certificate is of our authority.
    pub(crate) fn of(connection: &ServerConnection) -> Option<Arc<Peer>> {
        Peer::read(connection.peer_certificates()?.first()?).map(Arc::new)
    }

    fn read(certificate: &[u8]) -> Option<Peer> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
        let (node, entry) = uri.strip_prefix(URI)?.split_once(':')?;
        let until = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Peer { node: node.to_owned(), entry: entry.to_owned(), until: AtomicU64::new(until) })
    }

    /// How a certificate names it.
    pub(crate) fn uri(&self) -> String {
        format!("{URI}{}:{}", self.node, self.entry)
    }

    /// Another certificate was given to it on this connection, which lasts so long.
    pub(crate) fn renewed(&self, lasts: Duration) {
        self.until.store((since_1970() + lasts).as_secs(), Ordering::Relaxed);
    }

    /// Whether it may still speak for its node.
    ///
    /// # Errors
    /// [`Code::NotGranted`] when its certificate has ended or its entry was taken out.
    pub(crate) fn check(&self, folder: &Folder) -> Result<(), Failure> {
        let refused = |why: &str| {
            Failure::new(Code::NotGranted, format!("node {} is not admitted", self.node))
                .because(why)
                .hint("`pepo serve --new-node NAME`, run where the server keeps its state, makes a token, with which it joins again")
        };
        if since_1970().as_secs() >= self.until.load(Ordering::Relaxed) {
            return Err(refused("its certificate has ended"));
        }
        let tokens = folder.tokens()?;
        let mut of_nodes = tokens.tokens.iter().filter(|one| one.kind == Kind::Node);
        match of_nodes.any(|one| one.name == self.node && one.sha256 == self.entry) {
            true => Ok(()),
            false => Err(refused("its entry was taken out")),
        }
    }

    /// Comes to an end when it may no more, and says why; never for whoever is no node.
    pub(crate) async fn no_longer(peer: Option<&Peer>, folder: &Folder) -> String {
        let Some(peer) = peer else { return std::future::pending().await };
        loop {
            tokio::time::sleep(AGAIN).await;
            if let Err(failure) = peer.check(folder) {
                return failure.to_string();
            }
        }
    }
}
