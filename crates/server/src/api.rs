//! The resources by HTTP, below `/api/v1`: lists, objects, and changes as they come.
//!
//! Who may look at a target may look at its attachments; what may not be looked at is not listed and not found. Whoever began an
//! attachment, or may stop its target, may end it. A debug request is its owner's.

/// What every call says and hears: parameters, answers, problems.
pub(crate) mod http;
/// The document of it, made from the types.
mod openapi;
/// Changes as they come.
mod watch;

use std::{sync::Arc, time::Duration};

use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::ALLOW};
use pepo_wire::{
    Code, Failure,
    resource::{
        API_VERSION, AttachmentSpec, DebugAttachment, DebugRequest, Kind as Resource, Object, RequestSpec,
    },
};
use serde_json::{Value, json};
use tonic::{body::Body, metadata::MetadataMap};

pub(crate) use self::watch::lasts;
use self::{
    http::{Parameters, json_page, name_of, problem},
    watch::Watcher,
};
use crate::{
    attachments,
    audit::Line,
    identity::{Caller, Kind},
    policy::{Policy, Verb},
    requests,
    service::Desk,
    store::{StoreError, read},
};

/// All paths of it begin so.
pub(crate) const PREFIX: &str = "/api/";
const ROOT: &str = "/api/v1/";
/// Objects of one page, if nothing is said, and at most.
const USUAL: usize = 100;
const MOST: usize = 500;
/// How long the end of an attachment may take before the answer is given without it.
const ENDING: Duration = Duration::from_secs(15);

/// A kind of resource, as people may see it.
trait Shown: Resource {
    /// May `who` look at it?
    fn is_shown(object: &Object<Self>, policy: &Policy, who: &str) -> bool;

    /// What the one of this name is called in what people read.
    fn called(name: &str) -> String;
}

impl Shown for AttachmentSpec {
    fn is_shown(object: &DebugAttachment, policy: &Policy, who: &str) -> bool {
        policy.allows(who, Verb::Look, &object.spec.target)
    }

    fn called(name: &str) -> String {
        attachments::called(name)
    }
}

impl Shown for RequestSpec {
    fn is_shown(object: &DebugRequest, policy: &Policy, who: &str) -> bool {
        let target = object.status.target.as_deref();
        object.spec.who == who || target.is_some_and(|target| policy.allows(who, Verb::Look, target))
    }

    fn called(name: &str) -> String {
        requests::called(name)
    }
}

/// One call: by whom, and what it says.
struct Call<'c> {
    desk: &'c Arc<Desk>,
    caller: Caller,
    metadata: MetadataMap,
    parameters: Parameters,
}

/// Answers a call, whatever it is.
pub(crate) async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path == format!("{ROOT}openapi.json") && request.method() == Method::GET {
        return json_page(StatusCode::OK, &openapi::document());
    }
    let metadata = MetadataMap::from_headers(request.headers().clone());
    let caller = match desk.caller(&metadata, Kind::Person) {
        Ok(caller) => caller,
        Err(failure) => return http::unknown(&failure),
    };
    let parameters = Parameters::read(request.uri().query().unwrap_or_default());
    let call = Call { desk: &desk, caller, metadata, parameters };
    let parts: Vec<&str> = path.strip_prefix(ROOT).unwrap_or_default().split('/').collect();
    let answered = match parts[..] {
        ["attachments"] => match *request.method() {
            Method::GET => call.listed::<AttachmentSpec>().await,
            _ => Ok(not_allowed("GET")),
        },
        ["requests"] => match *request.method() {
            Method::GET => call.listed::<RequestSpec>().await,
            Method::POST => call.wish(request).await,
            _ => Ok(not_allowed("GET, POST")),
        },
        ["attachments", name] => match *request.method() {
            Method::GET => call.one::<AttachmentSpec>(name).await,
            Method::DELETE => call.end_attachment(name).await,
            _ => Ok(not_allowed("GET, DELETE")),
        },
        ["requests", name] => match *request.method() {
            Method::GET => call.one::<RequestSpec>(name).await,
            Method::DELETE => call.remove_request(name).await,
            _ => Ok(not_allowed("GET, DELETE")),
        },
        _ => Err(Failure::new(Code::ObjectNotFound, format!("there is nothing at {path}"))
            .hint("what there is stands in /api/v1/openapi.json")),
    };
    answered.unwrap_or_else(|failure| problem(&failure))
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let failure =
        Failure::new(Code::Usage, "this cannot be done here").because(format!("there is {allowed}"));
    let mut page = problem(&failure);
    *page.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    http::with(page, ALLOW, allowed)
}

