//! What the surroundings say about engines, read once.
//!
//! Everything else in this crate gets an [`Environment`] and never asks the process itself, so tests and servers can
//! say what they like.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The environment variables this crate reads, and what each is for.
pub const VARIABLES: &[(&str, &str)] = &[
    ("DOCKER_HOST", "address of Docker's engine: unix://, tcp://, https://, ssh:// or npipe://"),
    ("DOCKER_CONTEXT", "name of the docker context to use; DOCKER_HOST goes first"),
    ("DOCKER_TLS_VERIFY", "set to anything: the engine at DOCKER_HOST is dialled with TLS, as for https://"),
    ("DOCKER_CERT_PATH", "folder of ca.pem, cert.pem and key.pem for TLS, instead of ~/.docker"),
    ("DOCKER_CONFIG", "folder of docker's config.json and contexts, instead of ~/.docker"),
    ("CONTAINER_HOST", "address of Podman's service: unix://, tcp:// or ssh://"),
    ("CONTAINER_RUNTIME_ENDPOINT", "address of the CRI runtime; --cri-socket goes first"),
    ("KUBECONFIG", "kubeconfig files, as kubectl has them; --kubeconfig goes first"),
    (
        "HTTPS_PROXY",
        "proxy to a cluster's API server, http:// or socks5://; a kubeconfig's proxy-url goes first",
    ),
    ("https_proxy", "as HTTPS_PROXY, which goes first"),
    (
        "NO_PROXY",
        "hosts, domains and networks, with commas between, to which no proxy leads; to this machine none ever does",
    ),
    ("no_proxy", "as NO_PROXY, which goes first"),
    ("XDG_RUNTIME_DIR", "folder of the sockets of rootless engines"),
    ("HOME", "where ~/.docker and ~/.kube are"),
    ("USERPROFILE", "as HOME, on Windows"),
];

/// The variables, this user's number, and below which folder absolute paths start.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    uid: Option<u32>,
    root: Option<PathBuf>,
}

impl Environment {
    /// Of this process.
    #[must_use]
    pub fn of_this_process() -> Environment {
        let variables = VARIABLES
            .iter()
            .filter_map(|&(name, _)| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect();
        Environment { variables, uid: own_uid(), root: None }
    }

    /// Of these variables alone; the usual sockets are looked for below `root` instead of `/`.
    #[must_use]
    pub fn of<const N: usize>(root: &Path, variables: [(&str, &str); N]) -> Environment {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Environment { variables, uid: None, root: Some(root.to_owned()) }
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The user's own folder.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }

    /// Where docker's command keeps its settings.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        self.get("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(self.home()?.join(".docker")))
    }

    /// Where docker's command has what TLS needs, unless a context says so.
    pub(crate) fn docker_certificates(&self) -> Option<PathBuf> {
        self.get("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| self.docker_config())
    }

    /// Where the sockets of this user's own engines are.
    pub(crate) fn runtime_folder(&self) -> Option<PathBuf> {
        let usual = || self.uid.filter(|&uid| uid != 0).map(|uid| PathBuf::from(format!("/run/user/{uid}")));
        self.get("XDG_RUNTIME_DIR").map(PathBuf::from).or_else(usual)
    }

    /// An absolute path of this machine.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(absolute.trim_start_matches('/')),
            None => PathBuf::from(absolute),
        }
    }
}

#[cfg(unix)]
fn own_uid() -> Option<u32> {
    Some(rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn own_uid() -> Option<u32> {
    None
}
