//! What every store promises, as tests: each runs against each store.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use serde_json::json;
use tokio::time::timeout;

use super::{Change, Changes, Event, New, Record, Store, StoreError};

const LIMIT: Duration = Duration::from_secs(60);
const KIND: &str = "debugattachments";
const OTHER: &str = "debugrequests";

/// The tests of a store; `$open` gives an empty one, and what must live as long.
macro_rules! suite {
    ($open:ident) => {
        $crate::store::suite::suite!($open:
            an_object_is_kept_until_it_is_removed,
            kinds_do_not_meet,
            who_read_an_older_version_changes_nothing,
            a_change_and_what_is_new_beside_it_are_both_or_neither,
            a_list_comes_in_parts_and_misses_none,
            each_change_is_told_once_in_order_and_to_all,
            a_watch_begins_where_a_list_ended,
            a_watch_tells_at_once,
            of_a_hundred_who_want_one_object_one_gets_it,
            of_a_hundred_changes_none_is_lost,
        );
    };
    ($open:ident: $($name:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            let (store, _held) = $open();
            $crate::store::suite::$name(store).await;
        }
    )+};
}
pub(crate) use suite;

type Shared = Arc<dyn Store>;

pub(crate) async fn an_object_is_kept_until_it_is_removed(store: Shared) {
    let object = json!({ "spec": { "deep": [1, "two", null] } });
    let made = store.create(KIND, "a", object.clone()).await.unwrap();
    assert_eq!((made.name.as_str(), &made.object), ("a", &object));
    assert_eq!(store.get(KIND, "a").await.unwrap().unwrap(), made);
    assert!(matches!(store.create(KIND, "a", json!({})).await, Err(StoreError::Exists)));
    let new = Record { object: json!({ "new": true }), ..made.clone() };
    let changed = store.update(KIND, new, None).await.unwrap();
    assert_ne!(changed.version, made.version);
    assert_eq!(store.get(KIND, "a").await.unwrap().unwrap().object, json!({ "new": true }));
    assert_eq!(store.delete(KIND, "a", None).await.unwrap().object, json!({ "new": true }));
    assert_eq!(store.get(KIND, "a").await.unwrap(), None);
    assert!(matches!(store.update(KIND, changed, None).await, Err(StoreError::Missing)));
    assert!(matches!(store.delete(KIND, "a", None).await, Err(StoreError::Missing)));
}

pub(crate) async fn kinds_do_not_meet(store: Shared) {
    store.create(KIND, "a", json!({})).await.unwrap();
    assert_eq!(store.get(OTHER, "a").await.unwrap(), None);
    store.create(OTHER, "a", json!({ "other": 1 })).await.unwrap();
    store.delete(KIND, "a", None).await.unwrap();
    assert_eq!(store.get(OTHER, "a").await.unwrap().unwrap().object, json!({ "other": 1 }));
    assert_eq!(store.list(KIND, "", 10).await.unwrap().records, []);
}

pub(crate) async fn who_read_an_older_version_changes_nothing(store: Shared) {
    let old = store.create(KIND, "a", json!({ "n": 1 })).await.unwrap();
    let new = store.update(KIND, Record { object: json!({ "n": 2 }), ..old.clone() }, None).await.unwrap();
    let late = Record { object: json!({ "n": 3 }), ..old.clone() };
    assert!(matches!(store.update(KIND, late, None).await, Err(StoreError::Changed)));
    assert!(matches!(store.delete(KIND, "a", Some(&old.version)).await, Err(StoreError::Changed)));
    assert_eq!(store.get(KIND, "a").await.unwrap().unwrap(), new);
    store.delete(KIND, "a", Some(&new.version)).await.unwrap();
}

pub(crate) async fn a_change_and_what_is_new_beside_it_are_both_or_neither(store: Shared) {
    let old = store.create(OTHER, "r", json!({ "n": 1 })).await.unwrap();
    store.create(KIND, "taken", json!({})).await.unwrap();
    let beside = |name: &str| Some(New { kind: KIND, name: name.to_owned(), object: json!({ "of": "r" }) });
    let new = Record { object: json!({ "n": 2 }), ..old.clone() };
    let mut changes = store.watch(OTHER, None).await.unwrap();

    assert!(matches!(store.update(OTHER, new.clone(), beside("taken")).await, Err(StoreError::Exists)));
    assert_eq!(store.get(OTHER, "r").await.unwrap().unwrap(), old);
    let bound = store.update(OTHER, new.clone(), beside("a")).await.unwrap();
    assert_eq!(store.get(KIND, "a").await.unwrap().unwrap().object, json!({ "of": "r" }));
    assert!(matches!(store.update(OTHER, new, beside("b")).await, Err(StoreError::Changed)));
    assert_eq!(store.get(KIND, "b").await.unwrap(), None);

    assert_eq!(next(&mut changes).await, Change { event: Event::Modified, record: bound });
    let made = store.create(KIND, "c", json!({})).await.unwrap();
    let mut told = store.watch(KIND, Some(&old.version)).await.unwrap();
    let names = [next(&mut told).await.record.name, next(&mut told).await.record.name];
    assert_eq!((names, next(&mut told).await.record), (["taken", "a"].map(str::to_owned), made));
}

