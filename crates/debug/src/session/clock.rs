//! How long the target stood still, by what its threads do, summed over a window.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long a target may stand still. `None` in its place means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseBudget {
    /// The longest sum of pauses within a window.
    pub limit: Duration,
}

impl PauseBudget {
    /// When nothing else is known.
    pub const DEFAULT: PauseBudget = PauseBudget { limit: Duration::from_secs(60) };

    /// The window over which pauses are summed: twice the limit, so that a target under many short stops still runs half the time.
    #[must_use]
    pub fn window(self) -> Duration {
        self.limit * 2
    }
}

/// Sums up how long a target stood still. Fed with samples; each counts for the time since the one before.
#[derive(Debug)]
pub struct StillClock {
    budget: Option<PauseBudget>,
    /// Pauses within the window: when the sample was taken, and how much it counted.
    pauses: VecDeque<(Instant, Duration)>,
    window: Duration,
    total: Duration,
    standing_since: Option<Instant>,
    last: Instant,
}

impl StillClock {
    /// A clock that begins at `now` with `already` on it.
    #[must_use]
    pub fn new(budget: Option<PauseBudget>, now: Instant, already: Duration) -> StillClock {
        let mut clock = StillClock {
            budget,
            pauses: VecDeque::new(),
            window: Duration::ZERO,
            total: Duration::ZERO,
            standing_since: None,
            last: now,
        };
        clock.count(now, already);
        clock
    }

    /// Takes a sample: did the target stand still since the last one?
    pub fn sample(&mut self, now: Instant, standing: bool) {
        let passed = now.saturating_duration_since(self.last);
        if standing {
            self.standing_since.get_or_insert(self.last);
            self.count(now, passed);
        } else {
            self.standing_since = None;
        }
        self.last = now;
        self.forget(now);
    }

    /// The budget's limit; `None` for unlimited.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.budget.map(|budget| budget.limit)
    }

    /// Is the budget spent?
    #[must_use]
    pub fn spent(&self) -> bool {
        self.budget.is_some_and(|budget| self.window > budget.limit)
    }

    /// Begins the window anew, after a spent budget let the target run.
    pub fn renew(&mut self) {
        self.pauses.clear();
        self.window = Duration::ZERO;
        self.standing_since = None;
    }

    /// How long the target has been standing without a break; `None` while it runs.
    #[must_use]
    pub fn this_pause(&self) -> Option<Duration> {
        self.standing_since.map(|since| self.last.saturating_duration_since(since))
    }

    /// The sum within the window.
    #[must_use]
    pub fn in_window(&self) -> Duration {
        self.window
    }

    /// The sum since the beginning.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    fn count(&mut self, now: Instant, pause: Duration) {
        if pause.is_zero() {
            return;
        }
        self.total += pause;
        if self.budget.is_some() {
            self.window += pause;
            self.pauses.push_back((now, pause));
        }
    }

    fn forget(&mut self, now: Instant) {
        let Some(budget) = self.budget else { return };
        while let Some((at, pause)) = self.pauses.front().copied()
            && now.saturating_duration_since(at) > budget.window()
        {
            self.pauses.pop_front();
            self.window = self.window.saturating_sub(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Feeds samples of (milliseconds since the one before, standing) and returns the clock.
    fn run(limit: Option<u64>, samples: &[(u32, bool)]) -> StillClock {
        let mut now = Instant::now();
        let budget = limit.map(|limit| PauseBudget { limit: Duration::from_millis(limit) });
        let mut clock = StillClock::new(budget, now, Duration::ZERO);
        for &(millis, standing) in samples {
            now += MS * millis;
            clock.sample(now, standing);
        }
        clock
    }

    #[test]
    fn one_long_pause_spends_the_budget() {
        assert!(!run(Some(100), &[(60, true), (40, true)]).spent());
        assert!(run(Some(100), &[(60, true), (41, true)]).spent());
    }

    #[test]
    fn many_short_pauses_spend_it_too() {
        let samples = [(10, true), (2, false)].repeat(11);
        assert!(run(Some(100), &samples).spent());
    }

    #[test]
    fn pauses_outside_the_window_are_forgotten_but_stay_in_the_total() {
        let clock = run(Some(100), &[(90, true), (250, false), (90, true)]);
        assert!(!clock.spent());
        assert_eq!(clock.in_window(), 90 * MS);
        assert_eq!(clock.total(), 180 * MS);
    }

    #[test]
    fn without_a_budget_nothing_is_ever_spent() {
        assert!(!run(None, &[(u32::MAX, true)]).spent());
    }

    #[test]
    fn a_renewed_window_is_empty_and_a_pause_knows_its_beginning() {
        let mut clock = run(Some(100), &[(10, false), (30, true), (90, true)]);
        assert_eq!(clock.this_pause(), Some(120 * MS));
        clock.renew();
        assert!(!clock.spent());
        assert_eq!(clock.this_pause(), None);
    }
}
