//! Independent work of one test, done at the same time: most of it waits.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

/// Targets of one test that are looked after at once: tests themselves run side by side, and some targets never rest.
const HANDS: usize = 3;

/// Does `work` for each item, a few at once, and panics at the end if one of them did.
pub fn at_once<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let queue = Mutex::new(items.into_iter().collect::<Vec<_>>().into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some(item) = next() {
                    work(item);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use std::{
        panic::catch_unwind,
        sync::{Barrier, Mutex},
    };

    use super::{HANDS, at_once};

    #[test]
    fn each_item_is_worked_on_once_and_several_at_a_time() {
        let (seen, together) = (Mutex::new(Vec::new()), Barrier::new(HANDS));
        at_once(0..HANDS * 2, |item| {
            together.wait();
            seen.lock().unwrap().push(item);
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (0..HANDS * 2).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_fails_fails_them_all_and_keeps_no_other_from_its_work() {
        let seen = Mutex::new(Vec::new());
        let outcome = catch_unwind(|| {
            at_once(0..9, |item| {
                assert_ne!(item, 4, "this one fails");
                seen.lock().unwrap().push(item);
            });
        });
        assert!(outcome.is_err());
        assert_eq!(seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).len(), 8);
    }
}
