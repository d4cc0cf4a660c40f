//! How long the target stood still: begun by the report of a stop, ended by a request to run.

use std::time::{Duration, Instant};

/// How long the target stood still.
#[derive(Debug, Default)]
pub(super) struct Clock {
    since: Option<Instant>,
    before: Duration,
}

impl Clock {
    pub(super) fn stands(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn stand(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn run(&mut self) {
        self.before += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }

    pub(super) fn micros(&self) -> u64 {
        let total = self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed());
        u64::try_from(total.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_while_the_target_stands() {
        let mut clock = Clock::default();
        assert_eq!(clock.micros(), 0);
        clock.stand();
        let first = clock.micros();
        clock.stand();
        assert!(clock.micros() >= first && clock.stands());
        clock.run();
        let total = clock.micros();
        assert!(!clock.stands() && total >= first);
        assert_eq!(clock.micros(), total);
    }
}
