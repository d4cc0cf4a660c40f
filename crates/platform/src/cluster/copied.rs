//! A copy of a pod for a debugger alone: no health checks, no traffic, no owner; held at its first instruction where that can be, and gone
//! afterwards.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use pepo_wire::{
    Code, Failure,
    name::{Kind, TargetName},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    caught::{COMES_UP, DELETE, LOOK, MARK, Stage, failing, stage, unchecked},
    client::Cluster,
    find, random,
};
use crate::{Injected, Options, PlatformError};

/// The label of a copy, the only one: no Service selects it.
const LABEL: &str = "pepo.dev/copy-of";
/// So long a copy may run: one that nobody removes ends by itself.
pub const LIVES: Duration = Duration::from_secs(2 * 3600);
/// So long it may take to go.
const GOES: Duration = Duration::from_secs(60);
/// So long it may take to end by itself, in seconds.
const GRACE: u32 = 1;
/// Annotations that are about what the copy is not.
const NOT_ITS_OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/config.mirror",
    "kubernetes.io/config.hash",
    "kubernetes.io/config.seen",
    "kubernetes.io/config.source",
    MARK,
];

/// A pod to be copied, and the container in it that is meant.
pub struct PodCopy {
    cluster: Cluster,
    of: String,
    container: String,
    /// The copy's name.
    name: String,
    /// What was decided for the user.
    pub notes: Vec<String>,
}

impl PodCopy {
    /// The pod of this name, or one of a workload's: one that fails before one that works.
    ///
    /// # Errors
    /// [`Code::Usage`] for what is in no cluster; [`Code::TargetNotFound`]; what the API server refuses.
    pub async fn find(
        options: &Options,
        name: &TargetName,
        container: Option<&str>,
    ) -> Result<PodCopy, Failure> {
        if !name.kind.is_some_and(Kind::is_in_cluster) {
            return Err(Failure::new(Code::Usage, format!("{name} is no pod, and cannot be copied"))
                .hint("--copy is for pod/NAME, and for what makes pods, as deploy/NAME"));
        }
        let cluster = Cluster::new(&options.cluster, &options.environment);
        let joined = cluster.join().await?;
        let labels = options.cluster.labels.as_deref();
        let pods = find::all_pods(joined, &find::Wanted { name, container, labels }).await?;
        let typed = name.parts().1.or(container);
        let fails = pods.iter().find(|pod| failing(pod, typed).is_some());
        let pod = fails.unwrap_or(&pods[0]);
        let mut notes = Vec::new();
        let container = find::choose(pod, typed.or_else(|| failing(pod, None)), &mut notes)?;
        let of = find::name_of(pod).to_owned();
        let name = new_name(&of);
        Ok(PodCopy { of, container, name, notes, cluster })
    }

    /// The copy, as it is named.
    #[must_use]
    pub fn name(&self) -> TargetName {
        TargetName { kind: Some(Kind::Pod), name: format!("{}/{}", self.name, self.container) }
    }

    /// The pod that it is a copy of.
    #[must_use]
    pub fn of(&self) -> &str {
        &self.of
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
        Ok(&self.cluster.join().await?.namespace)
    }

    /// What says that this is production, if a name does.
    ///
    /// # Errors
    /// [`Code::NoEngine`].
    pub async fn production(&self) -> Result<Option<String>, Failure> {
        Ok(self.cluster.join().await?.production())
    }

    /// Makes it; `inject` puts the entry before the container's program.
    ///
    /// # Errors
    /// What `inject` says and what the API server refuses.
    pub async fn make(
        &self,
        inject: &mut (dyn FnMut(&str) -> Result<Injected, Failure> + Send),
    ) -> Result<Vec<String>, Failure> {
        let joined = self.cluster.join().await?;
        let (act, path) = find::path(joined, Kind::Pod, &self.of);
        let pod: Value = joined.get(act, &path).await?;
        let mut notes: Vec<String> = shared(&pod).into_iter().collect();
        let injected = inject(&format!("{:#}", copied(pod, &self.of, &self.name)))?;
        let pod: Value = serde_json::from_str(&injected.text)
            .map_err(|error| Failure::new(Code::Internal, "what was injected is no JSON").because(error))?;
        joined.post("make a pod", &find::list_path(joined, Kind::Pod), &pod).await?;
        notes.extend(injected.notes);
        Ok(notes)
    }

