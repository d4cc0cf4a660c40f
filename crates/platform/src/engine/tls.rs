//! TLS to an engine, with the files that docker's own command takes: the engine proves its name to `ca.pem`, and we are known by
//! `cert.pem` and `key.pem` where they are.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Io, PlatformError, error::causes};

const AUTHORITY: &str = "ca.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
/// No file of these is larger, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {why}", path.display())]
pub(crate) struct BadFile {
    path: PathBuf,
    why: String,
}

/// Shakes hands. `host` is the name that the engine has to prove.
pub(super) async fn join(stream: TcpStream, host: &str, folder: &Path) -> io::Result<Box<dyn Io>> {
    let config = config(folder).map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

/// Read anew for each connection: certificates are renewed while programs run.
fn config(folder: &Path) -> Result<ClientConfig, BadFile> {
    let (authority, certificate, key) = (folder.join(AUTHORITY), folder.join(CERTIFICATE), folder.join(KEY));
    let mut roots = RootCertStore::empty();
    for one in certificates(&authority)? {
        roots.add(one).map_err(|error| bad(&authority, error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(folder, error))?
        .with_root_certificates(roots);
    if !certificate.exists() && !key.exists() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&read(&key)?)
        .map_err(|_| bad(&key, "it holds no private key, or one behind a passphrase"))?;
    builder.with_client_auth_cert(chain, private).map_err(|error| bad(&key, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(bad(path, "it holds no certificate in PEM form")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BadFile> {
    let metadata = fs::metadata(path).map_err(|error| bad(path, error))?;
    if metadata.len() > MAX_FILE {
        return Err(bad(path, "it is too large"));
    }
    fs::read(path).map_err(|error| bad(path, error))
}

fn bad(path: &Path, why: impl ToString) -> BadFile {
    BadFile { path: path.to_owned(), why: why.to_string() }
}

/// What a failure of TLS means, if it is one, with what to do about it.
pub(crate) fn explain(
    engine: &'static str,
    address: &str,
    folder: &Path,
    error: &(dyn std::error::Error + 'static),
) -> Option<PlatformError> {
    let no_tls = |why: String, hint: String| {
        Some(PlatformError::NoTls { engine, address: address.to_owned(), why, hint })
    };
    if let Some(file) = causes(error).find_map(|error| error.downcast_ref::<BadFile>()) {
        return no_tls(
            file.to_string(),
            format!("mend the file; docker's own command takes the same folder {}", folder.display()),
        );
    }
    let error = causes(error).find_map(|error| error.downcast_ref::<Error>())?;
    let hint = match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "renew the engine's certificate".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "call the engine by a name that is in its certificate".to_owned(),
        Error::InvalidCertificate(_) => {
            format!(
                "{} must hold the certificate of whoever signed the engine's",
                folder.join(AUTHORITY).display()
            )
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::HandshakeFailure,
        ) => format!(
            "the engine wants to know its clients: put {CERTIFICATE} and {KEY} of an authority it trusts into {}",
            folder.display()
        ),
        Error::InvalidMessage(_) => "is it the port where the engine speaks TLS (usually 2376)?".to_owned(),
        _ => "look into the engine's own log".to_owned(),
    };
    no_tls(error.to_string(), hint)
}
