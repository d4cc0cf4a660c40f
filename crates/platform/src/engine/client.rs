//! Requests to one engine over connections that are kept alive.
//!
//! Crate bollard speaks for us where its types fit. Three requests are made here, over the same connections:
//! lists and inspections, because bollard's types refuse a whole answer for one state they do not know (Podman's "stopped"), and
//! attach, because its demultiplexer panics on a kind of frame it does not know.

use std::{
    io,
    pin::Pin,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bollard::{BollardRequest, ClientVersion, Docker};
use bytes::Bytes;
use futures::Stream;
use http_body_util::{BodyExt as _, Either, Full, Limited, StreamBody};
use hyper::{Method, Request, Response, StatusCode, body::Frame, body::Incoming, header};
use hyper_util::{
    client::legacy::Client as Http,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{
    api,
    attach::Attached,
    dial::{Dialer, Refusal},
    ssh, tls,
};
use crate::{Endpoint, PlatformError, error};

/// An engine may take so long to begin an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// So long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// As bollard's requests have it.
type Body =
    Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>>>;

/// The input and output of a container.
pub(crate) type Joined = Attached<TokioIo<hyper::upgrade::Upgraded>>;

/// One engine. Connections are shared and kept alive.
pub(crate) struct Client {
    pub(crate) engine: &'static str,
    pub(crate) endpoint: Endpoint,
    http: Http<Dialer, Body>,
    refusal: Refusal,
    met: OnceCell<Met>,
}

/// What the first answer told.
pub(crate) struct Met {
    /// Bollard's client over our connections, in a version the engine speaks.
    pub(crate) docker: Docker,
    /// The engine of itself.
    pub(crate) about: api::About,
    prefix: String,
}

impl Client {
    /// Dials nothing yet.
    pub(crate) fn new(engine: &'static str, endpoint: Endpoint) -> Client {
        let refusal = Refusal::default();
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(Dialer::new(endpoint.clone(), engine, Arc::clone(&refusal)));
        Client { engine, endpoint, http, refusal, met: OnceCell::new() }
    }

    /// Asks the engine for its version, once.
    pub(crate) async fn met(&self) -> Result<&Met, PlatformError> {
        self.met.get_or_try_init(|| self.meet()).await
    }

    async fn meet(&self) -> Result<Met, PlatformError> {
        let act = "tell its version";
        let about: api::About = self.parse(act, &self.answer(act, "/version").await?)?;
        let garbled = || PlatformError::Garbled {
            engine: self.engine,
            act,
            why: format!("API version `{}`", about.api_version),
        };
        let (major, minor) = about.api_version.split_once('.').ok_or_else(garbled)?;
        let theirs =
            (major.parse::<usize>().map_err(|_| garbled())?, minor.parse::<usize>().map_err(|_| garbled())?);
        let newest = bollard::API_DEFAULT_VERSION;
        let (major_version, minor_version) = theirs.min((newest.major_version, newest.minor_version));
        let http = self.http.clone();
        let transport = move |request: BollardRequest| {
            let http = http.clone();
            async move { http.request(request).await.map_err(bollard::errors::Error::from) }
        };
        let version = ClientVersion { major_version, minor_version };
        let docker = Docker::connect_with_custom_transport(
            transport,
            Some("http://engine"),
            ANSWER.as_secs(),
            &version,
        )
        .map_err(|error| self.bollard(act, error))?;
        Ok(Met { docker, about, prefix: format!("/v{major_version}.{minor_version}") })
    }

    /// The JSON answer to a GET below the version's prefix.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        act: &'static str,
        path: &str,
    ) -> Result<T, PlatformError> {
        let path = format!("{}{path}", self.met().await?.prefix);
        self.parse(act, &self.answer(act, &path).await?)
    }

    /// Joins a container's input and output, before it is started.
    pub(crate) async fn attach(&self, id: &str) -> Result<Joined, PlatformError> {
        let act = "attach to a container";
        let path =
            format!("{}/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1", self.met().await?.prefix);
        let request = self.request(
            act,
            Method::POST,
            &path,
            &[(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")],
        )?;
        let response = self.send(act, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(act, response).await);
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| self.unreachable(error))?;
        Ok(Attached::new(TokioIo::new(upgraded)))
    }

    async fn answer(&self, act: &'static str, path: &str) -> Result<Bytes, PlatformError> {
        let response = self.send(act, self.request(act, Method::GET, path, &[])?).await?;
        if !response.status().is_success() {
            return Err(self.refusal(act, response).await);
        }
        self.body(act, response).await
    }

    fn request(
        &self,
        act: &'static str,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Request<Body>, PlatformError> {
        let mut builder = Request::builder().method(method).uri(format!("http://engine{path}"));
        for (name, value) in headers {
            builder = builder.header(name, *value);
        }
        let body = Either::Left(Full::new(Bytes::new()));
        builder.body(body).map_err(|error| PlatformError::Garbled {
            engine: self.engine,
            act,
            why: error.to_string(),
        })
    }

    async fn send(
        &self,
        act: &'static str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, PlatformError> {
        match tokio::time::timeout(ANSWER, self.http.request(request)).await {
            Ok(response) => response.map_err(|error| self.unreachable(error)),
            Err(_) => Err(self.slow(act, ANSWER)),
        }
    }

    async fn body(&self, act: &'static str, response: Response<Incoming>) -> Result<Bytes, PlatformError> {
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        match tokio::time::timeout(ANSWER, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(PlatformError::Unreachable {
                engine: self.engine,
                address: self.endpoint.to_string(),
                source: error,
            }),
            Err(_) => Err(self.slow(act, ANSWER)),
        }
    }

    fn parse<T: DeserializeOwned>(&self, act: &'static str, body: &[u8]) -> Result<T, PlatformError> {
        serde_json::from_slice(body).map_err(|error| PlatformError::Garbled {
            engine: self.engine,
            act,
            why: error.to_string(),
        })
    }

    async fn refusal(&self, act: &'static str, response: Response<Incoming>) -> PlatformError {
        let status = response.status().as_u16();
        match self.body(act, response).await {
            Ok(body) => PlatformError::Refused { engine: self.engine, act, status, words: api::words(&body) },
            Err(error) => error,
        }
    }

    /// What bollard's error means.
    pub(crate) fn bollard(&self, act: &'static str, error: bollard::errors::Error) -> PlatformError {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                PlatformError::Refused { engine: self.engine, act, status: status_code, words: message }
            }
            Error::RequestTimeoutError => self.slow(act, ANSWER),
            Error::JsonDataError { message, .. } => {
                PlatformError::Garbled { engine: self.engine, act, why: message }
            }
            other => self.unreachable(other),
        }
    }

    fn slow(&self, act: &str, limit: Duration) -> PlatformError {
        PlatformError::Slow { what: format!("{} at {}, asked to {act},", self.engine, self.endpoint), limit }
    }

    fn unreachable(&self, error: impl std::error::Error + Send + Sync + 'static) -> PlatformError {
        let address = self.endpoint.to_string();
        if error::io_kind(&error) == Some(io::ErrorKind::PermissionDenied) {
            return PlatformError::SocketDenied { address, engine: self.engine };
        }
        let ended = error::causes(&error).find_map(|error| error.downcast_ref::<ssh::Ended>());
        if let (Some(ended), Some(by_hand)) = (ended, ssh::by_hand(&self.endpoint, self.engine)) {
            let words = ended.words.clone();
            return PlatformError::SshEnded { engine: self.engine, address, words, by_hand };
        }
        if let Endpoint::Tls { folder, .. } = &self.endpoint {
            let explain = |error: &(dyn std::error::Error + 'static)| {
                tls::explain(self.engine, &address, folder, error)
            };
            let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(explained) = explain(&error).or_else(|| explain(refusal.as_ref()?)) {
                return explained;
            }
        }
        PlatformError::Unreachable { engine: self.engine, address, source: Box::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use pepo_wire::{Code, FailureExt as _};

    use super::*;

    #[test]
    fn a_socket_that_may_not_be_opened_is_told_apart_from_one_where_nobody_answers() {
        let client = |engine| Client::new(engine, Endpoint::Unix("/run/x.sock".into()));
        for (kind, code) in [
            (io::ErrorKind::PermissionDenied, Code::SocketDenied),
            (io::ErrorKind::ConnectionRefused, Code::EngineUnreachable),
            (io::ErrorKind::NotFound, Code::EngineUnreachable),
        ] {
            // As it comes out of layers of other errors.
            let error = io::Error::other(io::Error::other(io::Error::from(kind)));
            let failure = client("docker").unreachable(error).failure();
            assert_eq!(failure.code(), code, "{kind}");
            assert!(failure.what.contains("unix:///run/x.sock"), "{failure}");
        }
        let denied = client("docker").unreachable(io::Error::from(io::ErrorKind::PermissionDenied)).failure();
        assert!(denied.hints[0].text.contains("usermod -aG docker"), "{denied:?}");
    }
}
