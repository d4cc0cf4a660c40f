//! dockerd by hand.

use std::{fs, path::Path};

use anyhow::Result;

use super::{
    Engine, Kind,
    api::EngineApi,
    supervisor::{self, Supervisor},
};
use crate::programs;

/// Starts Docker.
pub struct Docker;

impl Docker {
    /// A new dockerd whose containers outlive its restarts.
    ///
    /// # Panics
    /// If it does not start; this needs root and Docker's programs.
    pub fn start() -> Engine {
        Docker::start_with(&["--live-restore".to_owned()])
    }

    /// A new dockerd with these flags.
    ///
    /// # Panics
    /// As [`Docker::start`].
    pub fn start_with(flags: &[String]) -> Engine {
        try_start(flags).unwrap_or_else(|error| panic!("Docker: {error:#}"))
    }
}

fn try_start(flags: &[String]) -> Result<Engine> {
    let folder = supervisor::folder("docker")?;
    let socket = folder.join("docker.sock");
    // Not the machine's own configuration.
    fs::write(folder.join("daemon.json"), "{}")?;
    let line = [command_line(&folder)?, flags.to_vec()].concat();
    let supervisor = Supervisor::start(&folder, "", &line)?;
    let api = EngineApi { socket: socket.clone(), cgroup_parent: String::new(), log_driver: "json-file" };
    Ok(Engine::new(Kind::Docker, socket, Box::new(api), supervisor))
}

fn command_line(folder: &Path) -> Result<Vec<String>> {
    let at = |name: &str| folder.join(name).display().to_string();
    Ok(vec![
        programs::find("dockerd")?.display().to_string(),
        format!("--host=unix://{}", at("docker.sock")),
        format!("--config-file={}", at("daemon.json")),
        format!("--data-root={}", at("data")),
        format!("--exec-root={}", at("exec")),
        format!("--pidfile={}", at("docker.pid")),
        format!("--cgroup-parent={}", supervisor::cgroup(folder)),
        "--log-level=warn".to_owned(),
        "--iptables=false".to_owned(),
        "--ip6tables=false".to_owned(),
        "--ip-masq=false".to_owned(),
        "--userland-proxy=false".to_owned(),
    ])
}
