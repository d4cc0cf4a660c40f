//! Pods of a Kubernetes cluster, by its API server.
//!
//! Nothing is asked of a cluster unless the user names it: by a name such as `pod/shop`, by a flag, or by `--on kubernetes`.
//! An agent stands beside a pod's process in an ephemeral container, which only waits; the byte stream is an exec into it,
//! so that nothing of it is in the container's log.

/// A helper of an image that is not ours.
mod borrowed;
/// A start that is held.
mod caught;
/// The API server.
mod client;
/// A copy of a pod.
mod copied;
/// A part of the helper's container that is the user's.
mod custom;
/// Programs for a person.
mod exec;
/// From a name to a container.
mod find;
/// What can be told beforehand.
mod foresee;
/// The ephemeral container.
mod helper;
/// Names alone.
mod names;
/// Which proxy leads to the API server.
mod proxy;
/// What a helper may be allowed.
mod shape;
/// The stream to it.
mod stream;
/// A change taken back.
mod undo;
/// What makes pods.
mod workload;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};
use pepo_wire::{
    Failure,
    agent::Finding,
    name::{Kind, TargetName},
};

use self::{
    client::{Cluster, Joined},
    find::{Chosen, Wanted},
};
use crate::{
    AgentBinary, HealthCheck, Listed, Located, Need, Options, Platform, PlatformError, Reached, State,
    engine::Facts,
};

pub use self::caught::{Begun, Catch, Held};
pub use self::copied::{LIVES as COPY_LIVES, PodCopy};
pub use self::exec::{Ended, Sizes, Start, Started, Streams, Within};
pub use self::names::Names;
pub(crate) use self::stream::Exec;
pub use self::workload::{Apply, Changed, Workload};

/// So long a helper waits for somebody to use it.
const IDLE: Duration = Duration::from_secs(900);

/// The image of helpers, unless another is chosen.
pub const HELPER_IMAGE: &str = concat!("pepo.dev/pepo:", env!("CARGO_PKG_VERSION"));

