//! Real container engines, started by hand with their own sockets and folders, that end with the test process
//! and leave nothing: no process, mount, link, control group or file.
//!
//! Each lives in a mount and a network namespace of its own (so two never meet, and no rule of the machine's
//! firewall is touched) but in the machine's PID namespace: a container's processes are seen in `/proc`, as with
//! any engine that a machine runs. [`Engine::shared`] gives one engine for all tests of a process.

/// The Engine API, as Docker and Podman speak it.
mod api;
/// containerd by its CRI.
mod containerd;
/// The CRI's calls.
mod cri;
/// CRI-O by its CRI.
mod crio;
/// dockerd.
mod docker;
/// HTTP over a unix socket.
mod http;
/// Podman, as root and without.
mod podman;
/// Pods, as a kubelet makes them.
mod pods;
/// The process that ends all others.
mod supervisor;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use self::supervisor::Supervisor;
pub use self::{containerd::Containerd, crio::CriO, docker::Docker, podman::Podman};
pub(crate) use self::{
    containerd::import,
    cri::Client as Runtime,
    pods::{PAUSE, pause},
};
use crate::{image::Image, life::Life, wait};

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// dockerd with its own containerd and runc.
    Docker,
    /// Podman's service as root.
    Podman,
    /// Podman's service as another user.
    PodmanRootless,
    /// containerd with its CRI plugin.
    Containerd,
    /// CRI-O.
    CriO,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] =
        [Kind::Docker, Kind::Podman, Kind::PodmanRootless, Kind::Containerd, Kind::CriO];
}

/// To what a container's network is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// Its own network namespace with nothing but a loopback (CRI: with an address, as a pod must have one).
    #[default]
    None,
    /// The engine's network namespace.
    Host,
    /// Its own one, connected by the engine (not rootless).
    Bridge,
}

/// A health check, as a Dockerfile's HEALTHCHECK.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// The command line, run in the container.
    pub command: Vec<String>,
    /// Time between two checks.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many must fail.
    pub retries: u32,
}

/// How a container is run; the default is a container with nothing special.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Its name; made up if empty.
    pub name: String,
    /// User, as the image's if empty.
    pub user: String,
    /// Read-only root.
    pub read_only: bool,
    /// Capabilities taken away (`ALL`).
    pub cap_drop: Vec<String>,
    /// Capabilities given (`SYS_PTRACE`).
    pub cap_add: Vec<String>,
    /// `seccomp=unconfined`, `no-new-privileges`.
    pub security_opt: Vec<String>,
    /// Limit of memory in bytes; not for rootless Podman.
    pub memory: Option<u64>,
    /// Health check; not for CRI, which has none.
    pub health: Option<HealthCheck>,
    /// Arguments after the image's command.
    pub args: Vec<String>,
    /// Environment variables `NAME=VALUE`.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Network.
    pub network: Network,
    /// The PID namespace of another container (its id), or `host`; own if empty.
    pub pid: String,
}

impl RunOptions {
    /// A container of this name.
    pub fn named(name: &str) -> RunOptions {
        RunOptions { name: name.to_owned(), ..RunOptions::default() }
    }

    /// As strict as can be: user 65534, read-only root, no capability, no new privileges.
    pub fn restricted(name: &str) -> RunOptions {
        RunOptions {
            name: name.to_owned(),
            user: "65534:65534".to_owned(),
            read_only: true,
            cap_drop: vec!["ALL".to_owned()],
            security_opt: vec!["no-new-privileges".to_owned()],
            ..RunOptions::default()
        }
    }

    /// The same with these arguments after the image's command.
    pub fn args(mut self, args: &[&str]) -> RunOptions {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }
}

/// What an engine does for us. (Engine API, CRI.)
trait Api: Send + Sync {
    /// Fails while the engine is not ready.
    fn ready(&self) -> Result<()>;
    /// Makes the images of an archive known.
    fn load(&self, archive: &Path) -> Result<()>;
    /// Creates and starts a container.
    fn run(&self, image: &Image, options: &RunOptions) -> Result<Started>;
    /// Stops and removes a container; no error if there is none.
    fn remove(&self, id: &str) -> Result<()>;
    /// Runs a program in a container; its status, and what it said on both streams.
    fn exec(&self, id: &str, line: &[&str]) -> Result<(i64, String)>;
    /// Asks a container to end, and kills it after `grace`; its status.
    fn stop(&self, id: &str, grace: Duration) -> Result<i64>;
    /// Ids of all containers, stopped ones too.
    fn list(&self) -> Result<Vec<String>>;
    /// All that the engine tells of a container.
    fn inspect(&self, id: &str) -> Result<Value>;
}

