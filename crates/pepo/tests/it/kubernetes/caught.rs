//! Starts that are held at their first instruction, and all as it was afterwards.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::Stdio,
};

use pepo_testkit::{Fixture, Image, Life as _, Variant, fixtures, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Here, InPod, cluster, python, refused, strict};
use crate::{
    held::Held,
    support::{PEPO, Run},
};

/// So long a pod may take to be made, fail and be made again.
const ANEW: std::time::Duration = std::time::Duration::from_secs(120);

/// The helper's image with the entry beside the agent, as `cargo xtask image` makes it.
pub(super) fn entry() -> String {
    let image = Image::pepo(Path::new(PEPO), "pepo.test/both:1");
    cluster().import(&image).unwrap();
    image.name().to_owned()
}

/// A program of Python that fails at once, by what is behind its name.
pub(super) fn fails() -> Vec<String> {
    python().command_line().iter().cloned().chain(["x".to_owned()]).collect()
}

/// Where it fails.
pub(super) fn place(fixture: &Fixture) -> String {
    let source = fs::read_to_string(&fixture.path).unwrap();
    let line = source.lines().position(|line| line.contains("pause = int(")).unwrap();
    format!("{}:{}", fixture.source_name(), line + 1)
}

/// What makes pods of one container that runs this.
pub(super) fn workload(kind: &str, command: &[String]) -> Value {
    let container = json!({
        "name": "app", "image": python().name(), "command": command, "securityContext": strict(),
        "livenessProbe": {"exec": {"command": ["/nowhere"]}, "periodSeconds": 30},
    });
    let mut spec = json!({
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        },
    });
    if kind != "DaemonSet" {
        spec["replicas"] = 1.into();
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "shop"}, "spec": spec})
}

/// Its only pod, once its container has failed at least once.
pub(super) fn failed(here: &Here<'_>) -> String {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    wait::try_until(ANEW, || {
        let told = here.namespace.kubectl(&["get", "pods", "--output", path]).unwrap();
        let mut lines = told.lines().filter_map(|line| line.split_once(' '));
        let fails = lines.find(|(_, count)| count.parse().unwrap_or(0) > 0);
        fails.map(|(name, _)| name.to_owned()).ok_or(told)
    })
    .unwrap()
}

/// The names of the pods that are there and stay.
fn pods(here: &Here<'_>) -> Vec<String> {
    let words = ["get", "pods", "--output", "json"];
    let list: Value = serde_json::from_str(&here.namespace.kubectl(&words).unwrap()).unwrap();
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let all = list["items"].as_array().unwrap().iter().filter(stays);
    all.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

impl Here<'_> {
    fn catch(&self, words: &[&str]) -> Run {
        let image = entry();
        self.run(&[&["catch", "start"], words, &["--entry-image", &image]].concat())
    }

    fn template(&self, kind: &str) -> String {
        self.workload(kind)["spec"]["template"].to_string()
    }

    fn workload(&self, kind: &str) -> Value {
        self.namespace.object(&kind.to_lowercase(), "shop").unwrap()
    }

    fn is_ready(&self, pod: &str) -> bool {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        self.namespace.kubectl(&["get", "pod", pod, "--output", path]).unwrap() == "True"
    }
}

