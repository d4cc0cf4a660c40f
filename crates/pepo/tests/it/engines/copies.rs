//! Files out of containers without a shell and into them: from here, and by a helper for a user who may not touch the target from here.

use std::os::unix::fs::MetadataExt as _;

use pepo_testkit::{Container, Engine, Kind, Life as _, RunOptions};

use super::{listed, until_only};
use crate::{
    copies::{Copies, image},
    support::Surroundings,
};

fn started(engine: &Engine, options: impl Fn(&str) -> RunOptions, what: &str) -> Container {
    let image = image();
    engine.load(&image);
    let name = format!("it-copy-{:?}-{what}-{}", engine.kind(), std::process::id()).to_lowercase();
    engine.run(&image, &options(&name))
}

fn one_container(kind: Kind, by_helper: bool) {
    let engine = Engine::shared(kind);
    let of_nobody = |name: &str| RunOptions { user: "65534:65534".to_owned(), ..RunOptions::named(name) };
    let container = started(&engine, of_nobody, if by_helper { "helper" } else { "here" });
    let before = engine.containers();
    let surroundings = Surroundings::new().at(&engine);
    let surroundings = if by_helper { surroundings.without_ptrace() } else { surroundings };
    let row = listed(&surroundings, &container);
    assert_eq!(row["by_helper"] == true, by_helper, "{row}");
    let copies = Copies { surroundings: &surroundings, target: row["target"].as_str().unwrap(), more: &[] };
    copies.come_out(&container);
    copies.go_in(&container, "/tmp");
    let own = std::fs::metadata(format!("/proc/{}", container.pid())).unwrap();
    // A helper may not give files away, and says so.
    let expected = if by_helper { (0, 0) } else { (own.uid(), own.gid()) };
    assert_eq!(copies.owner(&container, "/tmp/source/sub"), expected);
    let again = copies.put("source", "/tmp/source").ok();
    assert_eq!(again.stderr.contains("agent's own user's"), by_helper, "{}", again.stderr);
    until_only(&engine, &before);
}

#[test]
fn of_docker_containers_from_here_and_by_a_helper() {
    one_container(Kind::Docker, false);
    one_container(Kind::Docker, true);
}

#[test]
fn of_podman_containers_from_here_and_by_a_helper() {
    one_container(Kind::Podman, false);
    one_container(Kind::Podman, true);
}

/// Whose files are in a user namespace of their own.
#[test]
fn of_rootless_podman_containers() {
    one_container(Kind::PodmanRootless, false);
}

#[test]
fn of_containerd_containers() {
    one_container(Kind::Containerd, false);
}

#[test]
fn of_crio_containers() {
    one_container(Kind::CriO, false);
}

#[test]
fn a_read_only_root_is_one_clear_error_and_foreseen() {
    let engine = Engine::shared(Kind::Docker);
    let container = started(&engine, RunOptions::restricted, "read-only");
    let surroundings = Surroundings::new().at(&engine);
    let name = format!("docker/{}", container.name());
    let copies = Copies { surroundings: &surroundings, target: &name, more: &[] };
    copies.come_out(&container);
    for from in ["text", "data"] {
        let run = copies.put(from, "/tmp").fails(4);
        assert!(run.stderr.contains("P0208") && run.stderr.contains("ead-only"), "{}", run.stderr);
        assert!(run.stderr.contains("hint: choose a folder that can be written to"), "{}", run.stderr);
    }
    let check = surroundings.run(&["check", &name, "--for", "cp"]).ok();
    assert!(check.stdout.contains("its root is read-only"), "{}", check.stdout);
    container.assert_goes_on();
}