/// A container that was just started.
struct Started {
    id: String,
    pid: u32,
    log: PathBuf,
}

/// A running engine; clones are the same engine, which ends when the last one is dropped.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    kind: Kind,
    socket: PathBuf,
    api: Box<dyn Api>,
    supervisor: Mutex<Supervisor>,
    /// Names of loaded images and what they were made of.
    loaded: Mutex<HashMap<String, String>>,
}

impl Engine {
    /// The engine of this kind that all tests of this process share; it ends a moment after the process. Docker's as it is usually
    /// configured, with containers that end when it does.
    pub fn shared(kind: Kind) -> Engine {
        static SHARED: [OnceLock<Engine>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];
        SHARED[kind as usize]
            .get_or_init(|| if kind == Kind::Docker { Docker::start_with(&[]) } else { Engine::start(kind) })
            .clone()
    }

    /// A new engine of its own, for tests that restart it (containers outlive that) or count what it has.
    pub fn start(kind: Kind) -> Engine {
        match kind {
            Kind::Docker => Docker::start(),
            Kind::Podman => Podman::root(),
            Kind::PodmanRootless => Podman::rootless(),
            Kind::Containerd => Containerd::start(),
            Kind::CriO => CriO::start(),
        }
    }

    /// Waits for the engine to be ready.
    fn new(kind: Kind, socket: PathBuf, api: Box<dyn Api>, supervisor: Supervisor) -> Engine {
        let loaded = Mutex::default();
        let engine = Engine {
            inner: Arc::new(Inner { kind, socket, api, supervisor: Mutex::new(supervisor), loaded }),
        };
        engine.wait_ready();
        engine
    }

    fn wait_ready(&self) {
        let ready = || self.inner.api.ready().map_err(|error| format!("{error:#}\n{}", self.log()));
        wait::until(&format!("{:?} is ready", self.kind()), Duration::from_secs(30), ready);
    }

    /// Which engine it is.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Its unix socket: the Engine API's, or the CRI's.
    pub fn socket(&self) -> &Path {
        &self.inner.socket
    }

    /// The same as `DOCKER_HOST` and its like have it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The daemon's process id.
    pub fn daemon(&self) -> u32 {
        self.supervisor().daemon()
    }

    /// The last lines of the daemon's log.
    pub fn log(&self) -> String {
        self.supervisor().log()
    }

    /// Makes an image known to the engine, unless it is already.
    ///
    /// # Panics
    /// If the engine refuses it.
    pub fn load(&self, image: &Image) {
        let made_of = format!("{image:?}");
        let mut loaded = self.inner.loaded.lock().expect("another test could not load an image");
        if loaded.get(image.name()) == Some(&made_of) {
            return;
        }
        let result = docker_archive(image).and_then(|archive| self.inner.api.load(archive.path()));
        result.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", image.name(), self.log()));
        loaded.insert(image.name().to_owned(), made_of);
    }

    /// Makes one image for several machines known, as `cargo xtask image` packs it, and gives its digest. The first is the one for this
    /// machine: who runs it gets what the engine chooses.
    ///
    /// # Panics
    /// If the engine refuses it.
    pub fn load_packed(&self, images: &[Image]) -> String {
        let archive = tempfile::NamedTempFile::new().expect("a temporary file");
        let digest = Image::oci_archive(images, archive.as_file()).expect("an archive");
        let result = self.inner.api.load(archive.path());
        result.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", images[0].name(), self.log()));
        let mut loaded = self.inner.loaded.lock().expect("another test could not load an image");
        loaded.insert(images[0].name().to_owned(), format!("{:?}", images[0]));
        digest
    }

    /// Loads the image if needed and runs it.
    ///
    /// # Panics
    /// If the container cannot be made or ends at once.
    pub fn run(&self, image: &Image, options: &RunOptions) -> Container {
        self.load(image);
        let mut options = options.clone();
        if options.name.is_empty() {
            options.name = format!("pepo-{}", supervisor::unique());
        }
        let started = self.inner.api.run(image, &options);
        let Started { id, pid, log } =
            started.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", image.name(), self.log()));
        Container { engine: self.clone(), id, name: options.name, pid, log }
    }

