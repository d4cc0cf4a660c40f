//! The next start of a container, held at its first instruction: by the entry's word `wait`, put into what makes its pods, and taken
//! back afterwards.
//!
//! What is held takes no traffic and is ended by nothing: its health checks are out, and a readiness gate that nobody opens keeps its
//! pod from being ready. So a roll-out stops there, and pods that work stay until it is taken back.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use pepo_wire::{
    Code, Failure,
    name::{Kind, TargetName},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    client::Joined,
    find,
    helper::HOPELESS,
    is_running, random,
    workload::{Apply, By, Caught, Workload},
};
use crate::{Injected, Options, PlatformError, manifest::NAME};

/// Marks pods that are made to be held; as a readiness gate, it is what they are never ready by.
pub(super) const MARK: &str = "pepo.dev/caught";
/// The entry's words for a program that is held.
const HELD: &str = "is held at its first instruction";
/// So much of a container's log is read: before its first instruction only the entry says something.
const LOG: u32 = 8 << 10;
/// So long a pod may take to come up: images may have to be pulled.
pub(super) const COMES_UP: Duration = Duration::from_secs(300);
/// So long the pods that were held may take to go.
const GOES: Duration = Duration::from_secs(120);
/// What it is to delete a pod.
pub(super) const DELETE: &str = "delete a pod";
/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(300);

/// A container whose next start is to be held, and what makes its pods.
pub struct Catch {
    workload: Workload,
    container: String,
    /// The pod that was named, or whose container fails.
    pod: Option<Pod>,
    /// What was decided for the user.
    pub notes: Vec<String>,
}

/// What was done so that the next start is held.
#[derive(Clone, Debug)]
pub struct Begun {
    mark: String,
    container: String,
    /// What whoever asked should know.
    pub notes: Vec<String>,
    /// Whether it was so before.
    pub was_there: bool,
}

/// A program that is held at its first instruction.
#[derive(Clone, Debug)]
pub struct Held {
    /// `pod/NAME/CONTAINER`.
    pub name: TargetName,
    /// How many other pods are being made that way.
    pub others: usize,
}

impl Catch {
    /// What makes the pods of this name, and the container in them: the one that is named, else one that fails, else kubectl's choice.
    ///
    /// # Errors
    /// [`Code::TargetNotFound`]; [`Code::Usage`] for pods that nothing makes, with what to do instead; what the API server refuses.
    pub async fn find(
        options: &Options,
        name: &TargetName,
        container: Option<&str>,
    ) -> Result<Catch, Failure> {
        let (plain, typed) = name.parts();
        let typed = typed.or(container);
        let named = TargetName { kind: name.kind, name: plain.to_owned() };
        if name.kind != Some(Kind::Pod) {
            let workload = Workload::new(options, named).map_err(|failure| Failure {
                what: format!("the next start of {name} cannot be held"),
                ..failure
            })?;
            let pods = workload.pods().await?;
            let pod = pods.iter().find(|pod| failing(pod, typed).is_some()).cloned();
            let like = match &pod {
                Some(pod) => pod.clone(),
                None => workload.template().await?,
            };
            return Catch::of(workload, pod, &like, typed);
        }
        let (owner, pod) = Workload::of_pod(options, &named).await?;
        let like = pod.clone();
        Catch::of(Workload::new(options, owner)?, Some(pod), &like, typed)
    }

    fn of(workload: Workload, pod: Option<Pod>, like: &Pod, typed: Option<&str>) -> Result<Catch, Failure> {
        let mut notes = Vec::new();
        let typed = typed.or_else(|| failing(like, None));
        let container = find::choose(like, typed, &mut notes)?;
        Ok(Catch { workload, container, pod, notes })
    }

