//! Who the node is at the server: a key that is made here and never leaves, and the certificate that the server gives for it.
//!
//! Both are kept, so that a node agent that starts again needs no token; and the certificate is renewed, with a new key, long before it
//! ends.

use std::{
    convert::Infallible,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use pepo_platform::{Certificate, ServerAddress};
use pepo_wire::{
    Code, Failure,
    server::{CertifyRequest, CertifyResponse, nodes_client::NodesClient},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{IntoRequest, transport::Channel};

use crate::{Config, jittered};

/// The file of the state folder: key, certificate and the server's authority, as PEM.
const FILE: &str = "node.pem";
/// What stands before the digest of the token that the node joined by.
const JOINED_BY: &str = "joined by ";
/// How long after a renewal that failed the next is tried, at most.
const TRY_AGAIN: Duration = Duration::from_secs(600);
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// This node, as a server knows it.
pub(crate) struct Member {
    address: String,
    token: Option<String>,
    folder: PathBuf,
    kept: Option<Kept>,
    /// What the server refused, while the token is tried.
    refused: Option<Kept>,
    /// Was the certificate given by the token, and not dialled with yet?
    is_fresh: bool,
    /// When the certificate is to be renewed: at once, where nobody here knows since when it is good.
    renew_at: Instant,
    /// The key of a request that may have been answered: a token that counts once counts for it again.
    asked_with: Option<KeyPair>,
}

/// What is kept between two starts.
#[derive(Clone)]
struct Kept {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
    /// The digest of the token by which the node joined.
    joined_by: String,
}

impl Member {
    /// Reads what is kept. Whoever gives another token than the last means to join anew.
    ///
    /// # Errors
    /// [`Code::FileDenied`], [`Code::Usage`] for a file that is not understood.
    pub(crate) fn new(config: &Config) -> Result<Member, Failure> {
        let kept = Kept::read(&config.state)?;
        let is_of_token = |kept: &Kept| match &config.token {
            Some(token) => kept.joined_by == digest(token),
            None => true,
        };
        Ok(Member {
            address: config.server.clone(),
            token: config.token.clone(),
            folder: config.state.clone(),
            kept: kept.filter(is_of_token),
            refused: None,
            is_fresh: false,
            renew_at: Instant::now(),
            asked_with: None,
        })
    }

    /// The server as it is dialled with the node's certificate, which is asked for where there is none yet.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn server(&mut self) -> Result<ServerAddress, Failure> {
        let kept = match &self.kept {
            Some(kept) => kept.clone(),
            None => {
                let joined = self.join().await;
                self.is_fresh = joined.is_ok();
                if joined.is_err() {
                    self.kept = self.refused.take();
                }
                joined?
            }
        };
        let Kept { certificate, key, authority, .. } = kept;
        ServerAddress::with_certificate(&self.address, Certificate { certificate, key, authority })
    }

    /// The server has taken the certificate.
    pub(crate) fn joined(&mut self) {
        (self.is_fresh, self.refused) = (false, None);
    }

    /// The server refuses the certificate: is there a token to try at once? Not for one that the token has just given.
    pub(crate) fn joins_anew(&mut self) -> bool {
        if self.token.is_none() || self.is_fresh || self.kept.is_none() {
            return false;
        }
        self.refused = self.kept.take();
        true
    }

    /// By the token.
    async fn join(&mut self) -> Result<Kept, Failure> {
        let server = ServerAddress::parse(&self.address, self.token.as_deref())?;
        let joined_by = digest(self.token.as_deref().unwrap_or_default());
        let channel = server.dial().await?;
        let key = match self.asked_with.take() {
            Some(key) => key,
            None => KeyPair::generate().map_err(|error| no_key(&error))?,
        };
        let asked = certify(&server, &channel, &key).await;
        let key = self.asked_with.insert(key);
        let answer = asked?;
        let lasts = answer.lasts_seconds;
        let kept = Kept::new(answer, key, joined_by);
        self.keep(kept.clone(), lasts)?;
        Ok(kept)
    }

    /// Has the certificate renewed, again and again, on the connection that it was dialled with.
    pub(crate) async fn renewing(&mut self, server: &ServerAddress, channel: &Channel) -> Infallible {
        loop {
            sleep_until(self.renew_at).await;
            if let Err(failure) = self.renew(server, channel).await {
                // Its end is some time away, and whoever ends the link says why.
                tracing::warn!(%failure, "the node's certificate was not renewed");
                sleep(jittered(TRY_AGAIN)).await;
            }
        }
    }

    async fn renew(&mut self, server: &ServerAddress, channel: &Channel) -> Result<(), Failure> {
        let joined_by = self.kept.as_ref().map(|kept| kept.joined_by.clone()).unwrap_or_default();
        let key = KeyPair::generate().map_err(|error| no_key(&error))?;
        let answer = certify(server, channel, &key).await?;
        let lasts = answer.lasts_seconds;
        self.keep(Kept::new(answer, &key, joined_by), lasts)
    }

    /// Keeps a new certificate, and says when to renew it: between a third and two thirds of its time, not all nodes at once.
    fn keep(&mut self, kept: Kept, lasts_seconds: u64) -> Result<(), Failure> {
        let lasts = Duration::from_secs(lasts_seconds);
        self.renew_at = Instant::now() + jittered(lasts * 2 / 3);
        let written = kept.write(&self.folder);
        self.kept = Some(kept);
        self.asked_with = None;
        written
    }
}

/// Asks for a certificate. The request holds the public key, and a signature that proves the private one.
async fn certify(
    server: &ServerAddress,
    channel: &Channel,
    key: &KeyPair,
) -> Result<CertifyResponse, Failure> {
    let request = CertificateParams::default().serialize_request(key).map_err(|error| no_key(&error))?;
    let request = server.signed(CertifyRequest { request: request.der().to_vec() });
    let mut client = NodesClient::new(channel.clone());
    let late = |_| Failure::new(Code::TimedOut, format!("the server {server} gave no certificate in time"));
    let answer = tokio::time::timeout(ANSWER, client.certify(request.into_request())).await.map_err(late)?;
    Ok(answer.map_err(|status| server.failed(&status))?.into_inner())
}

impl Kept {
    fn new(answer: CertifyResponse, key: &KeyPair, joined_by: String) -> Kept {
        let CertifyResponse { certificate, authority, .. } = answer;
        Kept { certificate, key: key.serialize_der(), authority, joined_by }
    }

    fn read(folder: &Path) -> Result<Option<Kept>, Failure> {
        let path = folder.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(denied(&path, &error)),
        };
        let broken = |why: &str| {
            Failure::new(Code::Usage, format!("{} is not understood", path.display()))
                .because(why)
                .hint("take it away; then the node joins by its token, in PEPO_TOKEN")
        };
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| broken("it holds no key"))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let Ok([certificate, authority]) = <[_; 2]>::try_from(certificates.unwrap_or_default()) else {
            return Err(broken("it holds no certificate with its authority"));
        };
        let joined_by = String::from_utf8_lossy(&text);
        let joined_by = joined_by.lines().find_map(|line| line.strip_prefix(JOINED_BY)).unwrap_or_default();
        Ok(Some(Kept {
            certificate: certificate.to_vec(),
            key: key.secret_pkcs8_der().to_vec(),
            authority: authority.to_vec(),
            joined_by: joined_by.to_owned(),
        }))
    }

    /// Whole or not at all, for its owner alone.
    fn write(&self, folder: &Path) -> Result<(), Failure> {
        let (path, beside) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let text = format!(
            "{JOINED_BY}{}\n{}{}{}",
            self.joined_by,
            pem("PRIVATE KEY", &self.key),
            pem("CERTIFICATE", &self.certificate),
            pem("CERTIFICATE", &self.authority),
        );
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // One that was left half written may be open to others.
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|error| denied(&path, &error))
    }
}

