//! Every verb on the second of two containers in a restricted namespace, distroless, not root, with a root that is read-only: with PID
//! namespaces of their own, and with one that both share.

use pepo_testkit::{Life as _, Variant, clean, fixtures};
use serde_json::{Value, json};

use super::{Here, InPod, native, pod, python, strict};
use crate::{
    core_files::made, editor, held::Held, session::changes_a_variable, support::Surroundings,
    terminal::Terminal,
};

const TARGET: &str = "pod/both/side";

/// The pod; the namespace is that of the kubeconfig's context, as an editor has it.
fn with_two_containers(shared: bool) -> Here<'static> {
    let mut both = pod("both", &[("app", &native(), strict()), ("side", &python(), strict())]);
    both["spec"]["shareProcessNamespace"] = shared.into();
    let mut here = Here::new("restricted").with(both);
    let file = here.surroundings.path("kubeconfig");
    std::fs::copy(here.namespace.cluster().kubeconfig(), &file).unwrap();
    let namespace = format!("--namespace={}", here.namespace.name());
    let words = ["config", "set-context", "--current", &namespace, "--kubeconfig", file.to_str().unwrap()];
    here.namespace.cluster().kubectl(&words).unwrap();
    here.surroundings = here.surroundings.in_cluster(&file);
    here
}

/// Looks, and what they say of the right container.
fn looks(surroundings: &Surroundings) {
    let data = |words: &[&str]| surroundings.run(&[words, &["--output", "json"]].concat()).ok().json();
    let rows = data(&["ps", "--on", "kubernetes"]);
    let names: Vec<&Value> = rows["targets"].as_array().unwrap().iter().map(|one| &one["target"]).collect();
    assert_eq!(names, [&json!("pod/both/app"), &json!(TARGET)], "{rows}");
    let check = data(&["check", TARGET]);
    assert!(check["findings"].as_array().unwrap().iter().all(|row| row["level"] != "no"), "{check}");
    let stack = surroundings.run(&["stack", TARGET]).ok().stdout;
    assert!(stack.starts_with("pod/both/side · python") && stack.contains("tick"), "{stack}");
    let other = surroundings.run(&["stack", "pod/both/app"]).ok().stdout;
    assert!(other.starts_with("pod/both/app · native"), "{other}");
    let profile = surroundings.run(&["record", TARGET, "-d", "1", "-o", "-", "--format", "folded"]).ok();
    assert!(profile.stdout.contains("tick"), "{}", profile.stdout);
    let top = surroundings.run(&["top", TARGET, "--once"]).ok();
    assert!(top.stdout.contains("tick"), "{}", top.stdout);
    let (core, _) = made(surroundings, &[TARGET], &["-o", "side.core.zst"]);
    assert!(core["threads"].as_u64() > Some(0), "{core}");
    surroundings.run(&["cp", &format!("{TARGET}:/etc/passwd"), "passwd"]).ok();
    assert!(std::fs::read_to_string(surroundings.path("passwd")).unwrap().contains("nobody"));
    let mut shell = Terminal::run(surroundings, &["shell", TARGET]);
    shell.types("ls /app\r");
    shell.waits_for(".py", 1);
    shell.types("exit\r");
    assert_eq!(shell.status(), Some(0), "{}", shell.said());
}

/// One session is let go by another command.
fn released(surroundings: &Surroundings) {
    let mut held = Held::open(surroundings, &["attach", TARGET], &fixtures::python(Variant::debug()));
    let released = surroundings.run(&["release", TARGET, "--output", "json"]).ok().json();
    assert_eq!(released["released"].as_array().unwrap().len(), 1, "{released}");
    let closed = held.waits_for("closed");
    assert_eq!(closed["reason"], "released", "{closed}");
    held.status();
}

fn every_verb(shared: bool) {
    let here = with_two_containers(shared);
    let life = InPod::named(&here, "both", "side");
    life.wait_started();
    looks(&here.surroundings);
    let fixture = fixtures::python(Variant::debug());
    // The helper stays, and with it the socket that it waits on.
    here.run(&["check", TARGET, "--for", "attach"]).ok();
    let before = clean::Snapshot::take(life.pid);
    changes_a_variable(&here.surroundings, &[TARGET], &fixture, &life, &before);
    editor::changes_a_variable(&here.surroundings, json!({"target": TARGET}), &fixture, &life, &before);
    released(&here.surroundings);
    life.assert_goes_on();
    before.assert_same();
    assert_eq!(here.helpers("both").len(), 2, "one beside each: {:?}", here.helpers("both"));
    here.assert_quiet("both");
}

#[test]
fn every_verb_works_on_the_second_of_two_containers() {
    every_verb(false);
}

#[test]
fn every_verb_works_on_the_second_of_two_containers_that_share_a_pid_namespace() {
    every_verb(true);
}
