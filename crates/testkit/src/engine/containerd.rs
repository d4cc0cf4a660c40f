//! containerd with its CRI plugin, by hand: pods as a kubelet makes them.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::{
    Engine, Kind,
    pods::{self, PAUSE, Pods},
    supervisor::{self, Supervisor},
};
use crate::programs;

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

fn try_start() -> Result<Engine> {
    let folder = supervisor::folder("containerd")?;
    pods::make_network(&folder)?;
    fs::write(folder.join("config.toml"), config(&folder))?;
    let socket = folder.join("containerd.sock");
    let line = [
        programs::find("containerd")?.display().to_string(),
        format!("--config={}", folder.join("config.toml").display()),
        "--log-level=warn".to_owned(),
    ];
    let supervisor = Supervisor::start(&folder, "", &line)?;
    let at = socket.clone();
    let api = Pods::new(folder, &socket, move |archive| import(&at, archive));
    let engine = Engine::new(Kind::Containerd, socket, Box::new(api), supervisor);
    engine.load(&pods::pause());
    Ok(engine)
}

/// Makes the images of an archive, for whatever machine, known to the pods of the containerd at `socket`.
pub(crate) fn import(socket: &Path, archive: &Path) -> Result<()> {
    let output = programs::command(programs::find("ctr")?)
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import", "--all-platforms"])
        .arg(archive)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
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
