//! The pages for whoever watches over the server: `/healthz`, `/readyz`, `/metrics`, by HTTP/1.1 or HTTP/2.

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE},
};
use tonic::{body::Body, metadata::MetadataMap};

use crate::{identity::Kind, service::Desk};

/// The answer to a request for one of the pages; nothing where it is for none.
pub(crate) fn answer<T>(desk: &Desk, request: &Request<T>) -> Option<Response<Body>> {
    let wanted: fn(&Desk, &HeaderMap) -> Response<Body> = match request.uri().path() {
        "/healthz" => alive,
        "/readyz" => ready,
        "/metrics" => metrics,
        _ => return None,
    };
    Some(match *request.method() {
        Method::GET | Method::HEAD => wanted(desk, request.headers()),
        _ => with(page(StatusCode::METHOD_NOT_ALLOWED, "these pages are read alone\n"), ALLOW, "GET, HEAD"),
    })
}

/// For those who ask for anything else without HTTP/2, which gRPC needs.
pub(crate) fn other() -> Response<Body> {
    page(
        StatusCode::NOT_FOUND,
        "pepo is spoken to by gRPC; there are /healthz, /readyz, /metrics and /api/v1\n",
    )
}

/// It runs.
fn alive(_: &Desk, _: &HeaderMap) -> Response<Body> {
    page(StatusCode::OK, "ok\n")
}

/// Whether people can be served now: nothing is allowed without a policy, the tokens, and the audit log. What is wrong in detail is not
/// told to strangers; the log says it.
fn ready(desk: &Desk, _: &HeaderMap) -> Response<Body> {
    let parts = [
        ("the tokens cannot be read", desk.folder.tokens().is_ok()),
        ("the policy cannot be read", desk.folder.policy().is_ok()),
        ("the audit log cannot be written", desk.audit.is_written()),
        ("the server is about to end", !desk.ending.has_begun()),
    ];
    match parts.iter().find(|(_, is_well)| !is_well) {
        None => page(StatusCode::OK, "ready\n"),
        Some((what, _)) => page(StatusCode::SERVICE_UNAVAILABLE, &format!("{what}\n")),
    }
}

/// Numbers, for those who have a token of a person.
fn metrics(desk: &Desk, headers: &HeaderMap) -> Response<Body> {
    match desk.caller(&MetadataMap::from_headers(headers.clone()), Kind::Person) {
        Ok(_) => {
            let (nodes, targets) = desk.nodes.numbers();
            let numbers = page(StatusCode::OK, &desk.metrics.page(nodes, targets));
            with(numbers, CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        }
        Err(failure) => {
            with(page(StatusCode::UNAUTHORIZED, &format!("{failure}\n")), WWW_AUTHENTICATE, "Bearer")
        }
    }
}

fn page(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(text.to_owned()));
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, "text/plain; charset=utf-8")
}

fn with(mut response: Response<Body>, name: HeaderName, value: &'static str) -> Response<Body> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
