//! The entry before the programs of what makes pods, and all as it was afterwards.

use std::path::Path;

use pepo_testkit::{Image, Life as _};
use serde_json::{Value, json};

use super::{Here, InPod, cluster, pod, python, refused, strict};
use crate::support::{PEPO, Run};

/// What an operator's registry has: the entry, which this command is when it is called so.
fn entry() -> Image {
    let image = Image::new("pepo.test/entry:1").file(Path::new(PEPO), "/pepo-entry");
    cluster().import(&image).unwrap();
    image
}

/// A namespace in which a workload of this kind runs, one replica, distroless, read-only, with the program named.
fn with(kind: &str, level: &str) -> Here<'static> {
    let here = Here::new(level);
    let mut pod = pod("x", &[("app", &python(), strict())]);
    pod["spec"]["containers"][0]["command"] = json!(python().command_line());
    let mut spec = json!({
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {"metadata": {"labels": {"app": "shop"}}, "spec": pod["spec"]},
    });
    if kind != "DaemonSet" {
        spec["replicas"] = 1.into();
    }
    here.namespace
        .apply(json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "shop"}, "spec": spec}))
        .unwrap();
    here.rolled_out(kind);
    here
}

impl Here<'_> {
    fn rolled_out(&self, kind: &str) {
        let name = format!("{}/shop", kind.to_lowercase());
        self.namespace.kubectl(&["rollout", "status", &name, "--timeout=90s"]).unwrap();
    }

    fn object(&self, kind: &str) -> Value {
        let words = ["get", &kind.to_lowercase(), "shop", "--output", "json"];
        serde_json::from_str(&self.namespace.kubectl(&words).unwrap()).unwrap()
    }

    fn inject(&self, name: &str, more: &[&str]) -> Run {
        let entry = entry();
        let words = ["inject", name, "--image", entry.name(), "--debug", "verbose,stayalive"];
        self.run(&[&words[..], more].concat())
    }

    /// The log of the program's newest pod.
    fn log(&self) -> String {
        let names =
            ["get", "pods", "--selector", "app=shop", "--output", "jsonpath={.items[*].metadata.name}"];
        let names = self.namespace.kubectl(&names).unwrap();
        let newest = names.split_whitespace().last().unwrap().to_owned();
        self.namespace.kubectl(&["logs", &newest, "--container", "app"]).unwrap()
    }
}