    /// What makes the pods, as it is named.
    #[must_use]
    pub fn workload(&self) -> &TargetName {
        self.workload.name()
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// The namespace.
    ///
    /// # Errors
    /// [`Code::NoEngine`].
    pub async fn namespace(&self) -> Result<&str, Failure> {
        Ok(&self.workload.join().await?.namespace)
    }

    /// What says that this is production, if a name does.
    ///
    /// # Errors
    /// [`Code::NoEngine`].
    pub async fn production(&self) -> Result<Option<String>, Failure> {
        self.workload.production().await
    }

    /// Lets `inject` put the entry before the container's program; where that was done before, it stays as it is.
    ///
    /// # Errors
    /// As [`Workload::inject`]; [`Code::NotNow`] where the pods would not be made anew.
    pub async fn begin(
        &self,
        inject: &mut (dyn FnMut(&str) -> Result<Injected, Failure> + Send),
    ) -> Result<Begun, Failure> {
        let joined = self.workload.join().await?;
        let object = self.workload.read(joined).await?;
        let caught = self.workload.caught(&object)?;
        if let Some(Caught { container, mark }) = caught {
            if container == self.container {
                return Ok(Begun { mark, container, notes: Vec::new(), was_there: true });
            }
            let what = format!("{} is caught already, in another container: {container}", self.workload());
            let stop = ["pepo", "catch", "stop", &self.workload().to_string(), "-n", &joined.namespace];
            return Err(Failure::new(Code::NotNow, what).try_command("take that back first", stop));
        }
        makes_pods(&object, self.workload(), self.pod.as_ref())?;
        let mut notes: Vec<String> = all_at_once(&object, self.workload()).into_iter().collect();
        let caught = Caught { container: self.container.clone(), mark: new_mark() };
        let by = By::Catch(caught.clone());
        let mut held = |manifest: &str| inject(&to_be_held(manifest, &caught)?);
        notes.extend(self.workload.change(Apply::Really, &by, &mut held).await?.notes);
        let begun = Begun { mark: caught.mark, container: caught.container, notes, was_there: false };
        if by_hand(&object)
            && let Some(pod) = &self.pod
            && let Err(error) = delete(joined, pod).await
        {
            // Half of it would hold the start of whatever pod is made next.
            return Err(match self.workload.undo(Apply::Really, true).await {
                Ok(_) => error.into(),
                Err(failure) => failure.because(error),
            });
        }
        Ok(begun)
    }

    /// Waits until a start is held; `say` is told how far it is.
    ///
    /// # Errors
    /// [`Code::TimedOut`]; [`Code::NotRunning`] with the kubelet's own words where a pod does not come up.
    pub async fn held(&self, begun: &Begun, say: &(dyn Fn(&str) + Sync)) -> Result<Held, Failure> {
        let joined = self.workload.join().await?;
        let begin = Instant::now();
        loop {
            let object = self.workload.read(joined).await?;
            let pods = self.workload.marked(Some(&begun.mark)).await?;
            let mut told = no_pod(&object);
            for pod in &pods {
                told = match stage(joined, pod, &begun.container, true).await? {
                    Stage::There => return Ok(found(pod, &begun.container, pods.len() - 1)),
                    Stage::Going(told) => told,
                    Stage::Failed(why) => return Err(self.not_held(joined, pod, &why)),
                };
            }
            if begin.elapsed() > COMES_UP {
                let seconds = COMES_UP.as_secs();
                return Err(Failure::new(
                    Code::TimedOut,
                    format!("no start of {} was held within {seconds} s", self.workload()),
                )
                .because(told)
                .hint(format!("see why: kubectl get events -n {}", joined.namespace)));
            }
            say(&format!("{}: {told}; Ctrl-C takes it back", self.workload()));
            sleep(LOOK).await;
        }
    }

    fn not_held(&self, joined: &Joined, pod: &Pod, why: &str) -> Failure {
        let name = find::name_of(pod);
        Failure::new(Code::NotRunning, format!("the next start of {} could not be held", self.workload()))
            .because(format!("pod/{name}: {why}"))
            .hint(format!("kubectl describe pod -n {} {name} tells more while it is there", joined.namespace))
    }

    /// Takes it back: what makes the pods is as it was, and those that were held go, also those that a killed command left.
    /// False where there was neither.
    ///
    /// # Errors
    /// As [`Workload::eject`]; [`Code::TimedOut`] where a pod does not go.
    pub async fn end(&self, say: &(dyn Fn(&str) + Sync)) -> Result<bool, Failure> {
        let joined = self.workload.join().await?;
        let object = self.workload.read(joined).await?;
        let mut was_there = self.workload.caught(&object)?.is_some();
        if was_there {
            self.workload.undo(Apply::Really, true).await?;
        }
        let begin = Instant::now();
        loop {
            let Some(left) = self.left(joined, was_there).await? else { return Ok(was_there) };
            was_there = true;
            if begin.elapsed() > GOES {
                let what = format!("{} is as it was, but {left} does not go", self.workload());
                return Err(Failure::new(Code::TimedOut, what).hint(format!(
                    "see what is left: kubectl get replicasets,pods -n {}",
                    joined.namespace
                )));
            }
            say(&format!("{}: {left} goes", self.workload()));
            sleep(LOOK).await;
        }
    }

    /// What is left of catches that were taken back; what its controller would keep is deleted.
    async fn left(&self, joined: &Joined, changed: bool) -> Result<Option<String>, PlatformError> {
        let object = self.workload.read(joined).await?;
        let pods = self.workload.marked(None).await?;
        // A Deployment keeps what is not ready until the rest works, and a StatefulSet waits for it for ever.
        let is_deployment = object["kind"] == "Deployment";
        if is_deployment && let Some(set) = self.workload.delete_sets(joined).await? {
            return Ok(Some(set));
        }
        if by_hand(&object) {
            for pod in &pods {
                delete(joined, pod).await?;
            }
        }
        if let Some(pod) = pods.first() {
            return Ok(Some(format!("pod/{}", find::name_of(pod))));
        }
        let seen =
            object["status"]["observedGeneration"].as_u64() >= object["metadata"]["generation"].as_u64();
        Ok((changed && !seen).then(|| "its controller's knowledge of it".to_owned()))
    }
}

/// How far a pod is.
pub(super) enum Stage {
    There,
    Going(String),
    Failed(String),
}

/// `held`: it is there once its program is held at its first instruction; else once it runs.
pub(super) async fn stage(
    joined: &Joined,
    pod: &Pod,
    container: &str,
    held: bool,
) -> Result<Stage, PlatformError> {
    let name = find::name_of(pod);
    let statuses = find::statuses(pod);
    if let Some(status) = statuses.get(container) {
        let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        if is_running(status) {
            if !held {
                return Ok(Stage::There);
            }
            let log = log(joined, name, container).await?;
            return Ok(match log.contains(HELD) {
                true => Stage::There,
                false => Stage::Going(format!("pod/{name} runs, and is not held yet")),
            });
        }
        if let Some(ended) = ended.or_else(|| status.last_state.as_ref()?.terminated.as_ref()) {
            let words = log(joined, name, container).await.unwrap_or_default();
            let why = format!(
                "{container} ended with exit code {} before a debugger could be there",
                ended.exit_code
            );
            return Ok(Stage::Failed(
                [why].iter().map(String::as_str).chain(words.trim().lines()).collect::<Vec<_>>().join("; "),
            ));
        }
    }
    if let Some(status) = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Failed")) {
        let words = status.message.as_deref().or(status.reason.as_deref()).unwrap_or_default();
        return Ok(Stage::Failed(format!("it has failed: {words}")));
    }
    let others = statuses.iter().find_map(|(name, status)| hopeless(name, status));
    Ok(others.map_or_else(|| Stage::Going(format!("pod/{name} is {}", coming(pod))), Stage::Failed))
}

