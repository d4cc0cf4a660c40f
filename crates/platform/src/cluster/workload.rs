//! What makes pods, changed so that they run the entry, and back.
//!
//! The pods' template as it was and as it became stand in an annotation of the object itself: whoever ejects needs nothing else,
//! and takes back what was changed alone, whatever others changed since.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use pepo_wire::{
    Code, Failure,
    name::{Kind, TargetName},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    client::{Cluster, Joined},
    find,
    undo::undo,
};
use crate::{Injected, Options, PlatformError};

/// The annotation.
const RECORD: &str = "pepo.dev/injected";
/// So often a change is tried again that others were faster with.
const TRIES: u32 = 5;
/// Between two looks at a roll-out.
const LOOK: Duration = Duration::from_millis(500);
/// So long a roll-out may take.
const ROLL_OUT: Duration = Duration::from_secs(600);

/// Who makes a change, or only says what it would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// It is made.
    Really,
    /// The API server judges it and says what would come of it.
    ServerDry,
    /// The API server is only asked for what there is.
    ClientDry,
}

/// The pods' template, twice.
#[derive(Deserialize, Serialize)]
struct Record {
    before: Value,
    after: Value,
    /// For a start that is to be held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caught: Option<Caught>,
}

/// A container whose next start is held.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Caught {
    pub(super) container: String,
    /// What its pods are known by.
    pub(super) mark: String,
}

/// What a change is made for.
#[derive(Clone, Debug)]
pub(super) enum By {
    Inject,
    Catch(Caught),
}

/// A Deployment, StatefulSet or DaemonSet of a cluster.
pub struct Workload {
    cluster: Cluster,
    name: TargetName,
    kind: Kind,
}

/// An object that was changed, or would be.
#[derive(Clone, Debug)]
pub struct Changed {
    /// It, as the API server has it.
    pub object: Value,
    /// What whoever changed it should know.
    pub notes: Vec<String>,
    /// Whether anything had to be changed.
    pub was_changed: bool,
}

/// How far a roll-out is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Done,
    Going(String),
    Stuck(String),
    /// Nothing will happen by itself, and why.
    Waits(&'static str),
}

impl Apply {
    /// How it is tried before: it changes nothing.
    fn tried(self) -> Apply {
        match self {
            Apply::Really => Apply::ServerDry,
            dry => dry,
        }
    }
}

impl Workload {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// [`Code::Usage`] for what has no template that could be changed, with what has.
    pub fn new(options: &Options, name: TargetName) -> Result<Workload, Failure> {
        let why = match name.kind {
            Some(kind @ (Kind::Deploy | Kind::Sts | Kind::Ds)) => {
                let cluster = Cluster::new(&options.cluster, &options.environment);
                return Ok(Workload { cluster, name, kind });
            }
            Some(Kind::Pod | Kind::Job) => "Kubernetes keeps what its containers run as it was made",
            Some(Kind::Rs) => "what owns it would make another, and its pods stay as they are",
            Some(Kind::Svc) => "it makes no pods",
            _ => "it is nothing of a cluster's that makes pods",
        };
        let failure = Failure::new(Code::Usage, format!("{name} cannot be injected, nor ejected"))
            .because(why)
            .hint("name what makes the pods: deploy/NAME, sts/NAME or ds/NAME");
        Err(match name.kind {
            Some(Kind::Pod | Kind::Job) => failure.hint(format!(
                "or make it anew: kubectl get {name} -o yaml | pepo inject -f - … | kubectl replace --force -f -"
            )),
            _ => failure,
        })
    }

    /// What says that this is production, if a name does.
    ///
    /// # Errors
    /// [`Code::NoEngine`].
    pub async fn production(&self) -> Result<Option<String>, Failure> {
        Ok(self.cluster.join().await?.production())
    }

    /// Changes the template by `inject`, from a manifest to one that is injected, and records how it was. One that is injected is injected anew. A dry run changes nothing.
    ///
    /// # Errors
    /// [`Code::ClusterDenied`], [`Code::TargetNotFound`], what the API server refuses, what `inject` says, and [`Code::NotNow`]
    /// where others changed what was injected before.
    pub async fn inject(
        &self,
        apply: Apply,
        inject: &mut (dyn FnMut(&str) -> Result<Injected, Failure> + Send),
    ) -> Result<Changed, Failure> {
        self.change(apply, &By::Inject, inject).await
    }