#[test]
fn a_container_that_fails_at_once_is_held_debugged_and_as_it_was_for_each_kind_of_workload() {
    let fixture = fixtures::python(Variant::debug());
    for (kind, name) in [("Deployment", "deploy/shop"), ("StatefulSet", "sts/shop"), ("DaemonSet", "ds/shop")]
    {
        let here = Here::new("restricted");
        here.namespace.apply(workload(kind, &fails())).unwrap();
        let failing = failed(&here);
        let before = here.template(kind);
        let run = here.catch(&[&format!("pod/{failing}")]).ok();
        let held = run.stdout.trim().to_owned();
        let stop = format!("pepo catch stop {name} -n {}", here.namespace.name());
        for said in [format!("pepo attach {held} --pause-budget 0 -n"), stop] {
            assert!(run.stderr.contains(&said), "{said}: {}", run.stderr);
        }
        let pod = held.trim_start_matches("pod/").trim_end_matches("/app").to_owned();
        assert!(!here.is_ready(&pod), "{pod}");
        // Asked once more, it names the same.
        assert_eq!(here.catch(&[name]).ok().stdout.trim(), held);
        let breaks = format!("break {}", place(&fixture));
        let script = ["-ex", &breaks, "-ex", "continue", "-ex", "print arguments", "-ex", "detach"];
        let run = here.run(&[&["attach", &held, "--pause-budget", "0"], &script[..]].concat()).ok();
        assert!(
            run.stdout.contains("it was held at its start") && run.stdout.contains("['x']"),
            "{}",
            run.stdout
        );
        let run = here.run(&["catch", "stop", name]).ok();
        assert!(run.stderr.contains("is as it was"), "{}", run.stderr);
        assert_eq!(here.template(kind), before, "{kind}");
        assert!(!here.workload(kind).to_string().contains("pepo.dev"), "{kind}");
        let run = here.run(&["catch", "stop", name]).ok();
        assert!(run.stderr.contains(&format!("no start of {name} is caught")), "{}", run.stderr);
        let without = |pod: &str| here.namespace.kubectl(&["get", "pod", pod, "--output", "yaml"]).unwrap();
        assert!(pods(&here).iter().all(|pod| !without(pod).contains("pepo-entry")), "{kind}");
    }
}

