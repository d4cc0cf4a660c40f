//! Nodes: how one joins, what its certificate is good for, and when it is good for nothing.

use std::{sync::Arc, time::Duration};

use pepo_platform::ServerAddress;
use pepo_server::Terms;
use pepo_wire::Code;
use rcgen::KeyPair;
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::{default_provider, sign::any_ecdsa_type},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
    sign::CertifiedKey,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::support::{LIMIT, Link, Server, certify, dialling};

#[tokio::test]
async fn a_token_is_good_for_a_certificate_and_the_certificate_for_its_node() {
    let server = Server::start(None).await;
    let token = server.token("a", Terms::default());
    let by_token = ServerAddress::parse(&server.address, Some(&token)).unwrap();
    assert_eq!(Link::open(&by_token).await.err().unwrap().code(), Code::NotGranted);

    let node = server.join(&token).await;
    let link = Link::open(&node).await.unwrap();
    assert_eq!(link.node, "a", "the request asked to be another");

    let again = certify(&node, &link.channel, &KeyPair::generate().unwrap()).await.unwrap();
    assert_eq!((again.node.as_str(), again.lasts_seconds), ("a", 24 * 3600));
    let audit = std::fs::read_to_string(server.state().join("audit.log")).unwrap();
    assert_eq!(audit.matches(r#""act":"certify","who":"a""#).count(), 2, "{audit}");
}

#[tokio::test]
async fn a_token_that_counts_once_counts_for_one_key() {
    let server = Server::start(None).await;
    let token = server.token("a", Terms { once: true, lasts: None });
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    server.certify(&token, &key).await.unwrap();
    // The first answer may have been lost.
    let answer = server.certify(&token, &key).await.unwrap();
    let refused = server.certify(&token, &other).await.unwrap_err();
    assert!(refused.code() == Code::NotGranted && refused.what.contains("was used"), "{refused}");
    assert_eq!(Link::open(&dialling(&server.address, answer, &key)).await.unwrap().node, "a");

    let many = server.token("b", Terms::default());
    for key in [&key, &other] {
        server.certify(&many, key).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_whose_time_is_over_joins_nobody_and_who_has_joined_stays() {
    let server = Server::start(None).await;
    let token = server.token("a", Terms { once: false, lasts: Some(Duration::from_secs(3600)) });
    let node = server.join(&token).await;
    let path = server.state().join("tokens.json");
    let mut tokens: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let of_node = tokens["tokens"].as_array_mut().unwrap().iter_mut().find(|one| one["name"] == "a").unwrap();
    assert!(of_node["until"].as_u64().unwrap() > 1_600_000_000);
    of_node["until"] = 1_600_000_000.into();
    std::fs::write(&path, tokens.to_string()).unwrap();
    let refused = server.certify(&token, &KeyPair::generate().unwrap()).await.unwrap_err();
    assert!(refused.code() == Code::NotGranted && refused.to_string().contains("time"), "{refused}");
    Link::open(&node).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (server, other) = (Server::start(None).await, Server::start(None).await);
    let token = server.token("a", Terms::default());
    let mut answer = server.certify(&token, &KeyPair::generate().unwrap()).await.unwrap();
    let key = KeyPair::generate().unwrap();
    answer.certificate = other.certify(&other.token("a", Terms::default()), &key).await.unwrap().certificate;
    let foreign = dialling(&server.address, answer, &key);
    let refused = Link::open(&foreign).await.err().unwrap();
    assert!(refused.code() == Code::NotGranted && refused.what.contains("certificate"), "{refused}");
}

/// Shows a certificate, with whatever key it has.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let server = Server::start(None).await;
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let answer = server.certify(&server.token("a", Terms::default()), &own).await.unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(answer.authority)).unwrap();
    let roots = Arc::new(roots);
    for (key, is_taken) in [(other, false), (own, true)] {
        let key = any_ecdsa_type(&PrivatePkcs8KeyDer::from(key.serialize_der()).into()).unwrap();
        let shown = CertifiedKey::new(vec![CertificateDer::from(answer.certificate.clone())], key);
        let mut tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&roots))
            .with_client_cert_resolver(Arc::new(Shown(Arc::new(shown))));
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(server.address.strip_prefix("https://").unwrap()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
        // The server speaks first, to whom it takes.
        let heard = timeout(LIMIT, stream.read_u8()).await.unwrap();
        assert_eq!(heard.is_ok(), is_taken, "{heard:?}");
    }
}

#[tokio::test]
async fn a_request_that_its_key_has_not_signed_is_refused() {
    let server = Server::start(None).await;
    let token = server.token("a", Terms::default());
    let by_token = ServerAddress::parse(&server.address, Some(&token)).unwrap();
    let channel = by_token.dial().await.unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&KeyPair::generate().unwrap());
    let request = request.unwrap().der().to_vec();
    let mut forged = request.clone();
    *forged.last_mut().unwrap() ^= 1;
    for (request, is_good) in [(forged, false), (request[..40].to_vec(), false), (request, true)] {
        let request = by_token.signed(pepo_wire::server::CertifyRequest { request });
        let mut client = pepo_wire::server::nodes_client::NodesClient::new(channel.clone());
        assert_eq!(client.certify(request).await.is_ok(), is_good);
    }
}

#[tokio::test]
async fn a_node_whose_entry_was_taken_out_is_cut_off_and_refused() {
    let server = Server::start(None).await;
    let (a, b) = (server.token("a", Terms::default()), server.token("b", Terms::default()));
    let (a, b) = (server.join(&a).await, server.join(&b).await);
    let (mut link, mut stays) = (Link::open(&a).await.unwrap(), Link::open(&b).await.unwrap());
    server.take_out("a");
    timeout(LIMIT, link.ends()).await.expect("an open link ends");
    let refused = Link::open(&a).await.err().unwrap();
    assert!(refused.code() == Code::NotGranted && refused.to_string().contains("taken out"), "{refused}");
    let another = server.join(&server.token("a", Terms::default())).await;
    Link::open(&another).await.unwrap();
    assert!(Link::open(&a).await.is_err(), "another entry of the same name does not bring it back");
    assert!(timeout(Duration::from_millis(100), stays.ends()).await.is_err(), "the other node stays");
}

#[tokio::test]
async fn a_certificate_that_has_ended_ends_its_link_and_one_that_was_renewed_does_not() {
    let server = Server::start(Some(Duration::from_secs(10))).await;
    let (a, b) = (server.token("a", Terms::default()), server.token("b", Terms::default()));
    let (ended, renewed) = (server.join(&a).await, server.join(&b).await);
    let (mut ends, mut stays) = (Link::open(&ended).await.unwrap(), Link::open(&renewed).await.unwrap());
    let renew = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let key = KeyPair::generate().unwrap();
            certify(&renewed, &stays.channel.clone(), &key).await.unwrap();
        }
    };
    tokio::select! {
        ended = timeout(LIMIT, ends.ends()) => ended.expect("the link of a certificate that has ended"),
        () = renew => {}
    }
    let refused = Link::open(&ended).await.err().unwrap();
    assert!(refused.code() == Code::NotGranted, "{refused}");
    assert!(
        timeout(Duration::from_secs(3), stays.ends()).await.is_err(),
        "the same link, on a later certificate"
    );
    assert_eq!(Link::open(&renewed).await.err().unwrap().code(), Code::NotGranted, "its first has ended");
}
