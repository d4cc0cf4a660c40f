//! What tests put into a cluster: a namespace of their own, pods with the processes that they are on this machine,
//! accounts with few rights.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Cluster, pki};
use crate::{engine::read_log, life::Life, wait};

impl Cluster {
    /// A new namespace, removed when dropped, in which PodSecurity enforces `level` (`privileged`, `baseline`,
    /// `restricted`).
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn namespace(&self, level: &str) -> Result<Namespace<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.apply(&object.to_string())?;
        let namespace = Namespace { cluster: self, name };
        // Pods are refused before it is there.
        let account = || namespace.kubectl(&["get", "serviceaccount", "default"]).map(drop);
        wait::try_until(Duration::from_secs(30), account)?;
        Ok(namespace)
    }
}

/// A namespace of a test.
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Namespace<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its cluster.
    pub fn cluster(&self) -> &Cluster {
        self.cluster
    }

    /// As [`Cluster::kubectl`], in this namespace.
    ///
    /// # Errors
    /// As there.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", self.name.as_str()], words].concat())
    }

    /// Applies an object, in this namespace.
    ///
    /// # Errors
    /// As [`Cluster::apply`].
    pub fn apply(&self, mut object: Value) -> Result<String> {
        object["metadata"]["namespace"] = self.name.clone().into();
        self.cluster.apply(&object.to_string())
    }

    /// Waits for a pod to be ready, and gives the process of its first container.
    ///
    /// # Errors
    /// With its state and events, if it is not within a minute.
    pub fn wait_ready(&self, pod: &str) -> Result<Pod> {
        let state = || {
            let object = self.object("pod", pod)?;
            let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            ensure!(conditions.any(ready), "{}", self.kubectl(&["describe", "pod", pod])?);
            Ok(object)
        };
        let object = wait::try_until(Duration::from_secs(60), state);
        let object = object.with_context(|| format!("{pod} is not ready"))?;
        let container = object["spec"]["containers"][0]["name"].as_str().context("it has a container")?;
        Pod::of(self.cluster, &object, container)
    }

    /// The process of one of a pod's containers, also of an ephemeral one.
    ///
    /// # Errors
    /// If there is none.
    pub fn container(&self, pod: &str, container: &str) -> Result<Pod> {
        Pod::of(self.cluster, &self.object("pod", pod)?, container)
    }

    /// An object as the API server tells it.
    ///
    /// # Errors
    /// If there is none.
    pub fn object(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.kubectl(&["get", kind, name, "--output", "json"])?;
        serde_json::from_str(&text).context("kubectl gives JSON")
    }

    /// A new service account that may do what `rules` (of a Role) say, and its kubeconfig.
    ///
    /// # Errors
    /// If one of the objects is refused.
    pub fn account(&self, name: &str, rules: Value) -> Result<PathBuf> {
        let meta = json!({"name": name});
        let api = "rbac.authorization.k8s.io";
        let version = format!("{api}/v1");
        self.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}))?;
        self.apply(json!({"apiVersion": version, "kind": "Role", "metadata": meta, "rules": rules}))?;
        self.apply(json!({
            "apiVersion": version,
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.name}],
        }))?;
        let token = self.kubectl(&["create", "token", name])?;
        pki::kubeconfig_by_token(&self.cluster.place, &format!("{}-{name}", self.name), token.trim())
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// A container of a pod.
pub struct Pod {
    pid: u32,
    log: PathBuf,
}

impl Pod {
    fn of(cluster: &Cluster, object: &Value, container: &str) -> Result<Pod> {
        let (meta, status) = (&object["metadata"], &object["status"]);
        let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
        let mut all = lists.iter().filter_map(|list| status[list].as_array()).flatten();
        let found = all.find(|status| status["name"] == container);
        let found = found.with_context(|| format!("the pod has no container {container}: {status}"))?;
        let id = found["containerID"].as_str().and_then(|id| id.strip_prefix("containerd://"));
        let id = id.with_context(|| format!("{container} does not run: {found}"))?;
        let pid =
            cluster.place.groups().first_in(id).with_context(|| format!("{container} has no process"))?;
        let node = object["spec"]["nodeName"].as_str().context("it is on a node")?;
        let [namespace, name, uid] =
            ["namespace", "name", "uid"].map(|key| meta[key].as_str().unwrap_or_default());
        let logs = format!("{node}/var/log/pods/{namespace}_{name}_{uid}/{container}");
        let log = cluster.place.at(&logs).join(format!("{}.log", found["restartCount"]));
        Ok(Pod { pid, log })
    }
}

impl Life for Pod {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> String {
        read_log(&self.log)
    }
}
