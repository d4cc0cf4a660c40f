//! `/hold/NAMESPACE/POD/CONTAINER/…`: answers when the call may go on, and always that it may. A `-` stands for whichever container
//! of the pod the debug request fits. What follows is the call's own path, which is not looked at.
//!
//! A call asks to be held by a header: `x-pepo-debug` (with the name of a debug request, or `any`), `x-squash-debug`, or a member
//! `pepo` of W3C's `baggage`. The header gives nobody a right: without a debug request that waits the call goes on at once.

use std::time::Instant;

use futures::StreamExt as _;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{HeaderName, HeaderValue},
};
use pepo_wire::{
    Failure,
    resource::{AttachmentSpec, DebugAttachment, Kind as _, LONGEST_HOLD, PodContainer, RequestSpec},
};
use tonic::body::Body;

use super::{Call, Door, empty, is_settled};
use crate::{
    attachments::new_name,
    store::{StoreError, read},
};

pub(super) const ROOT: &str = "/hold/";
/// How it went, in the answer.
const HELD: HeaderName = HeaderName::from_static("x-pepo-held");
const ATTACHMENT: HeaderName = HeaderName::from_static("x-pepo-attachment");

/// What a call wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// Whoever waits for it.
    Any,
    /// The person of this debug request.
    Named(String),
}

/// How it went: that the call may go on is all that the proxy needs.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) how: String,
    pub(super) attachment: Option<String>,
}

impl Told {
    fn not_held(why: &str) -> Told {
        Told { how: why.to_owned(), attachment: None }
    }
}

/// Holds the call, where it asks for that; the answer is always that it may go on.
pub(super) async fn answer(door: &Door, path: &str, headers: &HeaderMap) -> Response<Body> {
    goes_on(&until_ready(door, place(path), headers).await)
}

/// Waits as long as the call is held in this container.
pub(super) async fn until_ready(door: &Door, holds: Option<PodContainer>, headers: &HeaderMap) -> Told {
    let Some(wanted) = wanted(headers) else { return Told::not_held("no") };
    let Some(holds) = holds else { return Told::not_held("no: it names no pod") };
    let began = Instant::now();
    let held = tokio::select! {
        held = hold(door, &holds, &wanted) => held,
        () = tokio::time::sleep(LONGEST_HOLD) => Ok(Err("no longer: its time is over")),
        () = door.desk.ending.begins() => Ok(Err("no longer: the server ends")),
    };
    match held {
        Ok(Ok(attachment)) => {
            let state = attachment.status.state.to_string();
            let how = if attachment.is_ready() { "ready" } else { &state };
            let how = format!("{} ms, {how}", began.elapsed().as_millis());
            Told { how, attachment: Some(attachment.metadata.name) }
        }
        Ok(Err(why)) => Told::not_held(why),
        Err(failure) => {
            tracing::error!(%failure, "a call was not held");
            Told::not_held("no: the server failed")
        }
    }
}

/// Waits until the debugger of who waits for this call is there; why not, where nobody does.
async fn hold(
    door: &Door,
    holds: &PodContainer,
    wanted: &Wanted,
) -> Result<Result<DebugAttachment, &'static str>, Failure> {
    let Some(_place) = door.enter(holds) else { return Ok(Err("no: too many are held")) };
    let _held = door.desk.metrics.held.enter();
    let resources = &door.desk.attachments.resources;
    let failed = |error: StoreError| error.failure("attachments");
    // From before it is bound on, so that no change is missed.
    let mut changes = resources.0.watch(AttachmentSpec::PLURAL, None).await.map_err(failed)?;
    let named = match wanted {
        Wanted::Named(name) => Some(name.as_str()),
        Wanted::Any => None,
    };
    let call = Call { holds, image: "", named, attachment: &new_name()? };
    let mut attachment = match (door.bind(call).await?, named) {
        (Some(bound), _) => bound,
        (None, Some(name)) => match bound_before(door, holds, name).await? {
            Some(bound) => bound,
            None => return Ok(Err("no: this debug request waits for no call here")),
        },
        (None, None) => return Ok(Err("no: nobody waits for it")),
    };
    while !is_settled(&attachment) {
        match changes.next().await {
            Some(Ok(change)) if change.record.name == attachment.metadata.name => {
                attachment = read(change.record).map_err(failed)?;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Ok(Err("no longer: the server lost sight of it")),
        }
    }
    Ok(Ok(attachment))
}