/// The kubelet's words where waiting longer does not help.
fn hopeless(name: &str, status: &ContainerStatus) -> Option<String> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| HOPELESS.contains(reason))?;
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.and_then(|last| last.message.as_deref());
    let words = waiting.message.as_deref().or(last).unwrap_or_default();
    Some(format!("{name}: {reason}: {words}"))
}

/// What a pod that has not begun waits for.
fn coming(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let mut unscheduled = conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
    match unscheduled.next() {
        Some(one) => format!("not scheduled: {}", one.message.as_deref().unwrap_or_default()),
        None => "coming up".to_owned(),
    }
}

/// Why there may be no new pod yet.
fn no_pod(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut failed = conditions.filter(|one| one["type"] == "ReplicaFailure" && one["status"] == "True");
    match failed.next().and_then(|one| one["message"].as_str()) {
        Some(words) => format!("no new pod yet: {words}"),
        None => "no new pod yet".to_owned(),
    }
}

fn found(pod: &Pod, container: &str, others: usize) -> Held {
    Held { name: super::full_name(pod, container), others }
}

async fn log(joined: &Joined, pod: &str, container: &str) -> Result<String, PlatformError> {
    let path = find::path(joined, Kind::Pod, pod).1;
    let path = format!("{path}/log?container={container}&limitBytes={LOG}");
    match joined.text("read a container's log", &path).await {
        // The kubelet has it no more, or not yet.
        Err(PlatformError::Refused { status: 400 | 404 | 500, .. }) => Ok(String::new()),
        answer => answer,
    }
}

