//! From a name to one container of one pod: kubectl's names with kubectl's meaning.

use std::collections::BTreeMap;

use k8s_openapi::{
    List,
    api::core::v1::{Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use pepo_wire::name::{Kind, TargetName};
use serde_json::Value;

use super::client::Joined;
use crate::{PlatformError, names::near};

/// Says which container kubectl takes where none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Marks the copy of a pod that a kubelet has from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A container that runs, in its pod.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) pod: Pod,
    pub(super) container: String,
    pub(super) id: String,
    /// What was decided for the user.
    pub(super) notes: Vec<String>,
}

/// What was asked for, beside the name.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a TargetName,
    pub(super) container: Option<&'a str>,
    pub(super) labels: Option<&'a str>,
}

/// The container that is meant.
pub(super) async fn find(joined: &Joined, wanted: &Wanted<'_>) -> Result<Chosen, PlatformError> {
    let mut all = all_pods(joined, wanted).await?;
    let mut notes = Vec::new();
    if let [first, _, ..] = &all[..] {
        notes.push(format!("{} has {} pods; this is {}", wanted.name, all.len(), name_of(first)));
    }
    container_of(all.swap_remove(0), wanted, notes, joined)
}

/// The containers of all pods that are ready; where none is, of the one that comes closest.
pub(super) async fn find_all(joined: &Joined, wanted: &Wanted<'_>) -> Result<Vec<Chosen>, PlatformError> {
    let all = all_pods(joined, wanted).await?;
    let (pods, notes) = replicas(all, wanted.name);
    let mut notes = Some(notes);
    pods.into_iter().map(|pod| container_of(pod, wanted, notes.take().unwrap_or_default(), joined)).collect()
}

/// Those that are ready, and whom this leaves out; where none is, the first of all.
fn replicas(mut all: Vec<Pod>, name: &TargetName) -> (Vec<Pod>, Vec<String>) {
    let count = all.len();
    let ready = all.iter().filter(|pod| is_ready(pod)).count();
    let others: Vec<&str> = all.iter().skip(ready.max(1)).map(name_of).collect();
    let note = (!others.is_empty()).then(|| {
        format!("{name} has {count} pods, of which {ready} are ready: without {}", others.join(", "))
    });
    all.truncate(ready.max(1));
    (all, note.into_iter().collect())
}

/// The pods that a name means, at least one, the best first.
pub(super) async fn all_pods(joined: &Joined, wanted: &Wanted<'_>) -> Result<Vec<Pod>, PlatformError> {
    let name = wanted.name.parts().0;
    let labels = match (wanted.labels, wanted.name.kind.unwrap_or(Kind::Pod)) {
        (None, Kind::Pod) => return Ok(vec![pod(joined, name, wanted.name).await?]),
        (Some(labels), _) => labels.to_owned(),
        (None, kind) => labels_of(joined, kind, name).await?,
    };
    let all = in_order(pods(joined, Some(&labels)).await?);
    if all.is_empty() {
        let (name, namespace) = (wanted.name.clone(), joined.namespace.clone());
        return Err(PlatformError::NoPod { name, namespace, labels });
    }
    Ok(all)
}

fn container_of(
    pod: Pod,
    wanted: &Wanted<'_>,
    mut notes: Vec<String>,
    joined: &Joined,
) -> Result<Chosen, PlatformError> {
    let container = choose(&pod, wanted.name.parts().1.or(wanted.container), &mut notes)?;
    let id = running(&pod, &container, &joined.namespace)?;
    Ok(Chosen { pod, container, id, notes })
}

/// The pods with these labels; all of the namespace without.
pub(super) async fn pods(joined: &Joined, labels: Option<&str>) -> Result<Vec<Pod>, PlatformError> {
    let query = labels.map(|labels| format!("?labelSelector={}", encoded(labels))).unwrap_or_default();
    let path = list_path(joined, Kind::Pod) + &query;
    Ok(joined.get::<List<Pod>>("list pods", &path).await?.items)
}

