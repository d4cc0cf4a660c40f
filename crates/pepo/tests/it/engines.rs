//! `ps`, `check`, `stack`, `attach` and `release` on containers of real engines: the same body over engines and languages, in images
//! without a shell.

/// Names for shells.
mod completed;
/// Files out of them and into them.
mod copies;
/// Core files.
mod cores;
/// The entry before a container's program.
mod entry;
/// Profiles.
mod profiles;
/// An engine that is restarted under a session.
mod restart;
/// A server and the agent of a node.
mod server;
/// An engine behind ssh.
mod ssh;

use std::{path::Path, time::Duration};

use pepo_testkit::{
    Container, Engine, Fixture, Image, Kind, Language, Life as _, RunOptions, Symbols, Variant,
    clean::Snapshot, fixtures, skip, wait,
};
use serde_json::json;

use crate::{
    editor,
    held::Held,
    session::{self, LIMIT, changes_a_variable, language},
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

/// Waits until the engine has no container beside these.
fn until_only(engine: &Engine, before: &[String]) {
    wait::until("no helper is left", LIMIT, || {
        let helpers: Vec<_> = engine.containers().into_iter().filter(|id| !before.contains(id)).collect();
        if helpers.is_empty() { Ok(()) } else { Err(helpers.join(" ")) }
    });
}

/// Everything a user does with one container.
fn one_container(kind: Kind, fixture: &Fixture, options: &RunOptions) {
    let engine = Engine::shared(kind);
    let image = Image::usual(fixture);
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
    assert!(stack.stdout.contains("· pid 1 ·"), "{}", stack.stdout);
    before.assert_same();

    changes_a_variable(&surroundings, &[name], fixture, &container, &before);
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

#[test]
fn all_processes_of_a_container_are_shown_with_who_keeps_them_waiting() {
    let engine = Engine::shared(Kind::Docker);
    let fixture = fixtures::build(Language::C, "waits", Variant::release());
    let image = Image::of(&fixture);
    engine.load(&image);
    let name = format!("docker/it-waits-{}", std::process::id());
    let container = engine.run(&image, &RunOptions::named(name.trim_start_matches("docker/")));
    let line = container.wait_for_line("port=", LIMIT);
    let port = line.rsplit("port=").next().unwrap().trim_end_matches('.');
    let program = image.command_line()[0].as_str();
    let surroundings = Surroundings::new().at(&engine);
    std::thread::scope(|scope| {
        scope.spawn(|| container.exec(&[program, "connect", port]));
        wait::until("two processes that wait for each other", LIMIT, || {
            let data = surroundings.run(&["stack", &name, "--all", "-o", "json"]).ok().json();
            let stacks = data["stacks"].as_array().unwrap();
            let threads: Vec<_> = stacks.iter().flat_map(|one| one["threads"].as_array().unwrap()).collect();
            let ends = ["client", "server"].map(|name| {
                let thread = threads.iter().find(|thread| thread["name"] == name);
                thread.map(|thread| thread["sockets"][0]["other_end"].clone()).unwrap_or_default()
            });
            let is_known =
                ends.iter().all(|end| end["name"] == "waits" && end["container_id"] == container.id());
            let differ = ends[0]["container_pid"] != ends[1]["container_pid"];
            if stacks.len() == 2 && is_known && differ { Ok(()) } else { Err(format!("{ends:?} {data}")) }
        });
        let text = surroundings.run(&["stack", &name, "--all"]).ok().stdout;
        let place = format!(" in docker {}) at the other end of ", &container.id()[..12]);
        assert!(text.matches("· native · pid ").count() == 2 && text.contains(&place), "{text}");
        container.stop(Duration::ZERO);
    });
}

/// The same by a helper container, for a user who may not touch the target from here. What the debugger needs is in the image, but
/// for the debug information: that is the user's.
fn one_helper(kind: Kind, fixture: &Fixture, image: &Image, symbols: &[&str]) {
    let engine = Engine::shared(kind);
    engine.load(image);
    let name = format!("it-helper-{}-{}", language(fixture), std::process::id());
    let container = engine.run(image, &RunOptions::restricted(&name).args(&["1000"]));
    container.wait_started();
    let surroundings = Surroundings::new().at(&engine).without_ptrace();
    let row = listed(&surroundings, &container);
    assert_eq!(row["by_helper"], true, "{row}");
    let name = row["target"].as_str().unwrap();

    let before = Snapshot::take(container.pid()).and_containers_of(&engine);
    let check = surroundings.run(&["check", name, "--for", "attach"]).ok();
    assert!(check.stdout.contains("helper container"), "{}", check.stdout);
    let stack = surroundings.run(&["stack", name]).ok();
    assert!(stack.stdout.contains("· pid 1 ·"), "{}", stack.stdout);
    before.assert_same();

    let target = [&[name], symbols].concat();
    changes_a_variable(&surroundings, &target, fixture, &container, &before);
    let attach = json!({"target": name, "symbols": symbols.get(1..).unwrap_or_default()});
    editor::changes_a_variable(&surroundings, attach, fixture, &container, &before);
    released_from_elsewhere(&surroundings, &target, fixture);
    container.assert_goes_on();
    before.assert_same();
}

/// A session in a helper is seen from outside, and let go from another helper.
fn released_from_elsewhere(surroundings: &Surroundings, target: &[&str], fixture: &Fixture) {
    let mut held = Held::open(surroundings, &[&["attach"], target].concat(), fixture);
    let sessions = Surroundings::new().run(&["sessions", "--output", "json"]).ok().json();
    let is_it = |one: &&serde_json::Value| one["target"] == target[0] && one["state"] == "live";
    let session = sessions["sessions"].as_array().unwrap().iter().find(is_it);
    assert!(session.is_some_and(|one| one["stood_still_millis"].as_u64() > Some(0)), "{sessions}");
    let released = surroundings.run(&["release", target[0], "--output", "json"]).ok().json();
    assert_eq!(released["released"].as_array().unwrap().len(), 1, "{released}");
    let closed = held.waits_for("closed");
    assert_eq!(closed["reason"], "released", "{closed}");
    held.status();
}

/// The fixture with what its debugger needs beside it; `None` (and counted) where that can't be had.
fn image_for_a_helper(fixture: &Fixture) -> Option<Image> {
    match language(fixture) {
        "python" => Some(Image::usual(fixture)),
        "go" => {
            let image = Image::of(fixture).named("pepo.test/loop-delve:1");
            Some(image.file(&tool("delve/bin/dlv"), "/usr/local/bin/dlv"))
        }
        _ => {
            let with_gdb = Image::of(fixture).named("pepo.test/loop-gdb:1").gdb();
            if with_gdb.is_none() {
                skip("pepo-helper-gdb", "gdb is not the one that cargo xtask setup brings");
            }
            with_gdb
        }
    }
}

fn by_helper(kind: Kind, fixture: &Fixture) {
    let Some(image) = image_for_a_helper(fixture) else { return };
    match &fixture.debug_file {
        Some(_) => one_helper(kind, fixture, &image, &["--symbols", &symbols(fixture)]),
        None => one_helper(kind, fixture, &image, &[]),
    }
}

/// The folder with the debug file.
fn symbols(fixture: &Fixture) -> String {
    fixture.debug_file.as_ref().unwrap().parent().unwrap().display().to_string()
}

/// A program of the toolkit.
fn tool(name: &str) -> std::path::PathBuf {
    let home = std::env::var("HOME").unwrap();
    let tools = std::env::var("PEPO_TOOLS").unwrap_or_else(|_| format!("{home}/.cache/pepo/tools"));
    Path::new(&tools).join(name)
}

/// Debug information of compiled programs is the user's.
fn split() -> Variant {
    Variant::debug().symbols(Symbols::Split)
}

#[test]
fn docker_containers_by_a_helper() {
    for fixture in [fixtures::python(Variant::debug()), fixtures::go(split()), fixtures::c(split())] {
        by_helper(Kind::Docker, &fixture);
    }
}

#[test]
fn podman_containers_by_a_helper() {
    for fixture in [fixtures::python(Variant::debug()), fixtures::c(split())] {
        by_helper(Kind::Podman, &fixture);
    }
}