/// Deletes this very pod, whatever has its name by then.
async fn delete(joined: &Joined, pod: &Pod) -> Result<(), PlatformError> {
    let (_, path) = find::path(joined, Kind::Pod, find::name_of(pod));
    joined.delete(DELETE, &path, pod.metadata.uid.as_deref(), json!({})).await
}

/// The container of a pod that fails: this one, or whichever does.
pub(super) fn failing<'p>(pod: &'p Pod, only: Option<&str>) -> Option<&'p str> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let fails = |state: &ContainerState| {
        let waits = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
        let ended = state.terminated.as_ref().is_some_and(|ended| ended.exit_code != 0);
        ended || matches!(waits, Some("CrashLoopBackOff" | "RunContainerError"))
    };
    let mut all = find::statuses(pod).into_iter();
    let one = all.find(|(name, status)| {
        only.is_none_or(|only| only == *name) && *name != NAME && status.state.as_ref().is_some_and(fails)
    });
    one.map(|(name, _)| name)
}

/// Will its pods be made anew?
fn makes_pods(object: &Value, name: &TargetName, pod: Option<&Pod>) -> Result<(), Failure> {
    let spec = &object["spec"];
    let refused = |why: String, hint: String| {
        Err(Failure::new(Code::NotNow, format!("the next start of {name} cannot be held"))
            .because(why)
            .hint(hint))
    };
    let plain = name.parts().0;
    if spec["paused"] == true {
        let hint = format!("kubectl rollout resume deployment/{plain}");
        return refused("its roll-out is paused, and no pod is made anew".to_owned(), hint);
    }
    if spec["replicas"] == 0 {
        let hint = "give it one: kubectl scale --replicas=1".to_owned();
        return refused("it has no pods".to_owned(), hint);
    }
    let kept = spec["updateStrategy"]["rollingUpdate"]["partition"].as_u64().unwrap_or_default();
    let ordinal = pod.and_then(|pod| find::name_of(pod).rsplit('-').next()?.parse::<u64>().ok());
    let last = spec["replicas"].as_u64().unwrap_or(1).saturating_sub(1);
    if name.kind == Some(Kind::Sts) && ordinal.unwrap_or(last) < kept {
        let why = format!("its partition keeps pods below number {kept} as they are");
        return refused(why, "set spec.updateStrategy.rollingUpdate.partition to 0".to_owned());
    }
    Ok(())
}

/// Is a pod made anew only once somebody deletes it? A StatefulSet waits for ever for one that is not ready.
fn by_hand(object: &Value) -> bool {
    object["kind"] == "StatefulSet" || object["spec"]["updateStrategy"]["type"] == "OnDelete"
}

/// What keeps no pod while the new one is made.
fn all_at_once(object: &Value, name: &TargetName) -> Option<String> {
    (object["spec"]["strategy"]["type"] == "Recreate")
        .then(|| format!("the strategy of {name} is Recreate: none of its pods works until it is taken back"))
}

