//! Podman's service by hand, as root and as another user.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Engine, Kind,
    api::EngineApi,
    supervisor::{self, Supervisor},
};
use crate::{Image, programs};

/// Starts Podman's service.
pub struct Podman;

/// The user of rootless Podman: it exists only in the engine's own `/etc`.
const USER: u32 = 61_234;

/// Makes the user known, with user ids for its containers.
const SETUP_USER: &str = "
echo \"pepo-test:x:61234:61234::$FOLDER/home:/bin/sh\" >> /etc/passwd
echo 'pepo-test:x:61234:' >> /etc/group
echo 'pepo-test:700000:65536' >> /etc/subuid
echo 'pepo-test:700000:65536' >> /etc/subgid
";

/// Without CAP_SYS_RESOURCE the default limits cannot be set; crun does not know hybrid control groups.
const CONTAINERS_CONF: &str = r#"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
infra_image = "pepo.test/pause:1"
"#;

impl Podman {
    /// The image that holds the namespaces of a pod, as the service's settings name it; to be loaded before the first pod.
    #[must_use]
    pub fn pause_image() -> Image {
        let wait = "trap 'exit 0' TERM; sleep 600 & wait";
        Image::new("pepo.test/pause:1").with_shell().command(&["sh", "-c", wait])
    }

    /// A service as root.
    ///
    /// # Panics
    /// If it does not start; this needs root and Podman's programs.
    pub fn root() -> Engine {
        start(Kind::Podman).unwrap_or_else(|error| panic!("Podman: {error:#}"))
    }

    /// A service as a user without rights, which exists for this engine alone.
    ///
    /// # Panics
    /// As [`Podman::root`].
    pub fn rootless() -> Engine {
        start(Kind::PodmanRootless).unwrap_or_else(|error| panic!("rootless Podman: {error:#}"))
    }
}

fn start(kind: Kind) -> Result<Engine> {
    let rootless = kind == Kind::PodmanRootless;
    let folder = supervisor::folder("podman")?;
    let home = folder.join("home");
    for folder in [&home, &home.join("run"), &home.join("data"), &home.join("tmp")] {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        if rootless {
            chown(folder, Some(USER), Some(USER))?;
        }
    }
    fs::write(folder.join("containers.conf"), CONTAINERS_CONF)?;
    fs::write(folder.join("storage.conf"), storage_conf(&home))?;
    let socket = home.join("podman.sock");
    let setup = if rootless { SETUP_USER } else { "" };
    let supervisor = Supervisor::start(&folder, setup, &command_line(&folder, &home, &socket, rootless)?)?;
    // Without rights there are no control groups to put anything into (version 1).
    let cgroup_parent = if rootless { String::new() } else { supervisor::cgroup(&folder) };
    let api = EngineApi { socket: socket.clone(), cgroup_parent, log_driver: "k8s-file" };
    Ok(Engine::new(kind, socket, Box::new(api), supervisor))
}

fn storage_conf(home: &Path) -> String {
    let (run, data) = (home.join("run"), home.join("data"));
    format!(
        "[storage]\ndriver = \"overlay\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
        run.display(),
        data.display()
    )
}

fn command_line(folder: &Path, home: &Path, socket: &Path, rootless: bool) -> Result<Vec<String>> {
    let mut line = Vec::new();
    if rootless {
        let setpriv = programs::find("setpriv")?.display().to_string();
        line.extend([
            setpriv,
            format!("--reuid={USER}"),
            format!("--regid={USER}"),
            "--clear-groups".to_owned(),
        ]);
    }
    let at = |path: PathBuf| path.display().to_string();
    line.extend([
        "env".to_owned(),
        "--ignore-environment".to_owned(),
        format!("--chdir={}", home.display()),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOME={}", home.display()),
        format!("XDG_RUNTIME_DIR={}", at(home.join("run"))),
        format!("TMPDIR={}", at(home.join("tmp"))),
        format!("CONTAINERS_CONF={}", at(folder.join("containers.conf"))),
        format!("CONTAINERS_STORAGE_CONF={}", at(folder.join("storage.conf"))),
        programs::find("podman")?.display().to_string(),
        "--log-level=warn".to_owned(),
        format!("--tmpdir={}", at(home.join("tmp"))),
        "system".to_owned(),
        "service".to_owned(),
        "--time=0".to_owned(),
        format!("unix://{}", socket.display()),
    ]);
    Ok(line)
}
