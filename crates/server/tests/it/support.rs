//! A server in this process, and nodes that are no more than their connection.

use std::{path::PathBuf, time::Duration};

use pepo_platform::{Certificate, ServerAddress};
use pepo_server::{Config, Folder, Kind, Terms};
use pepo_wire::{
    Failure,
    server::{
        CertifyRequest, CertifyResponse, NodeHello, NodeOrder, NodeReport, node_order, node_report,
        nodes_client::NodesClient,
    },
    version,
};
use rcgen::{CertificateParams, DnType, KeyPair};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

/// How long anything may take here that is to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A server; it ends with this.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    pub(crate) address: String,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// With certificates of nodes that last so long.
    pub(crate) async fn start(certificates_last: Option<Duration>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            folder: folder.path().join("state"),
            first_tokens: true,
            proxies: None,
            names: Vec::new(),
            certificates_last,
            drain: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, listens) = oneshot::channel();
        tokio::spawn(async move {
            let ready = |listening: &pepo_server::Listening| ready.send(listening.address).unwrap();
            let stopped = futures::stream::once(async {
                let _ = stopped.await;
            });
            pepo_server::serve(config, ready, stopped).await.unwrap();
        });
        let address = format!("https://{}", listens.await.unwrap());
        Server { folder, address, _stop: stop }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A token of a node.
    pub(crate) fn token(&self, node: &str, terms: Terms) -> String {
        let (folder, new) = Folder::open(&self.state()).unwrap();
        assert_eq!(new, []);
        folder.add_token(node, Kind::Node, terms).unwrap().text
    }

    /// Takes the entry of a node out, as people do.
    pub(crate) fn take_out(&self, node: &str) {
        let path = self.state().join("tokens.json");
        let mut tokens: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let all = tokens["tokens"].as_array_mut().unwrap();
        let before = all.len();
        all.retain(|one| one["name"] != node);
        assert_eq!(all.len() + 1, before);
        std::fs::write(&path, tokens.to_string()).unwrap();
    }

    /// Asks by a token for a certificate of a key.
    pub(crate) async fn certify(&self, token: &str, key: &KeyPair) -> Result<CertifyResponse, Failure> {
        let server = ServerAddress::parse(&self.address, Some(token)).unwrap();
        certify(&server, &server.dial().await?, key).await
    }

    /// Joins by a token, and gives what dials as this node.
    pub(crate) async fn join(&self, token: &str) -> ServerAddress {
        let key = KeyPair::generate().unwrap();
        let answer = self.certify(token, &key).await.unwrap();
        dialling(&self.address, answer, &key)
    }
}

/// What dials a server with a certificate.
pub(crate) fn dialling(address: &str, answer: CertifyResponse, key: &KeyPair) -> ServerAddress {
    let CertifyResponse { certificate, authority, .. } = answer;
    let certificate = Certificate { certificate, key: key.serialize_der(), authority };
    ServerAddress::with_certificate(address, certificate).unwrap()
}

/// Asks for a certificate, for a name that the request has no say in.
pub(crate) async fn certify(
    server: &ServerAddress,
    channel: &Channel,
    key: &KeyPair,
) -> Result<CertifyResponse, Failure> {
    let mut params = CertificateParams::new(["other.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "other");
    let request = CertifyRequest { request: params.serialize_request(key).unwrap().der().to_vec() };
    let answer = NodesClient::new(channel.clone()).certify(server.signed(request)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| server.failed(&status))
}

/// A node that is here.
pub(crate) struct Link {
    pub(crate) node: String,
    pub(crate) channel: Channel,
    orders: Streaming<NodeOrder>,
    _reports: mpsc::Sender<NodeReport>,
}

impl Link {
    pub(crate) async fn open(server: &ServerAddress) -> Result<Link, Failure> {
        let channel = server.dial().await?;
        let (reports, outgoing) = mpsc::channel(4);
        let hello = NodeHello {
            protocol: version::PROTOCOL,
            protocol_min: version::PROTOCOL_MIN,
            version: String::new(),
            arch: String::new(),
        };
        reports.send(NodeReport { kind: Some(node_report::Kind::Hello(hello)) }).await.unwrap();
        let request = server.signed(ReceiverStream::new(outgoing));
        let answer = NodesClient::new(channel.clone()).link(request).await;
        let mut orders = answer.map_err(|status| server.failed(&status))?.into_inner();
        let first = orders.message().await.map_err(|status| server.failed(&status))?;
        let Some(node_order::Kind::Welcome(welcome)) = first.and_then(|first| first.kind) else {
            panic!("no welcome");
        };
        Ok(Link { node: welcome.node, channel, orders, _reports: reports })
    }

    /// Comes to an end with the link.
    pub(crate) async fn ends(&mut self) {
        while let Ok(Some(_)) = self.orders.message().await {}
    }
}