#[test]
fn with_attach_a_pod_that_works_stays_and_all_is_as_it_was_at_the_end() {
    let here = Here::new("restricted");
    let mut object = workload("Deployment", python().command_line());
    object["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("livenessProbe");
    here.namespace.apply(object).unwrap();
    here.namespace.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"]).unwrap();
    let works = pods(&here);
    let life = InPod::of(&here, &works[0]);
    let before = here.template("Deployment");
    let fixture = fixtures::python(Variant::debug());
    let breaks = format!("break {}", place(&fixture));
    let script = ["-ex", &breaks, "-ex", "continue", "-ex", "bt", "-ex", "detach"];
    // The entry comes from the helper's own image, where no other is named.
    let run = here.run(&[&["catch", "start", "deploy/shop", "--attach"], &script[..]].concat()).ok();
    assert!(run.stdout.contains("stopped: breakpoint"), "{}", run.snapshot());
    assert!(run.stderr.contains("deploy/shop is as it was, and what was held is gone"), "{}", run.stderr);
    assert_eq!(here.template("Deployment"), before);
    assert_eq!(pods(&here), works);
    // Asked to end in the middle of the session.
    let line = here.line(&["catch", "start", "deploy/shop", "--attach"]);
    let mut held = Held::attach(&here.surroundings, &line);
    assert_ne!(here.template("Deployment"), before);
    held.signal(Signal::TERM);
    assert_ne!(held.status(), Some(0));
    assert_eq!(here.template("Deployment"), before);
    assert_eq!(pods(&here), works);
    assert!(here.is_ready(&works[0]));
    // Killed there, it leaves what it said, and the next command takes that back.
    let mut killed = Held::attach(&here.surroundings, &line);
    killed.signal(Signal::KILL);
    killed.status();
    let stop = format!("pepo catch stop deploy/shop -n {}", here.namespace.name());
    assert!(killed.errors().contains(&stop), "{}", killed.errors());
    assert_ne!(here.template("Deployment"), before);
    here.run(&["catch", "stop", "deploy/shop"]).ok();
    assert_eq!(here.template("Deployment"), before);
    assert_eq!(pods(&here), works);
    assert!(here.is_ready(&works[0]));
    life.assert_goes_on();
}

#[test]
fn a_session_that_ends_on_the_way_leaves_all_as_it_was() {
    let here = Here::new("restricted");
    here.namespace.apply(workload("Deployment", &fails())).unwrap();
    failed(&here);
    let before = here.template("Deployment");
    let image = entry();
    let start = ["catch", "start", "deploy/shop", "--attach", "--entry-image", &image];
    // The program fails once more.
    let run = here.run(&[&start[..], &["-ex", "continue"]].concat());
    assert!(run.stdout.contains("target exited"), "{}", run.snapshot());
    assert!(run.stderr.contains("deploy/shop is as it was, and what was held is gone"), "{}", run.stderr);
    assert_eq!(here.template("Deployment"), before);
    // Its pod is deleted.
    let mut held = Held::attach(&here.surroundings, &here.line(&start));
    let marked = ["get", "pods", "--output", "json"];
    let list: Value = serde_json::from_str(&here.namespace.kubectl(&marked).unwrap()).unwrap();
    let all = list["items"].as_array().unwrap();
    let pod = all.iter().find(|pod| pod["metadata"]["annotations"]["pepo.dev/caught"].is_string()).unwrap();
    let pod = pod["metadata"]["name"].as_str().unwrap();
    here.namespace.kubectl(&["delete", "pod", pod, "--wait=false"]).unwrap();
    assert_ne!(held.status(), Some(0));
    assert!(
        held.errors().contains("deploy/shop is as it was, and what was held is gone"),
        "{}",
        held.errors()
    );
    assert_eq!(here.template("Deployment"), before);
    assert!(!pods(&here).contains(&pod.to_owned()));
}

#[test]
fn what_an_end_that_was_cut_off_leaves_is_gone_after_the_next() {
    let here = Here::new("restricted");
    let mut object = workload("Deployment", python().command_line());
    // It works, but is never ready: so its controller keeps what was held.
    let container = object["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap();
    let probe = container.remove("livenessProbe").unwrap();
    container.insert("readinessProbe".to_owned(), probe);
    here.namespace.apply(object).unwrap();
    let before = here.template("Deployment");
    let held = here.catch(&["deploy/shop"]).ok().stdout.trim().to_owned();
    let held = held.trim_start_matches("pod/").trim_end_matches("/app").to_owned();
    let rules = refused::rules("catch.yaml").into_iter();
    let may = |rule: &Value| !(rule["resources"][0] == "replicasets" && rule["verbs"][0] == "delete");
    let account = here.namespace.account("halfway", rules.filter(may).collect()).unwrap();
    let run = here.run(&["catch", "stop", "deploy/shop", "--kubeconfig", account.to_str().unwrap()]).fails(4);
    assert!(run.stderr.contains("--resource=replicasets"), "{}", run.stderr);
    assert_eq!(here.template("Deployment"), before);
    assert!(pods(&here).contains(&held), "{held} is there");
    let run = here.run(&["catch", "stop", "deploy/shop"]).ok();
    assert!(run.stderr.contains("what was held is gone"), "{}", run.stderr);
    assert!(!pods(&here).contains(&held), "{held} is gone");
    let run = here.run(&["catch", "stop", "deploy/shop"]).ok();
    assert!(run.stderr.contains("no start of deploy/shop is caught"), "{}", run.stderr);
}

#[test]
fn who_interrupts_it_and_what_does_not_come_up_leave_all_as_it_was() {
    let here = Here::new("restricted");
    let mut object = workload("Deployment", &fails());
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"nowhere": "yes"});
    here.namespace.apply(object).unwrap();
    let before = here.template("Deployment");
    let image = entry();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let line = here.line(&["catch", "start", "deploy/shop", "--entry-image", &image]);
        let mut command = here.surroundings.command(&line);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        // It is told once it is done.
        let mut said = String::new();
        errors.read_line(&mut said).unwrap();
        assert!(said.contains("`pepo catch stop deploy/shop -n "), "{said}");
        assert_ne!(here.template("Deployment"), before);
        kill_process(Pid::from_child(&child), signal).unwrap();
        errors.read_to_string(&mut said).unwrap();
        let ended = child.wait().unwrap().code();
        if signal == Signal::KILL {
            // Nobody is left to take it back, but by the command that was told.
            assert_ne!(here.template("Deployment"), before);
            here.run(&["catch", "stop", "deploy/shop"]).ok();
        } else {
            assert_eq!(ended, Some(8), "{said}");
            assert!(said.contains("interrupted") && said.contains("is as it was"), "{said}");
        }
        assert_eq!(here.template("Deployment"), before);
    }
    here.namespace.kubectl(&["delete", "deployment", "shop"]).unwrap();
    here.namespace.apply(workload("Deployment", &fails())).unwrap();
    let before = here.template("Deployment");
    let run = here.run(&["catch", "start", "deploy/shop", "--entry-image", "pepo.test/none:1"]).fails(3);
    assert!(run.stderr.contains("pepo.test/none:1") && run.stderr.contains("ErrImagePull"), "{}", run.stderr);
    assert!(run.stderr.contains("is as it was"), "{}", run.stderr);
    assert_eq!(here.template("Deployment"), before);
}

