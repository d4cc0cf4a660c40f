//! What several rooms' tests need.

use crate::{HostPid, Located, State};

/// A running container.
pub(crate) fn located(name: &str, id: &str) -> Located {
    Located {
        name: name.parse().unwrap(),
        image: String::new(),
        state: State::Running,
        health: None,
        container_id: id.to_owned(),
        pid: HostPid::new(1),
        labels: Default::default(),
        start_time: 0,
        facts: Default::default(),
        in_pod: None,
        production: None,
        notes: Vec::new(),
    }
}
