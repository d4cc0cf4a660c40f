//! The same rules with real containers.

use std::{fs, os::unix::fs::MetadataExt as _};

use pepo_testkit::{Container, Engine, Image, Kind, Life as _, RunOptions, Symbols, Variant, fixtures};
use pepo_wire::agent::{ContainerTarget, target};

use super::{
    helper::{NOBODY, With, troubles_for},
    made::Toolkit,
    *,
};

fn run(kind: Kind, image: Image, options: RunOptions) -> Container {
    let engine = Engine::shared(kind);
    engine.load(&image);
    engine.run(&image, &options)
}

fn findings(container: &Container) -> Vec<Finding> {
    let target =
        ContainerTarget { id: container.id().to_owned(), name: "shop".to_owned(), pid_hint: container.pid() };
    let target = Target { kind: Some(target::Kind::Container(target)), selector: None };
    let request = CheckRequest { target: Some(target), ..CheckRequest::default() };
    let response = check(&request, &Toolkit::usual().env()).unwrap();
    assert_eq!(response.process.unwrap().container_id, container.id());
    response.findings
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_container_as_strict_as_can_be_hinders_root_nowhere() {
    let image = Image::of(&fixtures::c(Variant::debug()));
    let container = run(Kind::Docker, image, RunOptions::restricted("check-restricted"));
    let found = findings(&container);
    assert_eq!(troubles(&found), NOTHING);
    let lines = lines(&found);
    for row in ["Ok read-only-root [attach dap]", "Ok init [attach dap]", "Ok debug-info [attach dap]"] {
        assert!(lines.contains(&row.to_owned()), "{row}: {lines:?}");
    }
    // Another user of this machine is told what is missing.
    let other = troubles_for(With { user: Some(NOBODY - 1), ..With::default() }, container.pid());
    assert_eq!(other, ["No user [stack top record attach dap] OtherUser"]);
    // The container's own user, outside of it, has all that is needed: the container has no capability.
    let same = troubles_for(With { user: Some(NOBODY), ..With::default() }, container.pid());
    assert!(!same.iter().any(|line| line.starts_with("No ") && line.contains(" [stack ")), "{same:?}");
}

#[test]
fn a_stripped_program_in_a_container_is_told() {
    let image = Image::of(&fixtures::c(Variant::debug().symbols(Symbols::Stripped)))
        .named("pepo-test/check-stripped:1");
    let container = run(Kind::Podman, image, RunOptions::named("check-stripped"));
    assert_eq!(troubles(&findings(&container)), ["No debug-info [attach dap] NoDebugInfo"]);
}

#[test]
fn a_containers_memory_limit_is_told_where_the_debugger_runs_inside() {
    let image = Image::of(&fixtures::python(Variant::debug()));
    let options = RunOptions { memory: Some(24 << 20), ..RunOptions::named("check-memory") };
    let container = run(Kind::Docker, image, options);
    let found = findings(&container);
    let headroom = found.iter().find(|finding| finding.rule == "headroom").unwrap();
    assert!(matches!(headroom.level(), Level::Risk | Level::No), "{headroom:?}");
    assert!(headroom.what.contains("of 24 MiB"), "{headroom:?}");
}

#[test]
fn a_rootless_container_is_in_a_user_namespace_below() {
    let image = Image::of(&fixtures::c(Variant::debug()));
    let container = run(Kind::PodmanRootless, image, RunOptions::named("check-rootless"));
    let lines = lines(&findings(&container));
    assert!(lines.contains(&"Ok user-namespace [stack top record attach dap]".to_owned()), "{lines:?}");
    assert!(lines.iter().all(|line| !line.starts_with("No ")), "{lines:?}");
    let other = troubles_for(With { user: Some(NOBODY - 1), ..With::default() }, container.pid());
    assert_eq!(other, ["No user [stack top record attach dap] OtherUser"]);
}

#[test]
fn who_made_a_user_namespace_may_trace_its_other_users_and_yet_not_read_their_memory() {
    let image = Image::of(&fixtures::c(Variant::debug()));
    let root_inside = run(Kind::PodmanRootless, image.clone(), RunOptions::named("check-rootless-root"));
    let other_inside = run(Kind::PodmanRootless, image, RunOptions::restricted("check-rootless-other"));
    // Root inside is whoever started the engine.
    let maker = fs::metadata(format!("/proc/{}", root_inside.pid())).unwrap().uid();
    let maker = With { user: Some(maker), ..With::default() };
    assert!(
        !troubles_for(maker, root_inside.pid())
            .iter()
            .any(|line| line.starts_with("No ") && line.contains(" [stack "))
    );
    let found = troubles_for(maker, other_inside.pid());
    assert_eq!(found, ["No capabilities [stack top record attach dap] NeedsCapability"]);
}
