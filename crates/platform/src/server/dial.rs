//! The way to a server: its address, the token, and whom its TLS must be from.

use std::{fmt, io, str::FromStr as _, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use pepo_wire::{Code, Failure};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use sha2::{Digest as _, Sha256};
use tokio::{io::AsyncBufReadExt as _, net::TcpStream};
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::endpoint;

/// The port of a server whose address names none.
const PORT: u16 = 7411;
/// How long dialling may take, with the TLS handshake.
const DIAL: Duration = Duration::from_secs(10);
/// Pings go out this often, and a server that answers none for [`PING_LIMIT`] is gone.
const PING: Duration = Duration::from_secs(5);
const PING_LIMIT: Duration = Duration::from_secs(10);

/// A server, and what proves to it who calls: a token, or a certificate.
#[derive(Clone)]
pub struct ServerAddress {
    host: String,
    port: u16,
    /// The secret, ready to be sent.
    bearer: Option<MetadataValue<Ascii>>,
    /// SHA-256 of the certificate of the authority that the server's must be from, base64url.
    authority: String,
    certificate: Option<Arc<Certificate>>,
}

/// A certificate of a server's authority, with its key.
pub struct Certificate {
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS #8, DER.
    pub key: Vec<u8>,
    /// The authority's own certificate, DER.
    pub authority: Vec<u8>,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerAddress({self})")
    }
}

impl ServerAddress {
    /// Reads `https://HOST[:PORT]` and a token as `pepo serve` has told it.
    ///
    /// # Errors
    /// [`Code::Usage`]. The token is not repeated.
    pub fn parse(address: &str, token: Option<&str>) -> Result<ServerAddress, Failure> {
        let (host, port) = place(address)?;
        let no_token = |why: &str| {
            Failure::new(Code::Usage, format!("there is no token for {address}"))
                .because(why)
                .hint("set PEPO_TOKEN to the token that `pepo serve` told at its first start, or that `pepo serve --new-token NAME` makes")
        };
        let token = token.ok_or_else(|| no_token("PEPO_TOKEN is not set"))?;
        let (secret, authority) =
            token.trim().split_once('.').ok_or_else(|| no_token("PEPO_TOKEN does not hold a whole token"))?;
        let bearer = MetadataValue::from_str(&format!("Bearer {secret}"))
            .map_err(|_| no_token("PEPO_TOKEN holds what no token has"))?;
        let authority = authority.to_owned();
        Ok(ServerAddress { host, port, bearer: Some(bearer), authority, certificate: None })
    }

    /// Reads `https://HOST[:PORT]`, which is dialled with a certificate.
    ///
    /// # Errors
    /// [`Code::Usage`].
    pub fn with_certificate(address: &str, certificate: Certificate) -> Result<ServerAddress, Failure> {
        let (host, port) = place(address)?;
        let authority = fingerprint(&certificate.authority);
        Ok(ServerAddress { host, port, bearer: None, authority, certificate: Some(Arc::new(certificate)) })
    }