/// A pod as it is now.
pub(super) async fn read(joined: &Joined, name: &str) -> Result<Pod, PlatformError> {
    let (act, path) = path(joined, Kind::Pod, name);
    joined.get(act, &path).await
}

/// The pods of a workload, the best first.
pub(super) async fn pods_of(joined: &Joined, kind: Kind, name: &str) -> Result<Vec<Pod>, PlatformError> {
    let labels = labels_of(joined, kind, name).await?;
    Ok(in_order(pods(joined, Some(&labels)).await?))
}

/// The ReplicaSets of a Deployment.
pub(super) async fn sets_of(joined: &Joined, name: &str) -> Result<Vec<Value>, PlatformError> {
    let labels = labels_of(joined, Kind::Deploy, name).await?;
    let path = format!("{}?labelSelector={}", list_path(joined, Kind::Rs), encoded(&labels));
    let mut list: Value = joined.get("list ReplicaSets", &path).await?;
    Ok(serde_json::from_value(list["items"].take()).unwrap_or_default())
}

/// A pod as it is now; else names that come close.
pub(super) async fn pod(joined: &Joined, name: &str, typed: &TargetName) -> Result<Pod, PlatformError> {
    match read(joined, name).await {
        Err(PlatformError::Refused { status: 404, .. }) => {
            // Who may read one pod need not be allowed to list them.
            let others = pods(joined, None).await.unwrap_or_default();
            let names: Vec<String> = others.iter().map(|pod| name_of(pod).to_owned()).collect();
            Err(PlatformError::NotFound {
                name: typed.clone(),
                near: near(name, names.iter().map(String::as_str))
                    .iter()
                    .map(|near| format!("pod/{near}"))
                    .collect(),
                searched: vec![format!("namespace {}", joined.namespace)],
                elsewhere: Vec::new(),
            })
        }
        answer => answer,
    }
}

/// What it is to read a pod, a workload or a service, and its path.
pub(super) fn path(joined: &Joined, kind: Kind, name: &str) -> (&'static str, String) {
    let (act, _) = known(kind);
    (act, format!("{}/{}", list_path(joined, kind), encoded(name)))
}

/// The path of the namespace's objects of a kind.
pub(super) fn list_path(joined: &Joined, kind: Kind) -> String {
    let (_, group) = known(kind);
    format!("/{}", group.replace("{}", &joined.namespace))
}

fn known(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Pod => ("read a pod", "api/v1/namespaces/{}/pods"),
        Kind::Deploy => ("read a Deployment", "apis/apps/v1/namespaces/{}/deployments"),
        Kind::Sts => ("read a StatefulSet", "apis/apps/v1/namespaces/{}/statefulsets"),
        Kind::Ds => ("read a DaemonSet", "apis/apps/v1/namespaces/{}/daemonsets"),
        Kind::Rs => ("read a ReplicaSet", "apis/apps/v1/namespaces/{}/replicasets"),
        Kind::Job => ("read a Job", "apis/batch/v1/namespaces/{}/jobs"),
        _ => ("read a Service", "api/v1/namespaces/{}/services"),
    }
}

/// A pod, a workload or a service as it is now.
pub(super) async fn object(joined: &Joined, kind: Kind, name: &str) -> Result<Value, PlatformError> {
    let (act, path) = path(joined, kind, name);
    match joined.get(act, &path).await {
        Err(PlatformError::Refused { status: 404, .. }) => Err(PlatformError::NotFound {
            name: TargetName { kind: Some(kind), name: name.to_owned() },
            near: Vec::new(),
            searched: vec![format!("namespace {}", joined.namespace)],
            elsewhere: Vec::new(),
        }),
        answer => answer,
    }
}

