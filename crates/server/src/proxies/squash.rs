//! Squash's REST, `/api/v2`, as its last server answered it, for Envoy's squash filter and for old clients: they see the attachments
//! for which calls are held, and the debug requests that wait for one.
//!
//! A caller proves nothing here. So an attachment is made for a debug request of a person alone (`match_request`), and what would
//! need a right of its own (an attachment or a request of the caller's, a change, an end) is refused with the way that has one.

use std::time::Duration;

use futures::StreamExt as _;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ETAG, HeaderValue, IF_NONE_MATCH},
};
use pepo_wire::{
    Code, Failure,
    failure::http_status,
    resource::{
        AttachmentSpec, DebugAttachment, DebugRequest, Kind as _, Next, PodContainer, RequestSpec,
        RequestState, State,
    },
};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::body::Body;

use super::{Call, Door, empty};
use crate::{
    api::http::{Parameters, body, json_page, name_of},
    attachments::{called, new_name},
    store::StoreError,
};

pub(super) const ROOT: &str = "/api/v2/";
/// How long `wait` waits, if nothing is said, and at most.
const USUAL: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// An attachment as it is wished.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wish {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    attachment: Place,
    image: String,
    match_request: bool,
}

/// Where the call is served, as Squash's Kubernetes platform names it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    namespace: String,
    pod: String,
    container: String,
}

/// Answers a call. A slash at the end of its path means nothing.
pub(super) async fn answer(door: &Door, path: &str, request: Request<Incoming>) -> Response<Body> {
    let parts: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    let method = request.method().clone();
    let answered = match (&parts[..], method) {
        (["debugattachment"], Method::POST) => door.wish(request).await,
        (["debugattachment"], Method::GET) => {
            door.list(request.uri().query().unwrap_or_default(), request.headers()).await
        }
        (["debugattachment", name], Method::GET) => door.one(name).await,
        (["debugattachment", name], Method::PATCH) => door.one(name).await.and(Err(refused())),
        (["debugattachment", name], Method::DELETE) => gone(door.one(name).await),
        (["debugrequest"], Method::GET) => door.requests().await,
        (["debugrequest"], Method::POST) => Err(refused()),
        (["debugrequest", name], Method::GET) => door.request(name).await,
        (["debugrequest", name], Method::DELETE) => gone(door.request(name).await),
        (["debugattachment" | "debugrequest", ..], _) => return empty(StatusCode::METHOD_NOT_ALLOWED),
        _ => return empty(StatusCode::NOT_FOUND),
    };
    answered.unwrap_or_else(|failure| trouble(&failure))
}

/// What is not there is gone; what is there stays.
fn gone(found: Result<Response<Body>, Failure>) -> Result<Response<Body>, Failure> {
    match found {
        Ok(_) => Err(refused()),
        Err(failure) if failure.code() == Code::ObjectNotFound => Ok(empty(StatusCode::OK)),
        Err(failure) => Err(failure),
    }
}

fn refused() -> Failure {
    Failure::new(Code::NotGranted, "who proves here who they are? nobody, so this needs a debug request of a person")
        .hint("make one that waits for a call, and say `match_request`; attachments are ended by `pepo attachments delete`")
        .try_command("wait for a call", ["pepo", "requests", "create", "--next", "call", "--service", "NAME"])
}

