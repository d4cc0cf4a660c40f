//! What keeps a verb from a pod: each condition made, and told with what to change.

use std::path::Path;

use pepo_testkit::{
    Image,
    kubernetes::{Cluster, Version},
};
use serde_json::{Value, json};

use super::{Here, cluster, native, pod, python, strict};

/// The rules of a Role in `deploy/`, each with one verb on one resource.
pub(super) fn rules(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    // The API server itself reads it.
    let words = ["create", "--dry-run=server", "--output", "json", "--filename", path.to_str().unwrap()];
    let role: Value = serde_json::from_str(&cluster().kubectl(&words).unwrap()).unwrap();
    let mut single = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        let list = |key: &str| rule[key].as_array().unwrap().clone();
        for resource in list("resources") {
            for verb in list("verbs") {
                single
                    .push(json!({"apiGroups": rule["apiGroups"], "resources": [resource], "verbs": [verb]}));
            }
        }
    }
    single
}

pub(super) fn without(rules: &[Value], missing: usize) -> Value {
    rules.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, rule)| rule.clone()).collect()
}

#[test]
fn an_account_with_the_documented_role_may_and_with_one_verb_less_is_told_which() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({"runAsUser": 65532}))]));
    let rules = rules("target.yaml");
    let full = here.namespace.account("full", Value::Array(rules.clone())).unwrap();
    for (missing, rule) in rules.iter().enumerate() {
        let (resource, verb) = (rule["resources"][0].as_str().unwrap(), rule["verbs"][0].as_str().unwrap());
        if verb == "create" && Cluster::shared().version() == Version::V1_34 {
            continue;
        }
        let account =
            here.namespace.account(&format!("without-{missing}"), without(&rules, missing)).unwrap();
        let run = here.run(&["stack", "pod/shop", "--kubeconfig", account.to_str().unwrap()]).fails(4);
        assert!(run.stderr.starts_with("error[P0210]"), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("--resource={resource}")), "{}", run.stderr);
        assert_eq!(here.helpers("shop").len(), usize::from(resource == "pods/exec"), "{resource}");
    }
    here.run(&["stack", "pod/shop", "--kubeconfig", full.to_str().unwrap()]).ok();
}

#[test]
fn lists_and_workloads_need_their_own_role_and_each_of_its_verbs() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &native(), json!({}))]));
    let rules = rules("names.yaml");
    // Nothing is there, so that nothing is reached: a name that is looked for is not found, unless it may not be looked for.
    let names = |resource: &str| match resource {
        "pods" => vec!["ps", "--on", "kubernetes"],
        "services" => vec!["stack", "svc/none"],
        "deployments" => vec!["stack", "deploy/none"],
        "statefulsets" => vec!["stack", "sts/none"],
        "daemonsets" => vec!["stack", "ds/none"],
        "replicasets" => vec!["stack", "rs/none"],
        "jobs" => vec!["stack", "job/none"],
        other => panic!("no verb of Pepo needs {other}"),
    };
    let full = here.namespace.account("full", Value::Array(rules.clone())).unwrap();
    for (missing, rule) in rules.iter().enumerate() {
        let resource = rule["resources"][0].as_str().unwrap();
        let account =
            here.namespace.account(&format!("without-{missing}"), without(&rules, missing)).unwrap();
        let run = |account: &Path| {
            here.run(&[&names(resource)[..], &["--kubeconfig", account.to_str().unwrap()]].concat())
        };
        let refused = run(&account);
        assert!(refused.stderr.contains("P0210"), "{resource}: {}", refused.snapshot());
        let allowed = run(&full);
        assert!(!allowed.stderr.contains("P0210"), "{resource}: {}", allowed.snapshot());
    }
}

#[test]
fn a_helper_that_does_not_start_is_told_in_the_kubelets_words() {
    let here = Here::new("privileged").with(pod("shop", &[("app", &native(), json!({}))]));
    let missing = here
        .run(&["stack", "pod/shop", "--image", "pepo.test/none:1", "--image-pull-policy", "Never"])
        .fails(5);
    assert!(missing.stderr.starts_with("error[P0304]"), "{}", missing.stderr);
    for said in ["ErrImageNeverPull", "pepo.test/none:1 is not on the node", "stays listed"] {
        assert!(missing.stderr.contains(said), "{said}: {}", missing.stderr);
    }
    let image = Image::new("pepo.test/empty:1");
    cluster().import(&image).unwrap();
    let empty = here.run(&["stack", "pod/shop", "--image", image.name()]).fails(5);
    assert!(
        empty.stderr.contains("stat /pepo: no such file") && empty.stderr.contains("hold a static /pepo"),
        "{}",
        empty.stderr
    );
}