/// What the command line says of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Do lists ask it?
    pub listed: bool,
    /// This kubeconfig alone.
    pub kubeconfig: Option<PathBuf>,
    /// Not the current context but this one.
    pub context: Option<String>,
    /// Not the context's namespace but this one.
    pub namespace: Option<String>,
    /// The container in the pod.
    pub container: Option<String>,
    /// Pods with these labels, instead of a name.
    pub labels: Option<String>,
    /// The image of helpers.
    pub image: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`, for that image.
    pub pull_policy: Option<String>,
    /// Whose rights a helper has; without it, the least that the verb needs and the cluster admits.
    pub profile: Option<Profile>,
    /// A file with a part of a container, laid over the helper's.
    pub custom: Option<PathBuf>,
}

/// Whose rights a helper has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Those of the target's own user.
    User,
    /// Root's, with the capability to trace.
    Ptrace,
}

/// What is known of a target in a pod; a helper is made from it.
#[derive(Clone, Debug)]
pub(crate) struct InPod {
    pod: Pod,
    container: String,
}

/// One cluster.
pub(crate) struct Kubernetes {
    cluster: Cluster,
    options: ClusterOptions,
    need: Need,
    binary: AgentBinary,
}

impl Kubernetes {
    /// Asks nothing yet.
    pub(crate) fn new(options: &Options) -> Kubernetes {
        Kubernetes {
            cluster: Cluster::new(&options.cluster, &options.environment),
            options: options.cluster.clone(),
            need: options.need,
            binary: options.binary.clone(),
        }
    }

    fn wanted<'a>(&'a self, name: &'a TargetName) -> Wanted<'a> {
        let (container, labels) = (self.options.container.as_deref(), self.options.labels.as_deref());
        Wanted { name, container, labels }
    }

    fn helper(&self) -> helper::Wanted<'_> {
        helper::Wanted { options: &self.options, need: self.need, binary: &self.binary }
    }
}

#[async_trait]
impl Platform for Kubernetes {
    fn kind(&self) -> Kind {
        Kind::Pod
    }

    fn address(&self) -> String {
        self.cluster.address()
    }

    fn is_here(&self) -> bool {
        false
    }

    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let joined = self.cluster.join().await?;
        let pods = find::pods(joined, self.options.labels.as_deref()).await?;
        Ok(pods.iter().flat_map(|pod| listed(pod, self.options.container.as_deref())).collect())
    }

    async fn locate(&self, name: &TargetName) -> Result<Located, Failure> {
        let joined = self.cluster.join().await?;
        Ok(located(joined, find::find(joined, &self.wanted(name)).await?))
    }

    async fn locate_all(&self, name: &TargetName) -> Result<Vec<Located>, Failure> {
        let joined = self.cluster.join().await?;
        let all = find::find_all(joined, &self.wanted(name)).await?;
        Ok(all.into_iter().map(|one| located(joined, one)).collect())
    }

    async fn foresee(&self, located: &Located) -> Vec<Finding> {
        match (self.cluster.join().await, &located.in_pod) {
            (Ok(joined), Some(in_pod)) => helper::foresee(joined, &self.helper(), located, in_pod).await,
            _ => Vec::new(),
        }
    }

    async fn reach(&self, located: &Located) -> Result<Reached, Failure> {
        let joined = self.cluster.join().await?;
        helper::reach(joined, &self.helper(), located, in_pod(located)?).await
    }

    async fn start(&self, located: &Located, what: &Start) -> Result<Started, Failure> {
        let joined = self.cluster.join().await?;
        Ok(exec::start(joined, in_pod(located)?, what).await?)
    }
}

fn in_pod(located: &Located) -> Result<&InPod, PlatformError> {
    located.in_pod.as_deref().ok_or_else(|| PlatformError::NotReachable {
        name: located.name.clone(),
        why: "it was found elsewhere".to_owned(),
    })
}

fn located(joined: &Joined, chosen: Chosen) -> Located {
    let spec = find::spec_of(&chosen.pod, &chosen.container);
    Located {
        name: full_name(&chosen.pod, &chosen.container),
        image: spec.and_then(|spec| spec.image.clone()).unwrap_or_default(),
        state: State::Running,
        health: spec.and_then(|spec| health(spec, find::status_of(&chosen.pod, &chosen.container))),
        container_id: chosen.id,
        pid: None,
        labels: chosen.pod.metadata.labels.clone().unwrap_or_default(),
        start_time: 0,
        facts: Facts::default(),
        production: joined.production(),
        notes: chosen.notes,
        in_pod: Some(Arc::new(InPod { pod: chosen.pod, container: chosen.container })),
    }
}

fn full_name(pod: &Pod, container: &str) -> TargetName {
    TargetName { kind: Some(Kind::Pod), name: format!("{}/{container}", find::name_of(pod)) }
}

/// For names that nobody has yet; it is no secret.
fn random() -> u64 {
    RandomState::new().hash_one(SystemTime::now())
}

/// A row for each container; helpers of ours are none, since they are not in these lists.
fn listed(pod: &Pod, only: Option<&str>) -> Vec<Listed> {
    let spec = find::spec(pod);
    let statuses = find::statuses(pod);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let wanted = containers.filter(|one| only.is_none_or(|only| only == one.name));
    wanted
        .map(|one| {
            let status = statuses.get(one.name.as_str());
            Listed {
                name: full_name(pod, &one.name),
                image: one.image.clone().unwrap_or_default(),
                state: status.and_then(|status| status.state.as_ref()).map_or(State::Created, state),
                health: health(one, status.copied()),
                container_id: status.map(|status| find::id_in(status).to_owned()).unwrap_or_default(),
                pid: None,
                labels: pod.metadata.labels.clone().unwrap_or_default(),
                created: pod
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .and_then(|time| u64::try_from(time.0.as_second()).ok())
                    .map(|seconds| std::time::UNIX_EPOCH + Duration::from_secs(seconds)),
            }
        })
        .collect()
}

/// The kubelet's own words are kept.
fn state(state: &ContainerState) -> State {
    if state.running.is_some() {
        return State::Running;
    }
    match (&state.waiting, &state.terminated) {
        (Some(waiting), _) => State::Other(waiting.reason.clone().unwrap_or_else(|| "waiting".to_owned())),
        (None, Some(ended)) => match ended.reason.as_deref() {
            None | Some("Completed" | "Error") => State::Exited,
            Some(reason) => State::Other(reason.to_owned()),
        },
        (None, None) => State::Created,
    }
}

/// The probe that restarts the container: that of its start until it has started, then that of its life. Readiness only takes it out of
/// service.
fn health(container: &Container, status: Option<&ContainerStatus>) -> Option<HealthCheck> {
    let starts = status.is_some_and(|status| status.started != Some(true));
    let probe = container.startup_probe.as_ref().filter(|_| starts).or(container.liveness_probe.as_ref())?;
    let seconds = |value: Option<i32>, usual: i32| {
        let value = value.filter(|&value| value > 0).unwrap_or(usual);
        Duration::from_secs(u64::try_from(value).unwrap_or_default())
    };
    Some(HealthCheck {
        interval: seconds(probe.period_seconds, 10),
        timeout: seconds(probe.timeout_seconds, 1),
        retries: u32::try_from(probe.failure_threshold.unwrap_or(3)).unwrap_or(3).max(1),
    })
}

/// Does it run?
fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_a_row_for_each_of_its_containers() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "shop-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [
                {"name": "app", "image": "shop:1", "livenessProbe": {"periodSeconds": 6, "failureThreshold": 1}},
                {"name": "proxy", "image": "proxy:2"}],
                "ephemeralContainers": [{"name": "pepo-1", "image": "x"}]},
            "status": {"containerStatuses": [
                {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "containerID": "containerd://abc", "state": {"running": {}}},
                {"name": "proxy", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
        }))
        .unwrap();
        let rows = listed(&pod, None);
        let told: Vec<_> = rows.iter().map(|row| (row.name.to_string(), row.state.to_string())).collect();
        assert_eq!(
            told,
            [
                ("pod/shop-1/app".to_owned(), "running".to_owned()),
                ("pod/shop-1/proxy".to_owned(), "ImagePullBackOff".to_owned())
            ]
        );
        assert_eq!((rows[0].container_id.as_str(), rows[0].image.as_str()), ("abc", "shop:1"));
        assert_eq!(rows[0].health_pause_budget(), Some(Duration::from_millis(500)));
        let container: Container = serde_json::from_value(json!({"name": "app",
            "livenessProbe": {"periodSeconds": 6, "failureThreshold": 1},
            "startupProbe": {"periodSeconds": 2, "failureThreshold": 30, "timeoutSeconds": 2}}))
        .unwrap();
        let budget = |started: bool| {
            let status = ContainerStatus { started: Some(started), ..ContainerStatus::default() };
            health(&container, Some(&status)).unwrap().pause_budget()
        };
        assert_eq!((budget(false), budget(true)), (Duration::from_secs(57), Duration::from_millis(500)));
        assert!(rows[0].created.is_some());
        assert_eq!(listed(&pod, Some("proxy")).len(), 1);
    }
}
