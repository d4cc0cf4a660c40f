//! Whose account asks the API server, and from where: a program that a kubeconfig names, and the account of the pod in which the command runs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use pepo_platform::HELPER_IMAGE;
use pepo_testkit::wait;
use serde_json::{Value, json};

use super::{Here, pod, python, refused::rules};
use crate::session::LIMIT;

/// A kubeconfig whose account is what a program says, which is this script; and the script.
fn with_program(here: &Here<'_>, account: &Path, script: &str) -> String {
    let program = here.surroundings.path("who-am-i");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(account).unwrap()).unwrap();
    config["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": program, "interactiveMode": "Never",
    }});
    let file = here.surroundings.path("by-program");
    fs::write(&file, config.to_string()).unwrap();
    file.display().to_string()
}

fn token(account: &Path) -> String {
    let config: Value = serde_json::from_str(&fs::read_to_string(account).unwrap()).unwrap();
    config["users"][0]["user"]["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_program_that_the_kubeconfig_names_says_who_it_is_and_its_failure_is_told() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({"runAsUser": 65532}))]));
    let account = here.namespace.account("looks", Value::Array(rules("target.yaml"))).unwrap();
    let told = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": token(&account)}});
    let config = with_program(&here, &account, &format!("#!/bin/sh\necho '{told}'\n"));
    let stack = here.run(&["stack", "pod/shop", "--kubeconfig", &config]).ok();
    assert!(stack.stdout.contains("tick"), "{}", stack.stdout);
    // It has that account's rights and no other.
    let listed = here.run(&["ps", "--on", "kubernetes", "--kubeconfig", &config]);
    assert!(listed.stderr.contains("system:serviceaccount:"), "{}", listed.snapshot());
    let config = with_program(&here, &account, "#!/bin/sh\necho 'log in first' >&2\nexit 3\n");
    let failed = here.run(&["stack", "pod/shop", "--kubeconfig", &config]);
    assert!(!matches!(failed.status, Some(0) | None), "{}", failed.snapshot());
    assert!(failed.stderr.contains("who-am-i") && failed.stderr.contains("kubectl"), "{}", failed.stderr);
}

#[test]
fn in_a_pod_the_command_is_the_pods_own_account_in_its_own_namespace() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({"runAsUser": 65532}))]));
    here.namespace.account("looks", Value::Array(rules("target.yaml"))).unwrap();
    let container = json!({"name": "app", "image": HELPER_IMAGE, "command": ["/pepo", "stack", "pod/shop"]});
    let spec = json!({"restartPolicy": "Never", "serviceAccountName": "looks", "containers": [container]});
    here.namespace
        .apply(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": spec}))
        .unwrap();
    let ended = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    let status = wait::until("the command in the pod ends", LIMIT, || {
        let told = here.namespace.kubectl(&["get", "pod", "operator", "--output", ended]).unwrap();
        if told.is_empty() { Err(told) } else { Ok(told) }
    });
    let said = here.namespace.kubectl(&["logs", "operator"]).unwrap();
    assert!(said.starts_with("pod/shop/app · python") && said.contains("tick"), "{status}: {said}");
    assert_eq!(status, "0", "{said}");
    here.assert_quiet("shop");
}
