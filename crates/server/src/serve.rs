//! The listener: TLS, HTTP/2, and the end.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use hyper::{
    Request as HttpRequest, Response as HttpResponse, Version,
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pepo_wire::{
    Code, Failure,
    server::{directory_server::DirectoryServer, nodes_server::NodesServer},
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::{body::Body, codegen::Service as _};

use crate::{
    api,
    attachments::Attachments,
    certificates,
    ending::{self, Ending},
    folder::Folder,
    health,
    identity::NewToken,
    joining,
    metrics::Metrics,
    nodes::Nodes,
    peer::Peer,
    proxies,
    requests::Requests,
    service::{Desk, Service},
    store::{Resources, Sqlite},
};

/// Pings go out this often, and who answers none for [`PING_LIMIT`] is gone.
const PING: Duration = Duration::from_secs(5);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a page for those who watch may take, asked for by HTTP/1.1.
const PAGE: Duration = Duration::from_secs(20);
/// How long changes are told by HTTP/1.1, which has no pings; who wants more comes back and misses none.
const CHANGES: Duration = Duration::from_secs(3600);
/// Connections at once.
const MAX_CONNECTIONS: usize = 10_000;
/// Calls at once on one connection.
const MAX_CALLS: u32 = 512;
/// The largest message accepted, in bytes: a node's first report of all that it has.
const MAX_MESSAGE: usize = 16 << 20;
/// How long connections may take to end when nothing is left on them.
const CLOSING: Duration = Duration::from_secs(5);

/// Its name in TLS (RFC 9113, section 3.2).
const HTTP2: &[u8] = b"h2";

/// What a server is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes any.
    pub listen: SocketAddr,
    /// The state folder.
    pub folder: PathBuf,
    /// Whether a first start makes tokens and tells them; not where what it tells is kept in a log.
    pub first_tokens: bool,
    /// Address of the door for proxies, in cleartext; without it there is none.
    pub proxies: Option<SocketAddr>,
    /// Further names and addresses that the own certificate shall be for.
    pub names: Vec<String>,
    /// How long a certificate of a node is good; without, a day.
    pub certificates_last: Option<Duration>,
    /// How long streams that are open may take to end by themselves when the server is to end; without, 20 seconds.
    pub drain: Option<Duration>,
}

/// A server that listens.
#[derive(Debug)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// Where proxies are answered.
    pub proxies: Option<SocketAddr>,
    /// Tokens that were made at this start, told once.
    pub new_tokens: Vec<NewToken>,
}