#[test]
fn a_namespace_that_admits_no_helper_says_why_for_each_shape() {
    // A user that is known to the image alone: nobody can say so in a restricted namespace, where root is not admitted.
    let image = python().named("pepo.test/loop-of-nobody:1").user("65532");
    cluster().import(&image).unwrap();
    let mut context = strict();
    context.as_object_mut().unwrap().remove("runAsUser");
    let here = Here::new("restricted").with(pod("shop", &[("app", &image, context)]));
    let refused = here.run(&["stack", "pod/shop", "--profile", "ptrace"]).fails(4);
    assert!(refused.stderr.starts_with("error[P0211]"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("as ptrace: ") && refused.stderr.contains("restricted:latest"),
        "{}",
        refused.stderr
    );
    assert!(here.helpers("shop").is_empty());
}

#[test]
fn containers_without_a_process_say_what_became_of_them() {
    let image = native();
    let here = Here::new("baseline").with(pod("shop", &[("app", &image, json!({}))]));
    let mut crash = pod("crash", &[("app", &image, json!({}))]);
    crash["spec"]["containers"][0]["command"] = json!(["/nowhere"]);
    here.namespace.apply(crash).unwrap();
    let mut init = pod("init", &[("app", &image, json!({}))]);
    init["spec"]["initContainers"] = json!([{"name": "first", "image": image.name()}]);
    here.namespace.apply(init).unwrap();
    let mut done = pod("done", &[("app", &image, json!({}))]);
    done["spec"]["restartPolicy"] = "Never".into();
    done["spec"]["containers"][0]["image"] = pepo_platform::HELPER_IMAGE.into();
    done["spec"]["containers"][0]["command"] = json!(["/pepo", "--version"]);
    here.namespace.apply(done).unwrap();
    let mut sidecar = pod("sidecar", &[("app", &image, json!({}))]);
    sidecar["spec"]["initContainers"] =
        json!([{"name": "side", "image": python().name(), "restartPolicy": "Always"}]);
    here.namespace.apply(sidecar).unwrap();
    let first = "jsonpath={.status.initContainerStatuses[0].state.running.startedAt}";
    pepo_testkit::wait::until("the init container runs", crate::session::LIMIT, || {
        let told = here.namespace.kubectl(&["get", "pod", "init", "--output", first]).unwrap();
        if told.is_empty() { Err(told) } else { Ok(()) }
    });
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}{.status.containerStatuses[0].state.terminated.reason}";
    pepo_testkit::wait::until("the container fails", crate::session::LIMIT, || {
        let told = here.namespace.kubectl(&["get", "pod", "crash", "--output", reason]).unwrap();
        if told.is_empty() || told == "ContainerCreating" { Err(told) } else { Ok(()) }
    });
    let completed = "jsonpath={.status.containerStatuses[0].state.terminated.reason}";
    pepo_testkit::wait::until("the container ends", crate::session::LIMIT, || {
        let told = here.namespace.kubectl(&["get", "pod", "done", "--output", completed]).unwrap();
        if told == "Completed" { Ok(()) } else { Err(told) }
    });
    here.namespace.wait_ready("sidecar").unwrap();
    for (target, said) in [
        ("pod/crash", "/nowhere"),
        ("pod/done", "it has ended with exit code 0 (Completed)"),
        ("pod/init", "the init container first comes first"),
        ("pod/shop/none", "it has app"),
        ("pod/shopp", "near names: pod/shop"),
        ("deploy/none", "looked at namespace"),
    ] {
        let run = here.run(&["stack", target]).fails(3);
        assert!(run.stderr.contains(said), "{target}: {}", run.stderr);
    }
    for (target, said) in [
        ("pod/init/first", "pod/init/first · native"),
        ("pod/sidecar/side", "pod/sidecar/side · python"),
        ("pod/sidecar", "pod/sidecar/app · native"),
    ] {
        let run = here.run(&["stack", target]).ok();
        assert!(run.stdout.starts_with(said), "{target}: {}", run.stdout);
    }
}
