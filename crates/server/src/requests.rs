//! Debug requests: who waits for the next container of an image or a service, or for its next call, and the container that each gets.
//!
//! A request is bound by one change of its version in the store, so exactly once, whoever else tries; with the same change an
//! attachment is made for it, which waits until its owner comes for it.

use std::{sync::Arc, time::Duration};

use pepo_wire::{
    Code, Failure,
    resource::{
        AttachmentSpec, DebugAttachment, DebugRequest, Next, PodContainer, Reason, RequestSpec, RequestState,
        Time, Why,
    },
    server::NodeTarget,
};
use ring::digest::{SHA256, digest};
use tokio::time::MissedTickBehavior;

use crate::{
    attachments::{Attachments, KEPT, RENEW, new_name},
    policy::{Policy, Verb, fits},
    store::{self, Resources, StoreError},
};

/// How long a request waits, if nothing is said, and at most, in seconds.
const USUAL: u64 = 3_600;
const LONGEST: u64 = 7 * 24 * 3_600;
/// How long an attachment waits for its owner, and one for which a call is held.
const CLAIM: Duration = Duration::from_secs(10 * 60);
const CLAIM_CALL: Duration = Duration::from_secs(2 * 60);
/// Requests of one person that wait at once.
const MOST_WAITING: usize = 100;
/// The longest pattern, and the longest idempotency key, in bytes.
const MOST_TEXT: usize = 256;
/// Labels by which engines name the service that a container belongs to.
const SERVICES: [&str; 4] =
    ["com.docker.compose.service", "com.docker.swarm.service.name", "app.kubernetes.io/name", "app"];

/// A container that may be bound to a request.
#[derive(Clone, Copy)]
struct There<'a> {
    node: &'a str,
    target: &'a NodeTarget,
    /// Its proxy holds a call.
    holds: Option<&'a PodContainer>,
}

impl There<'_> {
    /// As people name it and rules match it.
    fn name(&self) -> String {
        format!("{}@{}", self.target.name, self.node)
    }

    /// Is it what is waited for, and may who waits for it look at it and stop it, now?
    fn is_for(&self, request: &DebugRequest, policy: &Policy) -> bool {
        let name = self.name();
        let may = |verb| policy.allows(&request.spec.who, verb, &name);
        wants(&request.spec, self.target) && may(Verb::Look) && may(Verb::Stop)
    }
}

/// All debug requests.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    attachments: Arc<Attachments>,
}

impl Requests {
    pub(crate) fn new(attachments: &Arc<Attachments>) -> Requests {
        Requests { attachments: Arc::clone(attachments) }
    }

    fn resources(&self) -> &Resources {
        &self.attachments.resources
    }

