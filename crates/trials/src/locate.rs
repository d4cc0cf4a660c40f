//! From a container's name to its process: the time of it over a socket that is open already, and of `docker inspect`.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pepo_platform::{Environment, Options, Platforms};
use pepo_process::find;
use pepo_testkit::{Engine, Image, Kind, Life as _, RunOptions, Variant, fixtures};
use pepo_wire::agent::{ContainerTarget, Target, target};

/// Measured once for each round of the benchmark.
const EACH: usize = 15;

/// Medians.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// By Pepo: asked of the engine, and proven.
    pub located: Duration,
    /// By `docker inspect`.
    pub inspected: Duration,
}

/// Takes the times with a dockerd of our own.
///
/// # Errors
/// No dockerd, no `docker`, or a container that is not found.
pub async fn docker(rounds: usize) -> Result<Times> {
    let engine = Engine::shared(Kind::Docker);
    let image = Image::of(&fixtures::c(Variant::debug()));
    let name = format!("bench-{}", std::process::id());
    let container = engine.run(&image, &RunOptions::named(&name).args(&["1000"]));
    container.wait_started();
    let nowhere = tempfile::tempdir()?;
    let address = engine.address();
    let environment = Environment::of(
        nowhere.path(),
        [("DOCKER_HOST", address.as_str()), ("CONTAINER_HOST", ""), ("CONTAINER_RUNTIME_ENDPOINT", "")],
    );
    let platforms = Platforms::find(&Options { environment, ..Options::usual(None) });
    let wanted = format!("docker/{name}").parse()?;
    platforms.locate(&wanted).await.map_err(anyhow::Error::msg)?;
    let (mut located, mut inspected) = (Vec::new(), Vec::new());
    for _ in 0..rounds * EACH {
        let started = Instant::now();
        let found = platforms.locate(&wanted).await.map_err(anyhow::Error::msg)?.located;
        let hint = found.pid.map_or(0, |pid| pid.get());
        let container_target =
            ContainerTarget { id: found.container_id.clone(), name: name.clone(), pid_hint: hint };
        let asked = Target { kind: Some(target::Kind::Container(container_target)), selector: None };
        let process = find::resolve(&asked).map_err(anyhow::Error::msg)?;
        located.push(started.elapsed());
        ensure!(process.pid().get() == container.pid(), "{} is not {}", process.pid(), container.pid());
        let started = Instant::now();
        let inspect = pepo_testkit::command("docker")
            .args(["--host", &address, "inspect", "--format", "{{.State.Pid}}", &name])
            .stdin(Stdio::null())
            .output()?;
        inspected.push(started.elapsed());
        ensure!(inspect.status.success(), "docker inspect: {}", String::from_utf8_lossy(&inspect.stderr));
    }
    Ok(Times { located: median(located), inspected: median(inspected) })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
