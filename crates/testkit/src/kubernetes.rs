//! A real Kubernetes on this machine, by hand and without a registry: etcd, API server, controller manager, scheduler,
//! and one or two nodes, each a set of namespaces with a kubelet, a containerd and a kube-proxy.
//!
//! It lives in a folder and goes on when the process that started it ends, until [`Cluster::down`]; then no process,
//! mount, link, control group or changed setting of the kernel is left, and of its files the logs alone. Who belongs to
//! it is known by control groups, so that a start which was killed half-way is ended as well.

use std::{
    collections::HashMap,
    env,
    fmt::{self, Display},
    fs::{self, File},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

/// The control plane.
mod control;
/// One program.
mod daemon;
/// Control groups.
mod groups;
/// Calls of kubectl.
mod kubectl;
/// What could be left behind.
mod leftovers;
/// Namespaces and pods of tests.
mod namespace;
/// Nodes.
mod node;
/// Certificates and kubeconfigs.
mod pki;
/// Files, names, addresses.
mod place;
/// All clusters of this machine.
mod registry;

use self::{
    daemon::{Daemon, Started},
    place::Place,
};
pub use self::{
    leftovers::Machine,
    namespace::{Namespace, Pod},
};
use crate::{
    engine::{self, Runtime},
    image::Image,
    programs,
};

/// The most nodes that a cluster has.
const MOST_NODES: u8 = 2;

/// What watches the API server, and holds no connection of anybody else.
const FOLLOWERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// A version of Kubernetes that `cargo xtask setup` builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// The one that tests use.
    #[default]
    V1_34,
    /// A newer one.
    V1_36,
}

impl Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V1_34 => "1.34",
            Version::V1_36 => "1.36",
        })
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Version> {
        let known = [Version::V1_34, Version::V1_36].into_iter().find(|version| version.to_string() == text);
        known.with_context(|| format!("no Kubernetes `{text}` here: 1.34 or 1.36"))
    }
}

/// What is wanted of a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its folder; made if needed.
    pub folder: PathBuf,
    /// Its version.
    pub version: Version,
    /// How many nodes: 1 or 2.
    pub nodes: u8,
}

/// A running cluster; the handle's end is not the cluster's.
pub struct Cluster {
    place: Place,
    /// Images that this process has brought, and what they were made of.
    imported: Mutex<HashMap<String, String>>,
}

