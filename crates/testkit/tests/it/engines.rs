//! Each engine runs containers, outlived by nothing.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pepo_testkit::{
    Container, Engine, HealthCheck, Image, Kind, Language, Life, Network, RunOptions, Variant,
    clean::Snapshot, command, fixtures, pythons, spawn_command, wait, waiting_program,
};
use serde_json::Value;

fn loop_in_c() -> Image {
    Image::of(&fixtures::c(Variant::debug()))
}

fn status(container: &Container) -> String {
    fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap()
}

/// The links of this machine that engines make. It may run an engine of its own.
fn links() -> BTreeSet<String> {
    let links = fs::read_to_string("/proc/net/dev").unwrap();
    let names = links.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    let of_engines =
        |name: &String| ["veth", "pods0", "docker0", "cni"].iter().any(|word| name.contains(word));
    names.filter(of_engines).collect()
}

/// What an engine could leave on this machine: its processes, mounts, links, control groups and folder.
fn traces(name: &str, processes: &BTreeSet<u32>, links_before: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for pid in processes {
        found.extend(Path::new(&format!("/proc/{pid}")).exists().then(|| format!("process {pid}")));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    found.extend(links().difference(links_before).cloned());
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let group = hierarchy.join(name);
        found.extend(group.exists().then(|| group.display().to_string()));
    }
    let folder = env::temp_dir().join(name);
    found.extend(folder.exists().then(|| folder.display().to_string()));
    found
}

/// The folder's name of an engine: part of its socket's path.
fn name_of(engine: &Engine) -> String {
    let parts: Vec<_> = engine.socket().iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.into_iter().find(|part| part.starts_with("pepo-test-")).unwrap()
}

/// All descendants of a process.
fn descendants(pid: u32, found: &mut BTreeSet<u32>) {
    found.insert(pid);
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            descendants(child.parse().unwrap(), found);
        }
    }
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

fn runs_a_distroless_container_and_leaves_nothing(kind: Kind) {
    let links_before = links();
    let engine = Engine::start(kind);
    let name = name_of(&engine);
    let container = engine.run(&loop_in_c(), &RunOptions::named("first"));
    container.assert_goes_on();
    assert_eq!(engine.containers(), [container.id()]);
    let root = PathBuf::from(format!("/proc/{}/root", container.pid()));
    assert!(root.join("app/loop").exists() && !root.join("bin/sh").exists());
    let mut processes = BTreeSet::new();
    descendants(parent(engine.daemon()), &mut processes);
    assert!(processes.contains(&container.pid()), "{kind:?}: the container is below the supervisor");
    // Though the container is still held.
    engine.end();
    wait_for_the_end(&name, &processes, &links_before);
}

fn runs_each_language_restricted(kind: Kind) {
    let engine = Engine::shared(kind);
    for fixture in fixtures::all(Variant::debug()) {
        let options = RunOptions::restricted(&format!("strict-{}", fixture.source_name().replace('.', "-")));
        let container = engine.run(&Image::of(&fixture), &options);
        container.assert_goes_on();
        let status = status(&container);
        assert!(
            status.contains("CapEff:\t0000000000000000") && status.contains("NoNewPrivs:\t1"),
            "{status}"
        );
        assert!(status.contains("Seccomp:\t2"), "{status}");
        let ids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(ids.contains("65534") || kind == Kind::PodmanRootless, "{ids}");
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
        assert!(mounts.lines().any(|line| line.contains(" / ro,")), "{mounts}");
        Snapshot::take(container.pid()).and_containers_of(&engine).assert_same();
        let id = container.id().to_owned();
        container.remove();
        assert!(!engine.containers().contains(&id));
    }
}

fn containers_outlive_a_restart(kind: Kind) {
    let engine = Engine::start(kind);
    let container = engine.run(&loop_in_c(), &RunOptions::default());
    let daemon = engine.daemon();
    engine.restart();
    container.assert_goes_on();
    assert_ne!(engine.daemon(), daemon);
    engine.kill_and_start();
    container.assert_goes_on();
    assert_eq!(engine.containers(), [container.id()]);
}

