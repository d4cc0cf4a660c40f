//! Every platform against its real engine: the same bodies for dockerd, podman with and without root, containerd and CRI-O.

/// Behind TLS.
mod tls;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bollard::ClientVersion;
use pepo_agent::AgentConfig;
use pepo_client::Agent;
use pepo_debug::tools::Tools;
use pepo_platform::{
    AgentBinary, Environment, HELPER_LABEL, HealthCheck, How, Io, LocalAgent, Options, Platforms,
    ReachPolicy, State,
};
use pepo_testkit::{Container, Engine, Image, Kind, Life as _, RunOptions, Variant, fixtures};
use pepo_wire::{
    Code, Failure,
    agent::{Grant, OpenSession, Right, StackRequest},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How a test of engines looks for targets: at this engine alone.
struct At {
    options: Options,
    /// Where no usual socket is.
    _nowhere: TempDir,
    prefix: &'static str,
}

impl At {
    fn engine(engine: &Engine) -> At {
        At::engines(&[engine])
    }

    /// At these engines, and at no other socket of this machine.
    fn engines(engines: &[&Engine]) -> At {
        let nowhere = tempfile::tempdir().unwrap();
        let address = |kinds: &[Kind]| {
            let engine = engines.iter().find(|engine| kinds.contains(&engine.kind()));
            engine.map(|engine| engine.address()).unwrap_or_default()
        };
        let environment = Environment::of(
            nowhere.path(),
            [
                ("DOCKER_HOST", &address(&[Kind::Docker])),
                ("CONTAINER_HOST", &address(&[Kind::Podman, Kind::PodmanRootless])),
                ("CONTAINER_RUNTIME_ENDPOINT", &address(&[Kind::Containerd, Kind::CriO])),
            ],
        );
        let prefix = match engines[0].kind() {
            Kind::Docker => "docker",
            Kind::Podman | Kind::PodmanRootless => "podman",
            Kind::Containerd | Kind::CriO => "cri",
        };
        At { options: Options { environment, ..Options::usual(None) }, prefix, _nowhere: nowhere }
    }

    /// With an agent in this process, as the command has on Linux.
    fn with_agent(mut self) -> At {
        self.options.local = Some(Arc::new(Local { folder: tempfile::tempdir().unwrap() }));
        self
    }

    fn policy(mut self, policy: ReachPolicy) -> At {
        self.options.policy = policy;
        self
    }

    fn binary(mut self, binary: AgentBinary) -> At {
        self.options.binary = binary;
        self
    }

    fn platforms(&self) -> Platforms {
        Platforms::find(&self.options)
    }

    /// A name with this engine's kind before it.
    fn name(&self, name: &str) -> pepo_wire::name::TargetName {
        format!("{}/{name}", self.prefix).parse().unwrap()
    }
}

/// An agent in this process.
struct Local {
    folder: TempDir,
}

#[async_trait]
impl LocalAgent for Local {
    async fn connect(&self) -> Result<Box<dyn Io>, Failure> {
        let run = self.folder.path().join("run");
        let config = AgentConfig::new(Tools::default(), run, pepo_testkit::pepo());
        Ok(Box::new(pepo_agent::serve_in_process(config).0))
    }
}

/// The fixture that ticks, in an image without a shell.
fn ticking() -> Image {
    Image::of(&fixtures::c(Variant::debug().linked_statically()))
}

/// A container that ticks, under a name no other test uses.
fn run(engine: &Engine, name: &str, mut options: RunOptions) -> Container {
    options.name = format!("{name}-{}", std::process::id());
    let container = engine.run(&ticking(), &options);
    container.wait_started();
    container
}

/// Kills a container's main process and waits until the engine knows.
async fn kill(container: &Container, at: &At) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(container.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let listed = at.platforms().list_all().await.listed;
        let state = listed.iter().find(|one| one.container_id == container.id()).map(|one| one.state.clone());
        if state == Some(State::Exited) {
            return;
        }
        assert!(Instant::now() < end, "the engine still says {state:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The engine of a container, asked without Pepo.
fn bollard(container: &Container) -> bollard::Docker {
    let socket = container.engine().socket().display().to_string();
    bollard::Docker::connect_with_unix(&socket, 20, &ClientVersion { major_version: 1, minor_version: 41 })
        .unwrap()
}

/// The names and states of the helpers an engine has for this container, asked for without Pepo. (Bollard's list fails as a whole
/// while Podman says "stopped" of one container.)
async fn helpers(container: &Container) -> Vec<String> {
    let mut stream = tokio::net::UnixStream::connect(container.engine().socket()).await.unwrap();
    let filters = format!("%7B%22label%22%3A%5B%22{HELPER_LABEL}%3D{}%22%5D%7D", container.id());
    let request =
        format!("GET /v1.41/containers/json?all=1&filters={filters} HTTP/1.0\r\nHost: engine\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    let list: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
    list.iter().map(|one| format!("{} {}", one["Names"], one["State"])).collect()
}

/// The failure of what must not succeed.
fn failed<T>(result: Result<T, Failure>) -> Failure {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(failure) => failure,
    }
}

/// One body for every engine.
async fn lists_and_locates(kind: Kind) {
    let engine = Engine::shared(kind);
    let at = At::engine(&engine);
    let mut options = RunOptions::default();
    options.labels.insert("dev.pepo.test".into(), "yes".into());
    let container = run(&engine, "lister", options);
    let platforms = at.platforms();

    let listing = platforms.list_all().await;
    assert!(listing.failed.is_empty(), "{:?}", listing.failed);
    let listed = listing.listed.iter().find(|one| one.container_id == container.id()).expect("it is listed");
    assert_eq!(listed.state, State::Running);
    assert_eq!(listed.pid.map(|pid| pid.get()), Some(container.pid()));
    assert_eq!(listed.labels.get("dev.pepo.test").map(String::as_str), Some("yes"));
    assert!(
        listed
            .created
            .is_some_and(|created| created.elapsed().unwrap_or_default() < Duration::from_secs(600))
    );
    assert!(!listed.image.is_empty());

    let short = container.id()[..12].to_owned();
    for name in [listed.name.name.clone(), container.id().to_owned(), short, container.id()[..32].to_owned()]
    {
        let found = platforms.locate(&at.name(&name)).await.unwrap();
        assert_eq!(found.located.container_id, container.id(), "{name}");
        assert_eq!(found.located.pid.map(|pid| pid.get()), Some(container.pid()), "{name}");
        assert_eq!(found.located.name, listed.name, "{name}");
        let bare = platforms.locate(&name.parse().unwrap()).await.unwrap();
        assert_eq!(bare.located.container_id, container.id(), "bare {name}");
    }
    let near = failed(platforms.locate(&at.name(&format!("{}x", listed.name.name))).await);
    assert_eq!(near.code(), Code::TargetNotFound);
    assert!(near.hints[0].text.contains(&listed.name.to_string()), "{near:?}");
    for name in ["no-such-target-at-all", "..", "a%2Fb", "é"] {
        assert_eq!(failed(platforms.locate(&at.name(name)).await).code(), Code::TargetNotFound, "{name}");
    }

    kill(&container, &at).await;
    let ended = failed(platforms.locate(&at.name(container.id())).await);
    assert_eq!(ended.code(), Code::NotRunning);
    assert!(ended.to_string().contains("exited"), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_containers_are_listed_and_located() {
    lists_and_locates(Kind::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_containers_are_listed_and_located() {
    lists_and_locates(Kind::Podman).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rootless_podman_containers_are_listed_and_located() {
    lists_and_locates(Kind::PodmanRootless).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_containers_are_listed_and_located() {
    lists_and_locates(Kind::Containerd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crio_containers_are_listed_and_located() {
    lists_and_locates(Kind::CriO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_gives_the_pause_budget() {
    for kind in [Kind::Docker, Kind::Podman] {
        let engine = Engine::shared(kind);
        let at = At::engine(&engine);
        let check = pepo_testkit::HealthCheck {
            command: vec!["/no/such/program".into()],
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            retries: 4,
        };
        let container = run(&engine, "health", RunOptions { health: Some(check), ..RunOptions::default() });
        let expected =
            HealthCheck { interval: Duration::from_secs(10), timeout: Duration::from_secs(2), retries: 4 };
        let platforms = at.platforms();
        let found = platforms.locate(&at.name(container.name())).await.unwrap();
        assert_eq!(found.located.health, Some(expected), "{kind:?}");
        assert_eq!(found.located.health_pause_budget(), Some(Duration::from_secs(29)), "{kind:?}");
        let listed = platforms.list_all().await.listed;
        assert_eq!(
            listed.iter().find(|one| one.container_id == container.id()).unwrap().health,
            Some(expected)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_name_on_two_engines_is_ambiguous_and_a_full_one_is_not() {
    let (docker, podman) = (Engine::shared(Kind::Docker), Engine::shared(Kind::Podman));
    let at = At::engines(&[&docker, &podman]);
    let (one, other) =
        (run(&docker, "twin", RunOptions::default()), run(&podman, "twin", RunOptions::default()));
    let platforms = at.platforms();
    let both = failed(platforms.locate(&one.name().parse().unwrap()).await);
    assert_eq!(both.code(), Code::TargetAmbiguous);
    for (prefix, container) in [("docker", &one), ("podman", &other)] {
        let name = format!("{prefix}/{}", container.name());
        assert!(both.to_string().contains(&name), "{both}");
        assert_eq!(
            platforms.locate(&name.parse().unwrap()).await.unwrap().located.container_id,
            container.id()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_ended_is_named_and_the_others_are_shown() {
    for kind in [Kind::Docker, Kind::Podman, Kind::Containerd, Kind::CriO] {
        let (mortal, alive) = (
            Engine::start(kind),
            Engine::shared(if kind == Kind::Docker { Kind::Podman } else { Kind::Docker }),
        );
        let at = At::engines(&[&mortal, &alive]);
        let platforms = at.platforms();
        let container = run(&alive, "survivor", RunOptions::default());
        assert!(platforms.list_all().await.failed.is_empty(), "{kind:?}");
        mortal.end();
        let begin = Instant::now();
        let listing = platforms.list_all().await;
        assert!(begin.elapsed() < Duration::from_secs(4), "{kind:?}: {:?}", begin.elapsed());
        assert!(listing.listed.iter().any(|one| one.container_id == container.id()), "{kind:?}");
        let [(name, failure)] = listing.failed.as_slice() else { panic!("{kind:?}: {:?}", listing.failed) };
        assert!(name.starts_with(at.prefix), "{name}");
        assert_eq!(failure.code(), Code::EngineUnreachable, "{kind:?}: {failure}");
        assert_eq!(
            failed(platforms.locate(&at.name("any")).await).code(),
            Code::EngineUnreachable,
            "{kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_dialled_again_after_the_engine_was_restarted() {
    for kind in [Kind::Docker, Kind::Containerd, Kind::CriO] {
        let engine = Engine::start(kind);
        let at = At::engine(&engine);
        let platforms = at.platforms();
        assert!(platforms.list_all().await.failed.is_empty());
        engine.restart();
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let listing = platforms.list_all().await;
            if listing.failed.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "{kind:?}: {:?}", listing.failed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The engines that can make a helper.
const WITH_HELPERS: [Kind; 3] = [Kind::Docker, Kind::Podman, Kind::PodmanRootless];

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_cannot_start_is_removed_and_says_at_which_step() {
    let missing = AgentBinary::File("/no/such/binary".into());
    let text = AgentBinary::File("/etc/hostname".into());
    // A static program that is not Pepo: it ends at once and says why.
    let other = AgentBinary::File("/bin/busybox".into());
    for kind in WITH_HELPERS {
        let engine = Engine::shared(kind);
        let container = run(&engine, "stubborn", RunOptions::default());
        for (binary, words) in
            [(&missing, "/no/such/binary"), (&text, "not an ELF file"), (&other, "applet not found")]
        {
            let at = At::engine(&engine).policy(ReachPolicy::Helper).binary(binary.clone());
            let found = at.platforms().locate(&at.name(container.name())).await.unwrap();
            let failure = failed(found.reach().await);
            assert_eq!(failure.code(), Code::AgentNotStarted, "{kind:?}: {failure}");
            assert!(failure.to_string().contains(words), "{kind:?}: {failure}");
            assert!(failure.what.contains("failed to"), "{failure}");
        }
        assert_eq!(helpers(&container).await, [""; 0], "{kind:?}");
        container.assert_goes_on();
    }
}

/// The median time of a name to its process, over sockets that are open already.
async fn time_to_pid(kind: Kind) -> Duration {
    let engine = Engine::shared(kind);
    let at = At::engine(&engine);
    let container = run(&engine, "timed", RunOptions::default());
    let platforms = at.platforms();
    let name = at.name(container.id());
    let mut times = Vec::new();
    for _ in 0..31 {
        let begin = Instant::now();
        let found = platforms.locate(&name).await.unwrap();
        times.push(begin.elapsed());
        assert_eq!(found.located.pid.map(|pid| pid.get()), Some(container.pid()));
    }
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_its_process_in_milliseconds_once_the_socket_is_open() {
    for kind in [Kind::Docker, Kind::Podman, Kind::Containerd, Kind::CriO] {
        let median = time_to_pid(kind).await;
        // The benchmark's goal is 2 ms; here, beside other tests, only a new dial each time would show.
        assert!(median < Duration::from_millis(50), "{kind:?}: {median:?}");
    }
}

/// One body for every engine.
async fn reaches_in_process(kind: Kind) {
    let engine = Engine::shared(kind);
    let at = At::engine(&engine).with_agent();
    let container = run(&engine, "near", RunOptions::default());
    let found = at.platforms().locate(&at.name(container.id())).await.unwrap();
    let reached = found.reach().await.unwrap();
    assert_eq!(reached.how, How::InProcess);
    let proof = reached.proof.expect("the agent has proven the process");
    assert_eq!((proof.pid.get(), proof.container_id.as_str()), (container.pid(), container.id()));
    assert!(proof.start_time > 0 && proof.pid_namespace > 0);

    let agent = Agent::connect(reached.io).await.unwrap();
    let processes = agent.list(Some(reached.target)).await.unwrap();
    let [process] = processes.as_slice() else { panic!("{processes:?}") };
    assert_eq!((process.agent_pid, process.container_id.as_str()), (container.pid(), container.id()));
    drop(agent);
    reached.leave.leave().await.unwrap();
    container.assert_goes_on();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_containers_are_reached_in_process() {
    reaches_in_process(Kind::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_containers_are_reached_in_process() {
    reaches_in_process(Kind::Podman).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rootless_podman_containers_are_reached_in_process() {
    reaches_in_process(Kind::PodmanRootless).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_containers_are_reached_in_process() {
    reaches_in_process(Kind::Containerd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crio_containers_are_reached_in_process() {
    reaches_in_process(Kind::CriO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_knows_containers_of_any_engine_and_bare_processes() {
    for kind in Kind::ALL {
        let engine = Engine::shared(kind);
        let container = run(&engine, "hosted", RunOptions::default());
        // No socket of the engine's is asked.
        let mut at = At::engine(&engine).with_agent();
        at.options.on = Some(pepo_wire::name::Kind::Host);
        let platforms = at.platforms();
        let listed = platforms.list_all().await.listed;
        let one = listed.iter().find(|one| one.container_id == container.id()).expect("it is seen");
        assert_eq!(one.pid.map(|pid| pid.get()), Some(container.pid()), "{kind:?}");
        for name in
            [one.name.to_string(), format!("host/{}", container.id()), format!("pid/{}", container.pid())]
        {
            let found = platforms.locate(&name.parse().unwrap()).await.unwrap();
            let reached = found.reach().await.unwrap();
            assert_eq!(reached.proof.as_ref().unwrap().pid.get(), container.pid(), "{kind:?} {name}");
            let processes =
                Agent::connect(reached.io).await.unwrap().list(Some(reached.target)).await.unwrap();
            assert_eq!(processes[0].agent_pid, container.pid(), "{kind:?} {name}");
        }
    }
}

/// One body for every engine that can make a helper.
async fn reaches_by_helper(kind: Kind, options: RunOptions) {
    let engine = Engine::shared(kind);
    let at = At::engine(&engine).policy(ReachPolicy::Helper).binary(AgentBinary::File(pepo_testkit::pepo()));
    let container = run(&engine, "far", options);
    let (logs, images) = (container.logs(), images(&container).await);
    let found = at.platforms().locate(&at.name(container.id())).await.unwrap();
    let reached = found.reach().await.unwrap();
    let How::Helper { container: helper } = &reached.how else { panic!("{:?}", reached.how) };
    assert!(helper.starts_with("pepo-helper-"), "{helper}");
    assert_eq!(helpers(&container).await.len(), 1);

    let agent = Agent::connect(reached.io).await.unwrap();
    let processes = agent.list(Some(reached.target.clone())).await.unwrap();
    let [process] = processes.as_slice() else { panic!("{kind:?}: {processes:?}") };
    // In the target's PID namespace it is the first process, under the same id as outside.
    assert_eq!((process.agent_pid, process.container_id.as_str()), (1, container.id()), "{kind:?}");
    for (act, verdict) in [("look", &process.look), ("stop", &process.stop)] {
        assert!(verdict.as_ref().is_some_and(|verdict| verdict.yes), "{kind:?}: {act}: {verdict:?}");
    }
    // Memory, registers and files are the target user's alone.
    let request = StackRequest { target: Some(reached.target.clone()), thread: 0, ..StackRequest::default() };
    let stack = agent.stack(request).await.unwrap();
    let functions: Vec<&str> =
        stack.threads.iter().flat_map(|thread| &thread.frames).map(|frame| frame.function.as_str()).collect();
    assert!(functions.contains(&"tick_for_ever"), "{kind:?}: {stack:?}");
    let program = &process.command_line[0];
    assert!(
        agent.read_file(reached.target, program, 0).await.unwrap().starts_with(b"\x7fELF"),
        "{kind:?}: {program}"
    );

    drop(agent);
    reached.leave.leave().await.unwrap();
    assert_eq!(helpers(&container).await, [""; 0], "{kind:?}");
    assert_eq!(self::images(&container).await, images, "{kind:?}");
    container.assert_goes_on();
    assert!(container.logs().starts_with(&logs) && !container.logs().contains("pepo-agent"));
}

/// The images an engine has.
async fn images(container: &Container) -> Vec<String> {
    let images =
        bollard(container).list_images(None::<bollard::query_parameters::ListImagesOptions>).await.unwrap();
    let mut images: Vec<String> = images.into_iter().map(|image| image.id).collect();
    images.sort();
    images
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_containers_are_reached_by_a_helper() {
    reaches_by_helper(Kind::Docker, RunOptions::default()).await;
    reaches_by_helper(Kind::Docker, RunOptions::restricted("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_containers_are_reached_by_a_helper() {
    reaches_by_helper(Kind::Podman, RunOptions::default()).await;
    reaches_by_helper(Kind::Podman, RunOptions::restricted("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rootless_podman_containers_are_reached_by_a_helper() {
    reaches_by_helper(Kind::PodmanRootless, RunOptions::default()).await;
    reaches_by_helper(Kind::PodmanRootless, RunOptions::restricted("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reach_that_is_cancelled_leaves_no_helper() {
    for kind in WITH_HELPERS {
        let engine = Engine::shared(kind);
        let at =
            At::engine(&engine).policy(ReachPolicy::Helper).binary(AgentBinary::File("/bin/busybox".into()));
        let container = run(&engine, "cancelled", RunOptions::default());
        let found = at.platforms().locate(&at.name(container.id())).await.unwrap();
        // At whatever step it is dropped: nothing may stay.
        for millis in [5, 20, 50, 100, 150, 200] {
            let _ = tokio::time::timeout(Duration::from_millis(millis), found.reach()).await;
        }
        until_no_helper(&container).await;
        container.assert_goes_on();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_predecessor_left_is_removed_by_the_next_reach() {
    for kind in WITH_HELPERS {
        let engine = Engine::shared(kind);
        let at =
            At::engine(&engine).policy(ReachPolicy::Helper).binary(AgentBinary::File("/bin/busybox".into()));
        let container = run(&engine, "orphan", RunOptions::default());
        // As a helper of a process of this boot and PID namespace that has ended.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let maker = format!("{} {} {} 1", boot.trim(), namespace.display(), std::process::id());
        let image = Image::of(&fixtures::c(Variant::debug().linked_statically()));
        let labels = [(HELPER_LABEL, container.id()), ("dev.pepo.helper.creator", &maker)];
        let body = bollard::models::ContainerCreateBody {
            image: Some(image.name().to_owned()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..Default::default()
        };
        let none = None::<bollard::query_parameters::CreateContainerOptions>;
        bollard(&container).create_container(none, body).await.unwrap();
        assert_eq!(helpers(&container).await.len(), 1, "{kind:?}");
        let names: Vec<String> =
            at.platforms().list_all().await.listed.iter().map(|one| one.name.name.clone()).collect();
        assert!(names.contains(&container.name().to_owned()), "{names:?}");

        let found = at.platforms().locate(&at.name(container.id())).await.unwrap();
        failed(found.reach().await);
        assert_eq!(helpers(&container).await, [""; 0], "{kind:?}");
    }
}

/// Waits until an engine has no helper for this container any more.
async fn until_no_helper(container: &Container) {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let helpers = helpers(container).await;
        if helpers.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{helpers:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_goes_by_itself_when_its_client_is_gone() {
    for kind in WITH_HELPERS {
        let engine = Engine::shared(kind);
        // As on a machine that is not Linux: no agent in this process.
        let at = At::engine(&engine).binary(AgentBinary::File(pepo_testkit::pepo()));
        let container = run(&engine, "lonely", RunOptions::default());
        let found = at.platforms().locate(&at.name(container.id())).await.unwrap();
        let reached = found.reach().await.unwrap();
        assert_eq!(helpers(&container).await.len(), 1, "{kind:?}");
        // A killed client removes nothing: its stream ends, that is all.
        std::mem::forget(reached.leave);
        drop(reached.io);
        until_no_helper(&container).await;
        container.assert_goes_on();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_joins_a_target_in_a_user_namespace_of_its_own() {
    let engine = Engine::shared(Kind::PodmanRootless);
    let at = At::engine(&engine).policy(ReachPolicy::Helper).binary(AgentBinary::File(pepo_testkit::pepo()));
    // Something that runs, for its engine and image.
    let other = run(&engine, "keeper", RunOptions::default());
    let docker = bollard(&other);
    let body = bollard::models::ContainerCreateBody {
        image: Some(ticking().name().to_owned()),
        host_config: Some(bollard::models::HostConfig {
            userns_mode: Some("keep-id".to_owned()),
            network_mode: Some("none".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let none = None::<bollard::query_parameters::CreateContainerOptions>;
    let id = docker.create_container(none, body).await.unwrap().id;
    docker.start_container(&id, None).await.unwrap();
    let found = at.platforms().locate(&at.name(&id)).await.unwrap();
    let reached = found.reach().await.unwrap();
    let agent = Agent::connect(reached.io).await.unwrap();
    let request = StackRequest { target: Some(reached.target), thread: 0, ..StackRequest::default() };
    let stack = agent.stack(request).await.unwrap();
    assert_eq!(stack.process.map(|process| process.container_id), Some(id.clone()));
    drop(agent);
    reached.leave.leave().await.unwrap();
    let force = bollard::query_parameters::RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&id, Some(force)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_tells_containers_that_share_a_pid_namespace_apart() {
    for kind in WITH_HELPERS {
        let engine = Engine::shared(kind);
        let at =
            At::engine(&engine).policy(ReachPolicy::Helper).binary(AgentBinary::File(pepo_testkit::pepo()));
        let first = run(&engine, "first", RunOptions::default());
        for pid in [first.id(), "host"] {
            let second = run(&engine, "second", RunOptions { pid: pid.to_owned(), ..RunOptions::default() });
            for container in [&first, &second] {
                let found = at.platforms().locate(&at.name(container.id())).await.unwrap();
                let reached = found.reach().await.unwrap();
                let agent = Agent::connect(reached.io).await.unwrap();
                let processes = agent.list(Some(reached.target)).await.unwrap();
                let [process] = processes.as_slice() else { panic!("{kind:?} {pid}: {processes:?}") };
                assert_eq!(process.container_id, container.id(), "{kind:?} {pid}");
                drop(agent);
                reached.leave.leave().await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debugger_that_needs_no_tools_works_in_a_helper() {
    let image = Image::of(&fixtures::python(Variant::debug()));
    for kind in WITH_HELPERS {
        let engine = Engine::shared(kind);
        let at =
            At::engine(&engine).policy(ReachPolicy::Helper).binary(AgentBinary::File(pepo_testkit::pepo()));
        let container = engine.run(&image, &RunOptions::restricted(""));
        container.wait_started();
        let found = at.platforms().locate(&at.name(container.id())).await.unwrap();
        let reached = found.reach().await.unwrap();
        let agent = Agent::connect(reached.io).await.unwrap();
        let rights = [Right::Stop, Right::Modify].map(|right| right.into());
        let grant = Grant { who: "a test".to_owned(), rights: rights.into(), ..Grant::default() };
        let open = OpenSession { target: Some(reached.target), grant: Some(grant), ..OpenSession::default() };
        let session = agent.session(open).await.unwrap_or_else(|failure| panic!("{kind:?}: {failure:?}"));
        assert_eq!(session.opened.debugger, "python", "{kind:?}");
        let closed = session.close().await.unwrap();
        assert_eq!(closed.left_behind, [""; 0], "{kind:?}");
        drop(agent);
        reached.leave.leave().await.unwrap();
        assert_eq!(helpers(&container).await, [""; 0], "{kind:?}");
        container.assert_goes_on();
    }
}
