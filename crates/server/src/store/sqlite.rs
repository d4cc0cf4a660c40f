//! The embedded store: one SQLite file in the state folder, for one server at a time.
//!
//! Every change gets the next number of one sequence, which is the object's version, and is kept in a table of its own for those who
//! watch. They are woken by a notification after the commit, and read from there on: no one polls, and a slow reader holds nothing in
//! memory. Writes go to the file before they are answered (WAL), so that a killed server loses none; a power failure may take the last
//! ones.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use pepo_wire::{Code, Failure};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde_json::Value;
use tokio::sync::watch;

use super::{Change, Changes, Event, New, Page, Record, Store, StoreError};

const FILE: &str = "store.sqlite";
const LOCK: &str = "store.lock";
/// Each brings the file from the version of its place to the next. Never changed, only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE objects (
        kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, object TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE changes (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL, name TEXT NOT NULL, event TEXT NOT NULL, object TEXT NOT NULL
    );
"];
/// So many changes are kept for those who watch; more only until the next [`SWEEP`].
const KEPT: i64 = 4_096;
const SWEEP: i64 = 256;
/// Changes that are read at once.
const BATCH: i64 = 256;
/// How long a call waits for another connection's write.
const BUSY: Duration = Duration::from_secs(10);

/// The store.
#[derive(Debug)]
pub(crate) struct Sqlite {
    writer: Shared,
    reader: Shared,
    /// The number of the last change.
    latest: watch::Sender<i64>,
    /// Held for as long as the store is open.
    _lock: File,
}

type Shared = Arc<Mutex<Connection>>;

impl Sqlite {
    /// Opens the store in this folder, which it makes at the first time.
    ///
    /// # Errors
    /// [`Code::Conflict`] where another server has it open; [`Code::FileDenied`]; [`Code::VersionMismatch`] where a newer Pepo made it.
    pub(crate) fn open(folder: &Path) -> Result<Sqlite, Failure> {
        let lock = alone(folder)?;
        let path = folder.join(FILE);
        let broken = |error: &dyn std::error::Error| {
            Failure::new(Code::FileDenied, format!("the server cannot use {}", path.display()))
                .because_of(error)
        };
        // SQLite gives the files beside it the same mode.
        own(&path).map_err(|error| broken(&error))?;
        let mut writer = connect(&path).map_err(|error| broken(&error))?;
        migrate(&mut writer).map_err(|error| broken(&error))?;
        let known = version(&writer).map_err(|error| broken(&error))?;
        if known as usize > MIGRATIONS.len() {
            return Err(Failure::new(
                Code::VersionMismatch,
                format!("{} is of a newer Pepo", path.display()),
            )
            .because(format!("its version is {known}; this Pepo knows up to {}", MIGRATIONS.len()))
            .hint("start the server of that version, or newer"));
        }
        let latest = latest(&writer).map_err(|error| broken(&error))?;
        let reader = connect(&path).map_err(|error| broken(&error))?;
        let shared = |connection| Arc::new(Mutex::new(connection));
        Ok(Sqlite {
            writer: shared(writer),
            reader: shared(reader),
            latest: watch::Sender::new(latest),
            _lock: lock,
        })
    }

    /// Makes a change, whole or not at all, and wakes whoever watches.
    async fn write(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<Record, StoreError> + Send + 'static,
    ) -> Result<Record, StoreError> {
        let latest = self.latest.clone();
        blocking(&self.writer, move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let record = change(&transaction)?;
            let version = number(&record.version).unwrap_or_default();
            if version % SWEEP == 0 {
                transaction.execute("DELETE FROM changes WHERE version <= ?1", [version - KEPT])?;
            }
            transaction.commit()?;
            // Within the lock: the numbers are told in their order.
            latest.send_replace(version);
            Ok(record)
        })
        .await
    }
}