fn serves_a_shop_inside(kind: Kind) {
    let engine = Engine::shared(kind);
    let image = Image::of(&fixtures::shop(Language::Go, Variant::debug())).with_shell();
    let container = engine.run(&image, &RunOptions::named("shop").args(&["8080"]));
    container.wait_for_line("listening", Duration::from_secs(10));
    assert_eq!(container.http_get("8080", "/price/10"), "{\"amount\": 10, \"price\": 180}\n");
    assert!(Path::new(&format!("/proc/{}/root/bin/busybox", container.pid())).exists());
}

/// Where a process is in the memory hierarchy (version 1), or at all (version 2).
fn memory_group(pid: u32) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    match groups.lines().find_map(|line| line.split_once(":memory:")) {
        Some((_, path)) => Path::new("/sys/fs/cgroup/memory").join(&path[1..]),
        None => Path::new("/sys/fs/cgroup").join(&groups.lines().last().unwrap()[4..]),
    }
}

fn limits_memory(kind: Kind) {
    let options = RunOptions { memory: Some(64 << 20), ..RunOptions::named("limited") };
    let container = Engine::shared(kind).run(&loop_in_c(), &options);
    let group = memory_group(container.pid());
    let limit = ["memory.limit_in_bytes", "memory.max"]
        .iter()
        .find_map(|name| fs::read_to_string(group.join(name)).ok());
    assert_eq!(limit.unwrap().trim(), "67108864", "{}", group.display());
    assert!(group.display().to_string().contains("pepo-test-"), "{}", group.display());
}

fn connects_containers_by_a_bridge(kind: Kind) {
    let options = RunOptions { network: Network::Bridge, ..RunOptions::named("connected") };
    let container = Engine::shared(kind).run(&loop_in_c(), &options);
    let links = fs::read_to_string(format!("/proc/{}/net/dev", container.pid())).unwrap();
    assert!(links.contains("eth0:") && links.contains("lo:"), "{links}");
}

#[test]
fn every_python_runs_in_an_image_of_its_own() {
    let engine = Engine::shared(Kind::Podman);
    for python in pythons() {
        let fixture = fixtures::python(Variant::debug()).with_python(&python);
        let container = engine.run(&Image::of(&fixture), &RunOptions::restricted("python"));
        container.assert_goes_on();
        let exe = fs::read_link(format!("/proc/{}/exe", container.pid())).unwrap();
        assert_eq!(exe, python.path);
    }
}

#[test]
fn a_health_check_is_the_engines() {
    let health = HealthCheck {
        command: vec!["/bin/echo".to_owned()],
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        retries: 1,
    };
    let options = RunOptions { health: Some(health), ..RunOptions::named("healthy") };
    let engine = Engine::shared(Kind::Docker);
    let container = engine.run(&loop_in_c().with_shell().named("pepo.test/loop-shell:1"), &options);
    wait::until("the container is healthy", Duration::from_secs(10), || {
        let facts = engine.inspect(container.id());
        if facts["State"]["Health"]["Status"] == "healthy" { Ok(()) } else { Err(facts["State"].to_string()) }
    });
}

/// Says where an engine with a container is, and waits to be killed.
#[expect(clippy::print_stdout, reason = "this is how it tells the test that kills it")]
fn hold_an_engine() -> ! {
    let engine = Engine::start(Kind::Containerd);
    let container = engine.run(&loop_in_c(), &RunOptions::named("orphan"));
    container.assert_goes_on();
    println!("\nholding {} {}", name_of(&engine), engine.daemon());
    std::thread::sleep(Duration::from_secs(60));
    panic!("nobody killed this test");
}

/// Starts itself once more, as the test that is killed.
#[test]
fn a_killed_test_leaves_nothing() {
    if env::var_os("PEPO_TESTKIT_HOLD").is_some() {
        hold_an_engine();
    }
    let links_before = links();
    let mut again = command(env::current_exe().unwrap());
    again
        .args(["engines::a_killed_test_leaves_nothing", "--exact", "--nocapture"])
        .env("PEPO_TESTKIT_HOLD", "1");
    let holder = spawn_command(&mut again);
    let line = holder.wait_for_line("holding ", Duration::from_secs(40));
    let words: Vec<_> = line.split(' ').collect();
    let mut processes = BTreeSet::new();
    descendants(parent(words[2].parse().unwrap()), &mut processes);
    assert!(processes.len() >= 5, "supervisor, daemon, shim, pause, target: {processes:?}");
    // Dropping kills it.
    drop(holder);
    wait_for_the_end(words[1], &processes, &links_before);
}

