//! Where one cluster is: files below its folder, names and addresses by its number.

use std::path::{Path, PathBuf};

use super::{Version, groups::Groups};
use crate::programs;

/// The place of one cluster.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) number: u8,
    pub(super) version: Version,
    pub(super) nodes: u8,
}

impl Place {
    /// A folder or file below the cluster's folder.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same as text, for settings and command lines.
    pub(super) fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// The folder of Kubernetes' programs, and etcd.
    pub(super) fn programs(&self) -> PathBuf {
        programs::tools().join(format!("kubernetes-{}/bin", self.version))
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    pub(super) fn log(&self, daemon: &str) -> PathBuf {
        self.at("log").join(format!("{}.log", daemon.replace('/', "-")))
    }

    pub(super) fn groups(&self) -> Groups {
        Groups::new(&self.group())
    }

    /// The name of the control group above all of them; links are named like it.
    pub(super) fn group(&self) -> String {
        format!("pepo-k{}", self.number)
    }

    pub(super) fn bridge(&self) -> String {
        self.group()
    }

    /// The link of a node, at the bridge's side.
    pub(super) fn link(&self, node: u8) -> String {
        format!("{}n{node}", self.group())
    }

    /// Where the API server listens: the bridge's address.
    pub(super) fn api(&self) -> String {
        format!("10.231.{}.1", self.number)
    }

    /// What pods must not reach listens here: an address of this machine's loopback that nobody else uses.
    pub(super) fn loopback(&self) -> String {
        format!("127.231.{}.1", self.number)
    }

    pub(super) fn address(&self, node: u8) -> String {
        format!("10.231.{}.{}", self.number, 10 + node)
    }

    /// The addresses of a node's pods.
    pub(super) fn pods(&self, node: u8) -> String {
        format!("10.232.{}.0/24", self.number * 16 + node)
    }

    /// The addresses of all pods.
    pub(super) fn all_pods(&self) -> String {
        format!("10.232.{}.0/20", self.number * 16)
    }

    pub(super) fn services(&self) -> String {
        format!("10.233.{}.0/20", self.number * 16)
    }

    pub(super) fn service(&self, host: u8) -> String {
        format!("10.233.{}.{host}", self.number * 16)
    }

    pub(super) fn all_nodes(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.nodes
    }

    /// The folder of a node.
    pub(super) fn node(&self, node: u8) -> PathBuf {
        self.at(&name(node))
    }

    /// The folder in which a node's kubelet finds static pods.
    pub(super) fn static_pods(&self, node: u8) -> PathBuf {
        self.node(node).join("manifests")
    }

    /// The socket of a node's containerd, as seen from this machine.
    pub(super) fn containerd(&self, node: u8) -> PathBuf {
        self.node(node).join("run/containerd/containerd.sock")
    }

    /// Whether a path of a socket is short enough for the kernel.
    pub(super) fn fits(folder: &Path) -> bool {
        folder.join("node1/run/containerd/containerd.sock.ttrpc").as_os_str().len() < 108
    }
}

/// A node's name.
pub(super) fn name(node: u8) -> String {
    format!("node{node}")
}
