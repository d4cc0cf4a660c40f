//! `ps`, `check`, `stack`, `attach` and `release` on containers of real engines: the same body over engines and languages, in images
//! without a shell.

use pepo_testkit::{Container, Engine, Fixture, Image, Kind, Life as _, RunOptions, clean::Snapshot};

use crate::{
    session::{self, changes_a_variable, language},
    support::Surroundings,
};

/// The name `ps` gives a container, with what it says of it.
#[track_caller]
fn listed(surroundings: &Surroundings, container: &Container) -> serde_json::Value {
    let run = surroundings.run(&["ps", "--output", "json"]).ok();
    let data = run.json();
    let rows = data["targets"].as_array().unwrap();
    let row = rows.iter().find(|one| {
        one["container_id"] == container.id() && !one["target"].as_str().unwrap().starts_with("host/")
    });
    row.unwrap_or_else(|| panic!("{} is not in {}\n{}", container.id(), run.stdout, run.stderr)).clone()
}

/// Everything a user does with one container.
fn one_container(kind: Kind, fixture: &Fixture, options: &RunOptions) {
    let engine = Engine::shared(kind);
    let image = Image::of(fixture);
    engine.load(&image);
    let container = engine.run(&image, &options.clone().args(&["1000"]));
    container.wait_started();
    let surroundings = Surroundings::new().at(&engine);
    let row = listed(&surroundings, &container);
    let name = row["target"].as_str().unwrap();
    assert_eq!(row["state"], "running", "{row}");
    assert_eq!(row["process"]["runtime"]["language"], language(fixture), "{row}");
    assert_eq!(row["process"]["container_pid"], 1, "{row}");

    let before = Snapshot::take(container.pid()).and_containers_of(&engine);
    let check = surroundings.run(&["check", name, "--for", "attach"]).ok();
    assert!(check.stdout.contains("attach"), "{}", check.stdout);
    let stack = surroundings.run(&["stack", name]).ok();
    assert!(stack.stdout.contains("tid 1"), "{}", stack.stdout);
    before.assert_same();

    changes_a_variable(&surroundings, name, fixture, &container, &before);
}

fn every_language(kind: Kind) {
    for fixture in session::fixtures() {
        let name = format!("it-{}-{}", language(&fixture), std::process::id());
        one_container(kind, &fixture, &RunOptions::named(&name));
    }
}

#[test]
fn docker_containers_without_a_shell() {
    every_language(Kind::Docker);
}

#[test]
fn podman_containers_without_a_shell() {
    every_language(Kind::Podman);
}

#[test]
fn rootless_podman_containers_without_a_shell() {
    every_language(Kind::PodmanRootless);
}

#[test]
fn containerd_containers_without_a_shell() {
    every_language(Kind::Containerd);
}

#[test]
fn crio_containers_without_a_shell() {
    every_language(Kind::CriO);
}

#[test]
fn containers_with_as_few_rights_as_can_be() {
    for fixture in session::fixtures() {
        let name = format!("it-strict-{}-{}", language(&fixture), std::process::id());
        one_container(Kind::Docker, &fixture, &RunOptions::restricted(&name));
    }
}
