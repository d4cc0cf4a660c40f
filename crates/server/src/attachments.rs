//! Attachments as they are written down: who holds them, and what becomes of those that nobody holds.
//!
//! An attachment that is alive belongs to one server, which renews its lease. When a server starts, what it held before is over; what
//! another held is over when its lease is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use pepo_wire::{
    Code, Failure,
    resource::{AttachmentSpec, AttachmentStatus, DebugAttachment, Kind as _, Reason, State, Time, Why},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;

use crate::store::{Resources, StoreError, read};

/// How long an attachment is believed to be alive after its holder last said so.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// How often a holder says so, and looks for what nobody holds.
pub(crate) const RENEW: Duration = Duration::from_secs(20);
/// How long what is over is kept, and how many of them at most.
pub(crate) const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const MOST_KEPT: usize = 5_000;

/// Tells a stream that somebody ends it: who.
pub(crate) type Ender = Arc<watch::Sender<Option<String>>>;

/// All attachments of this server's store, and those among them that it holds.
#[derive(Debug)]
pub(crate) struct Attachments {
    pub(crate) resources: Resources,
    /// This server, as `status.holder` names it.
    holder: String,
    held: Mutex<HashMap<String, Ender>>,
    /// Those that wait for their owner, by owner and container.
    offered: Mutex<HashMap<(String, String), String>>,
}

/// What [`Attachments::sweep`] does with one.
enum Fate {
    Stays,
    Renewed,
    Ends(State, Reason, &'static str),
}

impl Attachments {
    /// Ends what this server held before it was started again, and what nobody holds.
    ///
    /// # Errors
    /// [`Code::Internal`]: the store failed.
    pub(crate) async fn open(resources: Resources, holder: String) -> Result<Attachments, Failure> {
        let attachments =
            Attachments { resources, holder, held: Mutex::default(), offered: Mutex::default() };
        attachments.sweep(Time::now()).await?;
        let waits = |one: &DebugAttachment| one.status.holder.is_none() && !one.status.state.is_over();
        let waiting = attachments.resources.all(waits).await;
        for attachment in waiting.map_err(|error| error.failure("attachments"))? {
            attachments.remember(&attachment);
        }
        Ok(attachments)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Ender>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offered(&self) -> MutexGuard<'_, HashMap<(String, String), String>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that nobody holds waits for its owner.
    pub(crate) fn remember(&self, attachment: &DebugAttachment) {
        let owner = (attachment.spec.who.clone(), attachment.spec.container_id.clone());
        self.offered().insert(owner, attachment.metadata.name.clone());
    }

    /// Takes the one that waits for this person on this container, if there is one: from here on this server holds it.
    pub(crate) async fn claim(
        &self,
        who: &str,
        container: &str,
        ender: &Ender,
    ) -> Result<Option<String>, Failure> {
        let offered = self.offered().remove(&(who.to_owned(), container.to_owned()));
        let Some(name) = offered else { return Ok(None) };
        self.held().insert(name.clone(), Arc::clone(ender));
        let taken = self.resources.change(&name, |attachment: &mut DebugAttachment| {
            let status = &mut attachment.status;
            let is_free = status.state == State::Requested && status.holder.is_none();
            status.holder = Some(self.holder.clone());
            status.lease_until = Time::now().after(LEASE);
            is_free.then_some(())
        });
        let taken = match taken.await {
            Err(StoreError::Missing) => Ok(None),
            taken => taken.map_err(|error| error.failure(&called(&name))),
        };
        if !matches!(taken, Ok(Some(_))) {
            self.held().remove(&name);
        }
        Ok(taken?.map(|_| name))
    }

    /// Ends one that is alive, for a person, and waits for at most so long until it is over; says whether it is.
    ///
    /// # Errors
    /// [`Code::NotReachable`] where another server holds it; those of the store.
    pub(crate) async fn end(
        &self,
        attachment: &DebugAttachment,
        who: &str,
        limit: Duration,
    ) -> Result<(DebugAttachment, bool), Failure> {
        let (name, version) = (&attachment.metadata.name, &attachment.metadata.resource_version);
        let ender = self.held().get(name).cloned();
        match (ender, &attachment.status.holder) {
            (Some(ender), _) => drop(ender.send_replace(Some(who.to_owned()))),
            (None, None) => {
                let why = Why { who: who.to_owned(), reason: Reason::Deleted, message: String::new() };
                return Ok((self.advance(name, State::Failed, &why, |_| {}).await?, true));
            }
            (None, Some(holder)) => {
                return Err(Failure::new(Code::NotReachable, format!("{} is not held here", called(name)))
                    .because(format!("server {holder} holds it, or held it and is gone"))
                    .hint("end it there; what nobody holds expires by itself"));
            }
        }
        let failed = |error: StoreError| error.failure(&called(name));
        let mut changes =
            self.resources.0.watch(AttachmentSpec::PLURAL, Some(version)).await.map_err(failed)?;
        let over = async {
            while let Some(Ok(change)) = changes.next().await {
                let is_it = change.record.name == *name;
                match read::<AttachmentSpec>(change.record) {
                    Ok(changed) if is_it && changed.status.state.is_over() => return Some(changed),
                    _ => {}
                }
            }
            None
        };
        match tokio::time::timeout(limit, over).await {
            Ok(Some(ended)) => Ok((ended, true)),
            _ => Ok((self.resources.get(name).await.map_err(failed)?, false)),
        }
    }

    /// Removes one that is over.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn remove(&self, attachment: &DebugAttachment) -> Result<DebugAttachment, Failure> {
        let (name, version) = (&attachment.metadata.name, &attachment.metadata.resource_version);
        self.resources.delete(name, Some(version)).await.map_err(|error| error.failure(&called(name)))
    }

