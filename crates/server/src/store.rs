//! Where resources are kept, behind one narrow trait: what is kept, in which versions, and who is told of changes.
//!
//! A store knows names, versions and JSON; what an object means is the business of whoever keeps it there.

/// The embedded one.
mod sqlite;
/// What every store promises.
#[cfg(test)]
pub(crate) mod suite;

use std::{fmt::Debug, sync::Arc};

use futures::stream::BoxStream;
use pepo_wire::{
    Code, Failure,
    resource::{Kind, Object},
};
use serde_json::Value;

pub(crate) use self::sqlite::Sqlite;

/// How often a change is tried again when somebody else was first.
const TRIES: usize = 32;

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another object has the name.
    #[error("there is one of this name already")]
    Exists,
    /// There is none of the name.
    #[error("there is none of this name")]
    Missing,
    /// It has another version by now.
    #[error("somebody else changed it meanwhile")]
    Changed,
    /// Changes from so long ago are not kept.
    #[error("changes from this version on are not kept")]
    TooOld,
    /// What is kept is not what it should be.
    #[error("the store holds what is not understood")]
    Odd(#[source] serde_json::Error),
    /// The store itself failed.
    #[error("the store failed")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// As it is told; `what` names the object: attachment `x`.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        match self {
            StoreError::Exists => Failure::new(Code::Conflict, format!("{what} exists already")),
            StoreError::Missing => Failure::new(Code::ObjectNotFound, format!("no {what} on this server"))
                .because("it was removed, it never was, or you may not look at it"),
            StoreError::Changed => Failure::new(Code::Conflict, format!("{what} is another by now"))
                .because(self)
                .hint("read it again, and decide again"),
            StoreError::TooOld => {
                Failure::new(Code::VersionGone, format!("{what} cannot be watched from there"))
                    .because(self)
                    .hint("list again, and watch from the version that the list names")
            }
            StoreError::Odd(_) | StoreError::Broken(_) => {
                Failure::new(Code::Internal, format!("{what} could not be read or written down"))
                    .because_of(self)
            }
        }
    }
}

/// An object as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Opaque, and another after each change.
    pub(crate) version: String,
    pub(crate) object: Value,
}

/// An object that is to be kept.
#[derive(Clone, Debug)]
pub(crate) struct New {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) object: Value,
}

/// A part of a list, by name.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// Where the next part begins; nothing after the last.
    pub(crate) more: Option<String>,
    /// Watching from here tells every change that is not in this page.
    pub(crate) version: String,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Added,
    Modified,
    Deleted,
}

/// A change, with the object as it became, or as it last was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) event: Event,
    pub(crate) record: Record,
}

/// Changes as they come; ends with an error.
pub(crate) type Changes = BoxStream<'static, Result<Change, StoreError>>;