pub(crate) async fn a_list_comes_in_parts_and_misses_none(store: Shared) {
    let names: Vec<String> = (0..25).map(|n| format!("n{n:02}")).collect();
    for name in &names {
        store.create(KIND, name, json!({ "name": name })).await.unwrap();
    }
    let (mut listed, mut after, mut parts) = (Vec::new(), String::new(), 0);
    loop {
        let page = store.list(KIND, &after, 10).await.unwrap();
        parts += 1;
        listed.extend(page.records.into_iter().map(|record| record.name));
        match page.more {
            Some(more) => after = more,
            None => break,
        }
    }
    assert_eq!((listed, parts), (names, 3));
    let whole = store.list(KIND, "", 25).await.unwrap();
    assert_eq!((whole.records.len(), whole.more), (25, None));
    assert_eq!(store.list(KIND, "n24", 10).await.unwrap().records, []);
}

async fn next(changes: &mut Changes) -> Change {
    timeout(LIMIT, changes.next()).await.expect("a change is told").unwrap().unwrap()
}

pub(crate) async fn each_change_is_told_once_in_order_and_to_all(store: Shared) {
    let mut first = store.watch(KIND, None).await.unwrap();
    let mut second = store.watch(KIND, None).await.unwrap();
    let made = store.create(KIND, "a", json!({ "n": 1 })).await.unwrap();
    store.create(OTHER, "x", json!({})).await.unwrap();
    let changed =
        store.update(KIND, Record { object: json!({ "n": 2 }), ..made.clone() }, None).await.unwrap();
    store.delete(KIND, "a", None).await.unwrap();
    store.create(KIND, "b", json!({})).await.unwrap();
    for changes in [&mut first, &mut second] {
        assert_eq!(next(changes).await, Change { event: Event::Added, record: made.clone() });
        assert_eq!(next(changes).await, Change { event: Event::Modified, record: changed.clone() });
        let deleted = next(changes).await;
        assert_eq!((deleted.event, deleted.record.object), (Event::Deleted, json!({ "n": 2 })));
        assert_ne!(deleted.record.version, changed.version, "a watch can go on after it");
        assert_eq!(next(changes).await.record.name, "b");
    }
    let mut again = store.watch(KIND, Some(&changed.version)).await.unwrap();
    assert_eq!(next(&mut again).await.event, Event::Deleted, "who comes back misses none");
}

pub(crate) async fn a_watch_begins_where_a_list_ended(store: Shared) {
    store.create(KIND, "a", json!({})).await.unwrap();
    let page = store.list(KIND, "", 10).await.unwrap();
    store.create(KIND, "b", json!({})).await.unwrap();
    let mut changes = store.watch(KIND, Some(&page.version)).await.unwrap();
    assert_eq!(next(&mut changes).await.record.name, "b");
}

pub(crate) async fn a_watch_tells_at_once(store: Shared) {
    let mut changes = store.watch(KIND, None).await.unwrap();
    let waiting = tokio::spawn(async move { next(&mut changes).await });
    // It waits by now, or will not have to.
    tokio::task::yield_now().await;
    let made = store.create(KIND, "a", json!({})).await.unwrap();
    assert_eq!(waiting.await.unwrap().record, made);
}

pub(crate) async fn of_a_hundred_who_want_one_object_one_gets_it(store: Shared) {
    let free = store.create(KIND, "a", json!({ "owner": null })).await.unwrap();
    let takers = (0..100).map(|n| {
        let (store, free) = (Arc::clone(&store), free.clone());
        tokio::spawn(async move {
            store.update(KIND, Record { object: json!({ "owner": n }), ..free }, None).await
        })
    });
    let outcomes = join_all(takers).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert!(lost.iter().all(|outcome| matches!(outcome, Err(StoreError::Changed))), "{lost:?}");
    let [Ok(winner)] = &won[..] else { panic!("{won:?}") };
    assert_eq!(store.get(KIND, "a").await.unwrap().as_ref(), Some(winner));
    let makers = (0..100).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.create(KIND, "b", json!({ "owner": n })).await })
    });
    let made = join_all(makers).await.into_iter().filter(|outcome| matches!(outcome, Ok(Ok(_)))).count();
    assert_eq!(made, 1);
}

pub(crate) async fn of_a_hundred_changes_none_is_lost(store: Shared) {
    let mut changes = store.watch(KIND, None).await.unwrap();
    let makers = (0..100).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.create(KIND, &format!("n{n:02}"), json!({})).await.unwrap() })
    });
    let mut made: Vec<String> =
        join_all(makers).await.into_iter().map(|record| record.unwrap().version).collect();
    let mut told = Vec::new();
    for _ in 0..100 {
        told.push(next(&mut changes).await.record.version);
    }
    made.sort();
    told.sort();
    assert_eq!(told, made);
}