fn wait_for_the_end(name: &str, processes: &BTreeSet<u32>, links_before: &BTreeSet<String>) {
    wait::until("the end of all", Duration::from_secs(20), || match traces(name, processes, links_before) {
        none if none.is_empty() => Ok(()),
        some => Err(some.join("\n")),
    });
}

/// The same tests for each engine, as tests of their own.
macro_rules! for_each_engine {
    ($($engine:ident: $kind:expr, [$($more:ident),*];)*) => {
        $(mod $engine {
            use super::*;

            #[test]
            fn runs_a_distroless_container_and_leaves_nothing() {
                super::runs_a_distroless_container_and_leaves_nothing($kind);
            }

            #[test]
            fn runs_each_language_restricted() {
                super::runs_each_language_restricted($kind);
            }

            #[test]
            fn containers_outlive_a_restart() {
                super::containers_outlive_a_restart($kind);
            }

            $(#[test]
            fn $more() {
                super::$more($kind);
            })*

            #[test]
            fn serves_a_shop_inside() {
                super::serves_a_shop_inside($kind);
            }
        })*
    };
}

for_each_engine! {
    docker: Kind::Docker, [limits_memory, connects_containers_by_a_bridge];
    podman: Kind::Podman, [limits_memory, connects_containers_by_a_bridge];
    podman_rootless: Kind::PodmanRootless, [];
    containerd: Kind::Containerd, [limits_memory, connects_containers_by_a_bridge];
    crio: Kind::CriO, [limits_memory, connects_containers_by_a_bridge];
}

/// As `cargo xtask image` packs it, with programs that only wait.
#[test]
fn an_image_for_two_machines_is_known_whole_and_its_own_part_is_run() {
    let others = ["x86_64", "aarch64"].into_iter().filter(|machine| *machine != env::consts::ARCH);
    let programs: Vec<PathBuf> = [env::consts::ARCH].into_iter().chain(others).map(waiting_program).collect();
    let images: Vec<Image> =
        programs.iter().map(|program| Image::pepo(program, "pepo.test/pepo:both")).collect();
    let engine = Engine::shared(Kind::Containerd);
    let digest = engine.load_packed(&images);
    let ctr = |words: &[&str]| {
        let mut line = command("ctr");
        line.arg("--address").arg(engine.socket()).args(["--namespace", "k8s.io"]).args(words);
        let output = line.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let said = |words: &[&str]| String::from_utf8_lossy(&ctr(words)).into_owned();
    let listed = said(&["images", "list", "name==pepo.test/pepo:both"]);
    assert!(listed.contains(&digest) && listed.contains("linux/amd64,linux/arm64"), "{listed}");
    let checked = said(&["images", "check", "name==pepo.test/pepo:both"]);
    assert!(checked.contains(&digest) && checked.contains("complete"), "{checked}");
    let json = |digest: &Value| {
        serde_json::from_slice::<Value>(&ctr(&["content", "get", digest.as_str().unwrap()])).unwrap()
    };
    let index = json(&Value::from(digest));
    for (at, machine) in ["amd64", "arm64"].iter().enumerate() {
        let one = &index["manifests"][at];
        assert_eq!(one["platform"]["architecture"], *machine);
        let manifest = json(&one["digest"]);
        assert_eq!(json(&manifest["config"]["digest"])["architecture"], *machine);
        let layer = ctr(&["content", "get", manifest["layers"][0]["digest"].as_str().unwrap()]);
        assert_eq!(layer.len(), manifest["layers"][0]["size"]);
    }
    let container = engine.run(&images[0], &RunOptions::restricted("both"));
    assert!(fs::read(format!("/proc/{}/exe", container.pid())).unwrap() == fs::read(&programs[0]).unwrap());
    let uids = status(&container);
    assert!(uids.contains("Uid:\t65534\t65534"), "{uids}");
}