    /// Writes a new one down, held by this server.
    pub(crate) async fn begin(
        &self,
        mut attachment: DebugAttachment,
        ender: &Ender,
    ) -> Result<DebugAttachment, Failure> {
        let name = attachment.metadata.name.clone();
        attachment.status.holder = Some(self.holder.clone());
        // From the first moment on nobody takes it for an orphan.
        self.held().insert(name.clone(), Arc::clone(ender));
        let made = self.resources.create(&attachment).await;
        if made.is_err() {
            self.held().remove(&name);
        }
        made.map_err(|error| error.failure(&called(&name)))
    }

    /// Changes the state of one.
    ///
    /// # Errors
    /// [`Code::Conflict`] for a change that cannot be; those of the store.
    pub(crate) async fn advance(
        &self,
        name: &str,
        state: State,
        why: &Why,
        mut more: impl FnMut(&mut AttachmentStatus),
    ) -> Result<DebugAttachment, Failure> {
        let mut refused = None;
        let changed = self
            .resources
            .change::<_, ()>(name, |attachment: &mut DebugAttachment| {
                refused = attachment.advance(state, why.clone(), Time::now()).err();
                attachment.status.lease_until = Time::now().after(LEASE);
                more(&mut attachment.status);
                refused.is_none().then_some(())
            })
            .await;
        if state.is_over() {
            self.held().remove(name);
        }
        let changed = changed.map_err(|error| error.failure(&called(name)))?;
        changed.map(|(attachment, ())| attachment).ok_or_else(|| {
            let failure = Failure::new(Code::Conflict, format!("{} does not change so", called(name)));
            refused.iter().fold(failure, Failure::because)
        })
    }

    /// Writes down that the debugger of one is ready.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn ready(&self, name: &str, reason: Reason) -> Result<(), Failure> {
        let ready =
            |attachment: &mut DebugAttachment| attachment.make_ready(reason, Time::now()).then_some(());
        self.resources.change(name, ready).await.map(drop).map_err(|error| error.failure(&called(name)))
    }

