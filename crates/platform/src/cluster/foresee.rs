//! What `pepo check` says of a pod before an agent stands in it: the account's rights, admission, the image, the user, memory, and
//! helpers that are there.

use futures::future::join_all;
use k8s_openapi::{
    api::{
        authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
        core::v1::{Container, Pod},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Api, api::PostParams};
use pepo_wire::{
    Code, Failure,
    agent::{Finding, Level},
};
use serde_json::{Value, json};

use super::{client::Joined, find};

/// What every verb on `pod/NAME` asks of RBAC: resource, subresource, verb. Before 1.35 the last is not asked for.
const RIGHTS: [(&str, &str, &str); 4] = [
    ("pods", "", "get"),
    ("pods", "ephemeralcontainers", "patch"),
    ("pods", "exec", "get"),
    ("pods", "exec", "create"),
];
/// As much memory a helper may take while it looks, in bytes; it is the pod's.
const MEMORY: u64 = 64 << 20;

/// A row that is good.
pub(super) fn ok(rule: &str, what: impl Into<String>) -> Finding {
    row(Level::Ok, rule, what, None)
}

/// Any row.
pub(super) fn row(level: Level, rule: &str, what: impl Into<String>, failure: Option<Failure>) -> Finding {
    Finding { level: level.into(), rule: rule.to_owned(), what: what.into(), failure, ..Finding::default() }
}

/// May the account do what is needed? The answer to a no is the Role that grants all of it.
pub(super) async fn rights(joined: &Joined) -> Option<Finding> {
    let api: Api<SelfSubjectAccessReview> = Api::all(joined.client.clone());
    let answers = join_all(RIGHTS.iter().map(|(resource, sub, verb)| {
        let attributes = ResourceAttributes {
            namespace: Some(joined.namespace.clone()),
            resource: Some((*resource).to_owned()),
            subresource: Some((*sub).to_owned()),
            verb: Some((*verb).to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api = api.clone();
        async move { api.create(&PostParams::default(), &review).await }
    }))
    .await;
    let mut missing = Vec::new();
    for (right, answer) in RIGHTS.iter().zip(answers) {
        // Who may not even ask is told by the acts themselves.
        let status = answer.ok()?.status?;
        if !status.allowed {
            missing.push(*right);
        }
    }
    Some(judged(&missing, &joined.namespace))
}

fn judged(missing: &[(&str, &str, &str)], namespace: &str) -> Finding {
    const RULE: &str = "rbac";
    let told: Vec<String> =
        missing.iter().map(|(resource, sub, verb)| format!("{verb} {}", full(resource, sub))).collect();
    let hint = format!("an administrator applies this Role and binds it: {}", role(namespace));
    match missing {
        [] => ok(RULE, format!("the account has the rights that Pepo needs in namespace {namespace}")),
        [("pods", "exec", "create")] => {
            let what = format!(
                "the account may not create pods/exec, which Kubernetes asks for from 1.35 on, in {namespace}"
            );
            let failure = Failure::new(Code::ClusterDenied, what.clone()).hint(hint);
            row(Level::Risk, RULE, what, Some(failure))
        }
        _ => {
            let what = format!("the account may not {} in namespace {namespace}", crate::error::list(&told));
            let failure = Failure::new(Code::ClusterDenied, what.clone()).hint(hint);
            row(Level::No, RULE, what, Some(failure))
        }
    }
}

fn full(resource: &str, sub: &str) -> String {
    if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") }
}

/// The Role that suffices for every verb on `pod/NAME`, on one line; JSON is YAML too.
fn role(namespace: &str) -> Value {
    let mut rules: Vec<(String, Vec<&str>)> = Vec::new();
    for (resource, sub, verb) in RIGHTS {
        let resource = full(resource, sub);
        match rules.iter_mut().find(|(other, _)| *other == resource) {
            Some((_, verbs)) => verbs.push(verb),
            None => rules.push((resource, vec![verb])),
        }
    }
    let rules: Vec<Value> = rules
        .iter()
        .map(|(resource, verbs)| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs}))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "pepo", "namespace": namespace},
        "rules": rules,
    })
}

/// Where the node has the image from.
pub(super) fn image(pod: &Pod, image: &str, policy: Option<&str>) -> Finding {
    let last = image.rsplit('/').next().unwrap_or_default();
    let floats = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    let policy = policy.unwrap_or(if floats { "Always" } else { "IfNotPresent" });
    let secrets: Vec<String> = find::spec(pod)
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|secret| secret.name.clone())
        .filter(|name| !name.is_empty())
        .collect();
    let secrets = match secrets.as_slice() {
        [] => "the pod has no pull secret".to_owned(),
        names => format!("with the pod's pull secrets {}", crate::error::list(names)),
    };
    let what = match policy {
        "Never" => format!("the helper's image {image} is never pulled: it must be on the node"),
        "Always" => format!("the helper's image {image} is pulled each time; {secrets}"),
        _ => format!("the helper's image {image} is pulled if the node has it not; {secrets}"),
    };
    ok("image", what)
}