/// As Squash's server told what went wrong.
fn trouble(failure: &Failure) -> Response<Body> {
    let status = match failure.code() {
        Code::TimedOut => 408,
        code => http_status(code),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_page(status, &json!({ "code": status.as_u16(), "message": failure.to_string() }))
}

impl Door {
    /// An attachment for a call that is held: for who waits for it, or none.
    async fn wish(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let wish: Wish = serde_json::from_value(body(request).await?)
            .map_err(|error| Failure::new(Code::Usage, "the body is no DebugAttachment").because(error))?;
        if !wish.spec.match_request {
            return Err(refused());
        }
        let name = match wish.metadata.name.as_str() {
            "" => new_name()?,
            name => name_of(name)?,
        };
        if self.desk.attachments.resources.get::<AttachmentSpec>(&name).await.is_ok() {
            return Err(Failure::new(Code::Conflict, format!("{} exists already", called(&name))));
        }
        let Place { mut namespace, pod, container } = wish.spec.attachment;
        if namespace.is_empty() {
            namespace = "default".to_owned();
        }
        let holds = PodContainer { namespace, pod, container };
        let call = Call { holds: &holds, image: &wish.spec.image, named: None, attachment: &name };
        match self.bind(call).await? {
            Some(attachment) => Ok(json_page(StatusCode::CREATED, &seen(&attachment))),
            None => Err(Failure::new(Code::ObjectNotFound, "nobody waits for a call of this container")
                .because(format!("{}/{} {}", holds.namespace, holds.pod, holds.container))),
        }
    }

    async fn one(&self, name: &str) -> Result<Response<Body>, Failure> {
        let found = self.desk.attachments.resources.get::<AttachmentSpec>(&name_of(name)?).await;
        // The others are nobody's business here.
        match found.and_then(|one| one.spec.holds.is_some().then_some(one).ok_or(StoreError::Missing)) {
            Ok(one) => Ok(json_page(StatusCode::OK, &seen(&one))),
            Err(error) => Err(error.failure(&called(name))),
        }
    }

    /// The attachments that fit; with `wait`, as soon as there are others than those of `If-None-Match`, and any at all.
    async fn list(&self, query: &str, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        let filter = Filter::read(query)?;
        let known = headers.get(IF_NONE_MATCH);
        let limit = waits(headers)?;
        let resources = &self.desk.attachments.resources;
        let failed = |error: StoreError| error.failure("attachments");
        let mut changes = resources.0.watch(AttachmentSpec::PLURAL, None).await.map_err(failed)?;
        let found = async {
            loop {
                let all = resources.all(|one: &DebugAttachment| filter.fits(one)).await.map_err(failed)?;
                let page = json!(all.iter().map(seen).collect::<Vec<_>>());
                let tag = tag(&page);
                let is_known = known == Some(&tag);
                if !filter.waits || !(all.is_empty() || is_known) {
                    let mut response = match is_known {
                        true => empty(StatusCode::NOT_MODIFIED),
                        false => json_page(StatusCode::OK, &page),
                    };
                    response.headers_mut().insert(ETAG, tag);
                    return Ok(response);
                }
                changes.next().await.transpose().map_err(failed)?;
            }
        };
        let late = || Failure::new(Code::TimedOut, format!("there was nothing new within {limit:?}"));
        tokio::select! {
            found = found => found,
            () = tokio::time::sleep(limit) => Err(late()),
            () = self.desk.ending.begins() => Err(late()),
        }
    }

    async fn requests(&self) -> Result<Response<Body>, Failure> {
        let all = self.desk.attachments.resources.all(is_for_calls).await;
        let all = all.map_err(|error| error.failure("debug requests"))?;
        Ok(json_page(StatusCode::OK, &json!(all.iter().map(request_seen).collect::<Vec<_>>())))
    }

    async fn request(&self, name: &str) -> Result<Response<Body>, Failure> {
        let found = self.desk.attachments.resources.get::<RequestSpec>(&name_of(name)?).await;
        match found.and_then(|one| is_for_calls(&one).then_some(one).ok_or(StoreError::Missing)) {
            Ok(one) => Ok(json_page(StatusCode::OK, &request_seen(&one))),
            Err(error) => Err(error.failure(&crate::requests::called(name))),
        }
    }
}

fn is_for_calls(request: &DebugRequest) -> bool {
    request.spec.next == Some(Next::Call) && request.status.state != RequestState::Expired
}

/// Which attachments are asked for.
#[derive(Debug, Default)]
struct Filter {
    waits: bool,
    node: Option<String>,
    states: Vec<String>,
    names: Vec<String>,
}

impl Filter {
    fn read(query: &str) -> Result<Filter, Failure> {
        let parameters = Parameters::read(query);
        let list = |name: &str| {
            let text = parameters.get(name).unwrap_or_default();
            text.split(',').filter(|one| !one.is_empty()).map(str::to_owned)
        };
        Ok(Filter {
            waits: parameters.is("wait")?,
            node: parameters.get("node").map(str::to_owned),
            states: list("state").chain(list("states")).collect(),
            names: list("names").collect(),
        })
    }

    fn fits(&self, one: &DebugAttachment) -> bool {
        let among = |list: &[String], word: &str| list.is_empty() || list.iter().any(|one| one == word);
        one.spec.holds.is_some()
            && self.node.as_ref().is_none_or(|node| *node == one.spec.node)
            && among(&self.states, state(one))
            && among(&self.names, &one.metadata.name)
    }
}

/// `X-Timeout`, in seconds.
fn waits(headers: &HeaderMap) -> Result<Duration, Failure> {
    let Some(text) = headers.get("x-timeout") else { return Ok(USUAL) };
    let seconds = text.to_str().ok().and_then(|text| text.parse::<f64>().ok());
    let wished = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    wished
        .map(|wished| wished.min(LONGEST))
        .ok_or_else(|| Failure::new(Code::Usage, "`X-Timeout` is not a number of seconds"))
}

/// Of the same content it is the same.
fn tag(page: &Value) -> HeaderValue {
    let digest = digest(&SHA256, page.to_string().as_bytes());
    let digits: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Squash's states only rise: what was attached stays so. By `attached` its callers let the call go, so that means ready.
fn state(one: &DebugAttachment) -> &'static str {
    match one.status.state {
        State::Requested | State::Scheduled => "none",
        State::Attaching => "attaching",
        State::Attached if !one.is_ready() => "attaching",
        State::Attached | State::Detached => "attached",
        State::Failed | State::Expired => "error",
    }
}

fn seen(one: &DebugAttachment) -> Value {
    let (spec, status) = (&one.spec, &one.status);
    let holds = spec.holds.clone().unwrap_or_default();
    json!({
        "metadata": { "name": one.metadata.name, "version": one.metadata.resource_version },
        "spec": {
            "attachment": { "namespace": holds.namespace, "pod": holds.pod, "container": holds.container },
            "debugger": status.debugger.clone().unwrap_or_default(),
            "image": spec.image,
            "process_name": "",
            "node": spec.node,
            "match_request": true,
        },
        "status": { "state": state(one), "debug_server_address": "" },
    })
}

fn request_seen(one: &DebugRequest) -> Value {
    json!({
        "metadata": { "name": one.metadata.name, "version": one.metadata.resource_version },
        "spec": { "image": one.spec.image.clone().unwrap_or_default(), "debugger": "", "process_name": "" },
        "status": { "debug_attachment_ref": one.status.attachment.clone().unwrap_or_default() },
    })
}
