//! What is asked of the engine for a helper: as little as the agent's work needs.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig};

use crate::Located;

/// Where the binary stands in the helper, without the slash.
pub(super) const BINARY: &str = "pepo-agent";
/// Who made a helper.
pub(super) const CREATOR_LABEL: &str = "dev.pepo.helper.creator";

/// The capabilities a helper has.
///
/// - `SYS_PTRACE`: the checks of ptrace(2) (PTRACE_MODE_*) for processes of other users, which guard `/proc/PID/{mem,maps,root,exe}` too.
/// - `DAC_OVERRIDE`: those files belong to the target's user and have modes like 0600, and programs may be readable to their owner alone.
///   Root without it is just another user to them. `DAC_READ_SEARCH` would do for reading, but it also allows open_by_handle_at(2),
///   which leads out of a container; whoever has `SYS_PTRACE` gains nothing from `DAC_OVERRIDE`.
/// - `KILL`: debuggers stop single threads by signals (tgkill(2)) sent to another user's process.
pub(crate) const CAPABILITIES: [&str; 3] = ["DAC_OVERRIDE", "KILL", "SYS_PTRACE"];

/// The helper beside this target; is it removed by the engine at its end? Its root is not read-only, since engines refuse an upload then.
pub(super) fn body(located: &Located, removed_by_engine: bool) -> ContainerCreateBody {
    let labels = super::labels(&located.container_id);
    ContainerCreateBody {
        image: Some(located.facts.image_id.clone()),
        entrypoint: Some(vec![format!("/{BINARY}"), "agent".to_owned(), "--stdio".to_owned()]),
        // Present and empty: else the image's own command would follow as arguments.
        cmd: Some(Vec::new()),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        tty: Some(false),
        // The image's own check would be run in the helper.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        host_config: Some(HostConfig { auto_remove: Some(removed_by_engine), ..host_config(located) }),
        ..ContainerCreateBody::default()
    }
}

fn host_config(located: &Located) -> HostConfig {
    let facts = &located.facts;
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    HostConfig {
        pid_mode: Some(pid_namespace(&facts.pid_mode, &located.container_id)),
        // A PID namespace can be joined from its own user namespace alone, and by its own runtime.
        userns_mode: user_namespace(&facts.userns_mode, &located.container_id),
        runtime: some(&facts.runtime).filter(|runtime| runtime != "oci"),
        // What it uses is counted where the target's operator meant it to be.
        cgroup_parent: some(&facts.cgroup_parent),
        network_mode: Some("none".to_owned()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.map(String::from).into()),
        security_opt: Some(security(&facts.process_label)),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: Some(HashMap::new()) }),
        ..HostConfig::default()
    }
}

/// The target's PID namespace. The machine's own is asked for by its name: a rootless engine may not join it.
fn pid_namespace(mode: &str, container_id: &str) -> String {
    if mode == "host" { mode.to_owned() } else { format!("container:{container_id}") }
}

/// The target's user namespace: the engine's usual one, the machine's, or (Podman's `keep-id`, `auto` and the like) one of its own.
fn user_namespace(mode: &str, container_id: &str) -> Option<String> {
    match mode {
        "" => None,
        "host" => Some("host".to_owned()),
        _ => Some(format!("container:{container_id}")),
    }
}

/// No new privileges; and where SELinux rules, the target's own categories, without which the helper may not look at it.
fn security(process_label: &str) -> Vec<String> {
    let mut options = vec!["no-new-privileges".to_owned()];
    // user:role:type:level, and the level itself has a colon (s0:c1,c2).
    if let Some(level) = process_label.splitn(4, ':').nth(3) {
        options.push(format!("label=level:{level}"));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_joins_the_targets_selinux_categories() {
        assert_eq!(security(""), ["no-new-privileges"]);
        assert_eq!(
            security("system_u:system_r:container_t:s0:c12,c34"),
            ["no-new-privileges", "label=level:s0:c12,c34"]
        );
    }

    #[test]
    fn a_helper_is_in_the_targets_user_namespace() {
        assert_eq!(user_namespace("", "abc"), None);
        assert_eq!(user_namespace("host", "abc").as_deref(), Some("host"));
        assert_eq!(user_namespace("private", "abc").as_deref(), Some("container:abc"));
    }

    #[test]
    fn a_helper_may_do_what_it_needs_and_nothing_else() {
        let mut located = crate::testing::located("docker/shop", "abc");
        located.facts.image_id = "sha256:1".into();
        located.facts.runtime = "runc".into();
        let body = body(&located, true);
        let host = body.host_config.unwrap();
        assert_eq!(body.image.as_deref(), Some("sha256:1"));
        assert_eq!(host.pid_mode.as_deref(), Some("container:abc"));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add.unwrap(), CAPABILITIES);
        assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("none"));
        assert_eq!(host.runtime.as_deref(), Some("runc"));
        assert_eq!(host.auto_remove, Some(true));
        assert_eq!(host.privileged, None);
        assert_eq!(host.binds, None);
        assert_eq!(body.cmd, Some(vec![]));
    }
}