/// What the pod's own specification makes of a helper: its user, and its memory.
pub(super) fn of_pod(pod: &Pod, container: &str, knows_user: bool) -> Vec<Finding> {
    let spec = find::spec(pod);
    let context = find::spec_of(pod, container).and_then(|one| one.security_context.as_ref());
    let of_pod = spec.security_context.as_ref();
    let non_root = context
        .and_then(|context| context.run_as_non_root)
        .or(of_pod.and_then(|context| context.run_as_non_root));
    let mut rows = Vec::new();
    if non_root == Some(true) && !knows_user {
        let what = "the container is runAsNonRoot and nothing says as whom: a helper that is not root is refused by the kubelet unless its image says a user";
        let hint = "let the pod say runAsUser in its securityContext";
        rows.push(row(Level::Risk, "user", what, Some(Failure::new(Code::AgentNotStarted, what).hint(hint))));
    }
    if spec.host_users == Some(false) {
        rows.push(row(
            Level::Lost,
            "user namespace",
            "the pod has a user namespace of its own: the helper's root is not the node's, and the kernel's own timer for profiles may refuse it",
            None,
        ));
    }
    rows.extend(memory(pod));
    rows
}

/// The limit that all containers of a pod have together; a helper has none of its own, and takes from it.
fn memory(pod: &Pod) -> Option<Finding> {
    let spec = find::spec(pod);
    let sidecar = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let limit = |one: &Container| one.resources.as_ref()?.limits.as_ref()?.get("memory").and_then(bytes);
    // Without a limit for each, the pod has none.
    let all = spec.containers.iter().chain(sidecars).map(limit).sum::<Option<u64>>()?;
    let mib = |bytes: u64| bytes >> 20;
    Some(if all < 2 * MEMORY {
        let what = format!(
            "all containers of the pod may take {} MiB together, and a helper takes up to {} MiB of that: one of them may be ended for it",
            mib(all),
            mib(MEMORY)
        );
        let hint = "give the pod more memory while you look: kubectl patch, or kubectl set resources on its controller";
        row(Level::Risk, "memory", what.clone(), Some(Failure::new(Code::AgentNotStarted, what).hint(hint)))
    } else {
        ok("memory", format!("all containers of the pod may take {} MiB together, with the helper", mib(all)))
    })
}

/// A quantity as bytes: `128Mi`, `1G`, `134217728`.
fn bytes(quantity: &Quantity) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("", 1),
    ];
    let text = quantity.0.trim();
    UNITS.iter().find_map(|(suffix, unit)| {
        let (whole, fraction) =
            text.strip_suffix(suffix)?.split_once('.').unwrap_or((text.strip_suffix(suffix)?, ""));
        let whole: u64 = whole.parse().ok()?;
        let tenths: u64 = fraction.get(..1).map_or(Some(0), |digit| digit.parse().ok())?;
        Some(whole.saturating_mul(*unit).saturating_add(tenths.saturating_mul(unit / 10)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_role_is_whole_and_what_is_missing_is_named() {
        assert_eq!(judged(&[], "n").level(), Level::Ok);
        assert_eq!(judged(&RIGHTS[3..], "n").level(), Level::Risk);
        let no = judged(&RIGHTS[1..3], "n");
        assert_eq!(no.level(), Level::No);
        assert!(no.what.contains("patch pods/ephemeralcontainers and get pods/exec"), "{}", no.what);
        let hint = &no.failure.unwrap().hints[0].text;
        assert!(hint.contains(r#""resources":["pods/exec"],"verbs":["get","create"]"#), "{hint}");
    }

    #[test]
    fn where_the_image_comes_from_is_told_as_the_kubelet_decides_it() {
        let pod = pod(&json!({"containers": [], "imagePullSecrets": [{"name": "regcred"}]}));
        for (name, policy, said) in [
            ("busybox", None, "pulled each time; with the pod's pull secrets regcred"),
            ("a:5000/busybox", None, "pulled each time"),
            ("a:5000/busybox:latest", None, "pulled each time"),
            ("busybox:1", None, "if the node has it not"),
            ("busybox@sha256:00", None, "if the node has it not"),
            ("busybox", Some("Never"), "must be on the node"),
        ] {
            let row = image(&pod, name, policy);
            assert!(row.what.contains(said), "{name}: {}", row.what);
        }
    }

    #[test]
    fn small_pods_and_unknown_users_are_risks() {
        let limited = |limit: &str| {
            pod(&json!({
                "hostUsers": false, "securityContext": {"runAsNonRoot": true},
                "containers": [{"name": "app", "resources": {"limits": {"memory": limit}}}],
                "initContainers": [{"name": "first"},
                    {"name": "side", "restartPolicy": "Always", "resources": {"limits": {"memory": "16Mi"}}}],
            }))
        };
        let rules = |pod: &Pod, knows| {
            let rows = of_pod(pod, "app", knows);
            rows.iter().map(|row| (row.rule.clone(), row.level())).collect::<Vec<_>>()
        };
        let row = |rule: &str, level| (rule.to_owned(), level);
        assert_eq!(
            rules(&limited("32Mi"), false),
            [row("user", Level::Risk), row("user namespace", Level::Lost), row("memory", Level::Risk)]
        );
        assert_eq!(rules(&limited("1.5G"), true)[1], row("memory", Level::Ok));
        let unlimited = pod(
            &json!({"containers": [{"name": "app"}, {"name": "b", "resources": {"limits": {"memory": "1Mi"}}}]}),
        );
        assert!(rules(&unlimited, false).is_empty());
    }

    #[test]
    fn quantities_are_read() {
        for (text, expected) in [
            ("128Mi", Some(128 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("1G", Some(1_000_000_000)),
            ("42", Some(42)),
            ("a", None),
            ("", None),
        ] {
            let told = bytes(&Quantity(text.into()));
            let close = told.zip(expected).is_none_or(|(told, expected)| told.abs_diff(expected) < 1 << 10);
            assert!(close && told.is_some() == expected.is_some(), "{text}: {told:?}");
        }
    }
}
