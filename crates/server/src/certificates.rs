//! An authority of our own: made at the first start, so that TLS is spoken from the first minute.

use pepo_wire::{Code, Failure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// An authority, as DER: its certificate, and its key (PKCS #8).
pub(crate) struct Authority {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// A new authority.
pub(crate) fn authority() -> Result<Authority, Failure> {
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = authority_params().self_signed(&key).map_err(failed)?;
    Ok(Authority { certificate: certificate.der().to_vec(), key: key.serialize_der() })
}

/// A certificate of the authority for the server's names, with its key, as DER; made anew at each start.
pub(crate) fn server(authority: &Authority, names: &[String]) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let signer = KeyPair::try_from(authority.key.as_slice()).map_err(failed)?;
    let signing = authority_params();
    let issuer = Issuer::from_params(&signing, signer);
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
    params.distinguished_name = named("pepo server");
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("pepo authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::new(Code::Internal, "no certificate could be made").because_of(&error)
}