    /// See [`Workload::inject`].
    pub(super) async fn change(
        &self,
        apply: Apply,
        by: &By,
        inject: &mut (dyn FnMut(&str) -> Result<Injected, Failure> + Send),
    ) -> Result<Changed, Failure> {
        let joined = self.cluster.join().await?;
        for _ in 0..TRIES {
            let mut object = self.read(joined).await?;
            self.judge(joined, &object, by)?;
            let before = self.original(&object)?.unwrap_or_else(|| object["spec"]["template"].clone());
            let manifest = json!({
                "kind": object["kind"], "metadata": {"name": object["metadata"]["name"]},
                "spec": {"template": before},
            });
            let Injected { text, notes } = inject(&format!("{manifest:#}"))?;
            let mut manifest: Value = serde_json::from_str(&text).map_err(|error| {
                Failure::new(Code::Internal, "what was injected is no JSON").because(error)
            })?;
            object["spec"]["template"] = manifest["spec"]["template"].take();
            // The server adds its defaults, and what is to be taken back later are those with them.
            let Some(answer) = self.write(joined, object.clone(), apply.tried()).await? else { continue };
            let caught = match by {
                By::Inject => None,
                By::Catch(caught) => Some(caught.clone()),
            };
            let record = json!(Record { before, after: answer["spec"]["template"].clone(), caught });
            object["metadata"]["annotations"][RECORD] = record.to_string().into();
            if let Some(object) = self.write(joined, object, apply).await? {
                return Ok(Changed { object, notes, was_changed: true });
            }
        }
        Err(self.too_busy())
    }

    /// Takes back what was injected, and leaves the rest.
    ///
    /// # Errors
    /// As [`Workload::inject`].
    pub async fn eject(&self, apply: Apply) -> Result<Changed, Failure> {
        self.undo(apply, false).await
    }