    /// Ids of all its containers, running or not.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub fn containers(&self) -> Vec<String> {
        self.inner.api.list().unwrap_or_else(|error| panic!("{:?}: {error:#}\n{}", self.kind(), self.log()))
    }

    /// All that the engine tells of a container: `inspect` of the Engine API, the verbose status of the CRI.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub fn inspect(&self, id: &str) -> Value {
        self.inner
            .api
            .inspect(id)
            .unwrap_or_else(|error| panic!("{:?}: {error:#}\n{}", self.kind(), self.log()))
    }

    /// Ends the daemon (SIGTERM) and starts it again; the containers run on.
    pub fn restart(&self) {
        self.supervisor().again("restart");
        self.wait_ready();
    }

    /// Kills the daemon and starts it again.
    pub fn kill_and_start(&self) {
        self.supervisor().again("kill");
        self.wait_ready();
    }

    /// Ends the engine and all that runs in it now, whoever else still has a handle of it or of its containers.
    pub fn end(&self) {
        self.supervisor().end();
    }

    fn supervisor(&self) -> std::sync::MutexGuard<'_, Supervisor> {
        self.inner.supervisor.lock().expect("the supervisor of an engine answers")
    }
}

/// The image as Docker's command would save it.
pub(crate) fn docker_archive(image: &Image) -> Result<tempfile::NamedTempFile> {
    let archive = tempfile::NamedTempFile::new()?;
    image.docker_archive(std::io::BufWriter::new(archive.as_file()))?;
    Ok(archive)
}

/// A running container, removed when dropped.
pub struct Container {
    engine: Engine,
    id: String,
    name: String,
    pid: u32,
    log: PathBuf,
}

impl Container {
    /// The engine's id of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name (CRI: of pod and container).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The engine it runs in.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What it wrote so far, without the engine's own marks.
    pub fn logs(&self) -> String {
        read_log(&self.log)
    }

    /// Runs a program in it, as `docker exec` does; its status, and what it said on both streams.
    ///
    /// # Panics
    /// If the engine cannot.
    pub fn exec(&self, line: &[&str]) -> (i64, String) {
        let result = self.engine.inner.api.exec(&self.id, line);
        result.unwrap_or_else(|error| panic!("cannot run {line:?} in {}: {error:#}", self.name))
    }

    /// Asks it to end, as `docker stop` does, and kills it after `grace`; its status.
    ///
    /// # Panics
    /// If the engine cannot.
    pub fn stop(&self, grace: Duration) -> i64 {
        let result = self.engine.inner.api.stop(&self.id, grace);
        result.unwrap_or_else(|error| panic!("cannot stop {}: {error:#}", self.name))
    }

    /// Stops and removes it now.
    ///
    /// # Panics
    /// If the engine cannot.
    pub fn remove(self) {
        let result = self.engine.inner.api.remove(&self.id);
        result.unwrap_or_else(|error| panic!("cannot remove {}: {error:#}", self.name));
    }

    /// `GET path` from a server in it at 127.0.0.1:`port`.
    pub fn http_get(&self, port: &str, path: &str) -> String {
        crate::http_get(self.pid, port, path)
    }
}

impl Life for Container {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> String {
        self.logs()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The supervisor ends what cannot be removed now.
        let _ = self.engine.inner.api.remove(&self.id);
    }
}

/// Docker's `{"log": …}` lines, or the lines of CRI and Podman: time, stream, F or P, text.
pub(crate) fn read_log(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut output = String::new();
    for line in text.lines() {
        if line.starts_with('{') {
            let parsed: Option<serde_json::Value> = serde_json::from_str(line).ok();
            let entry = parsed.as_ref().and_then(|entry| entry["log"].as_str());
            output.push_str(entry.unwrap_or_default());
        } else {
            let mut words = line.splitn(4, ' ').skip(2);
            let (whole, text) = (words.next() == Some("F"), words.next().unwrap_or_default());
            output.push_str(text);
            output.push_str(if whole { "\n" } else { "" });
        }
    }
    output
}
