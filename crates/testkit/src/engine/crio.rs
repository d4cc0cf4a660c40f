//! CRI-O by hand: it starts conmon and runc for each container and ends without them.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::{
    Engine, Kind,
    pods::{self, PAUSE, Pods},
    supervisor::{self, Supervisor},
};
use crate::programs::{self, tools};

/// Starts CRI-O.
pub struct CriO;

impl CriO {
    /// A new CRI-O.
    ///
    /// # Panics
    /// If it does not start; this needs root, CRI-O, conmon, runc and the CNI plugins.
    pub fn start() -> Engine {
        try_start().unwrap_or_else(|error| panic!("CRI-O: {error:#}"))
    }
}

fn try_start() -> Result<Engine> {
    let program = tools().join("crio/bin/crio");
    ensure!(program.is_file(), "no {}; `cargo xtask setup` makes it", program.display());
    let folder = supervisor::folder("crio")?;
    pods::make_network(&folder)?;
    fs::write(folder.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
    fs::write(folder.join("crio.conf"), config(&folder)?)?;
    let socket = folder.join("crio.sock");
    let line = [
        program.display().to_string(),
        format!("--config={}", folder.join("crio.conf").display()),
        // Not the machine's own settings beside these.
        "--config-dir=".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let supervisor = Supervisor::start(&folder, "", &line)?;
    let load = loader(&folder, supervisor.pid())?;
    let api = Pods::new(folder, &socket, load);
    let engine = Engine::new(Kind::CriO, socket, Box::new(api), supervisor);
    engine.load(&pods::pause());
    Ok(engine)
}

/// CRI-O takes images from registries alone, but it shares its storage with Podman; `pid` is in its mount namespace.
fn loader(folder: &Path, pid: u32) -> Result<impl Fn(&Path) -> Result<()> + use<>> {
    let (nsenter, podman) = (programs::find("nsenter")?, programs::find("podman")?);
    let (root, runroot) = (folder.join("root"), folder.join("runroot"));
    Ok(move |archive: &Path| {
        let output = programs::command(&nsenter)
            .arg(format!("--mount=/proc/{pid}/ns/mnt"))
            .arg(&podman)
            .arg("--root")
            .arg(&root)
            .arg("--runroot")
            .arg(&runroot)
            .args(["--storage-driver=overlay", "load", "--quiet", "--input"])
            .arg(archive)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })
}

fn config(folder: &Path) -> Result<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    Ok(format!(
        r#"[crio]
root = "{root}"
runroot = "{runroot}"
storage_driver = "overlay"
log_dir = "{logs}"
version_file = "{version}"
clean_shutdown_file = "{clean}"
[crio.api]
listen = "{socket}"
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
pinns_path = "{pinns}"
namespaces_dir = "{namespaces}"
container_exits_dir = "{exits}"
container_attach_socket_dir = "{attach}"
hooks_dir = []
[crio.runtime.runtimes.runc]
runtime_path = "{runc}"
runtime_root = "{state}"
monitor_path = "{conmon}"
monitor_cgroup = "pod"
[crio.image]
pause_image = "{PAUSE}"
signature_policy = "{policy}"
[crio.network]
network_dir = "{cni}"
plugin_dirs = ["/usr/lib/cni"]
[crio.nri]
enable_nri = false
"#,
        root = at("root"),
        runroot = at("runroot"),
        logs = at("logs"),
        version = at("version"),
        clean = at("clean.shutdown"),
        socket = at("crio.sock"),
        pinns = tools().join("crio/bin/pinns").display(),
        namespaces = at("namespaces"),
        exits = at("exits"),
        attach = at("attach"),
        runc = programs::find("runc")?.display(),
        state = at("runc"),
        conmon = programs::find("conmon")?.display(),
        policy = at("policy.json"),
        cni = at("cni"),
    ))
}