/// The attachment of a debug request that another call of this container has been bound to.
async fn bound_before(
    door: &Door,
    holds: &PodContainer,
    request: &str,
) -> Result<Option<DebugAttachment>, Failure> {
    let resources = &door.desk.attachments.resources;
    let found = async {
        let request = resources.get::<RequestSpec>(request).await?;
        let name = request.status.attachment.ok_or(StoreError::Missing)?;
        resources.get::<AttachmentSpec>(&name).await
    };
    match found.await {
        Ok(attachment) => Ok(Some(attachment).filter(|one| one.spec.holds.as_ref() == Some(holds))),
        Err(StoreError::Missing) => Ok(None),
        Err(error) => Err(error.failure("debug requests")),
    }
}

fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let request = |name: &str| match name {
        "" | "any" | "1" | "true" => Wanted::Any,
        name => Wanted::Named(name.to_owned()),
    };
    if let Some(name) = text("x-pepo-debug") {
        return Some(request(name));
    }
    if headers.contains_key("x-squash-debug") {
        return Some(Wanted::Any);
    }
    // W3C Baggage: members with properties, in one header or several.
    let lines = headers.get_all("baggage").iter().filter_map(|line| line.to_str().ok());
    let members = lines.flat_map(|line| line.split(',')).filter_map(|member| member.split_once('='));
    let mut ours = members.filter(|(key, _)| key.trim() == "pepo");
    let value = ours.next()?.1.split(';').next().unwrap_or_default();
    Some(request(value.trim()))
}

fn place(path: &str) -> Option<PodContainer> {
    let mut parts = path.split('/');
    named(parts.next()?, parts.next()?, parts.next().unwrap_or_default())
}

/// A container, where its pod is named.
pub(super) fn named(namespace: &str, pod: &str, container: &str) -> Option<PodContainer> {
    let container = if container == "-" { "" } else { container };
    let is_named = !namespace.is_empty() && !pod.is_empty();
    is_named.then(|| PodContainer {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
    })
}

fn goes_on(told: &Told) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    for (name, text) in [(HELD, Some(&told.how)), (ATTACHMENT, told.attachment.as_ref())] {
        if let Some(Ok(value)) = text.map(|text| HeaderValue::from_str(text)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_call_asks_by_each_of_the_headers() {
        let name = |name: &str| Some(Wanted::Named(name.to_owned()));
        for (pairs, expected) in [
            (&[][..], None),
            (&[("x-pepo-debug", "1c7e03b25a")], name("1c7e03b25a")),
            (&[("x-pepo-debug", "any")], Some(Wanted::Any)),
            (&[("x-squash-debug", "whatever")], Some(Wanted::Any)),
            (&[("baggage", "user=ann, pepo = 1c7e03b25a ;ttl=1 ,x=y")], name("1c7e03b25a")),
            (&[("baggage", "pepo=")], Some(Wanted::Any)),
            (&[("baggage", "pepod=1,xpepo=2")], None),
            (&[("baggage", "pepo")], None),
        ] {
            assert_eq!(wanted(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_path_names_the_container_and_the_rest_is_the_calls() {
        let of = |namespace: &str, pod: &str, container: &str| {
            let [namespace, pod, container] = [namespace, pod, container].map(str::to_owned);
            Some(PodContainer { namespace, pod, container })
        };
        assert_eq!(place("shop/shop-1/app/price/3"), of("shop", "shop-1", "app"));
        assert_eq!(place("shop/shop-1/-/hold/x"), of("shop", "shop-1", ""));
        assert_eq!(place("shop/shop-1"), of("shop", "shop-1", ""));
        assert_eq!([place(""), place("shop"), place("shop/"), place("/shop-1")], [None, None, None, None]);
    }
}
