//! Waiting for a condition: a level that is looked at again and again, with a limit and, on time-out, the
//! last state seen.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `look` gives `Ok`, at most for `limit`; then panics with `what` and the last state seen.
pub fn until<T, E: Display>(what: &str, limit: Duration, look: impl FnMut() -> Result<T, E>) -> T {
    match try_until(limit, look) {
        Ok(value) => value,
        Err(last) => panic!("{what}: not within {limit:?}; last seen: {last}"),
    }
}

/// Like [`until`], but gives the last state seen as an error.
///
/// A look counts for a tenth of the limit at most, however long it took: a machine that stands still as a whole (a virtual
/// one that is moved, say) takes no time from those who are waited for.
///
/// # Errors
/// What `look` said last, when the limit is over.
pub fn try_until<T, E>(limit: Duration, mut look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut left = limit;
    loop {
        let began = Instant::now();
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if left.is_zero() => return Err(last),
            Err(_) => thread::sleep(LOOK),
        }
        left = left.saturating_sub(began.elapsed().min(limit / 10));
    }
}