#[tonic::async_trait]
impl Store for Sqlite {
    async fn create(&self, kind: &'static str, name: &str, object: Value) -> Result<Record, StoreError> {
        let name = name.to_owned();
        self.write(move |transaction| add(transaction, New { kind, name, object })).await
    }

    async fn get(&self, kind: &'static str, name: &str) -> Result<Option<Record>, StoreError> {
        let name = name.to_owned();
        blocking(&self.reader, move |connection| find(connection, kind, &name)).await
    }

    async fn list(&self, kind: &'static str, after: &str, limit: usize) -> Result<Page, StoreError> {
        let after = after.to_owned();
        blocking(&self.reader, move |connection| {
            // One state of the file for both questions.
            let transaction = connection.transaction()?;
            let version = latest(&transaction)?.to_string();
            let sql = "SELECT name, version, object FROM objects WHERE kind = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
            let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let mut statement = transaction.prepare(sql)?;
            let rows = statement.query_map(params![kind, after, most], row)?;
            let mut records = rows.map(|row| record(row?)).collect::<Result<Vec<_>, _>>()?;
            let is_more = records.len() > limit;
            records.truncate(limit);
            let more = records.last().filter(|_| is_more).map(|last| last.name.clone());
            Ok(Page { records, more, version })
        })
        .await
    }

    async fn update(
        &self,
        kind: &'static str,
        new: Record,
        beside: Option<New>,
    ) -> Result<Record, StoreError> {
        self.write(move |transaction| {
            let old = find(transaction, kind, &new.name)?.ok_or(StoreError::Missing)?;
            if old.version != new.version {
                return Err(StoreError::Changed);
            }
            if let Some(beside) = beside {
                add(transaction, beside)?;
            }
            put(transaction, kind, Event::Modified, new.name, new.object)
        })
        .await
    }

    async fn delete(
        &self,
        kind: &'static str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Record, StoreError> {
        let (name, version) = (name.to_owned(), version.map(str::to_owned));
        self.write(move |transaction| {
            let old = find(transaction, kind, &name)?.ok_or(StoreError::Missing)?;
            if version.is_some_and(|version| version != old.version) {
                return Err(StoreError::Changed);
            }
            let version = log(transaction, kind, Event::Deleted, &name, &old.object.to_string())?;
            transaction.execute("DELETE FROM objects WHERE kind = ?1 AND name = ?2", params![kind, name])?;
            Ok(Record { version: version.to_string(), ..old })
        })
        .await
    }

    async fn watch(&self, kind: &'static str, after: Option<&str>) -> Result<Changes, StoreError> {
        let mut latest = self.latest.subscribe();
        let last = match after {
            Some(version) => number(version).ok_or(StoreError::TooOld)?,
            None => *latest.borrow_and_update(),
        };
        let mut watching =
            Watching { kind, reader: Arc::clone(&self.reader), latest, last, ready: VecDeque::new() };
        // What is not kept any more is told now.
        watching.read().await?;
        Ok(stream::unfold(Some(watching), async |watching| {
            let mut watching = watching?;
            match watching.next().await {
                Some(Ok(change)) => Some((Ok(change), Some(watching))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        })
        .boxed())
    }
}

/// Somebody who watches.
struct Watching {
    kind: &'static str,
    reader: Shared,
    latest: watch::Receiver<i64>,
    /// The last change that was read.
    last: i64,
    ready: VecDeque<Change>,
}

impl Watching {
    /// The next change; nothing once the store is closed.
    async fn next(&mut self) -> Option<Result<Change, StoreError>> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(Ok(change));
            }
            // What comes from here on wakes it again.
            if *self.latest.borrow_and_update() == self.last {
                self.latest.changed().await.ok()?;
                continue;
            }
            if let Err(error) = self.read().await {
                return Some(Err(error));
            }
        }
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let (kind, after) = (self.kind, self.last);
        let (changes, last) =
            blocking(&self.reader, move |connection| changes(connection, kind, after)).await?;
        (self.ready, self.last) = (changes, last);
        Ok(())
    }
}