    /// A request that carries the token, where there is one.
    #[must_use]
    pub fn signed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }

    /// Why a call failed. A channel that dials again by itself learns here that our certificate is refused.
    #[must_use]
    pub fn failed(&self, status: &Status) -> Failure {
        let failure = Failure::from_status(status);
        match self.refused(status) {
            Some(refused) => refused,
            None if failure.code() == Code::StreamBroken => {
                Failure::new(Code::StreamBroken, format!("the server {self} went away"))
                    .because(status.message())
            }
            None => failure,
        }
    }

    /// What the server's TLS says against our certificate, where that is why.
    fn refused(&self, error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
        let alert = self.certificate.as_ref().and(of_tls(error));
        let Some(Error::AlertReceived(alert)) = alert else { return None };
        Some(
            Failure::new(Code::NotGranted, format!("the server {self} refuses this node's certificate"))
                .because(format!("TLS says {alert:?}"))
                .hint("its time may be over: `pepo serve --new-node NAME`, run where the server keeps its state, makes a token, with which the node joins again"),
        )
    }

    /// Dials it. The channel dials again by itself when it is used after a break.
    ///
    /// # Errors
    /// [`Code::EngineUnreachable`] with what to do about it; [`Code::NotGranted`] for a certificate that is refused.
    pub async fn dial(&self) -> Result<Channel, Failure> {
        let here = self.clone();
        let connector = tower::service_fn(move |_| {
            let address = here.clone();
            async move { address.connect().await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://server.pepo.invalid")
            .connect_timeout(DIAL)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(|error| self.unreachable(&error))
    }

    /// What proves who calls, as the header `authorization` has it.
    pub(super) fn bearer(&self) -> Option<&[u8]> {
        self.bearer.as_ref().map(MetadataValue::as_bytes)
    }

    pub(super) async fn connect(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(self.tls().map_err(io::Error::other)?));
        let mut stream = tls.connect(name, stream).await?;
        if self.certificate.is_some() {
            // Our side of TLS 1.3 is done before the server has read our certificate. It speaks first in HTTP/2, or says here what it refuses.
            stream.fill_buf().await?;
        }
        Ok(stream)
    }

    fn tls(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(default_provider());
        let verifier = Pinned { authority: self.authority.clone(), provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.certificate {
            Some(ours) => {
                let chain = vec![CertificateDer::from(ours.certificate.clone())];
                config.with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(ours.key.clone()).into())?
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    pub(super) fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        if let Some(refused) = self.refused(error) {
            return refused;
        }
        let failure = Failure::new(Code::EngineUnreachable, format!("the server {self} does not answer"));
        match of_tls(error) {
            Some(Error::InvalidCertificate(CertificateError::Other(_))) => failure
                .because("its certificate is not from the authority that is expected")
                .hint("what we have is another server's, or somebody stands between: nothing was sent"),
            Some(Error::InvalidCertificate(_)) => failure.because_of(error).hint(format!(
                "its certificate must be for `{}`: `pepo serve --name {}` adds a name",
                self.host, self.host
            )),
            _ => failure.because_of(error).hint("is `pepo serve` running there, and the port open?"),
        }
    }
}

/// What TLS says among the causes.
fn of_tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    crate::error::causes(error).find_map(|error| error.downcast_ref::<Error>())
}

/// Host and port.
fn place(address: &str) -> Result<(String, u16), Failure> {
    let bad = |why: &str| {
        Failure::new(Code::Usage, format!("`{address}` is not the address of a server"))
            .because(why)
            .hint("it is written as https://HOST or https://HOST:PORT")
    };
    let rest = address.strip_prefix("https://").ok_or_else(|| bad("a server is reached by https alone"))?;
    let (host, port) = endpoint::tcp(rest).map_err(bad)?;
    Ok((host, port.unwrap_or(PORT)))
}

/// Trusts one authority, known by the digest of its certificate, which the server sends along.
#[derive(Debug)]
struct Pinned {
    authority: String,
    provider: Arc<CryptoProvider>,
}

/// The server's authority is another than the token's.
#[derive(Debug, thiserror::Error)]
#[error("the server's authority is not the token's")]
struct OtherAuthority;

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let other =
            || Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherAuthority))));
        let is_pinned = |one: &&CertificateDer<'_>| fingerprint(one) == self.authority;
        let authority = intermediates.iter().find(is_pinned).ok_or_else(other)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256, base64url without padding (RFC 4648, section 5).
fn fingerprint(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_the_usual_port() {
        for (text, expected) in [
            ("https://pepo.example", "https://pepo.example:7411"),
            ("https://127.0.0.1:8443/", "https://127.0.0.1:8443"),
            ("https://[::1]", "https://[::1]:7411"),
        ] {
            assert_eq!(ServerAddress::parse(text, Some("a.b")).unwrap().to_string(), expected);
        }
        for text in ["http://pepo.example", "https://", "https://a/b", "https://a:x"] {
            assert_eq!(ServerAddress::parse(text, Some("a.b")).unwrap_err().code(), Code::Usage, "{text}");
        }
    }

    #[test]
    fn a_token_is_asked_for_and_never_shown() {
        for token in [None, Some("secret"), Some("sec\nret.x")] {
            let failure = ServerAddress::parse("https://a", token).unwrap_err();
            assert!(!format!("{failure:?}").contains("sec"), "{failure:?}");
        }
        let address = ServerAddress::parse("https://a", Some("secret.authority")).unwrap();
        assert!(!format!("{address:?} {address}").contains("secret"));
    }
}