#[test]
fn what_cannot_be_caught_is_told_with_the_way_out() {
    let here = Here::new("restricted");
    here.namespace.apply(super::pod("alone", &[("app", &python(), strict())])).unwrap();
    let run = here.catch(&["pod/alone"]).fails(2);
    assert!(
        run.stderr.contains("it has no controller")
            && run.stderr.contains("pepo attach pod/alone --copy -n "),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("pepo inject -f -"), "{}", run.stderr);
    here.namespace.apply(workload("Deployment", &fails())).unwrap();
    let image = entry();
    here.run(&["inject", "deploy/shop", "--image", &image, "--debug", "stayalive", "--no-wait"]).ok();
    let run = here.catch(&["deploy/shop"]).fails(8);
    assert!(run.stderr.contains("pepo eject deploy/shop"), "{}", run.stderr);
    let run = here.run(&["catch", "stop", "deploy/shop"]).ok();
    assert!(run.stderr.contains("no start of deploy/shop is caught"), "{}", run.stderr);
    here.run(&["eject", "deploy/shop", "--no-wait"]).ok();
    here.catch(&["deploy/shop"]).ok();
    for words in [&["inject", "deploy/shop", "--image", "x:1"][..], &["eject", "deploy/shop"]] {
        let run = here.run(words).fails(8);
        assert!(run.stderr.contains("pepo catch stop deploy/shop"), "{}", run.stderr);
    }
    here.run(&["catch", "stop", "deploy/shop"]).ok();
    here.namespace.kubectl(&["rollout", "pause", "deployment/shop"]).unwrap();
    let run = here.catch(&["deploy/shop"]).fails(8);
    assert!(run.stderr.contains("kubectl rollout resume deployment/shop"), "{}", run.stderr);
}

#[test]
fn rights_are_those_of_the_documented_role() {
    let here = Here::new("restricted");
    here.namespace.apply(workload("StatefulSet", &fails())).unwrap();
    let failing = failed(&here);
    let before = here.template("StatefulSet");
    let rules = refused::rules("catch.yaml");
    let needed = |rule: &Value| {
        !["deployments", "daemonsets", "replicasets"].map(Value::from).contains(&rule["resources"][0])
    };
    let target = format!("pod/{failing}");
    for (missing, rule) in rules.iter().enumerate().filter(|(_, rule)| needed(rule)) {
        let account =
            here.namespace.account(&format!("without-{missing}"), refused::without(&rules, missing)).unwrap();
        let run = here.catch(&[&target, "--kubeconfig", account.to_str().unwrap()]).fails(4);
        let resource = rule["resources"][0].as_str().unwrap();
        assert!(
            run.stderr.contains("P0210") && run.stderr.contains(&format!("--resource={resource}")),
            "{resource}: {}",
            run.stderr
        );
        assert_eq!(here.template("StatefulSet"), before, "{resource}");
    }
    let full = here.namespace.account("full", Value::Array(rules)).unwrap();
    here.catch(&[&target, "--kubeconfig", full.to_str().unwrap()]).ok();
    here.run(&["catch", "stop", "sts/shop", "--kubeconfig", full.to_str().unwrap()]).ok();
    assert_eq!(here.template("StatefulSet"), before);
}