/// The next changes of a kind, and how far they lead.
fn changes(
    connection: &mut Connection,
    kind: &str,
    after: i64,
) -> Result<(VecDeque<Change>, i64), StoreError> {
    let transaction = connection.transaction()?;
    let latest = latest(&transaction)?;
    let oldest: Option<i64> =
        transaction.query_row("SELECT min(version) FROM changes", [], |row| row.get(0))?;
    if after > latest || after < latest && oldest.is_none_or(|oldest| after < oldest - 1) {
        return Err(StoreError::TooOld);
    }
    let sql = "SELECT name, version, object, event FROM changes WHERE version > ?1 AND kind = ?2 ORDER BY version LIMIT ?3";
    let mut statement = transaction.prepare(sql)?;
    let rows = statement.query_map(params![after, kind, BATCH], |found| Ok((row(found)?, found.get(3)?)))?;
    let mut read = VecDeque::new();
    let mut last = after;
    for found in rows {
        let (found, event): (_, String) = found?;
        last = found.1;
        read.push_back(Change { event: event_of(&event), record: record(found)? });
    }
    // A full batch may not be all; another says the rest.
    let is_full = i64::try_from(read.len()).is_ok_and(|length| length == BATCH);
    Ok((read, if is_full { last } else { latest }))
}

/// Runs it away from the threads that carry messages.
async fn blocking<T: Send + 'static>(
    connection: &Shared,
    work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let connection = Arc::clone(connection);
    tokio::task::spawn_blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner)))
        .await
        .map_err(|error| StoreError::Broken(error.into()))?
}

/// Writes a new object down.
fn add(transaction: &Transaction<'_>, new: New) -> Result<Record, StoreError> {
    match find(transaction, new.kind, &new.name)? {
        Some(_) => Err(StoreError::Exists),
        None => put(transaction, new.kind, Event::Added, new.name, new.object),
    }
}

/// Writes an object down with the number of its change.
fn put(
    transaction: &Transaction<'_>,
    kind: &str,
    event: Event,
    name: String,
    object: Value,
) -> Result<Record, StoreError> {
    let text = object.to_string();
    let version = log(transaction, kind, event, &name, &text)?;
    transaction.execute(
        "INSERT OR REPLACE INTO objects (kind, name, version, object) VALUES (?1, ?2, ?3, ?4)",
        params![kind, name, version, text],
    )?;
    Ok(Record { name, version: version.to_string(), object })
}

/// Writes a change down; its number.
fn log(
    transaction: &Transaction<'_>,
    kind: &str,
    event: Event,
    name: &str,
    object: &str,
) -> Result<i64, StoreError> {
    transaction.execute(
        "INSERT INTO changes (kind, name, event, object) VALUES (?1, ?2, ?3, ?4)",
        params![kind, name, word(event), object],
    )?;
    Ok(transaction.last_insert_rowid())
}

fn find(connection: &Connection, kind: &str, name: &str) -> Result<Option<Record>, StoreError> {
    let sql = "SELECT name, version, object FROM objects WHERE kind = ?1 AND name = ?2";
    connection.query_row(sql, params![kind, name], row).optional()?.map(record).transpose()
}

type Found = (String, i64, String);