    /// Renews leases, ends what nobody holds and removes what is old.
    pub(crate) async fn sweep(&self, now: Time) -> Result<(), Failure> {
        let failed = |error: StoreError| error.failure("attachments");
        let all = self.resources.all(|_: &DebugAttachment| true).await.map_err(failed)?;
        let (mut over, alive): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.status.state.is_over());
        for attachment in alive {
            self.judge(&attachment.metadata.name, now).await.map_err(failed)?;
        }
        // The youngest first.
        over.sort_by_key(|one| std::cmp::Reverse(ended(one)));
        let old = |at: usize, one: &DebugAttachment| at >= MOST_KEPT || ended(one).after(KEPT) < now;
        for (_, one) in over.iter().enumerate().filter(|(at, one)| old(*at, one)) {
            let (name, version) = (&one.metadata.name, &one.metadata.resource_version);
            match self.resources.delete::<AttachmentSpec>(name, Some(version)).await {
                Ok(_) | Err(StoreError::Missing | StoreError::Changed) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Renews the lease of one, or ends it.
    async fn judge(&self, name: &str, now: Time) -> Result<(), StoreError> {
        let judged = self.resources.change(name, |attachment: &mut DebugAttachment| {
            match self.fate(attachment, now) {
                Fate::Stays => None,
                Fate::Renewed => {
                    attachment.status.lease_until = now.after(LEASE);
                    Some(())
                }
                Fate::Ends(state, reason, message) => {
                    let why = Why { who: "server".to_owned(), reason, message: message.to_owned() };
                    attachment.advance(state, why, now).ok()
                }
            }
        });
        match judged.await {
            // Its own stream was first.
            Ok(_) | Err(StoreError::Missing | StoreError::Changed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn fate(&self, attachment: &DebugAttachment, now: Time) -> Fate {
        let status = &attachment.status;
        let is_late = status.lease_until < now;
        match status.holder.as_deref() {
            _ if status.state.is_over() => Fate::Stays,
            _ if self.held().contains_key(&attachment.metadata.name) => Fate::Renewed,
            Some(holder) if holder == self.holder && !is_late => Fate::Ends(
                State::Failed,
                Reason::ServerEnded,
                "the server ended while it carried it; the node's agent let go of the target",
            ),
            Some(_) if is_late => Fate::Ends(
                State::Expired,
                Reason::HolderGone,
                "nobody held it any more; the node's agent let go of the target",
            ),
            None if is_late => Fate::Ends(State::Expired, Reason::NotClaimed, "nobody came for it in time"),
            Some(_) | None => Fate::Stays,
        }
    }
}

/// When it ended; what is alive counts as now.
fn ended(attachment: &DebugAttachment) -> Time {
    attachment.status.transitions.last().map_or_else(Time::now, |last| last.time)
}

/// An attachment as it is told of.
pub(crate) fn called(name: &str) -> String {
    format!("attachment `{name}`")
}

/// A new name: ten hex digits.
pub(crate) fn new_name() -> Result<String, Failure> {
    let mut bytes = [0_u8; 5];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::new(Code::Internal, "no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::store::Sqlite;

    fn resources(folder: &TempDir) -> Resources {
        Resources(Arc::new(Sqlite::open(folder.path()).unwrap()))
    }

    fn why(reason: Reason) -> Why {
        Why { who: "ann".to_owned(), reason, message: String::new() }
    }

    fn wished(name: &str) -> DebugAttachment {
        DebugAttachment::requested(name, AttachmentSpec::default(), why(Reason::Asked), Time::now(), LEASE)
    }

    async fn state(attachments: &Attachments, name: &str) -> (State, Reason) {
        let status = attachments.resources.get::<AttachmentSpec>(name).await.unwrap().status;
        (status.state, status.reason.unwrap())
    }

    #[tokio::test]
    async fn what_a_server_held_is_over_when_it_starts_again_and_what_another_holds_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let resources = resources(&folder);
        let first = Attachments::open(resources.clone(), "one".to_owned()).await.unwrap();
        let ender: Ender = Arc::default();
        first.begin(wished("held"), &ender).await.unwrap();
        first.begin(wished("over"), &ender).await.unwrap();
        first.advance("over", State::Failed, &why(Reason::NodeRefused), |_| {}).await.unwrap();
        resources.create(&wished("unclaimed")).await.unwrap();

        let other = Attachments::open(resources.clone(), "two".to_owned()).await.unwrap();
        assert_eq!(state(&other, "held").await, (State::Requested, Reason::Asked));
        let again = Attachments::open(resources.clone(), "one".to_owned()).await.unwrap();
        assert_eq!(state(&again, "held").await, (State::Failed, Reason::ServerEnded));
        assert_eq!(state(&again, "over").await, (State::Failed, Reason::NodeRefused));
        assert_eq!(state(&again, "unclaimed").await, (State::Requested, Reason::Asked));
        let refused =
            again.advance("held", State::Scheduled, &why(Reason::NodeOrdered), |_| {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::Conflict);
        assert!(refused.to_string().contains("that is failed cannot become scheduled"), "{refused}");
    }

    #[tokio::test]
    async fn a_lease_is_renewed_by_its_holder_and_what_has_none_expires_and_is_removed_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let resources = resources(&folder);
        let holder = Attachments::open(resources.clone(), "one".to_owned()).await.unwrap();
        holder.begin(wished("held"), &Arc::default()).await.unwrap();
        resources.create(&wished("unclaimed")).await.unwrap();
        let later = Time::now().after(LEASE + Duration::from_secs(1));
        holder.sweep(later).await.unwrap();
        assert_eq!(state(&holder, "held").await, (State::Requested, Reason::Asked));
        assert_eq!(state(&holder, "unclaimed").await, (State::Expired, Reason::NotClaimed));

        let other = Attachments::open(resources.clone(), "two".to_owned()).await.unwrap();
        other.sweep(later).await.unwrap();
        assert_eq!(state(&other, "held").await, (State::Requested, Reason::Asked), "its lease was renewed");
        other.sweep(later.after(LEASE + Duration::from_secs(1))).await.unwrap();
        assert_eq!(state(&other, "held").await, (State::Expired, Reason::HolderGone));

        other.sweep(later.after(LEASE * 3 + KEPT)).await.unwrap();
        assert!(resources.all(|_: &DebugAttachment| true).await.unwrap().is_empty());
    }
}
