//! What an API server is asked for by verbs that look, as its audit log has it: who did what, and no more than is documented.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::{Here, cluster, pod, python, refused::rules};

/// With a helper that is there already.
const AGAIN: [&str; 2] = ["get pods", "get pods/exec"];
/// Anybody may ask what he may.
const MAY_I: &str = "create selfsubjectaccessreviews.authorization.k8s.io";

/// The lines of the audit log since it had this length.
fn audited(since: u64) -> Vec<Value> {
    let text = fs::read(cluster().audit_log()).unwrap();
    let text = String::from_utf8(text[usize::try_from(since).unwrap()..].to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A verb and what it was done to, as in a Role.
fn act(verb: &str, group: &str, resource: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{verb} {resource}{dot}{group}")
}

impl Here<'_> {
    /// What this account asks the API server for in the course of a command, whatever the answer is.
    fn asks(&self, account: &Path, words: &[&str]) -> BTreeSet<String> {
        let since = fs::metadata(cluster().audit_log()).unwrap().len();
        self.run(&[words, &["--kubeconfig", account.to_str().unwrap()]].concat()).ok();
        let user = format!("system:serviceaccount:{}:looks", self.namespace.name());
        let all = audited(since).into_iter().filter(|line| line["user"]["username"] == *user);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        all.map(|line| {
            let of = &line["objectRef"];
            let (resource, below) = (text(&of["resource"]), text(&of["subresource"]));
            assert_eq!(line["annotations"]["authorization.k8s.io/decision"], "allow", "{line}");
            if below == "exec" {
                // The command line is in the log for all who may read that: nothing of the target is in it.
                let uri = text(&line["requestURI"]);
                assert!(uri.contains("command=agent") && uri.contains("command=--join"), "{uri}");
            }
            match (resource.as_str(), below.as_str()) {
                ("", _) => text(&line["requestURI"]),
                (resource, "") => act(&text(&line["verb"]), &text(&of["apiGroup"]), resource),
                (resource, below) => act(&text(&line["verb"]), "", &format!("{resource}/{below}")),
            }
        })
        .collect()
    }
}

#[test]
fn verbs_that_look_ask_for_what_their_role_has_and_for_no_more() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({"runAsUser": 65532}))]));
    here.namespace
        .apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}}))
        .unwrap();
    let documented = [rules("target.yaml"), rules("names.yaml")].concat();
    let account = here.namespace.account("looks", Value::Array(documented.clone())).unwrap();
    let may: BTreeSet<String> = documented
        .iter()
        .map(|rule| {
            let [verb, group, resource] =
                ["verbs", "apiGroups", "resources"].map(|key| rule[key][0].as_str().unwrap());
            act(verb, group, resource)
        })
        .chain([MAY_I.to_owned()])
        .collect();
    let first = [&AGAIN[..], &["patch pods/ephemeralcontainers"]].concat();
    let listed = [&AGAIN[..], &["list pods"]].concat();
    let commands: [(&[&str], Vec<&str>); 8] = [
        (&["check", "pod/shop"], [&first[..], &[MAY_I]].concat()),
        (&["stack", "pod/shop"], AGAIN.to_vec()),
        (&["top", "pod/shop", "--once"], AGAIN.to_vec()),
        (&["record", "pod/shop", "-d", "1", "-o", "-", "--format", "folded"], AGAIN.to_vec()),
        (&["core", "pod/shop", "--no-stop", "-o", "x.core"], AGAIN.to_vec()),
        (&["stack", "-l", "app=shop"], listed.clone()),
        (&["stack", "svc/front"], [&listed[..], &["get services"]].concat()),
        (&["ps", "--on", "kubernetes"], vec!["list pods"]),
    ];
    for (words, expected) in commands {
        let asked = here.asks(&account, words);
        assert_eq!(asked, expected.into_iter().map(str::to_owned).collect(), "{words:?}");
        assert!(asked.is_subset(&may), "{words:?}: {asked:?}");
    }
}
