//! What is not understood: one clear error each, with what to do.

use pepo_testkit::{Life as _, Variant, fixtures, spawn};

use crate::support::{Surroundings, same};

/// What nobody means.
const LINES: &[&[&str]] = &[
    &[],
    &["frobnicate"],
    &["--frobnicate"],
    &["ps", "("],
    &["ps", "--filter", "shop"],
    &["ps", "--filter", "colour=red"],
    &["ps", "--on", "moon"],
    &["ps", "--output", "yaml"],
    &["check", "moon/shop"],
    &["check", "shop", "--for", "fly"],
    &["stack"],
    &["stack", ""],
    &["stack", "a b"],
    &["stack", "pid/0"],
    &["stack", "shop", "--thread", "0"],
    &["stack", "shop", "--process", "("],
    &["stack", "shop", "--process", "a", "--pid", "1"],
    &["stack", "shop", "--pid", "-1"],
    &["stack", "pod/shop/app/more"],
    &["stack", "pod/shop", "-l", "app=shop"],
    &["stack", "pod/shop", "--image-pull-policy", "Sometimes"],
    &["attach"],
    &["attach", "shop", "--pause-budget", "30"],
    &["attach", "shop", "--pause-budget", "soon"],
    &["attach", "shop", "--guard", "maybe"],
    &["attach", "shop", "--source-map", "nonsense"],
    &["attach", "shop", "-ex"],
    &["dap", "--listen", "nowhere"],
    &["dap", "surplus"],
    &["sessions", "surplus"],
    &["release"],
    &["release", "shop", "--all"],
    &["cp"],
    &["cp", "a", "b"],
    &["cp", "shop:/a", "pod/shop:/b"],
    &["cp", "shop:", "."],
    &["cp", "-", "."],
    &["cp", "a b:/c", "."],
    &["inject", "-f", "pod.yaml"],
    &["inject", "-f", "pod.yaml", "--image", "entry:1", "--debug", "stayalive,dance"],
    &["inject", "-f", "pod.yaml", "--image", "entry:1", "--entrypoint", "[1]"],
    &["inject", "--image", "entry:1"],
    &["inject", "deploy/shop", "-f", "pod.yaml", "--image", "entry:1"],
    &["inject", "-f", "pod.yaml", "--image", "entry:1", "--no-wait"],
    &["inject", "pod/shop", "--image", "entry:1"],
    &["eject"],
    &["eject", "svc/shop"],
    &["attach", "docker/shop", "--copy"],
    &["attach", "pod/shop", "--entry-image", "entry:1"],
    &["install", "envoy", "--door", "10.0.0.1:7412"],
    &["install", "haproxy", "--print", "--door", "10.0.0.1:7412"],
    &["install", "nginx", "--print", "--door", "a;b:1"],
    &["install", "nginx", "--print", "--door", "10.0.0.1:7412", "--pod", "a/b"],
    &["catch"],
    &["catch", "start"],
    &["catch", "start", "svc/shop"],
    &["catch", "start", "docker/shop"],
    &["catch", "start", "deploy/shop", "-l", "app=shop"],
    &["catch", "start", "deploy/shop", "-ex", "bt"],
    &["catch", "stop", "job/shop"],
    &["tools", "uninstall"],
    &["tools", "install"],
    &["completions", "clay-tablet"],
    &["agent"],
    &["agent", "--join", "--stdio"],
];

#[test]
fn bad_input_of_every_verb_is_one_clear_error() {
    let surroundings = Surroundings::new();
    let mut told = String::new();
    for line in LINES {
        let run = surroundings.run(line).fails(2);
        assert_eq!(run.stdout, "", "{line:?}");
        assert_eq!(run.stderr.matches("error[P").count(), 1, "{line:?}: {}", run.stderr);
        told += &format!("$ pepo {}\n{}\n", line.join(" "), run.stderr);
    }
    same("usage", &told);
}

/// A program that is held at its start would be let go.
#[test]
fn a_script_with_a_mistyped_word_is_told_before_anything_is_attached_to() {
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let name = format!("pid/{}", target.pid());
    let run = Surroundings::new().run(&["attach", &name, "-ex", "continue", "-ex", "brek main"]).fails(2);
    assert!(run.stderr.contains("`brek` is not a word of this debugger") && run.stdout.is_empty(), "{run:?}");
}

#[test]
fn usage_errors_are_data_when_data_was_asked_for() {
    let surroundings = Surroundings::new();
    for line in [
        &["stack", "--output", "json"][..],
        &["-o", "json", "frobnicate"],
        &["stack", "a b", "--output=json"],
    ] {
        let run = surroundings.run(line).fails(2);
        let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
        assert!(error["error"]["code"].as_str().unwrap().starts_with('P'), "{error}");
        assert_eq!(error["error"]["exit"], 2);
    }
}
