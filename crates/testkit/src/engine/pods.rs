//! Pods of one container each, as a kubelet makes them by the CRI.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Api, Network, RunOptions, Started,
    cri::{self, Client, runtime},
    supervisor,
};
use crate::{image::Image, isolated::support, wait};

/// The image that keeps a pod's namespaces.
pub(crate) const PAUSE: &str = "pepo.test/pause:1";

pub(crate) fn pause() -> Image {
    Image::new(PAUSE).file(&support("pause"), "/pause").command(&["/pause"])
}

/// Writes the settings of pods' networks: a bridge in the engine's own network namespace.
pub(super) fn make_network(folder: &Path) -> Result<()> {
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": folder.join("addresses"),
                "ranges": [[{"subnet": "10.251.0.0/24"}]],
            },
        }],
    });
    fs::create_dir(folder.join("cni"))?;
    Ok(fs::write(folder.join("cni/10-pods.conflist"), network.to_string())?)
}

/// How a runtime is given an image: the CRI itself knows registries alone.
type Load = Box<dyn Fn(&Path) -> Result<()> + Send + Sync>;

/// A CRI runtime.
pub(super) struct Pods {
    client: Client,
    folder: PathBuf,
    load: Load,
}

impl Pods {
    pub(super) fn new(
        folder: PathBuf,
        socket: &Path,
        load: impl Fn(&Path) -> Result<()> + Send + Sync + 'static,
    ) -> Pods {
        Pods { client: Client::new(socket), folder, load: Box::new(load) }
    }

    fn sandbox(&self, options: &RunOptions) -> runtime::PodSandboxConfig {
        let network = match options.network {
            Network::Host => runtime::NamespaceMode::Node,
            Network::None | Network::Bridge => runtime::NamespaceMode::Pod,
        };
        let namespaces = cri::namespaces(network, &options.pid);
        let labels = [
            ("io.kubernetes.pod.name", options.name.as_str()),
            ("io.kubernetes.pod.namespace", "default"),
            ("io.kubernetes.pod.uid", options.name.as_str()),
        ];
        runtime::PodSandboxConfig {
            metadata: Some(runtime::PodSandboxMetadata {
                name: options.name.clone(),
                uid: options.name.clone(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: options.name.clone(),
            log_directory: self.folder.join("logs").join(&options.name).display().to_string(),
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            linux: Some(runtime::LinuxPodSandboxConfig {
                cgroup_parent: supervisor::cgroup(&self.folder),
                security_context: Some(runtime::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    seccomp: Some(cri::seccomp(options)),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    /// The process id that the runtime tells in the verbose status.
    fn pid(&self, id: &str) -> Result<u32> {
        let info = self.inspect(id)?;
        let pid = info["pid"]
            .as_u64()
            .filter(|pid| *pid != 0)
            .with_context(|| format!("it does not run: {info}"))?;
        Ok(u32::try_from(pid)?)
    }

    fn run_in(
        &self,
        pod: &str,
        sandbox: runtime::PodSandboxConfig,
        config: runtime::ContainerConfig,
    ) -> Result<Started> {
        let log = Path::new(&sandbox.log_directory).join(&config.log_path);
        // An imported image is seen by the CRI plugin a moment later.
        let create = || self.client.create(pod, config.clone(), sandbox.clone());
        let id = wait::try_until(Duration::from_secs(5), create)?;
        self.client.start(&id)?;
        let pid = self.pid(&id)?;
        Ok(Started { id, pid, log })
    }
}

impl Api for Pods {
    fn ready(&self) -> Result<()> {
        self.client.version()
    }

    fn load(&self, archive: &Path) -> Result<()> {
        (self.load)(archive)
    }

    fn run(&self, image: &Image, options: &RunOptions) -> Result<Started> {
        let sandbox = self.sandbox(options);
        fs::create_dir_all(&sandbox.log_directory)?;
        let pod = self.client.run_sandbox(sandbox.clone())?;
        let config = cri::container(image, options, sandbox.linux.as_ref())?;
        let started = self.run_in(&pod, sandbox, config);
        if started.is_err() {
            self.client.remove_sandbox(&pod)?;
        }
        started
    }

    fn remove(&self, id: &str) -> Result<()> {
        match self.client.list()?.into_iter().find(|container| container.id == id) {
            Some(container) => {
                self.client.kill(id)?;
                self.client.remove_sandbox(&container.pod_sandbox_id)
            }
            None => Ok(()),
        }
    }

    fn exec(&self, id: &str, line: &[&str]) -> Result<(i64, String)> {
        self.client.exec(id, line)
    }

    fn stop(&self, id: &str, grace: Duration) -> Result<i64> {
        self.client.stop(id, grace.as_secs().cast_signed())?;
        self.client.exit_code(id)
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.client.list()?.into_iter().map(|container| container.id).collect())
    }

    fn inspect(&self, id: &str) -> Result<Value> {
        let info = self.client.status(id)?;
        Ok(serde_json::from_str(info.get("info").context("no verbose status")?)?)
    }
}