/// The labels by which a workload or a service knows its pods, as a query has them.
async fn labels_of(joined: &Joined, kind: Kind, name: &str) -> Result<String, PlatformError> {
    let mut object = object(joined, kind, name).await?;
    let selector = object["spec"]["selector"].take();
    let selector = if kind == Kind::Svc {
        LabelSelector { match_labels: serde_json::from_value(selector).ok(), ..LabelSelector::default() }
    } else {
        serde_json::from_value(selector).unwrap_or_default()
    };
    match query(&selector) {
        text if text.is_empty() => Err(PlatformError::NotReachable {
            name: TargetName { kind: Some(kind), name: name.to_owned() },
            why: "it chooses no pods by labels".to_owned(),
        }),
        text => Ok(text),
    }
}

/// A selector as a query has it: `app=shop,tier in (a,b),!old`.
fn query(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let others = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.clone().unwrap_or_default().join(",");
        match one.operator.as_str() {
            "In" => format!("{} in ({values})", one.key),
            "NotIn" => format!("{} notin ({values})", one.key),
            "DoesNotExist" => format!("!{}", one.key),
            _ => one.key.clone(),
        }
    });
    equal.chain(others).collect::<Vec<_>>().join(",")
}

/// For a part of a path or a query.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

pub(super) fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// One that is ready before one that runs, that before one that does not, one that stays before one that goes; then by name.
fn in_order(mut pods: Vec<Pod>) -> Vec<Pod> {
    pods.sort_by_key(|pod| {
        let goes = pod.metadata.deletion_timestamp.is_some();
        (!is_ready(pod), goes, phase(pod) != "Running", name_of(pod).to_owned())
    });
    pods
}

/// Does it serve, and stay?
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let says =
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    says && phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none()
}

/// The container's name: as typed, as the pod's makers say, else the first.
pub(super) fn choose(
    pod: &Pod,
    typed: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<String, PlatformError> {
    let spec = spec(pod);
    let of_spec = |list: &[Container]| list.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    let (main, init) = (of_spec(&spec.containers), of_spec(spec.init_containers.as_deref().unwrap_or(&[])));
    if let Some(typed) = typed {
        let known = main.iter().chain(&init).any(|name| name == typed);
        return if known {
            Ok(typed.to_owned())
        } else {
            Err(PlatformError::NoContainer {
                pod: name_of(pod).to_owned(),
                container: typed.to_owned(),
                there: main.into_iter().chain(init).collect(),
            })
        };
    }
    let annotated = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER));
    if let Some(annotated) = annotated.filter(|name| main.contains(name)) {
        return Ok(annotated.clone());
    }
    let first = main.first().cloned().unwrap_or_default();
    if main.len() > 1 {
        notes.push(format!("took the container {first} out of {}; -c says which", main.join(", ")));
    }
    Ok(first)
}

/// The id of the running container, or why there is none.
fn running(pod: &Pod, container: &str, namespace: &str) -> Result<String, PlatformError> {
    let name = TargetName { kind: Some(Kind::Pod), name: format!("{}/{container}", name_of(pod)) };
    if pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR)) {
        let why = "it is a static pod, and Kubernetes puts no ephemeral container into one".to_owned();
        return Err(PlatformError::NotReachable { name, why });
    }
    if spec(pod).os.as_ref().is_some_and(|os| os.name == "windows") {
        return Err(PlatformError::NotReachable { name, why: "it is a pod of Windows'".to_owned() });
    }
    let status = status_of(pod, container);
    let state = status.and_then(|status| status.state.as_ref());
    if let (Some(status), Some(ContainerState { running: Some(_), .. })) = (status, state) {
        return Ok(id_in(status).to_owned());
    }
    Err(why_not(pod, name, state, status, namespace))
}