    /// See [`Workload::eject`]; of what was caught, or of what was injected.
    pub(super) async fn undo(&self, apply: Apply, caught: bool) -> Result<Changed, Failure> {
        let joined = self.cluster.join().await?;
        for _ in 0..TRIES {
            let mut object = self.read(joined).await?;
            if !caught {
                self.judge(joined, &object, &By::Inject)?;
            }
            let Some(original) = self.original(&object)? else {
                return Ok(Changed { object, notes: Vec::new(), was_changed: false });
            };
            object["spec"]["template"] = original;
            if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                annotations.remove(RECORD);
            }
            if let Some(object) = self.write(joined, object, apply).await? {
                return Ok(Changed { object, notes: Vec::new(), was_changed: true });
            }
        }
        Err(self.too_busy())
    }

    /// Waits until all pods are as the object has them; `say` is told how far it is. What was to be told at the end is returned.
    ///
    /// # Errors
    /// [`Code::TimedOut`] after ten minutes, or once the cluster itself gives up.
    pub async fn roll_out(&self, say: &(dyn Fn(&str) + Sync)) -> Result<Option<&'static str>, Failure> {
        let joined = self.cluster.join().await?;
        let begin = Instant::now();
        loop {
            let told = match stage(&self.read(joined).await?) {
                Stage::Done => return Ok(None),
                Stage::Waits(why) => return Ok(Some(why)),
                Stage::Stuck(why) => return Err(self.not_rolled_out(joined, &why)),
                Stage::Going(told) => told,
            };
            if begin.elapsed() > ROLL_OUT {
                return Err(self.not_rolled_out(joined, &told));
            }
            say(&format!("{}: {told}", self.name));
            tokio::time::sleep(LOOK).await;
        }
    }

    fn not_rolled_out(&self, joined: &Joined, why: &str) -> Failure {
        let name = self.name.parts().0;
        Failure::new(Code::TimedOut, format!("{} is changed, but its pods do not come up", self.name))
            .because(why)
            .hint(format!("see why: kubectl describe pods -n {}, of {name}", joined.namespace))
            .try_command(
                "take back what was injected",
                ["pepo", "eject", &self.name.to_string(), "-n", &joined.namespace],
            )
    }

    /// Is it free for this change?
    fn judge(&self, joined: &Joined, object: &Value, by: &By) -> Result<(), Failure> {
        let name = self.name.to_string();
        match (self.record(object)?, by) {
            (Some(Record { caught: Some(_), .. }), _) => {
                Err(Failure::new(Code::NotNow, format!("the next start of {name} is being held"))
                    .try_command(
                        "take that back first",
                        ["pepo", "catch", "stop", &name, "-n", &joined.namespace],
                    ))
            }
            (Some(Record { caught: None, .. }), By::Catch(_)) => {
                Err(Failure::new(Code::NotNow, format!("{name} is injected already, with other words"))
                    .try_command("take that back first", ["pepo", "eject", &name, "-n", &joined.namespace]))
            }
            _ => Ok(()),
        }
    }

    /// The container whose start is held by this object, if one is.
    pub(super) fn caught(&self, object: &Value) -> Result<Option<Caught>, Failure> {
        Ok(self.record(object)?.and_then(|record| record.caught))
    }

    fn record(&self, object: &Value) -> Result<Option<Record>, Failure> {
        let Some(text) = object["metadata"]["annotations"][RECORD].as_str() else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|error| {
            Failure::new(Code::NotNow, format!("the annotation {RECORD} of {} cannot be read", self.name))
                .because(error)
                .hint("somebody changed it: take the annotation out, and what was injected, by kubectl edit")
        })
    }

    /// The template without what was injected; nothing where nothing was.
    fn original(&self, object: &Value) -> Result<Option<Value>, Failure> {
        let Some(record) = self.record(object)? else { return Ok(None) };
        undo(&record.before, &record.after, &object["spec"]["template"]).map(Some).map_err(|clashes| {
            Failure::new(Code::NotNow, format!("{} was changed in what Pepo had injected", self.name))
                .because(format!("others changed the same: spec.{}", clashes.join(", spec.")))
                .hint(format!("put these back by kubectl edit (the annotation {RECORD} has them before and after), and eject again"))
        })
    }

    fn too_busy(&self) -> Failure {
        Failure::new(Code::NotNow, format!("{} was changed by others each time Pepo was about to", self.name))
            .hint("try again")
    }

    /// As it is named.
    pub(super) fn name(&self) -> &TargetName {
        &self.name
    }

    pub(super) async fn join(&self) -> Result<&Joined, PlatformError> {
        self.cluster.join().await
    }

    /// Its pods, the best first.
    pub(super) async fn pods(&self) -> Result<Vec<Pod>, PlatformError> {
        find::pods_of(self.join().await?, self.kind, self.name.parts().0).await
    }

    pub(super) async fn read(&self, joined: &Joined) -> Result<Value, PlatformError> {
        find::object(joined, self.kind, self.name.parts().0).await
    }

    /// The object as the server has it then; nothing if others were faster.
    async fn write(
        &self,
        joined: &Joined,
        object: Value,
        apply: Apply,
    ) -> Result<Option<Value>, PlatformError> {
        let dry = match apply {
            Apply::Really => "",
            Apply::ServerDry => "&dryRun=All",
            Apply::ClientDry => return Ok(Some(object)),
        };
        let (_, path) = find::path(joined, self.kind, self.name.parts().0);
        match joined.put("change what makes pods", &format!("{path}?fieldManager=pepo{dry}"), &object).await {
            Ok(object) => Ok(Some(object)),
            Err(PlatformError::Refused { status: 409, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// How far the pods of an object are.
fn stage(object: &Value) -> Stage {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    if spec["paused"] == true {
        return Stage::Waits("it is paused: its pods change once it is resumed");
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Stage::Waits("its strategy is OnDelete: pods change once they are deleted");
    }
    if number("observedGeneration") < object["metadata"]["generation"].as_u64().unwrap_or_default() {
        return Stage::Going("not seen by its controller yet".to_owned());
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut late = conditions.filter(|one| one["reason"] == "ProgressDeadlineExceeded");
    if let Some(late) = late.next() {
        return Stage::Stuck(late["message"].as_str().unwrap_or("its time is over").to_owned());
    }
    let (wanted, new, good) = match object["kind"].as_str() {
        Some("DaemonSet") => {
            (number("desiredNumberScheduled"), number("updatedNumberScheduled"), number("numberAvailable"))
        }
        _ => {
            let wanted = spec["replicas"].as_u64().unwrap_or(1);
            // A StatefulSet may keep its first pods as they are.
            let kept = spec["updateStrategy"]["rollingUpdate"]["partition"].as_u64().unwrap_or_default();
            (
                wanted.saturating_sub(kept),
                number("updatedReplicas"),
                number("availableReplicas").saturating_sub(kept),
            )
        }
    };
    // A DaemonSet has no such number.
    let old = number("replicas").saturating_sub(spec["replicas"].as_u64().unwrap_or(1));
    match new >= wanted && good >= wanted && old == 0 {
        true => Stage::Done,
        false => Stage::Going(format!("{new} of {wanted} pods are new, {good} available")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_out_is_over_when_all_pods_are_new_and_available_and_none_is_left_of_the_old() {
        let deploy = |status: Value| {
            stage(
                &json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}),
            )
        };
        let going = |text: &str| Stage::Going(text.to_owned());
        for (status, expected) in [
            (json!({"observedGeneration": 1}), going("not seen by its controller yet")),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 3, "availableReplicas": 2}),
                going("1 of 2 pods are new, 2 available"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3, "availableReplicas": 2}),
                going("2 of 2 pods are new, 2 available"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}),
                Stage::Done,
            ),
            (
                json!({"observedGeneration": 2, "conditions": [{"reason": "ProgressDeadlineExceeded", "message": "late"}]}),
                Stage::Stuck("late".to_owned()),
            ),
        ] {
            assert_eq!(deploy(status.clone()), expected, "{status}");
        }
        let daemons = |available: u32| {
            stage(&json!({"kind": "DaemonSet", "metadata": {"generation": 1}, "spec": {},
                "status": {"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2,
                    "numberAvailable": available}}))
        };
        assert_eq!((daemons(1), daemons(2)), (going("2 of 2 pods are new, 1 available"), Stage::Done));
        let on_delete = json!({"kind": "StatefulSet", "spec": {"updateStrategy": {"type": "OnDelete"}}});
        assert!(matches!(stage(&on_delete), Stage::Waits(_)));
    }
}
