//! What keeps a verb from a pod: each condition made, and told with what to change.

use pepo_testkit::Image;
use serde_json::{Value, json};

use super::{Here, cluster, native, pod, python, strict};

/// What `pepo stack` needs; see SECURITY.md.
fn rules() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("pods", vec!["get"]),
        ("pods/ephemeralcontainers", vec!["patch"]),
        ("pods/exec", vec!["get", "create"]),
    ]
}

fn role(rules: &[(&str, Vec<&str>)]) -> Value {
    let rule = |(resource, verbs): &(&str, Vec<&str>)| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
    rules.iter().map(rule).collect()
}

#[test]
fn an_account_with_the_documented_rights_may_and_with_one_less_is_told_which() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({"runAsUser": 65532}))]));
    let full = here.namespace.account("full", role(&rules())).unwrap();
    for missing in 0..rules().len() {
        let mut rules = rules();
        let (resource, _) = rules.remove(missing);
        let name = format!("without-{missing}");
        let account = here.namespace.account(&name, role(&rules)).unwrap();
        let run = here.run(&["stack", "pod/shop", "--kubeconfig", account.to_str().unwrap()]).fails(4);
        assert!(run.stderr.starts_with("error[P0210]"), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("--resource={resource}")), "{}", run.stderr);
        assert_eq!(here.helpers("shop").len(), usize::from(resource == "pods/exec"), "{resource}");
    }
    here.run(&["stack", "pod/shop", "--kubeconfig", full.to_str().unwrap()]).ok();
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
    for (target, said) in [
        ("pod/crash", "/nowhere"),
        ("pod/init", "the init container first comes first"),
        ("pod/shop/none", "it has app"),
        ("pod/shopp", "near names: pod/shop"),
        ("deploy/none", "looked at namespace"),
    ] {
        let run = here.run(&["stack", target]).fails(3);
        assert!(run.stderr.contains(said), "{target}: {}", run.stderr);
    }
    here.run(&["stack", "pod/init/first"]).ok();
}