    /// Makes one, or gives the one that was made with the same key; says whether it is new.
    ///
    /// # Errors
    /// [`Code::Usage`]; [`Code::TooLarge`]; [`Code::Conflict`] where the key was for another wish.
    pub(crate) async fn make(
        &self,
        who: &str,
        mut spec: RequestSpec,
        key: Option<&[u8]>,
    ) -> Result<(DebugRequest, bool), Failure> {
        spec.who = who.to_owned();
        let lasts = checked(&spec, key)?;
        let name = match key {
            Some(key) => keyed(who, key),
            None => new_name()?,
        };
        let now = Time::now();
        let mut request = DebugRequest::new(&name, spec.clone(), now);
        request.status.waits_until = now.after(lasts);
        let called = called(&name);
        let failed = |error: StoreError| error.failure(&called);
        if key.is_some()
            && let Ok(before) = self.resources().get::<RequestSpec>(&name).await
        {
            return same(before, &spec);
        }
        let waits = |one: &DebugRequest| one.spec.who == who && one.status.state == RequestState::Waiting;
        if self.resources().all(waits).await.map_err(failed)?.len() >= MOST_WAITING {
            return Err(Failure::new(
                Code::TooLarge,
                format!("{MOST_WAITING} debug requests of {who} wait already"),
            )
            .try_command("look at them", ["pepo", "requests", "list"]));
        }
        match self.resources().create(&request).await {
            Ok(made) => Ok((made, true)),
            Err(StoreError::Exists) if key.is_some() => {
                same(self.resources().get::<RequestSpec>(&name).await.map_err(failed)?, &spec)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes one, whatever became of it; its attachment stays.
    pub(crate) async fn remove(&self, name: &str) -> Result<DebugRequest, Failure> {
        let removed = self.resources().delete::<RequestSpec>(name, None).await;
        removed.map_err(|error| error.failure(&called(name)))
    }

    /// Binds containers that have just started on a node to those who wait, the longest waiting first.
    ///
    /// # Errors
    /// The store failed; what was bound stays so.
    pub(crate) async fn started(
        &self,
        node: &str,
        targets: &[NodeTarget],
        policy: &Policy,
    ) -> Result<(), Failure> {
        if targets.is_empty() {
            return Ok(());
        }
        let waiting = self.waiting(Next::Start).await?;
        for target in targets {
            let there = There { node, target, holds: None };
            for request in waiting.iter().filter(|request| there.is_for(request, policy)) {
                if self.bind(request, &there, &new_name()?).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Binds a call that a proxy holds to who waits for one, the longest waiting first. `targets` are where it may go, with their
    /// nodes; `named` is the one request that it names, if it names one; `attachment` is the name of what is made. Says whether
    /// there was one.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn called(
        &self,
        targets: &[(String, NodeTarget)],
        holds: &PodContainer,
        named: Option<&str>,
        attachment: &str,
        policy: &Policy,
    ) -> Result<bool, Failure> {
        let mut waiting = self.waiting(Next::Call).await?;
        waiting.retain(|request| named.is_none_or(|name| request.metadata.name == name));
        for request in &waiting {
            let there = targets.iter().map(|(node, target)| There { node, target, holds: Some(holds) });
            let there: Vec<There<'_>> = there.filter(|there| there.is_for(request, policy)).collect();
            // Of several containers of a pod nobody knows which will serve it.
            if let [one] = &there[..]
                && self.bind(request, one, attachment).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those that wait for this, the longest waiting first.
    async fn waiting(&self, next: Next) -> Result<Vec<DebugRequest>, Failure> {
        let waits = |one: &DebugRequest| {
            one.status.state == RequestState::Waiting && one.spec.next.unwrap_or_default() == next
        };
        let mut waiting =
            self.resources().all(waits).await.map_err(|error| error.failure("debug requests"))?;
        waiting.sort_by_key(|one| one.metadata.creation_timestamp);
        Ok(waiting)
    }

    /// Binds one, unless somebody else was first.
    async fn bind(
        &self,
        request: &DebugRequest,
        there: &There<'_>,
        attachment: &str,
    ) -> Result<bool, Failure> {
        let There { node, target, holds } = *there;
        let (request_name, name) = (&request.metadata.name, &there.name());
        let now = Time::now();
        let spec = AttachmentSpec {
            target: name.to_owned(),
            node: node.to_owned(),
            container_id: target.container_id.clone(),
            image: target.image.clone(),
            who: request.spec.who.clone(),
            rights: Vec::new(),
            request: Some(request_name.clone()),
            holds: holds.cloned(),
        };
        let (reason, claim) =
            if holds.is_some() { (Reason::CallHeld, CLAIM_CALL) } else { (Reason::RequestBound, CLAIM) };
        let why = Why { who: "server".to_owned(), reason, message: String::new() };
        let offered = DebugAttachment::requested(attachment, spec, why, now, claim);
        let bind = |request: &mut DebugRequest| {
            (request.status.waits_until > now && request.bind(name, attachment, now)).then_some(())
        };
        // Whenever the server dies: none is bound without its attachment.
        let failed = |error: StoreError| error.failure(&called(request_name));
        let beside = store::new(&offered).map_err(failed)?;
        match self.resources().change_and_keep(request_name, bind, Some(beside)).await {
            Ok(Some(_)) => self.attachments.remember(&offered),
            Ok(None) | Err(StoreError::Missing) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        Ok(true)
    }

    /// Goes through all that is kept, again and again, until it is dropped.
    pub(crate) async fn keep(&self) {
        let mut ticks = tokio::time::interval(RENEW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Time::now();
            let swept = async {
                self.attachments.sweep(now).await?;
                self.sweep(now).await.map_err(|error| error.failure("debug requests"))
            };
            if let Err(failure) = swept.await {
                tracing::error!(%failure, "what is kept was not gone through");
            }
        }
    }

    /// Ends the waiting of those whose time is over, and removes what is old.
    async fn sweep(&self, now: Time) -> Result<(), StoreError> {
        for request in self.resources().all(|_: &DebugRequest| true).await? {
            let (name, status) = (&request.metadata.name, &request.status);
            let is_waiting = status.state == RequestState::Waiting;
            let done = if is_waiting && status.waits_until < now {
                self.resources()
                    .change(name, |request: &mut DebugRequest| request.expire(now).then_some(()))
                    .await
                    .map(drop)
            } else if !is_waiting && request.metadata.creation_timestamp.after(KEPT) < now {
                self.resources()
                    .delete::<RequestSpec>(name, Some(&request.metadata.resource_version))
                    .await
                    .map(drop)
            } else {
                continue;
            };
            match done {
                Ok(()) | Err(StoreError::Missing | StoreError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// How long it is to wait, where all is as it should be.
fn checked(spec: &RequestSpec, key: Option<&[u8]>) -> Result<Duration, Failure> {
    let refused = |why: String| Failure::new(Code::Usage, "this is no debug request").because(why);
    let patterns = [&spec.image, &spec.service];
    if patterns.iter().all(|one| one.as_deref().unwrap_or_default().is_empty()) {
        return Err(refused("it names neither an image nor a service".to_owned())
            .try_command("name one", ["pepo", "requests", "create", "--image", "shop:*"]));
    }
    if patterns.iter().any(|one| one.as_ref().is_some_and(|text| text.len() > MOST_TEXT)) {
        return Err(refused(format!("an image or a service has at most {MOST_TEXT} bytes")));
    }
    if key.is_some_and(|key| key.is_empty() || key.len() > MOST_TEXT) {
        return Err(refused(format!("an idempotency key has 1 to {MOST_TEXT} bytes")));
    }
    let lasts = spec.lasts_seconds.unwrap_or(USUAL);
    match (1..=LONGEST).contains(&lasts) {
        true => Ok(Duration::from_secs(lasts)),
        false => Err(refused(format!("it waits for 1 to {LONGEST} seconds"))),
    }
}

/// The name of the request that a person made with this key: twenty hex digits.
fn keyed(who: &str, key: &[u8]) -> String {
    let digest = digest(&SHA256, &[who.as_bytes(), b"\0", key].concat());
    digest.as_ref().iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

fn same(before: DebugRequest, spec: &RequestSpec) -> Result<(DebugRequest, bool), Failure> {
    match before.spec == *spec {
        true => Ok((before, false)),
        false => Err(Failure::new(Code::Conflict, "the idempotency key was used for another debug request")
            .because(format!("it made {}", called(&before.metadata.name)))
            .hint("another wish has another key")),
    }
}

/// Is it what is waited for? All that is named must fit.
fn wants(spec: &RequestSpec, target: &NodeTarget) -> bool {
    let image = spec.image.as_ref().is_none_or(|image| fits(image, &target.image));
    let service = spec.service.as_ref().is_none_or(|service| {
        SERVICES.iter().filter_map(|label| target.labels.get(*label)).any(|name| fits(service, name))
    });
    image && service
}

/// A debug request as it is told of.
pub(crate) fn called(name: &str) -> String {
    format!("debug request `{name}`")
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use futures::future::join_all;
    use tempfile::TempDir;

    use super::*;
    use crate::store::Sqlite;

    async fn requests() -> (Requests, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let resources = Resources(Arc::new(Sqlite::open(folder.path()).unwrap()));
        let attachments = Arc::new(Attachments::open(resources, "one".to_owned()).await.unwrap());
        (Requests::new(&attachments), folder)
    }

    fn image(pattern: &str) -> RequestSpec {
        RequestSpec { image: Some(pattern.to_owned()), ..RequestSpec::default() }
    }

    fn container(id: &str, image: &str) -> NodeTarget {
        NodeTarget {
            name: format!("docker/{id}"),
            container_id: id.to_owned(),
            image: image.to_owned(),
            ..NodeTarget::default()
        }
    }

    fn policy(who: &str, verbs: &str) -> Policy {
        let text = format!(r#"{{"rules": [{{"who": ["{who}"], "verbs": [{verbs}], "targets": ["*"]}}]}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn all() -> Policy {
        policy("*", r#""look", "stop""#)
    }

    #[tokio::test]
    async fn the_next_container_that_fits_is_bound_and_waits_for_its_owner() {
        let (requests, _folder) = requests().await;
        let (request, is_new) = requests.make("ann", image("shop:*"), None).await.unwrap();
        assert!(is_new);
        requests
            .started("a", &[container("till", "till:1"), container("shop", "shop:2")], &all())
            .await
            .unwrap();
        let bound: DebugRequest = requests.resources().get(&request.metadata.name).await.unwrap();
        assert_eq!(
            (bound.status.state, bound.status.target.as_deref()),
            (RequestState::Bound, Some("docker/shop@a"))
        );
        let attachment: DebugAttachment =
            requests.resources().get(&bound.status.attachment.unwrap()).await.unwrap();
        assert_eq!(attachment.spec.request, Some(request.metadata.name));
        assert_eq!((attachment.spec.who.as_str(), attachment.spec.container_id.as_str()), ("ann", "shop"));
        let claimed = |who: &'static str, container: &'static str| {
            let requests = requests.clone();
            async move { requests.attachments.claim(who, container, &Arc::default()).await.unwrap() }
        };
        assert_eq!(claimed("bob", "shop").await, None, "it is ann's");
        assert_eq!(claimed("ann", "till").await, None);
        assert_eq!(claimed("ann", "shop").await, Some(attachment.metadata.name));
        assert_eq!(claimed("ann", "shop").await, None, "once");
    }

    #[tokio::test]
    async fn a_call_is_bound_to_who_waits_for_one_and_only_where_it_is_sure_which_container_serves_it() {
        let (requests, _folder) = requests().await;
        let (start, _) = requests.make("ann", image("shop"), None).await.unwrap();
        let wish = RequestSpec { next: Some(Next::Call), ..image("shop") };
        let (call, _) = requests.make("ann", wish, None).await.unwrap();
        let holds = PodContainer { namespace: "a".into(), pod: "b".into(), container: String::new() };
        let there = |ids: &[&str]| -> Vec<(String, NodeTarget)> {
            ids.iter().map(|id| ("one".to_owned(), container(id, "shop"))).collect()
        };
        let bind = async |ids: &[&str], named: Option<&str>, policy: &Policy| {
            requests.called(&there(ids), &holds, named, "x", policy).await.unwrap()
        };
        assert!(!bind(&["shop", "also"], None, &all()).await, "two containers fit");
        assert!(!bind(&["shop"], Some(&start.metadata.name), &all()).await, "it waits for a start");
        assert!(!bind(&["shop"], None, &policy("ann", r#""look""#)).await);
        assert!(bind(&["shop"], Some(&call.metadata.name), &all()).await);
        assert!(!bind(&["shop"], None, &all()).await, "once");
        let made: DebugAttachment = requests.resources().get("x").await.unwrap();
        assert_eq!(
            (made.spec.holds, made.spec.request, made.spec.target.as_str()),
            (Some(holds.clone()), Some(call.metadata.name), "docker/shop@one")
        );
        // A start is not for who waits for a call.
        let (late, _) = requests
            .make("bob", RequestSpec { next: Some(Next::Call), ..image("till") }, None)
            .await
            .unwrap();
        requests.started("one", &[container("till", "till")], &all()).await.unwrap();
        let late: DebugRequest = requests.resources().get(&late.metadata.name).await.unwrap();
        assert_eq!(late.status.state, RequestState::Waiting);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_a_hundred_calls_at_once_one_is_bound_to_a_request() {
        let (requests, _folder) = requests().await;
        requests.make("ann", RequestSpec { next: Some(Next::Call), ..image("shop") }, None).await.unwrap();
        let calls = (0..100).map(|n| {
            let requests = requests.clone();
            tokio::spawn(async move {
                let there = [("one".to_owned(), container(&format!("shop-{n}"), "shop"))];
                let holds = PodContainer::default();
                requests.called(&there, &holds, None, &format!("x{n}"), &all()).await.unwrap()
            })
        });
        let bound = join_all(calls).await.into_iter().filter(|call| *call.as_ref().unwrap()).count();
        let attachments = requests.resources().all(|_: &DebugAttachment| true).await.unwrap();
        assert_eq!((bound, attachments.len()), (1, 1));
    }

    #[tokio::test]
    async fn what_may_not_be_stopped_is_bound_to_nobody() {
        let (requests, _folder) = requests().await;
        let (request, _) = requests.make("ann", image("shop:*"), None).await.unwrap();
        for policy in
            [policy("bob", r#""look", "stop""#), policy("ann", r#""look""#), policy("ann", r#""stop""#)]
        {
            requests.started("a", &[container("shop", "shop:2")], &policy).await.unwrap();
            let now: DebugRequest = requests.resources().get(&request.metadata.name).await.unwrap();
            assert_eq!(now.status.state, RequestState::Waiting);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_a_hundred_containers_at_once_one_is_bound_to_a_request() {
        let (requests, _folder) = requests().await;
        let (request, _) = requests.make("ann", image("shop"), None).await.unwrap();
        let starts = (0..100).map(|n| {
            let requests = requests.clone();
            tokio::spawn(async move {
                requests.started("a", &[container(&format!("shop-{n}"), "shop")], &all()).await.unwrap();
            })
        });
        join_all(starts).await.into_iter().for_each(|start| start.unwrap());
        let bound: DebugRequest = requests.resources().get(&request.metadata.name).await.unwrap();
        let attachments = requests.resources().all(|_: &DebugAttachment| true).await.unwrap();
        let [attachment] = &attachments[..] else { panic!("{} attachments", attachments.len()) };
        assert_eq!(bound.status.attachment.as_ref(), Some(&attachment.metadata.name));
        assert_eq!(bound.status.target.as_ref(), Some(&attachment.spec.target));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_hundred_requests_and_a_hundred_containers_find_each_other_one_by_one() {
        let (requests, _folder) = requests().await;
        for _ in 0..100 {
            requests.make("ann", image("shop"), None).await.unwrap();
        }
        assert_eq!(requests.make("ann", image("shop"), None).await.unwrap_err().code(), Code::TooLarge);
        let starts = (0..100).map(|n| {
            let requests = requests.clone();
            tokio::spawn(async move {
                requests.started("a", &[container(&format!("shop-{n}"), "shop")], &all()).await.unwrap();
            })
        });
        join_all(starts).await.into_iter().for_each(|start| start.unwrap());
        let bound = requests
            .resources()
            .all(|one: &DebugRequest| one.status.state == RequestState::Bound)
            .await
            .unwrap();
        let targets: HashSet<_> = bound.iter().map(|one| one.status.target.clone()).collect();
        assert_eq!((bound.len(), targets.len()), (100, 100));
        assert_eq!(requests.resources().all(|_: &DebugAttachment| true).await.unwrap().len(), 100);
    }

    #[tokio::test]
    async fn who_says_it_twice_with_one_key_has_one_request() {
        let (requests, _folder) = requests().await;
        let (first, is_new) = requests.make("ann", image("shop"), Some(b"k")).await.unwrap();
        assert!(is_new);
        let (second, is_new) = requests.make("ann", image("shop"), Some(b"k")).await.unwrap();
        assert!(!is_new && second == first);
        assert_eq!(requests.make("ann", image("till"), Some(b"k")).await.unwrap_err().code(), Code::Conflict);
        let (bobs, _) = requests.make("bob", image("shop"), Some(b"k")).await.unwrap();
        assert_ne!(bobs.metadata.name, first.metadata.name, "a key is its owner's");
        let at_once = join_all((0..20).map(|_| requests.make("ann", image("x"), Some(b"at once")))).await;
        assert_eq!(at_once.into_iter().filter(|one| one.as_ref().unwrap().1).count(), 1);
    }

    #[tokio::test]
    async fn a_wish_that_says_nothing_or_too_much_is_refused() {
        let (requests, _folder) = requests().await;
        let lasts = |seconds| RequestSpec { lasts_seconds: Some(seconds), ..image("shop") };
        for spec in [RequestSpec::default(), image(""), image(&"x".repeat(300)), lasts(0), lasts(LONGEST + 1)]
        {
            assert_eq!(requests.make("ann", spec, None).await.unwrap_err().code(), Code::Usage);
        }
        let forged = RequestSpec { who: "bob".to_owned(), ..image("shop") };
        assert_eq!(requests.make("ann", forged, None).await.unwrap().0.spec.who, "ann");
    }

    #[tokio::test]
    async fn who_waited_in_vain_is_told_and_forgotten_in_time() {
        let (requests, _folder) = requests().await;
        let (request, _) = requests.make("ann", image("shop"), None).await.unwrap();
        let name = request.metadata.name;
        let over = Time::now().after(Duration::from_secs(USUAL + 1));
        requests.sweep(over).await.unwrap();
        let now: DebugRequest = requests.resources().get(&name).await.unwrap();
        assert_eq!(now.status.state, RequestState::Expired);
        requests.started("a", &[container("shop", "shop")], &all()).await.unwrap();
        assert!(requests.resources().all(|_: &DebugAttachment| true).await.unwrap().is_empty());
        requests.sweep(over.after(KEPT)).await.unwrap();
        assert!(matches!(requests.resources().get::<RequestSpec>(&name).await, Err(StoreError::Missing)));
    }

    #[test]
    fn images_and_services_fit_as_they_are_written() {
        let mut shop = container("shop", "registry.example/shop:2");
        shop.labels = HashMap::from([("com.docker.compose.service".to_owned(), "shop".to_owned())]);
        let spec = |image: Option<&str>, service: Option<&str>| RequestSpec {
            image: image.map(str::to_owned),
            service: service.map(str::to_owned),
            ..RequestSpec::default()
        };
        for (image, service, expected) in [
            (Some("registry.example/shop:2"), None, true),
            (Some("*/shop:*"), None, true),
            (Some("shop"), None, false),
            (None, Some("shop"), true),
            (None, Some("sh*"), true),
            (None, Some("till"), false),
            (Some("*/shop:*"), Some("till"), false),
        ] {
            assert_eq!(wants(&spec(image, service), &shop), expected, "{image:?} {service:?}");
        }
    }
}
