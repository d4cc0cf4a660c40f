//! Makes what is in new folders, by as many threads as there are processors: folders of their own do not wait for each other.

use std::{
    cell::Cell,
    collections::BTreeSet,
    num::NonZero,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, Scope},
};

use rustix::io::Errno;

use super::{
    list::{Entry, split},
    make::Maker,
    unpack::Store,
};

/// As many threads make entries, the first among them.
const MOST: usize = 4;
/// Between so many small entries a signal may wait.
const STOP_AFTER: usize = 64;
/// Before and after a larger one it does not, in bytes.
const LARGE: u64 = 1 << 20;

/// Why not all was made.
#[derive(Clone, Copy)]
pub(super) enum Why<'a> {
    /// A signal asked to end.
    Stopped,
    /// An entry could not be made.
    Failed(&'a Entry, Errno),
}

/// Entries of one folder, which was made for them.
pub(super) struct Batch<'a> {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) entries: &'a [Entry],
}

/// What all threads of a crew share.
pub(super) struct Site<'a> {
    store: &'a Store,
    stop: &'a (dyn Fn() -> bool + Sync),
    done: Mutex<Done<'a>>,
}

#[derive(Default)]
struct Done<'a> {
    /// The first reason to go no further.
    why: Option<Why<'a>>,
    /// What could not be kept.
    notes: BTreeSet<String>,
}

impl<'a> Site<'a> {
    /// Where nothing has been made yet. `stop` is asked now and then.
    pub(super) fn new(store: &'a Store, stop: &'a (dyn Fn() -> bool + Sync)) -> Site<'a> {
        Site { store, stop, done: Mutex::default() }
    }

    /// Why not all was made.
    pub(super) fn why(&self) -> Option<Why<'a>> {
        self.done().why
    }

    /// What could not be kept.
    pub(super) fn notes(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.done().notes)
    }

    fn done(&self) -> MutexGuard<'_, Done<'a>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self, at: usize, entry: &Entry) -> bool {
        (at.is_multiple_of(STOP_AFTER) || entry.member.size >= LARGE) && (self.stop)()
    }

    fn work(&self, maker: &mut Maker<'_>, batch: &Batch<'a>) {
        for (at, entry) in batch.entries.iter().enumerate() {
            let made = match self.stopped(at, entry) {
                true => Err(Why::Stopped),
                false => maker
                    .make(&batch.folder, split(&entry.path).1, entry)
                    .map_err(|error| Why::Failed(entry, error)),
            };
            if let Err(why) = made {
                self.done().why.get_or_insert(why);
                return;
            }
        }
    }
}

/// The threads, and the first one, which makes what no other has time for.
pub(super) struct Crew<'s, 'a> {
    site: &'s Site<'a>,
    batches: SyncSender<Batch<'a>>,
    asked: Cell<usize>,
}

impl<'s, 'a> Crew<'s, 'a> {
    /// As many threads as there are processors and may be. They end when the crew is no more, with all that it took.
    pub(super) fn new<'scope>(scope: &'scope Scope<'scope, '_>, site: &'s Site<'a>) -> Crew<'s, 'a>
    where
        's: 'scope,
    {
        let (batches, taken) = sync_channel(MOST);
        let taken = Arc::new(Mutex::new(taken));
        let count = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
        for _ in 1..count {
            let taken = Arc::clone(&taken);
            // Where there may be no more threads, the others have more to do.
            let _ = thread::Builder::new().spawn_scoped(scope, move || help(site, &taken));
        }
        Crew { site, batches, asked: Cell::new(0) }
    }

    /// Makes entries soon; by `maker` now, if all others have enough to do.
    pub(super) fn take(&self, maker: &mut Maker<'_>, batch: Batch<'a>) {
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.batches.try_send(batch)
        {
            self.site.work(maker, &batch);
        }
    }

    /// Whether there is no reason to stop before `entry`.
    pub(super) fn goes_on(&self, entry: &Entry) -> bool {
        let at = self.asked.replace(self.asked.get() + 1);
        let mut done = self.site.done();
        if self.site.stopped(at, entry) {
            done.why.get_or_insert(Why::Stopped);
        }
        done.why.is_none()
    }
}

fn help<'a>(site: &Site<'a>, batches: &Mutex<Receiver<Batch<'a>>>) {
    let mut maker = Maker::new(site.store);
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { break };
        if site.why().is_none() {
            site.work(&mut maker, &batch);
        }
    }
    site.done().notes.append(&mut maker.notes);
}
