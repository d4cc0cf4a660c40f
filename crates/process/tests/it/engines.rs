//! Containers of real engines are recognised by what the kernel shows of them alone.

use pepo_process::{AgentPid, Process, cgroup, find, list, runtime::Language};
use pepo_testkit::{Container, Engine, Image, Kind, Life as _, RunOptions, Variant, fixtures};
use pepo_wire::{
    Code,
    agent::{ContainerTarget, Selector, Target, target},
};

fn run(kind: Kind, name: &str, options: RunOptions) -> Container {
    let image = Image::of(&fixtures::c(Variant::debug())).named("pepo.test/process:1").with_shell();
    let engine = Engine::shared(kind);
    engine.load(&image);
    engine.run(&image, &RunOptions { name: name.to_owned(), ..options })
}

fn target(id: &str, pid_hint: u32, selector: Selector) -> Target {
    let container = ContainerTarget { id: id.to_owned(), name: "shop".to_owned(), pid_hint };
    Target { kind: Some(target::Kind::Container(container)), selector: Some(selector) }
}

fn found(id: &str, hint: u32, selector: Selector) -> Result<u32, Code> {
    find::resolve(&target(id, hint, selector))
        .map(|process| process.pid().get())
        .map_err(|failure| failure.code())
}

fn is_recognised(kind: Kind) {
    let container = run(kind, &format!("process-found-{kind:?}").to_lowercase(), RunOptions::default());
    let (id, pid) = (container.id(), container.pid());
    let process = Process::open(AgentPid::new(pid).unwrap()).unwrap();
    let seen = process.container().unwrap_or_else(|| panic!("{:?}", process.cgroups()));
    assert_eq!(seen.id, id, "{:?}", process.cgroups());
    match kind {
        Kind::Docker => assert_eq!(seen.engine, cgroup::Engine::Docker),
        Kind::Podman | Kind::PodmanRootless => assert_eq!(seen.engine, cgroup::Engine::Podman),
        Kind::Containerd => {
            assert!(!matches!(seen.engine, cgroup::Engine::Docker | cgroup::Engine::Podman), "{seen:?}")
        }
        Kind::CriO => assert_eq!(seen.engine, cgroup::Engine::Crio),
    }
    let main = Selector::default;
    assert_eq!(found(id, pid, main()), Ok(pid), "with the engine's number");
    assert_eq!(found(id, 0, main()), Ok(pid), "without it");
    assert_eq!(found(id, std::process::id(), main()), Ok(pid), "with a wrong one");
    assert_eq!(found(id, 0, Selector { container_pid: 1, ..main() }), Ok(pid));
    assert_eq!(found(id, 0, Selector { container_pid: 77_777, ..main() }), Err(Code::ProcessNotFound));
    let shown = list::all().into_iter().find(|shown| shown.agent_pid == pid).unwrap();
    assert_eq!((shown.container_id.as_str(), shown.container_pid), (id, 1));
    assert_eq!(shown.runtime.unwrap().language, Language::Native.name());
}

#[test]
fn a_container_of_docker_is_recognised() {
    is_recognised(Kind::Docker);
}

#[test]
fn a_container_of_podman_is_recognised() {
    is_recognised(Kind::Podman);
}

#[test]
fn a_container_of_rootless_podman_is_recognised() {
    is_recognised(Kind::PodmanRootless);
}

#[test]
fn a_container_of_containerd_is_recognised() {
    is_recognised(Kind::Containerd);
}

#[test]
fn a_container_of_crio_is_recognised() {
    is_recognised(Kind::CriO);
}

#[test]
fn a_container_in_anothers_pid_namespace_has_a_main_process_of_its_own() {
    let first = run(Kind::Docker, "process-shares-1", RunOptions::default());
    let second = run(
        Kind::Docker,
        "process-shares-2",
        RunOptions { pid: first.id().to_owned(), ..RunOptions::default() },
    );
    for container in [&first, &second] {
        assert_eq!(found(container.id(), 0, Selector::default()), Ok(container.pid()));
        assert_eq!(found(container.id(), container.pid(), Selector::default()), Ok(container.pid()));
    }
    // The number is that of the namespace they share, and only a process of the container itself counts.
    let inner =
        Process::open(AgentPid::new(second.pid()).unwrap()).unwrap().status().unwrap().container_pid();
    assert_ne!(inner, 1);
    assert_eq!(
        found(second.id(), 0, Selector { container_pid: inner, ..Selector::default() }),
        Ok(second.pid())
    );
    assert_eq!(
        found(second.id(), 0, Selector { container_pid: 1, ..Selector::default() }),
        Err(Code::ProcessNotFound)
    );
}

#[test]
fn a_container_that_ended_is_not_running() {
    let container = run(Kind::Docker, "process-ended", RunOptions::default());
    let (id, pid) = (container.id().to_owned(), container.pid());
    container.remove();
    assert_eq!(found(&id, pid, Selector::default()), Err(Code::NotRunning));
}