/// A manifest whose container may stand still: nothing ends it, and nobody waits for it.
fn to_be_held(manifest: &str, caught: &Caught) -> Result<String, Failure> {
    let mut manifest: Value = serde_json::from_str(manifest)
        .map_err(|error| Failure::new(Code::Internal, "a manifest is no JSON").because(error))?;
    let template = &mut manifest["spec"]["template"];
    template["metadata"]["annotations"][MARK] = caught.mark.clone().into();
    let gate = json!({"conditionType": MARK});
    match template["spec"]["readinessGates"].as_array_mut() {
        Some(gates) => gates.push(gate),
        None => template["spec"]["readinessGates"] = json!([gate]),
    }
    unchecked(&mut template["spec"], Some(&caught.container));
    Ok(format!("{manifest:#}"))
}

/// Takes health checks and what is run beside a start out of a container, or of all.
pub(super) fn unchecked(spec: &mut Value, only: Option<&str>) {
    for list in ["initContainers", "containers"] {
        let all = spec.get_mut(list).and_then(Value::as_array_mut);
        let wanted = all.into_iter().flatten().filter(|one| only.is_none_or(|only| one["name"] == only));
        for container in wanted.filter_map(Value::as_object_mut) {
            for key in ["livenessProbe", "startupProbe", "readinessProbe", "lifecycle"] {
                container.remove(key);
            }
        }
    }
}

fn new_mark() -> String {
    format!("{:010x}", random() & 0xff_ffff_ffff)
}

impl Workload {
    /// What makes this pod, and the pod.
    async fn of_pod(options: &Options, name: &TargetName) -> Result<(TargetName, Pod), Failure> {
        let cluster = super::client::Cluster::new(&options.cluster, &options.environment);
        let joined = cluster.join().await?;
        let plain = name.parts().0;
        let pod = find::pod(joined, plain, name).await?;
        let owner = pod.metadata.owner_references.iter().flatten().find(|one| one.controller == Some(true));
        let Some(owner) = owner else {
            return Err(alone(joined, name, "nothing makes it anew: it has no controller"));
        };
        let of = |kind: Kind, name: &str| TargetName { kind: Some(kind), name: name.to_owned() };
        let found = match owner.kind.as_str() {
            "StatefulSet" => of(Kind::Sts, &owner.name),
            "DaemonSet" => of(Kind::Ds, &owner.name),
            "ReplicaSet" => {
                let set = find::object(joined, Kind::Rs, &owner.name).await?;
                let owners = set["metadata"]["ownerReferences"].as_array();
                let deploy = owners.into_iter().flatten().find(|one| one["kind"] == "Deployment");
                match deploy.and_then(|one| one["name"].as_str()) {
                    Some(deploy) => of(Kind::Deploy, deploy),
                    None => {
                        return Err(alone(
                            joined,
                            name,
                            &format!("a ReplicaSet makes it, {}, which keeps what its pods run", owner.name),
                        ));
                    }
                }
            }
            "Node" => return Err(alone(joined, name, "it is a static pod: its node makes it, from a file")),
            kind => {
                return Err(alone(
                    joined,
                    name,
                    &format!("a {kind} makes it, {}, which is not changed", owner.name),
                ));
            }
        };
        Ok((found, pod))
    }

    /// Its pods that are there because of this catch, or of any, and stay.
    async fn marked(&self, mark: Option<&str>) -> Result<Vec<Pod>, PlatformError> {
        let is = |pod: &Pod| {
            let annotations = pod.metadata.annotations.as_ref();
            let its = annotations.and_then(|all| all.get(MARK));
            its.is_some_and(|its| mark.is_none_or(|mark| mark == its))
                && pod.metadata.deletion_timestamp.is_none()
        };
        Ok(self.pods().await?.into_iter().filter(is).collect())
    }