fn row(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn record((name, version, object): Found) -> Result<Record, StoreError> {
    let object = serde_json::from_str(&object).map_err(StoreError::Odd)?;
    Ok(Record { name, version: version.to_string(), object })
}

fn number(version: &str) -> Option<i64> {
    version.parse().ok().filter(|&number| number >= 0)
}

/// The number of the last change there ever was.
fn latest(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'";
    Ok(connection.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn word(event: Event) -> &'static str {
    match event {
        Event::Added => "added",
        Event::Modified => "modified",
        Event::Deleted => "deleted",
    }
}

fn event_of(word: &str) -> Event {
    match word {
        "added" => Event::Added,
        "deleted" => Event::Deleted,
        _ => Event::Modified,
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    for (step, next) in MIGRATIONS.iter().zip(1_u32..).skip(version(connection)? as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", next)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Takes the folder's lock, which ends with this process.
fn alone(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(LOCK);
    let denied = |error: std::io::Error| {
        Failure::new(Code::FileDenied, format!("the server cannot use {}", path.display())).because(error)
    };
    let lock = own(&path).map_err(denied)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(error)) => Err(denied(error)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(Code::Conflict, format!("another server uses {}", folder.display()))
                .because("a state folder is one server's at a time")
                .try_command("use another folder", ["pepo", "serve", "--state", "FOLDER"]))
        }
    }
}

/// A file for its owner alone.
fn own(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        StoreError::Broken(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn open() -> (Arc<dyn Store>, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Arc::new(Sqlite::open(folder.path()).unwrap()), folder)
    }

    super::super::suite::suite!(open);

    #[tokio::test]
    async fn what_was_answered_is_there_after_the_next_start_and_versions_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let one = store.create("things", "a", json!({ "n": 1 })).await.unwrap();
        store.create("things", "b", json!({})).await.unwrap();
        let gone = store.delete("things", "b", None).await.unwrap();
        drop(store);
        let store = Sqlite::open(folder.path()).unwrap();
        assert_eq!(store.get("things", "a").await.unwrap(), Some(one.clone()));
        let next = store.create("things", "b", json!({})).await.unwrap();
        assert!(number(&next.version) > number(&gone.version), "no number is given twice");
        let mut changes = store.watch("things", Some(&one.version)).await.unwrap();
        let told: Vec<_> = changes.by_ref().take(3).map(|change| change.unwrap().event).collect().await;
        assert_eq!(told, [Event::Added, Event::Deleted, Event::Added], "also those of before");
    }

    #[tokio::test]
    async fn a_folder_is_one_servers_and_its_files_are_open_to_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        store.create("things", "a", json!({})).await.unwrap();
        assert_eq!(Sqlite::open(folder.path()).unwrap_err().code(), Code::Conflict);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
        }
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_or_of_none_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sqlite::open(folder.path()).unwrap());
        let path = folder.path().join(FILE);
        let newer = i64::try_from(MIGRATIONS.len()).unwrap() + 1;
        Connection::open(&path).unwrap().pragma_update(None, "user_version", newer).unwrap();
        assert_eq!(Sqlite::open(folder.path()).unwrap_err().code(), Code::VersionMismatch);
        std::fs::write(&path, "this is no database, and never was one").unwrap();
        assert_eq!(Sqlite::open(folder.path()).unwrap_err().code(), Code::FileDenied);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("this is no database"));
    }

    #[tokio::test]
    async fn changes_are_kept_up_to_a_bound_and_who_is_too_late_is_told() {
        let (store, _folder) = open();
        let mut record = store.create("things", "a", json!({})).await.unwrap();
        let first = record.version.clone();
        let mut slow = store.watch("things", Some(&first)).await.unwrap();
        for n in 0..KEPT + 2 * SWEEP {
            record =
                store.update("things", Record { object: json!({ "n": n }), ..record }, None).await.unwrap();
        }
        assert!(matches!(store.watch("things", Some(&first)).await, Err(StoreError::TooOld)));
        assert!(matches!(store.watch("things", Some("later")).await, Err(StoreError::TooOld)));
        assert!(matches!(store.watch("things", Some("999999999")).await, Err(StoreError::TooOld)));
        assert!(matches!(slow.next().await, Some(Err(StoreError::TooOld))));
        assert!(slow.next().await.is_none(), "an error is the last word");
        let mut late = store.watch("things", Some(&record.version)).await.unwrap();
        store.delete("things", "a", None).await.unwrap();
        assert_eq!(late.next().await.unwrap().unwrap().event, Event::Deleted);
    }
}