impl Cluster {
    /// Starts a cluster, telling each step by `say`; one that runs already is as good if it is of that kind.
    ///
    /// # Errors
    /// With the end of the log of the daemon that failed; then nothing runs.
    pub fn up(settings: &Settings, say: &dyn Fn(&str)) -> Result<Cluster> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a cluster needs root: namespaces and control groups are made"
        );
        ensure!((1..=MOST_NODES).contains(&settings.nodes), "a cluster has 1 or {MOST_NODES} nodes");
        fs::create_dir_all(&settings.folder)?;
        let folder = settings.folder.canonicalize()?;
        ensure!(Place::fits(&folder), "{} is too long for the paths of sockets", folder.display());
        let _alone = alone(&folder)?;
        if let Some(running) = Cluster::at(&folder)? {
            match running.trouble() {
                None => return running.if_it_is(settings),
                Some(trouble) => say(&format!("{trouble}: it is ended and started anew")),
            }
            running.end()?;
        }
        // Compiled if need be, and before anything is made: it may fail.
        let pause = engine::pause();
        let _ = fs::remove_dir_all(folder.join("log"));
        let number = registry::claim(&folder)?;
        let place = Place { folder, number, version: settings.version, nodes: settings.nodes };
        let cluster = Cluster { place, imported: Mutex::default() };
        cluster.start(&pause, say).inspect_err(|_| {
            let _ = cluster.end();
        })?;
        Ok(cluster)
    }

    /// The cluster that lives in `folder`, if one does, running or half dead.
    ///
    /// # Errors
    /// If its description cannot be read.
    pub fn at(folder: &Path) -> Result<Option<Cluster>> {
        let Ok(folder) = folder.canonicalize() else { return Ok(None) };
        let Some(number) = registry::number_of(&folder) else { return Ok(None) };
        // A start that was killed early has not written it yet.
        let text = fs::read_to_string(folder.join("cluster.json")).unwrap_or_default();
        let facts: Value = serde_json::from_str(&text).unwrap_or_default();
        let version = facts["version"].as_str().map_or(Ok(Version::default()), str::parse)?;
        let nodes = facts["nodes"].as_u64().and_then(|nodes| u8::try_from(nodes).ok()).unwrap_or(1);
        let place = Place { folder, number, version, nodes };
        Ok(Some(Cluster { place, imported: Mutex::default() }))
    }

    /// The cluster that all tests share: the one that `PEPO_CLUSTER` names by its folder (`cargo xtask test` does so),
    /// else that of `cargo xtask cluster up`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let folder = env::var_os("PEPO_CLUSTER").map_or_else(Cluster::usual_folder, PathBuf::from);
            let found = Cluster::at(&folder).unwrap_or_else(|error| panic!("{error:#}"));
            let trouble = found.as_ref().map_or_else(|| Some("none is there".to_owned()), Cluster::trouble);
            let next = "`cargo xtask cluster up` starts one, `cargo xtask test kubernetes` its own";
            match (found, trouble) {
                (Some(cluster), None) => cluster,
                (_, trouble) => {
                    panic!("no cluster runs in {}; {next}: {}", folder.display(), trouble.unwrap_or_default())
                }
            }
        })
    }

    /// Where `cargo xtask cluster` keeps its cluster if it is told no folder.
    pub fn usual_folder() -> PathBuf {
        programs::home().join(".cache/pepo/cluster")
    }

    /// The folders of all clusters of this machine.
    pub fn all() -> Vec<PathBuf> {
        registry::all()
    }

    /// Ends it, and removes all but its logs.
    ///
    /// # Errors
    /// If something cannot be removed; then it may be called again.
    pub fn down(&self) -> Result<()> {
        let _alone = alone(&self.place.folder)?;
        self.end()
    }

    fn end(&self) -> Result<()> {
        let groups = self.place.groups();
        groups.kill_all()?;
        node::remove_links(&self.place)?;
        groups.remove()?;
        for entry in fs::read_dir(&self.place.folder)?.flatten() {
            let path = entry.path();
            match path.is_dir() {
                _ if path.ends_with("log") || path.ends_with("lock") => {}
                true => {
                    fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?
                }
                false => fs::remove_file(&path)?,
            }
        }
        registry::release(self.place.number)
    }

    fn start(&self, pause: &Image, say: &dyn Fn(&str)) -> Result<()> {
        let begun = Instant::now();
        let say = |what: &str| say(&format!("{:5.1} s  {what}", begun.elapsed().as_secs_f32()));
        let place = &self.place;
        ensure!(
            place.program("kubelet").exists() && place.program("etcd").exists(),
            "Kubernetes {} is not built; `cargo xtask setup --for cluster` builds it",
            place.version
        );
        let facts = json!({"version": place.version.to_string(), "nodes": place.nodes});
        fs::write(place.at("cluster.json"), facts.to_string())?;
        fs::create_dir_all(place.at("log"))?;
        pki::make(place)?;
        control::write_audit_policy(place)?;
        say("certificates");
        node::make_bridge(place)?;
        let mut daemons = vec![control::etcd(place).start(place)?, control::api_server(place).start(place)?];
        for node in place.all_nodes() {
            daemons.push(node::make(place, node)?);
            daemons.push(node::daemons(place, node)?[0].start(place)?);
        }
        for node in place.all_nodes() {
            daemon::until("containerd", Duration::from_secs(30), &mut daemons, || {
                self.runtime_answers(node)
            })?;
        }
        self.import(pause)?;
        say("namespaces and containerd");
        self.start_rest(&mut daemons)?;
        say("API server");
        daemon::until("all nodes are ready", Duration::from_secs(90), &mut daemons, || self.all_ready())?;
        say("nodes are ready");
        Ok(())
    }

    /// What needs the API server.
    fn start_rest(&self, daemons: &mut Vec<Started>) -> Result<()> {
        let place = &self.place;
        daemon::until("the API server is ready", Duration::from_secs(90), daemons, || self.api_answers())?;
        daemons.push(control::controller_manager(place).start(place)?);
        daemons.push(control::scheduler(place).start(place)?);
        for node in place.all_nodes() {
            let [_, kubelet, proxy] = node::daemons(place, node)?;
            daemons.extend([kubelet.start(place)?, proxy.start(place)?]);
        }
        Ok(())
    }

    /// All its daemons, as data.
    fn daemons(&self) -> Result<Vec<Daemon>> {
        let place = &self.place;
        let mut all = vec![control::etcd(place), control::api_server(place)];
        all.extend([control::controller_manager(place), control::scheduler(place)]);
        for node in place.all_nodes() {
            all.extend(node::daemons(place, node)?);
        }
        Ok(all)
    }

    /// What is wrong with a cluster that should run: a daemon that is not there.
    pub fn trouble(&self) -> Option<String> {
        match self.daemons() {
            Err(error) => Some(format!("{error:#}")),
            Ok(all) => {
                let dead = all.iter().find(|daemon| daemon.processes(&self.place).is_empty())?;
                Some(format!("{} does not run; {}", dead.name, daemon::end_of(&self.place.log(&dead.name))))
            }
        }
    }

    /// Kills a daemon (`kube-apiserver`; of a node, `node1/containerd`) and starts it again, until it answers; pods go
    /// on.
    ///
    /// # Errors
    /// If there is no such daemon, or it does not end or start.
    pub fn restart(&self, name: &str) -> Result<()> {
        let all = self.daemons()?;
        let daemon = all.iter().find(|daemon| daemon.name == name);
        let daemon = daemon.with_context(|| format!("no daemon is called {name}"))?;
        daemon.kill(&self.place)?;
        let mut started = [daemon.start(&self.place)?];
        let answers = || match name.split_once('/') {
            Some((node, "containerd")) => self.runtime_answers(node.trim_start_matches("node").parse()?),
            _ => self.api_answers(),
        };
        daemon::until(&format!("{name} answers"), Duration::from_secs(60), &mut started, answers)?;
        // Those that follow it would ask less and less often, the more often it was killed.
        let followers: &[&str] = if name == "kube-apiserver" { &FOLLOWERS } else { &[] };
        followers.iter().try_for_each(|follower| self.restart(follower))
    }

    fn if_it_is(self, settings: &Settings) -> Result<Cluster> {
        let Place { folder, version, nodes, .. } = &self.place;
        if (*version, *nodes) != (settings.version, settings.nodes) {
            let next = format!("`cargo xtask cluster down {}` ends it", folder.display());
            bail!("Kubernetes {version} with {nodes} nodes runs in {}; {next}", folder.display());
        }
        Ok(self)
    }

    /// The folder it lives in.
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.place.version
    }

    /// The names of its nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.place.all_nodes().map(place::name).collect()
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.place.at("conf/admin.kubeconfig")
    }

    /// The built programs of Kubernetes, kubectl among them.
    pub fn programs(&self) -> PathBuf {
        self.place.programs()
    }

    /// The socket of a node's containerd; nodes are counted from 1.
    pub fn containerd(&self, node: u8) -> PathBuf {
        self.place.containerd(node)
    }

    /// Does something in the network of a node.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn in_network_of<T: Send>(&self, node: u8, act: impl FnOnce() -> T + Send) -> Result<T> {
        crate::in_network_of(node::first_process(&self.place, node)?, act)
    }

    /// Where a node's kubelet finds the manifests of static pods.
    pub fn static_pods(&self, node: u8) -> PathBuf {
        self.place.static_pods(node)
    }

    /// Who did what: one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.place.at("log/audit.log")
    }

    /// Every process of the cluster, as this machine numbers them.
    pub fn processes(&self) -> Vec<u32> {
        self.place.groups().all()
    }

    /// Makes an image known to all nodes, unless it is already.
    ///
    /// # Errors
    /// If a containerd refuses it.
    pub fn import(&self, image: &Image) -> Result<()> {
        let made_of = format!("{image:?}");
        let mut imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        if imported.get(image.name()) != Some(&made_of) {
            let archive = engine::docker_archive(image)?;
            for node in self.place.all_nodes() {
                engine::import(&self.containerd(node), archive.path())?;
            }
            imported.insert(image.name().to_owned(), made_of);
        }
        Ok(())
    }

    fn api_answers(&self) -> Result<()> {
        self.kubectl(&["get", "--raw=/readyz"]).map(drop)
    }

    /// A kubelet ends if it does not.
    fn runtime_answers(&self, node: u8) -> Result<()> {
        Runtime::new(&self.containerd(node)).version()
    }

    /// Whether pods can be made: nodes are ready, and the default service account is there.
    fn all_ready(&self) -> Result<()> {
        let path = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status} {end}";
        let states = self.kubectl(&["get", "nodes", "--output", path])?;
        let ready = states.split_whitespace().filter(|state| *state == "True").count();
        ensure!(ready == usize::from(self.place.nodes), "{ready} of {} nodes are ready", self.place.nodes);
        self.kubectl(&["get", "serviceaccount", "default"]).map(drop)
    }
}

/// Held while a cluster starts or ends.
fn alone(folder: &Path) -> Result<File> {
    let lock = File::create(folder.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}