/// Serves until the first of `stops`; then nothing new begins, and what is open has some time, which the next of them ends. `ready` is told
/// when connections are taken.
///
/// # Errors
/// [`Code::FileDenied`] and [`Code::Usage`] for the state folder; [`Code::NotReachable`] where the address cannot be had.
pub async fn serve(
    config: Config,
    ready: impl FnOnce(&Listening),
    stops: impl Stream<Item = ()>,
) -> Result<(), Failure> {
    let certificates_last = joining::lasting(config.certificates_last)?;
    let (folder, new_tokens) = Folder::open_with(&config.folder, config.first_tokens)?;
    let acceptor = acceptor(&folder, &config)?;
    let (listener, address) = listen(config.listen, "--listen").await?;
    let door = match config.proxies {
        Some(address) => Some(listen(address, "--proxies").await?),
        None => None,
    };
    let audit = folder.audit()?;
    let resources = Resources(Arc::new(Sqlite::open(&config.folder)?));
    let attachments = Arc::new(Attachments::open(resources, folder.holder()?).await?);
    let requests = Requests::new(&attachments);
    let keeper = requests.clone();
    let _keeper = AbortOnDropHandle::new(tokio::spawn(async move { keeper.keep().await }));
    let desk = Arc::new(Desk {
        folder,
        audit,
        nodes: Nodes::default(),
        metrics: Metrics::default(),
        attachments,
        requests,
        ending: Ending::default(),
        certificates_last,
    });
    ready(&Listening { address, proxies: door.as_ref().map(|(_, address)| *address), new_tokens });
    let (connections, closing) = (TaskTracker::new(), CancellationToken::new());
    let _door = door.map(|(listener, address)| {
        tracing::warn!(%address, "proxies are answered, whoever they are");
        let serving = proxies::serve(listener, Arc::clone(&desk), connections.clone());
        AbortOnDropHandle::new(tokio::spawn(serving))
    });
    let service = Service(Arc::clone(&desk));
    let mut stops = std::pin::pin!(stops);
    let until_stopped = async {
        stops.next().await;
        // Whoever asks whether it is ready is told meanwhile that it is not.
        tokio::select! {
            _ = timeout(config.drain.unwrap_or(ending::DRAIN), desk.ending.drain()) => {}
            _ = stops.next() => {}
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = accept(&listener, &acceptor, &service, &connections, &closing) => {}
    }
    drop(listener);
    // What was carried is written down before the connections go.
    desk.ending.finish().await;
    closing.cancel();
    connections.close();
    if timeout(CLOSING, connections.wait()).await.is_err() {
        tracing::info!(left = connections.len(), "connections were still open at the end");
    }
    Ok(())
}

async fn listen(wished: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), Failure> {
    let busy = |error: io::Error| {
        Failure::new(Code::NotReachable, format!("{wished} cannot be listened on"))
            .because(error)
            .try_command("take another port", ["pepo", "serve", flag, "127.0.0.1:0"])
    };
    let listener = TcpListener::bind(wished).await.map_err(busy)?;
    let address = listener.local_addr().map_err(busy)?;
    Ok((listener, address))
}

async fn accept(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    service: &Service,
    connections: &TaskTracker,
    closing: &CancellationToken,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (acceptor, service, closing) = (acceptor.clone(), service.clone(), closing.clone());
                connections.spawn(async move {
                    let desk = Arc::clone(&service.0);
                    let _open = desk.metrics.connections.enter();
                    if let Err(error) = connection(stream, acceptor, service, closing).await {
                        tracing::debug!(%peer, error, "a connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // No descriptors left, say: the others go on, and there will be room again.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: Service,
    closing: CancellationToken,
) -> Result<(), String> {
    let _ = stream.set_nodelay(true);
    let stream = timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| "the TLS handshake took too long".to_owned())
        .and_then(|accepted| accepted.map_err(|error| error.to_string()))
        .inspect_err(|_| service.0.metrics.handshakes_failed.add(1))?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    let peer = Peer::of(stream.get_ref().1);
    let desk = Arc::clone(&service.0);
    let no_longer = Peer::no_longer(peer.as_deref(), &desk.folder);
    // Set by an answer that is a stream.
    let lasts = Arc::new(AtomicBool::new(false));
    let doors = hyper::service::service_fn(|mut request: HttpRequest<Incoming>| {
        let (service, says) = (service.clone(), Arc::clone(&lasts));
        if let Some(peer) = &peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        async move {
            let answered = answer(service, request).await;
            if answered.as_ref().is_ok_and(api::lasts) {
                says.store(true, Ordering::Relaxed);
            }
            answered
        }
    });
    if !is_http2 {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), doors);
        return page(served, &lasts).await;
    }
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_LIMIT)
        .max_concurrent_streams(MAX_CALLS)
        .serve_connection(TokioIo::new(stream), doors);
    let mut served = std::pin::pin!(served);
    let finished = tokio::select! {
        finished = &mut served => finished,
        // Dropped, with all its streams: agents on the node let go.
        why = no_longer => return Err(why),
        () = closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    finished.map_err(|error| error.to_string())
}

/// Serves one page, or one stream of changes, by HTTP/1.1.
async fn page(
    served: impl Future<Output = Result<(), hyper::Error>>,
    lasts: &AtomicBool,
) -> Result<(), String> {
    let mut served = std::pin::pin!(served);
    let late = |_| "a page took too long".to_owned();
    let finished = match timeout(PAGE, served.as_mut()).await {
        Err(_) if lasts.load(Ordering::Relaxed) => timeout(CHANGES, served).await.map_err(late)?,
        finished => finished.map_err(late)?,
    };
    finished.map_err(|error| error.to_string())
}

/// Which of the services is meant stands in the path.
async fn answer(
    service: Service,
    request: HttpRequest<Incoming>,
) -> Result<HttpResponse<Body>, std::convert::Infallible> {
    if let Some(page) = health::answer(&service.0, &request) {
        Ok(page)
    } else if request.uri().path().starts_with(api::PREFIX) {
        Ok(api::answer(service.0, request).await)
    } else if request.version() < Version::HTTP_2 {
        Ok(health::other())
    } else if request.uri().path().starts_with("/pepo.server.v1.Nodes/") {
        NodesServer::new(service).max_decoding_message_size(MAX_MESSAGE).call(request).await
    } else {
        DirectoryServer::new(service).max_encoding_message_size(MAX_MESSAGE).call(request).await
    }
}

/// TLS with a certificate of the own authority, which is sent along: who holds a token knows its digest.
fn acceptor(folder: &Folder, config: &Config) -> Result<TlsAcceptor, Failure> {
    let authority = folder.authority()?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(config.listen.ip().to_string());
    names.extend(config.names.iter().cloned());
    let (certificate, key) = certificates::server(&authority, &names)?;
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Code::Internal, "the server's certificate cannot be used").because_of(error)
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.certificate.as_slice())).map_err(|error| failed(&error))?;
    let chain = vec![CertificateDer::from(certificate), CertificateDer::from(authority.certificate)];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let provider = Arc::new(default_provider());
    // People have none; a node's is of our authority, and has not ended.
    let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(&error))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(nodes)
        .with_single_cert(chain, key)
        .map_err(|error| failed(&error))?;
    tls.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}
