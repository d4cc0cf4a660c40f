//! What a helper may be allowed: as little as the verb needs, in shapes that a namespace's admission may or may not take.

use k8s_openapi::api::core::v1::{Capabilities, Pod, SeccompProfile, SecurityContext};

use super::{Profile, find};
use crate::{Need, helper::CAPABILITIES};

/// One shape of a helper.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    /// Told in messages, and kept with the helper so that it can be found again.
    pub(super) name: &'static str,
    pub(super) context: SecurityContext,
    /// What a user loses by it.
    pub(super) lost: Option<&'static str>,
}

/// The shapes that would do, the best first.
pub(super) fn shapes(pod: &Pod, container: &str, need: Need, profile: Option<Profile>) -> Vec<Shape> {
    let own = own(pod, container);
    let uid = uid(pod, container);
    let user = user(&own, uid);
    let restricted = restricted(&own, uid);
    let all = match profile {
        Some(Profile::Ptrace) => vec![Some(ptrace(&own))],
        Some(Profile::User) => vec![user, restricted],
        // The target's own user may look at it and write where it writes, if it is known who that is.
        None if !need.stops() && uid.is_some() => vec![user, restricted, Some(ptrace(&own))],
        None => vec![Some(ptrace(&own)), user, restricted],
    };
    let mut shapes: Vec<Shape> = Vec::new();
    for shape in all.into_iter().flatten() {
        if !shapes.iter().any(|other| other.context == shape.context) {
            shapes.push(shape);
        }
    }
    shapes
}

/// The target's own security settings.
fn own(pod: &Pod, container: &str) -> SecurityContext {
    find::spec_of(pod, container).and_then(|one| one.security_context.clone()).unwrap_or_default()
}

/// The user that the target runs as: as its pod says, or as its runtime told.
pub(super) fn uid(pod: &Pod, container: &str) -> Option<i64> {
    let of_pod = find::spec(pod).security_context.as_ref().and_then(|context| context.run_as_user);
    let told = || find::status_of(pod, container)?.user.as_ref()?.linux.as_ref().map(|linux| linux.uid);
    own(pod, container).run_as_user.or(of_pod).or_else(told)
}

/// What must be the same for the kernel to let one process see another: labels of security modules, seccomp.
fn labels(own: &SecurityContext) -> SecurityContext {
    SecurityContext {
        se_linux_options: own.se_linux_options.clone(),
        app_armor_profile: own.app_armor_profile.clone(),
        seccomp_profile: own.seccomp_profile.clone(),
        ..SecurityContext::default()
    }
}

/// Root with the capabilities that debuggers need, and no other.
fn ptrace(own: &SecurityContext) -> Shape {
    let context = SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: Some(CAPABILITIES.map(String::from).into()),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        ..labels(own)
    };
    Shape { name: "ptrace", context, lost: None }
}

/// The target's own user with its own capabilities: that much ptrace(2) asks for. A target with all of them has no such shape.
fn user(own: &SecurityContext, uid: Option<i64>) -> Option<Shape> {
    if own.privileged == Some(true) {
        return None;
    }
    let escalates = own
        .capabilities
        .iter()
        .flat_map(|all| all.add.iter().flatten())
        .any(|one| matches!(one.trim_start_matches("CAP_"), "SYS_ADMIN" | "ALL"));
    let context = SecurityContext {
        run_as_user: uid,
        run_as_group: own.run_as_group,
        run_as_non_root: own.run_as_non_root,
        allow_privilege_escalation: (!escalates).then_some(false),
        capabilities: own.capabilities.clone(),
        ..labels(own)
    };
    Some(Shape { name: "user", context, lost: Some(LOST) })
}

const LOST: &str = "the helper has the target's own user and no capability of its own: where the kernel asks for more \
                    (ptrace_scope, a process that is not dumpable, the kernel's own timer for profiles), `pepo check` says so";

/// What PodSecurity's `restricted` admits.
fn restricted(own: &SecurityContext, uid: Option<i64>) -> Option<Shape> {
    if own.privileged == Some(true) || uid == Some(0) {
        return None;
    }
    let context = SecurityContext {
        run_as_user: uid,
        run_as_group: own.run_as_group,
        run_as_non_root: Some(true),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        seccomp_profile: Some(own.seccomp_profile.clone().unwrap_or_else(|| SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        })),
        ..labels(own)
    };
    Some(Shape { name: "restricted", context, lost: Some(LOST) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(context: &Value, of_pod: &Value, told: Option<i64>) -> Pod {
        let user = told.map_or(json!(null), |uid| json!({"linux": {"uid": uid, "gid": 0}}));
        serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"securityContext": of_pod, "containers": [{"name": "app", "securityContext": context}]},
            "status": {"containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "user": user}]}
        }))
        .unwrap()
    }

    fn names(pod: &Pod, need: Need, profile: Option<Profile>) -> Vec<&'static str> {
        shapes(pod, "app", need, profile).iter().map(|shape| shape.name).collect()
    }

    #[test]
    fn the_least_that_does_is_asked_for_first() {
        let known = pod(&json!({}), &json!({"runAsUser": 65532}), None);
        assert_eq!(names(&known, Need::Look, None), ["user", "restricted", "ptrace"]);
        assert_eq!(names(&known, Need::Write, None), ["user", "restricted", "ptrace"]);
        assert_eq!(names(&known, Need::Stop, None), ["ptrace", "user", "restricted"]);
        assert_eq!(names(&known, Need::Stop, Some(Profile::User)), ["user", "restricted"]);
        assert_eq!(names(&known, Need::Look, Some(Profile::Ptrace)), ["ptrace"]);
        let told = pod(&json!({}), &json!({}), Some(7));
        assert_eq!(names(&told, Need::Look, None)[0], "user");
        let unknown = pod(&json!({}), &json!({}), None);
        assert_eq!(names(&unknown, Need::Look, None)[0], "ptrace");
        let privileged = pod(&json!({"privileged": true}), &json!({}), Some(0));
        assert_eq!(names(&privileged, Need::Look, None), ["ptrace"]);
    }

    #[test]
    fn a_helper_as_the_targets_user_has_what_the_target_has() {
        let pod = pod(
            &json!({"runAsUser": 5, "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
                "readOnlyRootFilesystem": true, "seLinuxOptions": {"level": "s0:c1"}}),
            &json!({"runAsUser": 6}),
            Some(7),
        );
        let context = shapes(&pod, "app", Need::Look, None)[0].context.clone();
        assert_eq!(context.run_as_user, Some(5));
        assert_eq!(context.capabilities.unwrap().add.unwrap(), ["NET_BIND_SERVICE"]);
        assert_eq!(context.se_linux_options.unwrap().level.unwrap(), "s0:c1");
        assert_eq!(
            (context.read_only_root_filesystem, context.allow_privilege_escalation),
            (None, Some(false))
        );
    }

    #[test]
    fn what_restricted_namespaces_admit_has_nothing_to_add() {
        let pod = pod(&json!({"runAsUser": 5, "runAsNonRoot": true}), &json!({}), None);
        let shapes = shapes(&pod, "app", Need::Stop, None);
        let context = &shapes.last().unwrap().context;
        assert_eq!(context.run_as_non_root, Some(true));
        assert_eq!(context.capabilities.as_ref().unwrap().add, None);
        assert_eq!(context.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        let none: Vec<_> = shapes.iter().filter(|shape| shape.context.privileged.is_some()).collect();
        assert_eq!(none, Vec::<&Shape>::new());
    }
}