#[test]
fn workloads_of_each_kind_run_the_entry_and_are_as_they_were_when_it_is_taken_back() {
    for (kind, name) in [("Deployment", "deploy/shop"), ("StatefulSet", "sts/shop"), ("DaemonSet", "ds/shop")]
    {
        let here = with(kind, "restricted");
        let before = here.object(kind)["spec"]["template"].to_string();
        let run = here.inject(name, &[]).ok();
        let eject = format!("`pepo eject {name} -n {}` takes it back", here.namespace.name());
        assert!(run.stderr.contains(&eject), "{}", run.stderr);
        assert!(run.stderr.contains("all pods are new"), "{}", run.stderr);
        assert!(here.log().contains("pepo-entry: runs "), "{kind}: {}", here.log());
        // Once more, by other words: what it was is known still.
        let entry = entry();
        here.run(&["inject", name, "--image", entry.name(), "--debug", "stayalive"]).ok();
        let env = here.object(kind)["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
        assert!(env.contains("stayalive") && !env.contains("verbose"), "{env}");
        let run = here.run(&["eject", name]).ok();
        assert!(run.stderr.contains("it is as it was"), "{}", run.stderr);
        let after = here.object(kind);
        assert_eq!(after["spec"]["template"].to_string(), before, "{kind}");
        assert!(!after.to_string().contains("pepo.dev/injected"), "{after}");
        assert!(!here.log().contains("pepo-entry: runs "), "{kind}");
        let run = here.run(&["eject", name]).ok();
        assert!(run.stderr.contains("has nothing of Pepo's in it"), "{}", run.stderr);
    }
}

#[test]
fn what_others_changed_meanwhile_stays_and_the_same_field_is_told() {
    let here = with("Deployment", "restricted");
    let before = here.object("Deployment")["spec"]["template"].clone();
    here.inject("deploy/shop", &["--no-wait"]).ok();
    here.namespace.kubectl(&["set", "env", "deployment/shop", "COLOUR=blue"]).unwrap();
    here.namespace.kubectl(&["label", "deployment/shop", "team=one"]).unwrap();
    here.run(&["eject", "deploy/shop", "--no-wait"]).ok();
    let after = here.object("Deployment");
    let mut expected = before.clone();
    expected["spec"]["containers"][0]["env"] = json!([{"name": "COLOUR", "value": "blue"}]);
    assert_eq!(after["spec"]["template"], expected);
    assert_eq!(after["metadata"]["labels"]["team"], "one");

    here.inject("deploy/shop", &["--no-wait"]).ok();
    let patch =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/command", "value": ["/other"]}]);
    here.namespace
        .kubectl(&["patch", "deployment", "shop", "--type", "json", "--patch", &patch.to_string()])
        .unwrap();
    let injected = here.object("Deployment");
    let run = here.run(&["eject", "deploy/shop"]).fails(8);
    assert!(run.stderr.contains("spec.template.spec.containers[app].command"), "{}", run.stderr);
    assert_eq!(here.object("Deployment")["spec"], injected["spec"], "nothing was changed");
}

#[test]
fn a_dry_run_changes_nothing_and_prints_what_would_be() {
    let here = with("Deployment", "restricted");
    let life = InPod::of(&here, &newest(&here));
    let before = here.object("Deployment");
    let server = here.inject("deploy/shop", &["--dry-run", "server"]).ok();
    // As kubectl's users type it.
    let yaml = here.inject("deploy/shop", &["--dry-run=server", "-o", "yaml"]).ok();
    assert_eq!(yaml.stdout.lines().next(), server.stdout.lines().next());
    let client = here.inject("deploy/shop", &["--dry-run=client", "--output", "json"]).ok();
    for text in [&server.stdout, &yaml.stdout, &client.stdout] {
        assert!(text.contains("pepo-entry") && text.contains("verbose,stayalive"), "{text}");
    }
    assert!(
        server.stdout.starts_with("kind: Deployment") || server.stdout.contains("\nkind: Deployment\n"),
        "{}",
        server.stdout
    );
    // The API server reads it, too.
    let file = here.surroundings.path("new.yaml");
    std::fs::write(&file, &server.stdout).unwrap();
    here.namespace.kubectl(&["replace", "--dry-run=server", "--filename", file.to_str().unwrap()]).unwrap();
    assert_eq!(client.json()["object"]["metadata"]["name"], "shop");
    assert_eq!(here.object("Deployment"), before);
    here.run(&["eject", "deploy/shop", "--dry-run", "server"]).ok();
    life.assert_goes_on();
}

fn newest(here: &Here<'_>) -> String {
    let names = ["get", "pods", "--selector", "app=shop", "--output", "jsonpath={.items[0].metadata.name}"];
    here.namespace.kubectl(&names).unwrap()
}

#[test]
fn what_cannot_be_injected_is_told_and_rights_are_those_of_the_documented_role() {
    let here = with("Deployment", "restricted");
    let pod = newest(&here);
    let run = here.inject(&format!("pod/{pod}"), &[]).fails(2);
    assert!(run.stderr.contains("deploy/NAME, sts/NAME or ds/NAME"), "{}", run.stderr);
    let run = here.inject("deploy/none", &[]).fails(3);
    assert!(run.stderr.contains("deploy/none"), "{}", run.stderr);
    // They make no pods.
    let idle = |kind: &str| {
        let container =
            json!({"name": "app", "image": "x:1", "command": ["/x"], "securityContext": strict()});
        let spec = json!({"containers": [container], "nodeSelector": {"nowhere": "yes"}});
        let template = json!({"metadata": {"labels": {"app": kind}}, "spec": spec});
        let spec = json!({"selector": {"matchLabels": {"app": kind}}, "template": template});
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "shop"}, "spec": spec})
    };
    here.namespace.apply(idle("StatefulSet")).unwrap();
    here.namespace.apply(idle("DaemonSet")).unwrap();
    let rules = refused::rules("workloads.yaml");
    assert_eq!(rules.len(), 6);
    for (missing, rule) in rules.iter().enumerate() {
        let resource = rule["resources"][0].as_str().unwrap();
        let target = match resource {
            "deployments" => "deploy/shop",
            "statefulsets" => "sts/shop",
            "daemonsets" => "ds/shop",
            other => panic!("no verb of Pepo needs {other}"),
        };
        let name = format!("without-{missing}");
        let account = here.namespace.account(&name, refused::without(&rules, missing)).unwrap();
        let run =
            here.inject(target, &["--dry-run", "server", "--kubeconfig", account.to_str().unwrap()]).fails(4);
        assert!(
            run.stderr.contains("P0210") && run.stderr.contains(&format!("--resource={resource}.apps")),
            "{rule}: {}",
            run.stderr
        );
    }
    let full = here.namespace.account("full", Value::Array(rules)).unwrap();
    here.inject("deploy/shop", &["--no-wait", "--kubeconfig", full.to_str().unwrap()]).ok();
    here.run(&["eject", "deploy/shop", "--no-wait", "--kubeconfig", full.to_str().unwrap()]).ok();
}
