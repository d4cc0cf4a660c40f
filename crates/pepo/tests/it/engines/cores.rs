//! Core files of containers without a shell: from here, and by a helper for a user who may not touch the target from here.

use pepo_testkit::{Engine, Kind, RunOptions};

use super::{listed, until_only};
use crate::{
    core_files::{image, one_core},
    support::Surroundings,
};

fn one_container(kind: Kind, options: impl Fn(&str) -> RunOptions, by_helper: bool) {
    let engine = Engine::shared(kind);
    let image = image();
    engine.load(&image);
    let name = format!("it-core-{kind:?}-{by_helper}-{}", std::process::id()).to_lowercase();
    let container = engine.run(&image, &options(&name));
    let before = engine.containers();
    let surroundings = Surroundings::new().at(&engine);
    let surroundings = if by_helper { surroundings.without_ptrace() } else { surroundings };
    let row = listed(&surroundings, &container);
    assert_eq!(row["by_helper"] == true, by_helper, "{row}");
    one_core(&surroundings, &[row["target"].as_str().unwrap()], &container);
    until_only(&engine, &before);
}

#[test]
fn of_docker_containers_from_here_and_by_a_helper() {
    one_container(Kind::Docker, RunOptions::restricted, false);
    one_container(Kind::Docker, RunOptions::restricted, true);
}

#[test]
fn of_podman_containers_from_here_and_by_a_helper() {
    one_container(Kind::Podman, RunOptions::restricted, false);
    one_container(Kind::Podman, RunOptions::restricted, true);
}

/// Whose processes are in a user namespace of their own.
#[test]
fn of_rootless_podman_containers() {
    one_container(Kind::PodmanRootless, RunOptions::named, false);
}

#[test]
fn of_containerd_containers() {
    one_container(Kind::Containerd, RunOptions::restricted, false);
}

#[test]
fn of_crio_containers() {
    one_container(Kind::CriO, RunOptions::restricted, false);
}