/// What keeps a container from running, and where to read on.
fn why_not(
    pod: &Pod,
    name: TargetName,
    state: Option<&ContainerState>,
    status: Option<&ContainerStatus>,
    namespace: &str,
) -> PlatformError {
    let logs =
        format!("kubectl logs -n {namespace} {} -c {}", name_of(pod), name.parts().1.unwrap_or_default());
    let not_running =
        |state: String, hint: String| PlatformError::PodNotRunning { name: name.clone(), state, hint };
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        let state =
            format!("it has ended with exit code {}{}", ended.exit_code, bracket(ended.reason.as_deref()));
        return not_running(state, format!("its last words: {logs}"));
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    if reason == "CrashLoopBackOff" {
        let last = status.and_then(|status| status.last_state.as_ref()?.terminated.as_ref());
        let state = format!("{reason}: {message}{}", last.map(last_end).unwrap_or_default());
        let hint = format!(
            "its last words: {logs} --previous; to hold its next start at its first instruction: pepo catch start {name} -n {namespace}"
        );
        return not_running(state, hint);
    }
    if let Some(init) = pending_init(pod, &name) {
        let pod = name_of(pod);
        let state = format!("the init container {init} comes first and has not ended");
        return not_running(state, format!("look at that one: pepo stack pod/{pod}/{init} -n {namespace}"));
    }
    let hint = format!("kubectl describe pod -n {namespace} {} tells more", name_of(pod));
    match (reason, message) {
        ("", _) => not_running(format!("the pod is {}", phase(pod)), hint),
        (reason, "") => not_running(reason.to_owned(), hint),
        (reason, message) => not_running(format!("{reason}: {message}"), hint),
    }
}

/// How a container ended before; of one that never ran, in the runtime's words.
fn last_end(last: &ContainerStateTerminated) -> String {
    let never_ran = matches!(last.reason.as_deref(), Some("StartError" | "ContainerCannotRun"));
    match last.message.as_deref().map(str::trim).filter(|_| never_ran) {
        Some(words) => format!("; it was not started: {words}"),
        None => format!("; it ended last with exit code {}", last.exit_code),
    }
}

fn bracket(reason: Option<&str>) -> String {
    reason.filter(|reason| !reason.is_empty()).map(|reason| format!(" ({reason})")).unwrap_or_default()
}

/// The init container that runs before the others may start.
fn pending_init(pod: &Pod, name: &TargetName) -> Option<String> {
    let all = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let runs = |one: &&ContainerStatus| {
        let state = one.state.as_ref();
        let sidecar = spec(pod)
            .init_containers
            .iter()
            .flatten()
            .any(|init| init.name == one.name && init.restart_policy.as_deref() == Some("Always"));
        !sidecar && state.is_some_and(|state| state.terminated.is_none())
    };
    all.iter().find(runs).map(|one| one.name.clone()).filter(|init| name.parts().1 != Some(init))
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("not scheduled")
}

pub(super) fn spec(pod: &Pod) -> &PodSpec {
    static NONE: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NONE)
}

/// The container's part of the specification, whichever list it is in.
pub(super) fn spec_of<'p>(pod: &'p Pod, container: &str) -> Option<&'p Container> {
    let spec = spec(pod);
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|one| one.name == container)
}

/// Those of containers and init containers, by name.
pub(super) fn statuses(pod: &Pod) -> BTreeMap<&str, &ContainerStatus> {
    let Some(status) = &pod.status else { return BTreeMap::new() };
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.map(|one| (one.name.as_str(), one)).collect()
}

pub(super) fn status_of<'p>(pod: &'p Pod, container: &str) -> Option<&'p ContainerStatus> {
    statuses(pod).get(container).copied()
}

/// `containerd://ID`, the id alone.
pub(super) fn id_in(status: &ContainerStatus) -> &str {
    let id = status.container_id.as_deref().unwrap_or_default();
    id.split_once("://").map_or(id, |(_, id)| id)
}

#[cfg(test)]
mod tests {
    use pepo_wire::{Code, FailureExt as _};
    use serde_json::json;

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn shop(state: &Value) -> Pod {
        pod(json!({
            "metadata": {"name": "shop-1"},
            "spec": {"containers": [{"name": "app"}, {"name": "proxy"}], "initContainers": [{"name": "first"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "containerID": "containerd://abc", "state": state,
                 "lastState": {"terminated": {"exitCode": 3}}}
            ]}
        }))
    }

