//! Files out of distroless pods and into them, by a helper with the target's own user.

use serde_json::{Value, json};

use super::{Here, InPod, cluster, pod, strict};
use crate::copies::{Copies, image};

/// A pod of the program with a read-only root and a volume at `/volume`.
fn with_volume(security: Value) -> Value {
    let mut pod = pod("shop", &[("app", &image(), security)]);
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    pod["spec"]["securityContext"] = json!({"fsGroup": 65532});
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/volume"}]);
    pod
}

#[test]
fn a_restricted_read_only_distroless_pod_gives_and_takes_files() {
    cluster().import(&image()).unwrap();
    let here = Here::new("restricted").with(with_volume(strict()));
    let life = InPod::of(&here, "shop");
    let more = ["--namespace", here.namespace.name()];
    let copies = Copies { surroundings: &here.surroundings, target: "pod/shop", more: &more };
    copies.come_out(&life);
    copies.go_in(&life, "/volume");
    assert_eq!(copies.owner(&life, "/volume/source/sub").0, 65532);
    let run = copies.put("new", "/data/new").fails(4);
    assert!(run.stderr.contains("P0208") && run.stderr.contains("/data"), "{}", run.stderr);
    assert_eq!(here.helpers("shop").len(), 1, "one helper for all of it: {:?}", here.helpers("shop"));
    here.assert_quiet("shop");
}

/// Where its user may not read or write, a file is one clear error, and the others are still copied.
#[test]
fn what_the_targets_own_user_may_not_touch_is_told_and_the_rest_is_copied() {
    cluster().import(&image()).unwrap();
    let mut security = strict();
    security["readOnlyRootFilesystem"] = false.into();
    let here = Here::new("baseline").with(with_volume(security));
    let life = InPod::of(&here, "shop");
    let more = ["--namespace", here.namespace.name()];
    let copies = Copies { surroundings: &here.surroundings, target: "pod/shop", more: &more };
    std::fs::write(here.surroundings.path("new"), "x").unwrap();
    let run = copies.put("new", "/etc/new").fails(4);
    assert!(run.stderr.contains("P0208"), "{}", run.stderr);
    let secret = format!("/proc/{}/root/volume/of-root", pepo_testkit::Life::pid(&life));
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    copies.put("new", "/volume").ok();
    let run = copies.out("/volume", "volume").fails(4);
    assert!(run.stderr.contains("of-root") && run.stderr.contains("1 could not be copied"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(here.surroundings.path("volume/new")).unwrap(), "x");
    assert!(!here.surroundings.path("volume/of-root").exists());
    here.assert_quiet("shop");
}
