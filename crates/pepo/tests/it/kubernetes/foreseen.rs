//! What `pepo check` foresees of a pod: each row's condition made on the cluster.

use std::time::{Duration, Instant};

use pepo_testkit::wait;
use serde_json::{Value, json};

use super::{Here, caught::workload, cluster, native, pod, python, strict};
use crate::{session::LIMIT, terminal::Terminal};

impl Here<'_> {
    /// The rows of a check, and its exit status.
    fn rows(&self, words: &[&str]) -> (Option<i32>, Vec<Value>) {
        let run = self.run(&[&["check"], words, &["--output", "json"]].concat());
        (run.status, run.json()["findings"].as_array().unwrap().clone())
    }
}

/// Level and words of a rule's only row.
#[track_caller]
fn row(rows: &[Value], rule: &str) -> (String, String) {
    let all: Vec<_> = rows.iter().filter(|row| row["rule"] == rule).collect();
    let [row] = all.as_slice() else { panic!("{rule}: {rows:#?}") };
    (row["level"].as_str().unwrap().to_owned(), row["what"].as_str().unwrap().to_owned())
}

#[track_caller]
fn assert_row(rows: &[Value], rule: &str, level: &str, said: &str) {
    let (told, what) = row(rows, rule);
    assert!(told == level && what.contains(said), "{rule}: {told}: {what}");
}

#[test]
fn rights_that_are_missing_are_told_with_the_role_that_grants_them() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({}))]));
    let reads = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let account = here.namespace.account("reader", reads).unwrap();
    let words = |account: &std::path::Path| {
        ["pod/shop".to_owned(), "--kubeconfig".to_owned(), account.display().to_string()]
    };
    let run = |words: [String; 3]| here.rows(&words.each_ref().map(String::as_str));
    let (status, rows) = run(words(&account));
    assert_eq!(status, Some(1));
    assert_row(&rows, "rbac", "no", "patch pods/ephemeralcontainers, get pods/exec and create pods/exec");
    assert!(here.helpers("shop").is_empty());
    let hints = rows[0]["failure"]["hints"].to_string();
    let hint = rows[0]["failure"]["hints"][0]["text"].as_str().unwrap_or_else(|| panic!("{hints}"));
    let role: Value = serde_json::from_str(hint.split_once(": ").unwrap().1).unwrap();
    let account = here.namespace.account("granted", role["rules"].clone()).unwrap();
    let (status, rows) = run(words(&account));
    assert_row(&rows, "rbac", "ok", "has the rights");
    assert_eq!(status, Some(0), "{rows:#?}");
}

#[test]
fn admission_users_images_and_memory_are_foreseen() {
    let mut small = pod("small", &[("app", &native(), strict())]);
    small["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "40Mi"}});
    small["spec"]["imagePullSecrets"] = json!([{"name": "regcred"}]);
    let here = Here::new("restricted").with(small);
    let (_, rows) = here.rows(&["pod/small"]);
    assert_row(&rows, "admission", "lost", "restricted:latest");
    assert_row(&rows, "memory", "risk", "40 MiB together");
    assert_row(&rows, "image", "ok", "with the pod's pull secrets regcred");
    let (status, rows) = here.rows(&["pod/small", "--profile", "ptrace"]);
    assert_eq!(status, Some(1));
    assert_row(&rows, "admission", "no", "restricted:latest");
}

#[test]
fn a_helper_that_the_kubelet_refuses_is_a_row_in_its_words_and_no_quota_counts_it() {
    let image = python().named("pepo.test/loop-of-nobody-else:1").user("65532");
    cluster().import(&image).unwrap();
    let here = Here::new("baseline").with(pod("shop", &[("app", &image, json!({"runAsNonRoot": true}))]));
    here.namespace
        .apply(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
            "spec": {"hard": {"pods": "1", "requests.memory": "1", "limits.memory": "1"}}}))
        .unwrap();
    let begun = Instant::now();
    let (status, rows) = here.rows(&["pod/shop", "--profile", "user"]);
    assert!(begun.elapsed() < Duration::from_secs(60), "it is told long before the limit for starting");
    assert_eq!(status, Some(1));
    assert_row(&rows, "user", "risk", "runAsNonRoot");
    assert_row(&rows, "reach", "no", "runAsNonRoot");
    let (_, rows) = here.rows(&["pod/shop", "--profile", "user"]);
    assert_row(&rows, "helpers", "ok", "have ended");
}

#[test]
fn an_image_that_is_not_on_the_node_is_a_row() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &native(), json!({}))]));
    let (status, rows) =
        here.rows(&["pod/shop", "--image", "pepo.test/none:1", "--image-pull-policy", "Never"]);
    assert_eq!(status, Some(1));
    assert_row(&rows, "image", "ok", "it must be on the node");
    assert_row(&rows, "reach", "no", "ErrImageNeverPull");
}

#[test]
fn four_helpers_are_enough() {
    let image = native();
    let names = ["a", "b", "c"];
    let containers = names.map(|name| (name, &image, json!({"runAsUser": 65532})));
    let here = Here::new("privileged").with(pod("many", &containers));
    for container in ["pod/many/a", "pod/many/b"] {
        for profile in ["user", "ptrace"] {
            here.run(&["stack", container, "--profile", profile]).ok();
        }
    }
    let (status, rows) = here.rows(&["pod/many/c"]);
    assert_eq!(status, Some(1));
    let told = rows.iter().find(|row| row["rule"] == "helpers" && row["level"] == "no");
    assert!(told.is_some_and(|row| row["what"].as_str().unwrap().contains("4 helpers run")), "{rows:#?}");
    assert_eq!(here.helpers("many").len(), 4);
    let (_, rows) = here.rows(&["pod/many/a", "--for", "stack"]);
    assert_row(&rows, "admission", "ok", "is used again");
}

