//! containerd with its CRI plugin, by hand: pods as a kubelet makes them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    Api, Engine, Kind, Network, RunOptions, Started,
    cri::{self, Client, runtime},
    supervisor::{self, Supervisor},
};
use crate::{image::Image, isolated::support, programs, wait};

/// Starts containerd.
pub struct Containerd;

impl Containerd {
    /// A new containerd with its CRI plugin; images are in the namespace `k8s.io`.
    ///
    /// # Panics
    /// If it does not start; this needs root, containerd, runc and the CNI plugins.
    pub fn start() -> Engine {
        try_start().unwrap_or_else(|error| panic!("containerd: {error:#}"))
    }
}

/// The image that keeps a pod's namespaces.
const PAUSE: &str = "pepo.test/pause:1";

fn try_start() -> Result<Engine> {
    let folder = supervisor::folder("containerd")?;
    fs::create_dir(folder.join("cni"))?;
    fs::write(folder.join("cni/10-pods.conflist"), network(&folder))?;
    fs::write(folder.join("config.toml"), config(&folder))?;
    let socket = folder.join("containerd.sock");
    let line = [
        programs::find("containerd")?.display().to_string(),
        format!("--config={}", folder.join("config.toml").display()),
        "--log-level=warn".to_owned(),
    ];
    let supervisor = Supervisor::start(&folder, "", &line)?;
    let api = Cri { client: Client::new(&socket), socket: socket.clone(), folder };
    let engine = Engine::new(Kind::Containerd, socket, Box::new(api), supervisor);
    engine.load(&Image::new(PAUSE).file(&support("pause"), "/pause").command(&["/pause"]));
    Ok(engine)
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE a sandbox cannot have the score it asks for.
fn config(folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{socket}"
[ttrpc]
address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
        root = at("root"),
        state = at("state"),
        socket = at("containerd.sock"),
        opt = at("opt"),
        cni = at("cni"),
    )
}

/// A bridge in the engine's own network namespace.
fn network(folder: &Path) -> String {
    let data = folder.join("addresses");
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": data,
                "ranges": [[{"subnet": "10.251.0.0/24"}]],
            },
        }],
    })
    .to_string()
}

/// The CRI of one containerd.
struct Cri {
    client: Client,
    socket: PathBuf,
    folder: PathBuf,
}

impl Cri {
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

impl Api for Cri {
    fn ready(&self) -> Result<()> {
        self.client.version()
    }

    fn load(&self, archive: &Path) -> Result<()> {
        let output = programs::command(programs::find("ctr")?)
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
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
            Some(container) => self.client.remove_sandbox(&container.pod_sandbox_id),
            None => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.client.list()?.into_iter().map(|container| container.id).collect())
    }

    fn inspect(&self, id: &str) -> Result<Value> {
        let info = self.client.status(id)?;
        Ok(serde_json::from_str(info.get("info").context("no verbose status")?)?)
    }
}
