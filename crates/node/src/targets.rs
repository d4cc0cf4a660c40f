//! What the node has, and what changed since it was last told.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use pepo_platform::{HealthCheck, Listed, Listing};
use pepo_wire::server::{NodeHealthCheck, NodeTarget, TargetsChanged};

/// The targets that the server knows of, by container id.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    told: BTreeMap<String, NodeTarget>,
    /// Was anything told? The first report is made even when there is nothing.
    begun: bool,
}

impl Targets {
    /// What is to be told, if anything.
    pub(crate) fn changed(&mut self, listing: Listing) -> Option<TargetsChanged> {
        let whole = listing.failed.is_empty();
        let now: BTreeMap<String, NodeTarget> = listing.listed.into_iter().filter_map(target).collect();
        let put: Vec<NodeTarget> = now
            .iter()
            .filter(|(id, target)| self.told.get(*id) != Some(target))
            .map(|(_, target)| target.clone())
            .collect();
        // An engine that did not answer may still have what it had.
        let gone: Vec<String> = match whole {
            true => self.told.keys().filter(|id| !now.contains_key(*id)).cloned().collect(),
            false => Vec::new(),
        };
        if self.begun && put.is_empty() && gone.is_empty() {
            return None;
        }
        self.begun = true;
        gone.iter().for_each(|id| drop(self.told.remove(id)));
        self.told.extend(now);
        Some(TargetsChanged { put, gone })
    }
}

/// A container with its id; bare processes are nobody's but the node's.
fn target(listed: Listed) -> Option<(String, NodeTarget)> {
    if listed.container_id.is_empty() {
        return None;
    }
    let since = listed.created.and_then(|created| created.duration_since(UNIX_EPOCH).ok());
    let target = NodeTarget {
        name: listed.name.to_string(),
        image: listed.image,
        state: listed.state.to_string(),
        container_id: listed.container_id.clone(),
        labels: listed.labels.into_iter().collect(),
        created: since.unwrap_or_default().as_secs(),
        health: listed.health.map(health),
    };
    Some((listed.container_id, target))
}

fn health(check: HealthCheck) -> NodeHealthCheck {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    NodeHealthCheck {
        interval_millis: millis(check.interval),
        timeout_millis: millis(check.timeout),
        retries: check.retries,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use pepo_platform::State;
    use pepo_wire::{Code, Failure};

    use super::*;

    fn listing(ids: &[(&str, State)], failed: bool) -> Listing {
        let listed = ids.iter().map(|(id, state)| Listed {
            name: format!("docker/{}", if id.is_empty() { "bare" } else { id }).parse().unwrap(),
            image: String::new(),
            state: state.clone(),
            health: None,
            container_id: (*id).to_owned(),
            pid: None,
            labels: BTreeMap::new(),
            created: None,
        });
        let failure = ("podman".to_owned(), Failure::new(Code::EngineUnreachable, "away"));
        Listing {
            listed: listed.collect(),
            failed: failed.then_some(failure).into_iter().collect(),
            asked: 1,
            took: Duration::ZERO,
        }
    }

    fn told(changed: Option<TargetsChanged>) -> Option<(Vec<String>, Vec<String>)> {
        changed.map(|changed| (changed.put.into_iter().map(|one| one.container_id).collect(), changed.gone))
    }

    #[test]
    fn changes_alone_are_told() {
        let mut targets = Targets::default();
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(told(targets.changed(listing(&[], false))), Some((ids(&[]), ids(&[]))), "the first");
        assert_eq!(told(targets.changed(listing(&[], false))), None);
        let two = [("a", State::Running), ("b", State::Running), ("", State::Running)];
        assert_eq!(told(targets.changed(listing(&two, false))), Some((ids(&["a", "b"]), ids(&[]))));
        assert_eq!(told(targets.changed(listing(&two, false))), None);
        let ended = [("a", State::Exited), ("b", State::Running)];
        assert_eq!(told(targets.changed(listing(&ended, false))), Some((ids(&["a"]), ids(&[]))));
        assert_eq!(told(targets.changed(listing(&ended[..1], true))), None, "an engine did not answer");
        assert_eq!(told(targets.changed(listing(&ended[..1], false))), Some((ids(&[]), ids(&["b"]))));
    }
}
