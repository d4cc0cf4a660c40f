//! Profiles of containers without a shell, with as few rights as can be: from here, and by a helper for a user who may not touch
//! the target from here. Programs of C and Go whose shares are known.

use std::fs;

use pepo_testkit::{
    Engine, Image, Kind, Language, Life as _, RunOptions, Symbols, Variant, clean::Snapshot, fixtures, rubies,
};

use crate::{
    many::of_target,
    profiles::{assert_known_shares, folded, name, steady},
    support::Surroundings,
};

/// Records a container, and tells how samples were taken.
fn one_profile(kind: Kind, language: Language, by_helper: bool) -> String {
    let engine = Engine::shared(kind);
    let fixture = fixtures::build(language, "hot", Variant::release().symbols(Symbols::Inside));
    let image = Image::of(&fixture);
    engine.load(&image);
    let name = format!("it-profile-{language:?}-{by_helper}-{}", std::process::id()).to_lowercase();
    let container = engine.run(&image, &RunOptions::restricted(&name));
    container.wait_started();
    let surroundings = Surroundings::new().at(&engine);
    let surroundings = if by_helper { surroundings.without_ptrace() } else { surroundings };
    let before = Snapshot::take(container.pid()).and_containers_of(&engine);
    let target = format!("{}/{name}", if kind == Kind::Docker { "docker" } else { "podman" });
    let run = surroundings.run(&["record", &target, "-d", "4", "-r", "499", "-o", "a.folded"]).ok();
    let (stacks, samples) = folded(&fs::read_to_string(surroundings.path("a.folded")).unwrap());
    assert_known_shares(&stacks, samples);
    let top = surroundings.run(&["top", &target, "--once", "--output", "json"]).ok().json();
    assert!(!top["rows"].as_array().unwrap().is_empty(), "{top}");
    container.assert_goes_on();
    before.assert_same();
    run.stderr
}

#[test]
fn docker_containers_are_recorded_from_here_by_the_kernels_timer() {
    for language in [Language::C, Language::Go] {
        let told = one_profile(Kind::Docker, language, false);
        assert!(told.contains("the kernel's timer") && told.contains(" lost"), "{told}");
    }
}

#[test]
fn podman_containers_are_recorded_from_here_by_the_kernels_timer() {
    let told = one_profile(Kind::Podman, Language::C, false);
    assert!(told.contains("the kernel's timer"), "{told}");
}

/// Docker's seccomp profile keeps the kernel's timer from a helper; threads are held, and it is owned up to.
#[test]
fn docker_containers_are_recorded_by_a_helper_which_holds_running_threads() {
    for language in [Language::C, Language::Go] {
        let told = one_profile(Kind::Docker, language, true);
        assert!(told.contains("threads held") && told.contains("note: threads are held"), "{told}");
    }
}

/// The frames of Ruby in a container that has nothing but its interpreter: from here, and by a helper, from which the system call by which
/// another's memory is read otherwise is kept.
#[test]
fn ruby_in_a_docker_container_is_looked_at_and_recorded_from_here_and_by_a_helper() {
    let engine = Engine::shared(Kind::Docker);
    let ruby =
        rubies().into_iter().find(|ruby| ruby.path.starts_with("/usr")).expect("this machine's own Ruby");
    let image = ruby.image("threads");
    engine.load(&image);
    let name = format!("it-profile-ruby-{}", std::process::id());
    let container = engine.run(&image, &RunOptions::restricted(&name));
    container.wait_started();
    let target = format!("docker/{name}");
    for by_helper in [false, true] {
        let surroundings = Surroundings::new().at(&engine);
        let surroundings = if by_helper { surroundings.without_ptrace() } else { surroundings };
        let before = Snapshot::take(container.pid()).and_containers_of(&engine);
        let stack = surroundings.run(&["stack", &target]).ok().stdout;
        assert!(stack.contains("\"idle-0\"") && stack.contains("target not stopped"), "{by_helper}: {stack}");
        assert!(stack.contains("idle_for_ever") && stack.contains("/app/hot.rb:"), "{by_helper}: {stack}");
        let run = surroundings.run(&["record", &target, "-d", "4", "-r", "499", "--format", "folded"]).ok();
        let (stacks, samples) = folded(&run.stdout);
        assert_known_shares(&stacks, samples);
        container.assert_goes_on();
        before.assert_same();
    }
}

#[test]
fn two_docker_containers_and_a_process_are_recorded_together() {
    let engine = Engine::shared(Kind::Docker);
    let fixture = fixtures::build(Language::C, "hot", Variant::release().symbols(Symbols::Inside));
    let image = Image::of(&fixture);
    engine.load(&image);
    let names = ["a", "b"].map(|which| format!("it-many-{which}-{}", std::process::id()));
    let containers = names.each_ref().map(|name| engine.run(&image, &RunOptions::restricted(name)));
    let process = steady();
    for container in &containers {
        container.wait_started();
    }
    let targets = [format!("docker/{}", names[0]), format!("docker/{}", names[1]), name(&process)];
    let surroundings = Surroundings::new().at(&engine);
    let words: Vec<&str> = targets.iter().map(String::as_str).collect();
    let record = ["-d", "3", "-r", "499", "--format", "folded"];
    let run = surroundings.run(&[&["record"], &words[..], &record[..]].concat()).ok();
    for target in &targets {
        let (stacks, samples) = of_target(&run.stdout, target);
        assert_known_shares(&stacks, samples);
    }
    containers.iter().for_each(|one| one.assert_goes_on());
}