/// Keeps objects. What has been answered has been written down.
#[tonic::async_trait]
pub(crate) trait Store: Debug + Send + Sync {
    /// Keeps a new one.
    ///
    /// # Errors
    /// [`StoreError::Exists`].
    async fn create(&self, kind: &'static str, name: &str, object: Value) -> Result<Record, StoreError>;

    /// One by its name.
    async fn get(&self, kind: &'static str, name: &str) -> Result<Option<Record>, StoreError>;

    /// At most `limit` (at least 1) of a kind whose names come after `after`.
    async fn list(&self, kind: &'static str, after: &str, limit: usize) -> Result<Page, StoreError>;

    /// Replaces one that still has this version, and keeps a new one beside it: both or neither, and the new one is told first.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Changed`]; [`StoreError::Exists`] for the new one.
    async fn update(
        &self,
        kind: &'static str,
        record: Record,
        beside: Option<New>,
    ) -> Result<Record, StoreError>;

    /// Removes one, if it still has this version, where one is given; answers with what it was.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Changed`].
    async fn delete(
        &self,
        kind: &'static str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Record, StoreError>;

    /// Every change of a kind after this version, once and in order, as soon as it is written down; without a version, from now on.
    ///
    /// # Errors
    /// [`StoreError::TooOld`], also later, from the stream, for a reader that fell too far behind.
    async fn watch(&self, kind: &'static str, after: Option<&str>) -> Result<Changes, StoreError>;
}

/// Resources in a store, with their types.
#[derive(Clone, Debug)]
pub(crate) struct Resources(pub(crate) Arc<dyn Store>);

impl Resources {
    pub(crate) async fn create<S: Kind>(&self, object: &Object<S>) -> Result<Object<S>, StoreError> {
        let data = serde_json::to_value(object).map_err(StoreError::Odd)?;
        read(self.0.create(S::PLURAL, &object.metadata.name, data).await?)
    }

    pub(crate) async fn get<S: Kind>(&self, name: &str) -> Result<Object<S>, StoreError> {
        read(self.0.get(S::PLURAL, name).await?.ok_or(StoreError::Missing)?)
    }

    /// Replaces it, if it still has the version that it has here, and keeps a new one beside it.
    async fn update<S: Kind>(
        &self,
        object: &Object<S>,
        beside: Option<New>,
    ) -> Result<Object<S>, StoreError> {
        let record = Record {
            name: object.metadata.name.clone(),
            version: object.metadata.resource_version.clone(),
            object: serde_json::to_value(object).map_err(StoreError::Odd)?,
        };
        read(self.0.update(S::PLURAL, record, beside).await?)
    }

    /// Removes it, if it still has this version, where one is given.
    pub(crate) async fn delete<S: Kind>(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<Object<S>, StoreError> {
        read(self.0.delete(S::PLURAL, name, version).await?)
    }

    /// Changes it as `change` says, again when somebody else was first; `change` says what comes of it, and nothing to leave all as
    /// it is.
    pub(crate) async fn change<S: Kind, T>(
        &self,
        name: &str,
        change: impl FnMut(&mut Object<S>) -> Option<T>,
    ) -> Result<Option<(Object<S>, T)>, StoreError> {
        self.change_and_keep(name, change, None).await
    }

    /// As [`Resources::change`], and keeps a new one with the change, or does neither.
    pub(crate) async fn change_and_keep<S: Kind, T>(
        &self,
        name: &str,
        mut change: impl FnMut(&mut Object<S>) -> Option<T>,
        beside: Option<New>,
    ) -> Result<Option<(Object<S>, T)>, StoreError> {
        for _ in 0..TRIES {
            let mut object = self.get::<S>(name).await?;
            let Some(outcome) = change(&mut object) else { return Ok(None) };
            match self.update(&object, beside.clone()).await {
                Err(StoreError::Changed) => {}
                updated => return Ok(Some((updated?, outcome))),
            }
        }
        Err(StoreError::Changed)
    }

    /// All of a kind that `wanted` picks, read in parts.
    pub(crate) async fn all<S: Kind>(
        &self,
        wanted: impl Fn(&Object<S>) -> bool,
    ) -> Result<Vec<Object<S>>, StoreError> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.0.list(S::PLURAL, &after, PART).await?;
            for record in page.records {
                let object = read(record)?;
                if wanted(&object) {
                    all.push(object);
                }
            }
            match page.more {
                Some(more) => after = more,
                None => return Ok(all),
            }
        }
    }
}

/// An object as a store is given it.
pub(crate) fn new<S: Kind>(object: &Object<S>) -> Result<New, StoreError> {
    let data = serde_json::to_value(object).map_err(StoreError::Odd)?;
    Ok(New { kind: S::PLURAL, name: object.metadata.name.clone(), object: data })
}

/// Objects that are read at once where all are gone through.
const PART: usize = 500;

/// An object with the version that it has in the store.
pub(crate) fn read<S: Kind>(record: Record) -> Result<Object<S>, StoreError> {
    let mut object: Object<S> = serde_json::from_value(record.object).map_err(StoreError::Odd)?;
    object.metadata.resource_version = record.version;
    Ok(object)
}