    /// Waits until it is there; `held`: until it is held at its first instruction. `say` is told how far it is.
    ///
    /// # Errors
    /// [`Code::TimedOut`]; [`Code::NotRunning`] with the kubelet's own words.
    pub async fn come_up(&self, held: bool, say: &(dyn Fn(&str) + Sync)) -> Result<(), Failure> {
        let joined = self.cluster.join().await?;
        let begin = Instant::now();
        loop {
            let pod: Pod = find::read(joined, &self.name).await?;
            let failed = |code, why: &str| {
                Failure::new(code, format!("the copy of pod/{} does not come up", self.of)).because(why)
            };
            match stage(joined, &pod, &self.container, held).await? {
                Stage::There => return Ok(()),
                Stage::Failed(why) => return Err(failed(Code::NotRunning, &why)),
                Stage::Going(told) if begin.elapsed() > COMES_UP => {
                    return Err(failed(Code::TimedOut, &told));
                }
                Stage::Going(told) => say(&format!("{told}; Ctrl-C removes it")),
            }
            sleep(LOOK).await;
        }
    }

    /// Removes it, and waits until it is gone.
    ///
    /// # Errors
    /// What the API server refuses; [`Code::TimedOut`].
    pub async fn remove(&self) -> Result<(), Failure> {
        let joined = self.cluster.join().await?;
        let how = json!({"gracePeriodSeconds": GRACE});
        let (_, path) = find::path(joined, Kind::Pod, &self.name);
        joined.delete(DELETE, &path, None, how).await?;
        let begin = Instant::now();
        loop {
            match find::read(joined, &self.name).await {
                Err(PlatformError::Refused { status: 404, .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
                Ok(_) if begin.elapsed() > GOES => {
                    return Err(Failure::new(Code::TimedOut, format!("pod/{} does not go", self.name))
                        .hint(format!("kubectl delete pod -n {} {}", joined.namespace, self.name)));
                }
                Ok(_) => sleep(LOOK).await,
            }
        }
    }
}

/// The pod as its copy is made: on any node, ended by nothing but its time, known to nobody.
fn copied(mut pod: Value, of: &str, name: &str) -> Value {
    let mut annotations = pod["metadata"]["annotations"].take();
    if let Some(all) = annotations.as_object_mut() {
        all.retain(|key, _| !NOT_ITS_OWN.contains(&key.as_str()));
    }
    let mut spec = pod["spec"].take();
    if let Some(spec) = spec.as_object_mut() {
        for key in ["nodeName", "ephemeralContainers", "schedulingGates", "readinessGates"] {
            spec.remove(key);
        }
        spec.insert("restartPolicy".to_owned(), "Never".into());
        spec.insert("activeDeadlineSeconds".to_owned(), LIVES.as_secs().into());
    }
    unchecked(&mut spec, None);
    let label: String = of.chars().take(63).collect();
    let label = label.trim_end_matches(['-', '.']);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {LABEL: label}, "annotations": annotations},
        "spec": spec,
    })
}

/// What a copy shares with the pod that works.
fn shared(pod: &Value) -> Option<String> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let claims: Vec<&str> =
        volumes.filter_map(|one| one["persistentVolumeClaim"]["claimName"].as_str()).collect();
    (!claims.is_empty()).then(|| format!("the copy writes to the same volumes: {}", claims.join(", ")))
}

/// As long as a name may be.
fn new_name(of: &str) -> String {
    let short: String = of.chars().take(50).collect();
    format!("{}-pepo-{:05x}", short.trim_end_matches(['-', '.']), random() & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_known_to_nobody_and_ended_by_nothing_but_its_time() {
        let pod = json!({
            "metadata": {"name": "shop-1", "uid": "u", "labels": {"app": "shop"}, "ownerReferences": [{}],
                "annotations": {"mine": "x", "kubernetes.io/config.mirror": "y"}},
            "spec": {"nodeName": "n", "hostname": "shop-1", "restartPolicy": "Always",
                "containers": [{"name": "app", "livenessProbe": {}, "readinessProbe": {}, "image": "i"}, {"name": "side", "startupProbe": {}}],
                "initContainers": [{"name": "first", "restartPolicy": "Always", "livenessProbe": {}}]},
            "status": {"phase": "Running"},
        });
        let copy = copied(pod, "shop-1", "shop-1-pepo-0");
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "shop-1-pepo-0", "labels": {LABEL: "shop-1"}, "annotations": {"mine": "x"}},
            "spec": {"hostname": "shop-1", "restartPolicy": "Never", "activeDeadlineSeconds": 7200,
                "containers": [{"name": "app", "image": "i"}, {"name": "side"}],
                "initContainers": [{"name": "first", "restartPolicy": "Always"}]},
        });
        assert_eq!(copy, expected);
    }

    #[test]
    fn names_of_copies_are_names() {
        let long = "a".repeat(250);
        for of in ["shop-7c9f-x2x8m", long.as_str(), &format!("{}-b", "a".repeat(49))] {
            let name = new_name(of);
            assert!(name.len() <= 63 && name.contains("-pepo-") && !name.contains("--"), "{name}");
        }
    }
}