impl Call<'_> {
    async fn listed<S: Shown + Send + Sync + 'static>(&self) -> Result<Response<Body>, Failure> {
        if self.parameters.is("watch")? {
            let version = self.parameters.get("resourceVersion").map(str::to_owned);
            let version = self.last_event().or(version);
            let watcher = Watcher::new(Arc::clone(self.desk), self.metadata.clone());
            return watcher.page::<S>(version.as_deref()).await;
        }
        let limit = self.parameters.number("limit", USUAL)?.clamp(1, MOST);
        let after = self.parameters.get("continue").unwrap_or_default();
        let (items, more, version) = self.page::<S>(after, limit).await?;
        let mut metadata = json!({ "resourceVersion": version });
        if let Some(more) = more {
            metadata["continue"] = json!(more);
        }
        let list = json!({
            "apiVersion": API_VERSION, "kind": format!("{}List", S::KIND), "metadata": metadata, "items": items,
        });
        Ok(json_page(StatusCode::OK, &list))
    }

    /// Where a stream of changes that broke goes on (HTML, server-sent events: `Last-Event-ID`).
    fn last_event(&self) -> Option<String> {
        let header = self.metadata.get("last-event-id")?.to_str().ok()?;
        Some(header.to_owned())
    }

    /// At most `limit` objects that the caller may see, what the next page begins after, and the version of the list.
    async fn page<S: Shown>(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<Object<S>>, Option<String>, String), Failure> {
        let policy = self.desk.folder.policy()?;
        let failed = |error: StoreError| error.failure(S::SHORT);
        let (mut items, mut first): (Vec<Object<S>>, Option<String>) = (Vec::new(), None);
        let mut after = Some(after.to_owned());
        while let Some(from) = after {
            let page = self.desk.attachments.resources.0.list(S::PLURAL, &from, MOST).await;
            let page = page.map_err(failed)?;
            first.get_or_insert(page.version);
            for record in page.records {
                let object = read::<S>(record).map_err(failed)?;
                if !S::is_shown(&object, &policy, &self.caller.name) {
                    continue;
                }
                if items.len() == limit {
                    // One more there is, and it may be seen: only then is there more.
                    let more = items.last().map(|last| last.metadata.name.clone());
                    return Ok((items, more, first.unwrap_or_default()));
                }
                items.push(object);
            }
            after = page.more;
        }
        Ok((items, None, first.unwrap_or_default()))
    }

    /// The object of this name, if the caller may see it.
    async fn found<S: Shown>(&self, name: &str) -> Result<Object<S>, Failure> {
        let name = name_of(name)?;
        let object = self.desk.attachments.resources.get::<S>(&name).await;
        let object = object.map_err(|error| error.failure(&S::called(&name)))?;
        match S::is_shown(&object, &*self.desk.folder.policy()?, &self.caller.name) {
            true => Ok(object),
            false => Err(StoreError::Missing.failure(&S::called(&name))),
        }
    }

    async fn one<S: Shown>(&self, name: &str) -> Result<Response<Body>, Failure> {
        Ok(json_page(StatusCode::OK, &json!(self.found::<S>(name).await?)))
    }

    /// Ends an attachment that is alive, and removes one that is over.
    async fn end_attachment(&self, name: &str) -> Result<Response<Body>, Failure> {
        let attachment = self.found::<AttachmentSpec>(name).await?;
        let (who, target) = (&self.caller.name, &attachment.spec.target);
        if attachment.spec.who != *who && !self.desk.folder.policy()?.allows(who, Verb::Stop, target) {
            return Err(Failure::new(
                Code::NotGranted,
                format!("{who} may look at {target}, and end no attachment of others"),
            )
            .hint("who keeps the server's policy.json can add the verb `stop` for it"));
        }
        let name = &attachment.metadata.name;
        self.desk.write(Line { act: "end-attachment", who, target, why: name, ..Line::default() })?;
        if attachment.status.state.is_over() {
            let removed = self.desk.attachments.remove(&attachment).await?;
            return Ok(json_page(StatusCode::OK, &json!(removed)));
        }
        let (ended, is_over) = self.desk.attachments.end(&attachment, who, ENDING).await?;
        let status = if is_over { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok(json_page(status, &json!(ended)))
    }

    /// Makes a debug request.
    async fn wish(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let key = request.headers().get("idempotency-key").map(|key| key.as_bytes().to_vec());
        let body: Value = http::body(request).await?;
        let spec = http::spec::<RequestSpec>(&body)?;
        let (made, is_new) = self.desk.requests.make(&self.caller.name, spec, key.as_deref()).await?;
        self.desk.write(Line {
            act: "request",
            who: &self.caller.name,
            why: &made.metadata.name,
            ..Line::default()
        })?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(json_page(status, &json!(made)))
    }

    async fn remove_request(&self, name: &str) -> Result<Response<Body>, Failure> {
        let request = self.found::<RequestSpec>(name).await?;
        let who = &self.caller.name;
        if request.spec.who != *who {
            return Err(Failure::new(
                Code::NotGranted,
                format!("the debug request is {}'s, not {who}'s", request.spec.who),
            ));
        }
        let name = &request.metadata.name;
        self.desk.write(Line { act: "remove-request", who, why: name, ..Line::default() })?;
        let removed = self.desk.requests.remove(name).await?;
        Ok(json_page(StatusCode::OK, &json!(removed)))
    }
}
