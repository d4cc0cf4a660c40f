//! What `pepo attachments` and `pepo requests` have in common: the server that is asked, lists, and waiting for a change.

use std::time::Duration;

use futures::StreamExt as _;
use pepo_platform::{ResourceChange, Resources, ServerAddress};
use pepo_wire::{
    Code, Failure,
    resource::{Kind, Object, Time},
};
use serde_json::{Value, json};

use crate::{
    config::Context,
    duration::spoken,
    render::{
        Outcome,
        table::{Cell, Lean, Table, printable},
    },
};

/// How long a stream of changes that broke is left alone before it is asked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// A kind of resource as a table and as lines.
pub(super) trait Shown: Kind {
    /// The table's head; the first column is the name.
    const COLUMNS: &'static [(&'static str, Lean)];

    /// The other cells of an object's row.
    fn cells(object: &Object<Self>, now: Time) -> Vec<Cell>;

    /// All that is known of an object, a name and a value each.
    fn facts(object: &Object<Self>) -> Vec<(&'static str, String)>;
}

/// The resources of the server that `--on` names.
///
/// # Errors
/// [`Code::Usage`] without one.
pub(super) fn server(context: &Context, verb: &str) -> Result<Resources, Failure> {
    let Some(address) = context.global.server() else {
        return Err(Failure::new(Code::Usage, format!("{verb} are kept by a server, and none is named"))
            .try_command("name it", ["pepo", verb, "--on", "https://HOST"])
            .try_command("who is attached to what on this machine", ["pepo", "sessions"]));
    };
    ServerAddress::parse(address, context.environment.token.as_deref()).map(Resources::new)
}

/// Lists all that may be seen.
pub(super) async fn list<S: Shown>(context: &Context, nothing: &str) -> Outcome {
    let mut all = server(context, S::SHORT)?.list::<S>().await?;
    let printer = context.printer;
    if printer.json_wanted() {
        return printer.json(&json!({ (S::SHORT): all }));
    }
    if all.is_empty() {
        printer.say(nothing);
        return Ok(());
    }
    all.sort_by_key(|one| one.metadata.creation_timestamp);
    let mut table = Table::new(S::COLUMNS).within(printer.width());
    for one in &all {
        let mut row: Vec<Cell> = vec![one.metadata.name.as_str().into()];
        row.extend(S::cells(one, Time::now()));
        table.row(row);
    }
    printer.data(&table.lines(printer.paint).join("\n"))
}

/// Shows all that is known of one.
pub(super) fn show<S: Shown>(context: &Context, object: &Object<S>) -> Outcome {
    let printer = context.printer;
    if printer.json_wanted() {
        return printer.json(&data(object));
    }
    let mut facts = vec![("name", object.metadata.name.clone())];
    facts.extend(S::facts(object).into_iter().filter(|(_, value)| !value.is_empty()));
    let wide = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = facts.iter().map(|(name, value)| printable(&format!("{name:<wide$}  {value}")));
    printer.data(&lines.collect::<Vec<_>>().join("\n"))
}

/// The object as data.
pub(super) fn data<S: Kind>(object: &Object<S>) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// How long ago, for people.
pub(super) fn ago(time: Time, now: Time) -> String {
    format!("{} ago", spoken(Duration::from_secs(now.millis().saturating_sub(time.millis()) / 1_000)))
}

/// Waits until the object is as `is_so` says; it may be so already. A stream that breaks is asked for again from where it was.
///
/// # Errors
/// [`Code::TimedOut`]; [`Code::ObjectNotFound`] for one that is removed meanwhile; why the server cannot be asked.
pub(super) async fn until<S: Kind>(
    resources: &Resources,
    name: &str,
    limit: Option<Duration>,
    is_so: impl Fn(&Object<S>) -> bool,
) -> Result<Object<S>, Failure> {
    let waiting = async {
        loop {
            let object = resources.get::<S>(name).await?;
            if is_so(&object) {
                return Ok(object);
            }
            let mut changes = match resources.watch::<S>(&object.metadata.resource_version).await {
                // Too much has happened since: it is looked at again.
                Err(failure) if failure.code() == Code::VersionGone => continue,
                changes => changes?,
            };
            while let Some(Ok(ResourceChange { is_gone, object })) = changes.next().await {
                match object.metadata.name == name {
                    true if is_gone => {
                        return Err(Failure::new(Code::ObjectNotFound, format!("`{name}` was removed")));
                    }
                    true if is_so(&object) => return Ok(object),
                    _ => {}
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    let Some(limit) = limit else { return waiting.await };
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
        Err(Failure::new(Code::TimedOut, format!("`{name}` did not change so within {}", spoken(limit)))
            .try_command("look at it", ["pepo", S::SHORT, "show", name]))
    })
}
