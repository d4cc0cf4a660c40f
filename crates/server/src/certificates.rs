//! An authority of our own: made at the first start, so that TLS is spoken from the first minute.

use std::time::Duration;

use pepo_wire::{Code, Failure};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey, SanType, date_time_ymd,
};

use crate::peer::{Peer, since_1970};

/// A certificate counts from so long ago, for clocks that are late.
const EARLIER: Duration = Duration::from_secs(300);

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
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
    params.distinguished_name = named("pepo server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer(authority)?).map_err(failed)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

/// The public key of a request (PKCS #10, DER), whose sender has the private one: its signature is checked. What else it says does not
/// count.
///
/// # Errors
/// [`Code::Usage`].
pub(crate) fn requested(request: &[u8]) -> Result<PublicKey, Failure> {
    let request = CertificateSigningRequestParams::from_der(&request.into());
    request.map(|request| request.public_key).map_err(|error| {
        Failure::new(Code::Usage, "the request for a certificate is not understood").because_of(&error)
    })
}

/// A certificate (DER) for a node's key: good for dialling, as this node alone, for so long.
pub(crate) fn node(
    authority: &Authority,
    peer: &Peer,
    key: &PublicKey,
    lasts: Duration,
) -> Result<Vec<u8>, Failure> {
    let mut params = CertificateParams::default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970().saturating_sub(EARLIER);
    params.not_after = epoch + (since_1970() + lasts);
    params.distinguished_name = named(&peer.node);
    params.subject_alt_names = vec![SanType::URI(peer.uri().try_into().map_err(failed)?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.signed_by(key, &issuer(authority)?).map_err(failed)?.der().to_vec())
}

fn issuer(authority: &Authority) -> Result<Issuer<'static, KeyPair>, Failure> {
    let signer = KeyPair::try_from(authority.key.as_slice()).map_err(failed)?;
    Ok(Issuer::new(authority_params(), signer))
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
