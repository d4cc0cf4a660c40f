//! The Engine API (v1.41, Docker 20.10 and later; Podman answers it as well): images in, containers on and off.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    Api, Network, RunOptions, Started,
    http::{Body, request},
};
use crate::image::Image;

/// An engine at a unix socket.
pub(super) struct EngineApi {
    pub(super) socket: PathBuf,
    /// Below which control group containers are put; empty for the engine's own choice.
    pub(super) cgroup_parent: String,
    /// Docker's default log driver is `json-file`, Podman's `k8s-file`.
    pub(super) log_driver: &'static str,
}

impl EngineApi {
    fn call(&self, method: &str, path: &str, body: Body<'_>) -> Result<Vec<u8>> {
        request(&self.socket, method, &format!("/v1.41{path}"), body)
    }

    fn json(&self, method: &str, path: &str, body: Body<'_>) -> Result<Value> {
        let answer = self.call(method, path, body)?;
        serde_json::from_slice(&answer).with_context(|| format!("{path} answers no JSON"))
    }

    fn host_config(&self, options: &RunOptions) -> Value {
        let network = match options.network {
            Network::None => "none",
            Network::Host => "host",
            Network::Bridge => "bridge",
        };
        let pid = match options.pid.as_str() {
            "" | "host" => options.pid.clone(),
            other => format!("container:{other}"),
        };
        json!({
            "NetworkMode": network,
            "PidMode": pid,
            "ReadonlyRootfs": options.read_only,
            "CapDrop": options.cap_drop,
            "CapAdd": options.cap_add,
            "SecurityOpt": options.security_opt,
            "Memory": options.memory.unwrap_or(0),
            "CgroupParent": self.cgroup_parent,
            "LogConfig": {"Type": self.log_driver, "Config": {}},
        })
    }

    fn config(&self, image: &Image, options: &RunOptions) -> Value {
        let command = [image.command_line(), options.args.as_slice()].concat();
        let mut config = json!({
            "Image": image.name(),
            "Cmd": command,
            "Env": options.env,
            "Labels": options.labels,
            "HostConfig": self.host_config(options),
        });
        if !options.user.is_empty() {
            config["User"] = json!(options.user);
        }
        if let Some(health) = &options.health {
            let test: Vec<_> = [vec!["CMD".to_owned()], health.command.clone()].concat();
            config["Healthcheck"] = json!({
                "Test": test,
                "Interval": health.interval.as_nanos() as u64,
                "Timeout": health.timeout.as_nanos() as u64,
                "Retries": health.retries,
            });
        }
        config
    }
}

impl Api for EngineApi {
    fn ready(&self) -> Result<()> {
        self.call("GET", "/_ping", Body::None).map(drop)
    }

    fn load(&self, archive: &Path) -> Result<()> {
        let archive = File::open(archive)?;
        let answer = self.call("POST", "/images/load?quiet=1", Body::Tar(archive))?;
        let text = String::from_utf8_lossy(&answer);
        if text.contains("errorDetail") {
            bail!("the image was refused: {text}");
        }
        Ok(())
    }

    fn run(&self, image: &Image, options: &RunOptions) -> Result<Started> {
        let create = format!("/containers/create?name={}", options.name);
        let made = self.json("POST", &create, Body::Json(&self.config(image, options)))?;
        let id = made["Id"].as_str().context("no id")?.to_owned();
        let started = self.call("POST", &format!("/containers/{id}/start"), Body::None);
        let facts = started.and_then(|_| self.inspect(&id));
        let pid = facts.as_ref().ok().and_then(|facts| facts["State"]["Pid"].as_u64()).unwrap_or(0);
        if pid == 0 {
            let state = facts.map(|facts| facts["State"].to_string());
            self.remove(&id)?;
            bail!("it does not run: {}", state.unwrap_or_else(|error| format!("{error:#}")));
        }
        let facts = facts?;
        let log = facts["LogPath"].as_str().filter(|path| !path.is_empty());
        let log = log.or(facts["HostConfig"]["LogConfig"]["Path"].as_str()).unwrap_or_default();
        Ok(Started { id, pid: u32::try_from(pid)?, log: PathBuf::from(log) })
    }

    fn remove(&self, id: &str) -> Result<()> {
        match self.call("DELETE", &format!("/containers/{id}?force=1&v=1"), Body::None) {
            Err(error) if error.to_string().contains(": 404: ") => Ok(()),
            other => other.map(drop),
        }
    }

    fn exec(&self, id: &str, line: &[&str]) -> Result<(i64, String)> {
        let config = json!({"Cmd": line, "AttachStdout": true, "AttachStderr": true, "Tty": false});
        let made = self.json("POST", &format!("/containers/{id}/exec"), Body::Json(&config))?;
        let exec = made["Id"].as_str().context("no id")?.to_owned();
        let how = json!({"Detach": false, "Tty": false});
        let said = self.call("POST", &format!("/exec/{exec}/start"), Body::Json(&how))?;
        let ended = self.json("GET", &format!("/exec/{exec}/json"), Body::None)?;
        Ok((ended["ExitCode"].as_i64().context("it still runs")?, unframed(&said)))
    }

    fn stop(&self, id: &str, grace: Duration) -> Result<i64> {
        let stop = self.call("POST", &format!("/containers/{id}/stop?t={}", grace.as_secs()), Body::None);
        stop.map(drop)
            .or_else(|error| if error.to_string().contains(": 304: ") { Ok(()) } else { Err(error) })?;
        self.inspect(id)?["State"]["ExitCode"].as_i64().context("no exit status")
    }

    fn list(&self) -> Result<Vec<String>> {
        let all = self.json("GET", "/containers/json?all=1", Body::None)?;
        let all = all.as_array().context("no list of containers")?;
        Ok(all.iter().filter_map(|one| one["Id"].as_str().map(str::to_owned)).collect())
    }

    fn inspect(&self, id: &str) -> Result<Value> {
        self.json("GET", &format!("/containers/{id}/json"), Body::None)
    }
}

/// Both streams of a program without a terminal, as they came: each portion has a head of eight bytes, the length last.
fn unframed(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((&[_, _, _, _, a, b, c, d], rest)) = bytes.split_first_chunk::<8>() {
        let length = rest.len().min(u32::from_be_bytes([a, b, c, d]) as usize);
        text.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    String::from_utf8_lossy(&text).into_owned()
}