#[test]
fn a_static_pod_is_told_as_such() {
    let here = Here::new("privileged");
    let name = format!("static-{}", std::process::id());
    let mut manifest = pod(&name, &[("app", &native(), json!({}))]);
    manifest["metadata"]["namespace"] = here.namespace.name().into();
    let file = cluster().static_pods(1).join(format!("{name}.json"));
    std::fs::write(&file, manifest.to_string()).unwrap();
    let mirror = format!("{name}-{}", cluster().nodes()[0]);
    wait::until("the kubelet shows it", LIMIT, || here.namespace.object("pod", &mirror).map(drop));
    let run = here.run(&["check", &format!("pod/{mirror}")]);
    std::fs::remove_file(&file).unwrap();
    assert!(run.stderr.contains("it is a static pod"), "{}", run.snapshot());
    assert_ne!(run.status, Some(0));
}

impl Here<'_> {
    /// A kubeconfig whose context says that this is production.
    fn production(&self) -> String {
        let config = self.surroundings.path("production");
        std::fs::copy(cluster().kubeconfig(), &config).unwrap();
        let config = config.to_str().unwrap();
        cluster()
            .kubectl(&["config", "--kubeconfig", config, "rename-context", "pepo", "eu-prod-1"])
            .unwrap();
        config.to_owned()
    }
}

#[test]
fn a_question_about_production_is_ended_by_ctrl_c_and_by_all_but_a_yes() {
    let here = Here::new("restricted");
    here.namespace.apply(workload("Deployment", python().command_line())).unwrap();
    here.namespace.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"]).unwrap();
    let before = here.namespace.object("deployment", "shop").unwrap()["spec"].to_string();
    let config = here.production();
    let cluster = ["--kubeconfig", &config, "--namespace", here.namespace.name()];
    let verbs = [
        &["attach", "deploy/shop"][..],
        &["attach", "deploy/shop", "--copy"],
        &["core", "deploy/shop", "-o", "x.core"],
        &["catch", "start", "deploy/shop", "-c", "app"],
        &["catch", "stop", "deploy/shop"],
        &["inject", "deploy/shop", "--image", "x:1"],
    ];
    for words in verbs {
        let line = [words, &cluster[..]].concat();
        let mut terminal = Terminal::run(&here.surroundings, &line);
        terminal.waits_for("eu-prod-1 says that this is production", 1);
        terminal.waits_for("[y/N]", 1);
        terminal.interrupts();
        assert_eq!(terminal.status(), Some(8), "{words:?}: {}", terminal.said());
        assert!(terminal.said().contains("interrupted"), "{words:?}: {}", terminal.said());
        let mut terminal = Terminal::run(&here.surroundings, &line);
        terminal.waits_for("[y/N]", 1);
        terminal.types("nay\n");
        assert_eq!(terminal.status(), Some(8), "{words:?}: {}", terminal.said());
        // What is told to be typed is of this cluster and this namespace.
        let said = terminal.said().split_whitespace().collect::<Vec<_>>().join(" ");
        let more = format!("--yes -n {} --kubeconfig {config}", here.namespace.name());
        assert!(said.contains(&more), "{words:?}: {said}");
        let verb = match words {
            ["attach", _, "--copy"] => "/app --copy --yes",
            ["attach", ..] => "pepo attach pod/shop-",
            ["core", ..] => "pepo core -o x.core pod/shop-",
            ["catch", "start", ..] => "pepo catch start deploy/shop/app",
            ["catch", ..] => "pepo catch stop deploy/shop",
            _ => "pepo inject deploy/shop --image x:1",
        };
        assert!(said.contains(verb), "{words:?}: {said}");
    }
    let pods = here.namespace.kubectl(&["get", "pods", "--output", "name"]).unwrap();
    let [pod] = &pods.lines().collect::<Vec<_>>()[..] else { panic!("{pods}") };
    assert!(here.helpers(pod.trim_start_matches("pod/")).is_empty(), "nothing was put into the pod");
    assert_eq!(here.namespace.object("deployment", "shop").unwrap()["spec"].to_string(), before);
}

#[test]
fn a_debugger_in_production_needs_a_yes() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({}))]));
    let config = &here.production();
    let attach = ["attach", "pod/shop", "--kubeconfig", config, "-ex", "detach"];
    let run = here.run(&attach);
    assert!(run.stderr.contains("the context eu-prod-1 says that this is production"), "{}", run.snapshot());
    assert_eq!(run.status, Some(8), "{}", run.snapshot());
    assert!(here.helpers("shop").is_empty(), "nothing was put into the pod");
    let run = here.run(&["attach", "pod/shop", "--all", "--kubeconfig", config, "-ex", "detach"]);
    assert!(run.stderr.contains("pepo attach pod/shop --all --yes"), "{}", run.snapshot());
    assert_eq!((run.status, here.helpers("shop").len()), (Some(8), 0), "{}", run.snapshot());
    here.run(&["stack", "pod/shop", "--kubeconfig", config]).ok();
    here.run(&[&attach[..], &["--yes"]].concat()).ok();
}
