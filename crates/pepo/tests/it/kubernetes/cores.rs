//! Core files of pods without a shell.

use pepo_testkit::{Life as _, clean};
use serde_json::{Value, json};

use super::{Here, InPod, cluster, pod, strict};
use crate::core_files::{image, one_core};

/// A pod of the program in a namespace of this level, with its helper.
fn with_helper(level: &str, security: Value) -> (Here<'static>, InPod) {
    cluster().import(&image()).unwrap();
    let here = Here::new(level).with(pod("shop", &[("app", &image(), security)]));
    let life = InPod::of(&here, "shop");
    here.run(&["stack", "pod/shop"]).ok();
    (here, life)
}

#[test]
fn of_a_restricted_pod_by_its_helper_which_has_no_capability() {
    let (here, life) = with_helper("restricted", strict());
    one_core(&here.surroundings, &here.line(&["pod/shop"]), &life);
    assert_eq!(here.helpers("shop").len(), 1, "{:?}", here.helpers("shop"));
    here.assert_quiet("shop");
}

#[test]
fn of_a_pod_of_root_without_sys_ptrace() {
    let (here, life) = with_helper("baseline", json!({"runAsUser": 0}));
    one_core(&here.surroundings, &here.line(&["pod/shop"]), &life);
    here.assert_quiet("shop");
}

/// A program with more capabilities than its helper may be stopped with SYS_PTRACE alone, which `baseline` admits to nobody.
#[test]
fn of_a_pod_whose_program_has_more_rights_than_its_helper_may_have_is_one_clear_error() {
    cluster().import(&image()).unwrap();
    let more = json!({"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}});
    let here = Here::new("privileged").with(pod("shop", &[("app", &image(), more)]));
    let level = "pod-security.kubernetes.io/enforce=baseline";
    here.namespace.kubectl(&["label", "--overwrite", "namespace", here.namespace.name(), level]).unwrap();
    let life = InPod::of(&here, "shop");
    let run = here.run(&["core", "pod/shop", "-o", "a.core"]).fails(4);
    assert!(run.stderr.contains("SYS_PTRACE") && run.stderr.contains("hint: "), "{}", run.stderr);
    assert!(!here.surroundings.path("a.core").exists());
    let before = clean::Snapshot::take(life.pid());
    here.run(&["core", "pod/shop", "-o", "a.core", "--no-stop"]).fails(4);
    life.assert_goes_on();
    before.assert_same();
}