/// RFC 7468.
fn pem(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {what}-----\n");
    for line in text.as_bytes().chunks(64) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    lines + &format!("-----END {what}-----\n")
}

fn digest(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.trim()))
}

fn denied(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::FileDenied, format!("the node cannot use {}", path.display()))
        .because(error)
        .try_command("name another folder", ["pepo", "node", "--state", "/var/lib/pepo/node"])
}

fn no_key(error: &rcgen::Error) -> Failure {
    Failure::new(Code::Internal, "no key could be made").because_of(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn kept(key: &[u8]) -> Kept {
        let (certificate, authority) = (vec![1; 100], vec![2; 49]);
        Kept { certificate, key: key.to_vec(), authority, joined_by: digest("token") }
    }

    #[test]
    fn what_is_kept_is_its_owners_alone_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert!(Kept::read(&path).unwrap().is_none());
        let key = KeyPair::generate().unwrap();
        for one in [kept(b"old"), kept(key.serialized_der())] {
            // What another left is not written into.
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("node.pem.new"), "").unwrap();
            fs::set_permissions(path.join("node.pem.new"), fs::Permissions::from_mode(0o666)).unwrap();
            one.write(&path).unwrap();
            let again = Kept::read(&path).unwrap().unwrap();
            assert_eq!((&again.key, &again.joined_by), (&one.key, &one.joined_by));
            assert_eq!((again.certificate, again.authority), (one.certificate, one.authority));
        }
        assert_eq!(fs::metadata(path.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        let text = fs::read_to_string(path.join(FILE)).unwrap();
        fs::write(path.join(FILE), &text[..text.len() / 2]).unwrap();
        assert_eq!(Kept::read(&path).err().map(|failure| failure.code()), Some(Code::Usage));
    }

    #[test]
    fn a_request_holds_the_public_key_and_no_other() {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let holds = |part: &[u8]| request.der().windows(part.len()).any(|window| window == part);
        assert!(holds(key.public_key_raw()));
        // PKCS #8 of P-256 (RFC 5915): the private number is 32 bytes behind its tag.
        let private = key.serialized_der();
        let at = private.windows(2).position(|two| two == [0x04, 0x20]).unwrap() + 2;
        assert!(!holds(&private[at..at + 32]) && private.len() > at + 32);
    }
}
