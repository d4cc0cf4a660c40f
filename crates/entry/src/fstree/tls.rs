//! Whom TLS trusts: the built-in roots, and the image's own bundle or what `SSL_CERT_FILE` names.

use std::{cell::OnceCell, fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::exit::{Exit, Fault};

/// Where images keep their bundle.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS as a client that shows no certificate of its own; made when it is needed first.
#[derive(Default)]
pub(crate) struct Tls(OnceCell<Arc<ClientConfig>>);

impl Tls {
    /// # Errors
    /// `SSL_CERT_FILE` names nothing that could be trusted.
    pub(crate) fn config(&self) -> Result<&Arc<ClientConfig>, Fault> {
        match self.0.get() {
            Some(config) => Ok(config),
            None => config().map(|made| self.0.get_or_init(|| made)),
        }
    }
}

fn config() -> Result<Arc<ClientConfig>, Fault> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    match std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()) {
        Some(file) => {
            let count = add(&mut roots, Path::new(&file));
            if count.is_none_or(|count| count == 0) {
                let what = format!("SSL_CERT_FILE={}: has no certificate that can be read", file.display());
                return Err(Fault::new(Exit::Usage, what).next("name a file of PEM certificates"));
            }
        }
        None => {
            BUNDLES.iter().find_map(|file| add(&mut roots, Path::new(file)));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Fault::new(Exit::Internal, format!("no TLS: {error}")))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Adds what a file has; how much that is, if the file is there.
fn add(roots: &mut RootCertStore, file: &Path) -> Option<usize> {
    let text = fs::read(file).ok()?;
    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    Some(roots.add_parsable_certificates(certificates).0)
}