    /// Deletes the ReplicaSets that are there because of a catch, and with them their pods; names one that is there still.
    async fn delete_sets(&self, joined: &Joined) -> Result<Option<String>, PlatformError> {
        let mut left = None;
        for set in find::sets_of(joined, self.name().parts().0).await? {
            if set["spec"]["template"]["metadata"]["annotations"][MARK].is_string() {
                let (name, uid) = (set["metadata"]["name"].as_str(), set["metadata"]["uid"].as_str());
                let (_, path) = find::path(joined, Kind::Rs, name.unwrap_or_default());
                let how = json!({"propagationPolicy": "Background"});
                joined.delete("delete a ReplicaSet", &path, uid, how).await?;
                left = name.map(|name| format!("replicaset/{name}"));
            }
        }
        Ok(left)
    }

    /// A pod as its template has it.
    async fn template(&self) -> Result<Pod, Failure> {
        let mut object = self.read(self.join().await?).await?;
        serde_json::from_value(object["spec"]["template"].take()).map_err(|error| {
            Failure::new(Code::Internal, format!("the template of {} cannot be read", self.name()))
                .because(error)
        })
    }
}

/// A pod whose start cannot be held from outside, with what can be done.
fn alone(joined: &Joined, name: &TargetName, why: &str) -> Failure {
    let plain = name.parts().0;
    Failure::new(Code::Usage, format!("the next start of {name} cannot be held"))
        .because(why)
        .try_command("debug a copy of it from its start", ["pepo", "attach", &name.to_string(), "--copy", "-n", &joined.namespace])
        .hint(format!("make it anew: kubectl get pod -n {} {plain} -o yaml | pepo inject -f - --debug wait … | kubectl replace --force -f -", joined.namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_held_is_neither_ended_nor_ready() {
        let manifest = json!({"kind": "Deployment", "spec": {"template": {"spec": {
            "readinessGates": [{"conditionType": "mine"}],
            "containers": [
                {"name": "app", "livenessProbe": {}, "startupProbe": {}, "readinessProbe": {}, "lifecycle": {}, "image": "x"},
                {"name": "side", "livenessProbe": {"a": 1}}],
        }}}});
        let caught = Caught { container: "app".into(), mark: "m".into() };
        let held: Value = serde_json::from_str(&to_be_held(&manifest.to_string(), &caught).unwrap()).unwrap();
        let template = &held["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"], json!({MARK: "m"}));
        assert_eq!(
            template["spec"]["readinessGates"],
            json!([{"conditionType": "mine"}, {"conditionType": MARK}])
        );
        let containers = json!([{"name": "app", "image": "x"}, {"name": "side", "livenessProbe": {"a": 1}}]);
        assert_eq!(template["spec"]["containers"], containers);
    }

    #[test]
    fn workloads_that_make_no_new_pod_say_so() {
        let name: TargetName = "sts/db".parse().unwrap();
        let kept = json!({"spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}});
        let pod =
            |name: &str| -> Pod { serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() };
        assert!(makes_pods(&kept, &name, None).is_ok());
        assert!(makes_pods(&kept, &name, Some(&pod("db-2"))).is_ok());
        assert!(makes_pods(&kept, &name, Some(&pod("db-1"))).is_err());
        for spec in [json!({"paused": true}), json!({"replicas": 0})] {
            let failure = makes_pods(&json!({"spec": spec}), &name, None).unwrap_err();
            assert_eq!((failure.code(), failure.hints.len()), (Code::NotNow, 1));
        }
    }

    #[test]
    fn a_container_that_fails_is_found() {
        let pod = |state: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app"}]},
                "status": {"containerStatuses": [
                    {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state}]}}))
            .unwrap()
        };
        let crashing = pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        assert_eq!(failing(&crashing, None), Some("app"));
        assert_eq!(failing(&crashing, Some("other")), None);
        assert_eq!(failing(&pod(json!({"terminated": {"exitCode": 1}})), None), Some("app"));
        assert_eq!(failing(&pod(json!({"terminated": {"exitCode": 0}})), None), None);
        assert_eq!(failing(&pod(json!({"running": {}})), None), None);
    }
}