    #[test]
    fn selectors_become_queries() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"app": "shop"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "new", "operator": "Exists"}]
        }))
        .unwrap();
        assert_eq!(query(&selector), "app=shop,tier in (a,b),!old,new");
        assert_eq!(encoded("app=shop,a/b"), "app%3Dshop%2Ca%2Fb");
    }

    #[test]
    fn of_many_pods_the_ready_ones_are_taken_and_the_others_named() {
        let one = |name: &str, phase: &str, ready: &str| {
            pod(json!({"metadata": {"name": name}, "status": {"phase": phase,
                "conditions": [{"type": "Ready", "status": ready}]}}))
        };
        let pods = vec![
            one("a", "Pending", "False"),
            one("b", "Running", "False"),
            one("d", "Running", "True"),
            one("c", "Running", "True"),
        ];
        let ordered = in_order(pods);
        let names = |pods: &[Pod]| pods.iter().map(|pod| name_of(pod).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&ordered), ["c", "d", "b", "a"]);
        let name: TargetName = "deploy/x".parse().unwrap();
        let (ready, notes) = replicas(ordered.clone(), &name);
        assert_eq!(names(&ready), ["c", "d"]);
        assert_eq!(notes, ["deploy/x has 4 pods, of which 2 are ready: without b, a"]);
        let (closest, notes) = replicas(ordered[2..].to_vec(), &name);
        assert_eq!((names(&closest), notes.len()), (vec!["b".to_owned()], 1));
    }

    #[test]
    fn a_container_is_named_annotated_or_the_first() {
        let mut pod = shop(&json!({"running": {}}));
        let mut notes = Vec::new();
        assert_eq!(choose(&pod, Some("first"), &mut notes).unwrap(), "first");
        assert_eq!((choose(&pod, None, &mut notes).unwrap().as_str(), notes.len()), ("app", 1));
        let unknown = choose(&pod, Some("web"), &mut notes).unwrap_err().failure();
        assert_eq!(unknown.code(), Code::TargetNotFound);
        assert!(unknown.to_string().contains("app, proxy and first"), "{unknown}");
        pod.metadata.annotations = Some([(DEFAULT_CONTAINER.to_owned(), "proxy".to_owned())].into());
        assert_eq!(choose(&pod, None, &mut Vec::new()).unwrap(), "proxy");
    }

    #[test]
    fn what_does_not_run_is_told_in_the_kubelets_words() {
        assert_eq!(running(&shop(&json!({"running": {}})), "app", "n").unwrap(), "abc");
        for (state, said) in [
            (json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), "exit code 0 (Completed)"),
            (
                json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}),
                "back-off 5m0s; it ended last with exit code 3",
            ),
            (
                json!({"waiting": {"reason": "ErrImagePull", "message": "no such host"}}),
                "ErrImagePull: no such host",
            ),
            (json!({}), "the pod is Running"),
        ] {
            let failure = running(&shop(&state), "app", "n").unwrap_err().failure();
            assert_eq!(failure.code(), Code::NotRunning);
            assert!(failure.to_string().contains(said), "{failure}");
            assert_eq!(failure.hints.len(), 1, "{failure:?}");
        }
    }

    #[test]
    fn an_init_container_that_still_runs_is_named() {
        let mut value =
            serde_json::to_value(shop(&json!({"waiting": {"reason": "PodInitializing"}}))).unwrap();
        value["status"]["initContainerStatuses"] = json!([{"name": "first", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "containerID": "containerd://i", "state": {"running": {}}}]);
        let pod = pod(value);
        let failure = running(&pod, "app", "n").unwrap_err().failure();
        assert!(failure.to_string().contains("init container first"), "{failure}");
        assert_eq!(running(&pod, "first", "n").unwrap(), "i");
    }

    #[test]
    fn static_pods_have_their_own_answer() {
        let mut pod = shop(&json!({"running": {}}));
        pod.metadata.annotations = Some([(MIRROR.to_owned(), "x".to_owned())].into());
        assert_eq!(running(&pod, "app", "n").unwrap_err().failure().code(), Code::NotReachable);
    }
}
