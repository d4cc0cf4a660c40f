//! What tests ask of a cluster, by its own kubectl: objects applied, pods waited for, accounts with few rights.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Cluster, pki};
use crate::{programs::command, wait};

impl Cluster {
    /// A kubectl of the administrator, ready for its words.
    pub fn kubectl_command(&self) -> Command {
        let mut kubectl = command(self.programs().join("kubectl"));
        kubectl.env("KUBECONFIG", self.kubeconfig());
        kubectl
    }

    /// Runs kubectl as administrator, and gives what it says.
    ///
    /// # Errors
    /// With its own words, if it fails.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        let output = self.kubectl_command().args(words).output().context("kubectl does not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies objects given as YAML or JSON.
    ///
    /// # Errors
    /// With the API server's words, if it refuses one.
    pub fn apply(&self, objects: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command();
        kubectl.args(["apply", "--filename", "-"]).stdin(Stdio::piped());
        let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("its input is a pipe")?.write_all(objects.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

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

    /// Waits for a pod to be ready.
    ///
    /// # Errors
    /// With its state and events, if it is not within a minute.
    pub fn wait_ready(&self, pod: &str) -> Result<()> {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let ready = || {
            let state = self.kubectl(&["get", "pod", pod, "--output", path])?;
            ensure!(state == "True", "{}", self.kubectl(&["describe", "pod", pod])?);
            Ok(())
        };
        wait::try_until(Duration::from_secs(60), ready).with_context(|| format!("{pod} is not ready"))
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
