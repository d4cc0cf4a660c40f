//! Changes as they come, as server-sent events (HTML Living Standard, 9.2): `id` is the version to go on from, `event` is ADDED,
//! MODIFIED or DELETED, `data` the object.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::{
    Response,
    body::Frame,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use pepo_wire::Failure;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior};
use tonic::{body::Body, metadata::MetadataMap};

use super::{Shown, http::with};
use crate::{
    identity::Kind,
    service::Desk,
    store::{Change, Changes, Event, StoreError, read},
};

/// How often a word is said where there is none, so that who is gone is noticed and who may no more hears no more.
const ALIVE: Duration = Duration::from_secs(10);

/// Marks an answer that goes on.
#[derive(Clone, Copy, Debug)]
struct Lasts;

/// Does this answer go on for as long as there is somebody who hears it?
pub(crate) fn lasts(response: &Response<Body>) -> bool {
    response.extensions().get::<Lasts>().is_some()
}

/// Somebody who watches: who that is, and what may be told, is asked again for each change.
pub(super) struct Watcher {
    desk: Arc<Desk>,
    metadata: MetadataMap,
}

/// What one turn of waiting brought.
enum Turn {
    Told(Option<Result<Change, StoreError>>),
    Nothing,
    Ends,
}

impl Watcher {
    pub(super) fn new(desk: Arc<Desk>, metadata: MetadataMap) -> Watcher {
        Watcher { desk, metadata }
    }

    /// Everything after this version, or from now on.
    pub(super) async fn page<S: Shown + Send + Sync + 'static>(
        self,
        version: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let store = &self.desk.attachments.resources.0;
        let changes = store.watch(S::PLURAL, version).await.map_err(|error| error.failure(S::SHORT))?;
        let mut alive = tokio::time::interval(ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = stream::unfold(Some((self, changes, alive)), async |watching| {
            let (watcher, mut changes, mut alive) = watching?;
            let (text, goes_on) = watcher.next::<S>(&mut changes, &mut alive).await?;
            let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(text)));
            Some((frame, goes_on.then_some((watcher, changes, alive))))
        });
        let mut response = Response::new(Body::new(StreamBody::new(events.boxed())));
        response.extensions_mut().insert(Lasts);
        Ok(with(with(response, CONTENT_TYPE, "text/event-stream"), CACHE_CONTROL, "no-store"))
    }

    /// The next words, and whether more follow; nothing at the end.
    async fn next<S: Shown>(&self, changes: &mut Changes, alive: &mut Interval) -> Option<(String, bool)> {
        loop {
            let turn = tokio::select! {
                change = changes.next() => Turn::Told(change),
                _ = alive.tick() => Turn::Nothing,
                () = self.desk.ending.is_over() => Turn::Ends,
            };
            let who = self.desk.caller(&self.metadata, Kind::Person).ok()?.name;
            match turn {
                Turn::Ends | Turn::Told(None) => return None,
                Turn::Nothing => return Some((":\n\n".to_owned(), true)),
                Turn::Told(Some(Err(error))) => return Some((failed(&error.failure(S::SHORT)), false)),
                Turn::Told(Some(Ok(change))) => {
                    if let Some(words) = self.told::<S>(&who, change) {
                        return Some((words, true));
                    }
                }
            }
        }
    }

    /// A change, if it may be told.
    fn told<S: Shown>(&self, who: &str, change: Change) -> Option<String> {
        let object = read::<S>(change.record).ok()?;
        let policy = self.desk.folder.policy().ok()?;
        let event = match change.event {
            Event::Added => "ADDED",
            Event::Modified => "MODIFIED",
            Event::Deleted => "DELETED",
        };
        let version = object.metadata.resource_version.clone();
        S::is_shown(&object, &policy, who).then(|| words(Some(&version), event, &json!(object)))
    }
}

fn failed(failure: &Failure) -> String {
    words(None, "ERROR", &json!({ "code": failure.code().to_string(), "detail": failure.to_string() }))
}

/// JSON is one line, so it is one `data` field.
fn words(id: Option<&str>, event: &str, data: &Value) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: {event}\ndata: {data}\n\n")
}
