//! Helpers whose maker was killed.
//!
//! A running helper ends by itself when its stream ends or its heartbeat is lost, and must not be killed before, since its agent may hold a target.
//! So only those are removed in which nothing runs: created and never started, or ended and not removed by the engine.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::LABEL;
use crate::{State, engine::api::Summary, engine::client::Client};

/// A helper that is not started after this time will not be: from create to start takes seconds at most.
const ABANDONED: Duration = Duration::from_secs(120);

/// Removes them. Failures are left to the next reach.
pub(super) async fn remove(client: &Client) {
    let path = format!("/containers/json?all=1&filters=%7B%22label%22%3A%5B%22{LABEL}%22%5D%7D");
    let helpers: Vec<Summary> = match client.get("list helpers", &path).await {
        Ok(helpers) => helpers,
        Err(error) => return tracing::debug!(%error, "leftover helpers are not known"),
    };
    for helper in helpers {
        if is_leftover(&helper.labels, &State::read(&helper.state), helper.created(), SystemTime::now()) {
            let removed = super::remove(client, &helper.id).await;
            tracing::debug!(helper = helper.name(), ?removed, "removed a helper that was left behind");
        }
    }
}

fn is_leftover(
    labels: &BTreeMap<String, String>,
    state: &State,
    created: Option<SystemTime>,
    now: SystemTime,
) -> bool {
    if !labels.contains_key(LABEL) || !matches!(state, State::Created | State::Exited) {
        return false;
    }
    let old = created.and_then(|created| now.duration_since(created).ok()).is_some_and(|age| age > ABANDONED);
    super::is_orphan(labels) || old
}

#[cfg(test)]
mod tests {
    use super::{
        super::{creator::Creator, spec::CREATOR_LABEL},
        *,
    };

    #[test]
    fn only_helpers_in_which_nothing_runs_and_nobody_waits_are_leftovers() {
        let own = Creator::own().to_string();
        let now = SystemTime::now();
        let young = Some(now - Duration::from_secs(5));
        let old = Some(now - Duration::from_secs(300));
        let helper = |creator: &str| {
            BTreeMap::from([
                (LABEL.to_owned(), "x".to_owned()),
                (CREATOR_LABEL.to_owned(), creator.to_owned()),
            ])
        };
        for (labels, state, created, expected) in [
            (helper(&own), State::Created, young, false),
            (helper(&own), State::Created, old, true),
            (helper(&own), State::Running, old, false),
            (helper(&own), State::Exited, None, false),
            (helper("nonsense"), State::Exited, young, false),
            (BTreeMap::new(), State::Exited, old, false),
            (helper(&own), State::Other("removing".into()), old, false),
        ] {
            assert_eq!(
                is_leftover(&labels, &state, created, now),
                expected,
                "{labels:?} {state} {created:?}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_helper_of_a_dead_maker_is_a_leftover_at_once() {
        let mut words: Vec<String> = Creator::own().to_string().split(' ').map(str::to_owned).collect();
        words[3] = "1".into();
        let labels =
            BTreeMap::from([(LABEL.to_owned(), "x".to_owned()), (CREATOR_LABEL.to_owned(), words.join(" "))]);
        assert!(is_leftover(&labels, &State::Created, Some(SystemTime::now()), SystemTime::now()));
    }
}
