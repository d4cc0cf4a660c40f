//! Whoever dies during a stop in a pod, the target lives and goes on.

use pepo_testkit::{Life as _, Variant, clean, fixtures, kubernetes::Cluster, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Here, InPod, joiners, pod, python, strict};
use crate::{held::Held, session::LIMIT};

/// A session that holds a pod's process at a breakpoint.
fn held(here: &Here<'_>) -> (InPod, clean::Snapshot, Held) {
    let life = InPod::of(here, "shop");
    // Its helper stays, and with it the socket that it waits on.
    here.run(&["check", "pod/shop", "--for", "attach"]).ok();
    let before = clean::Snapshot::take(life.pid());
    let line = here.line(&["attach", "pod/shop", "--pause-budget", "0"]);
    let held = Held::open(&here.surroundings, &line, &fixtures::python(Variant::debug()));
    (life, before, held)
}

/// It goes on, nothing is left in it, and no exec is left beside it.
#[track_caller]
fn assert_free(here: &Here<'_>, life: &InPod, before: &clean::Snapshot) {
    wait::until("the target goes on", LIMIT, || life.goes_on(std::time::Duration::from_secs(2)));
    before.assert_same();
    here.assert_quiet("shop");
}

#[test]
fn a_command_that_is_killed_or_silent_lets_go_and_its_exec_ends() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &python(), strict())]));
    for signal in [Signal::KILL, Signal::STOP] {
        let (life, before, mut held) = held(&here);
        assert_eq!(joiners("shop", &here.namespace), 1);
        held.signal(signal);
        assert_free(&here, &life, &before);
        held.signal(Signal::KILL);
        held.status();
    }
    assert_eq!(here.helpers("shop").len(), 1, "the helper is used again");
}

#[test]
fn an_agent_that_is_killed_leaves_the_target_to_itself() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({"runAsUser": 65532}))]));
    let (life, before, mut held) = held(&here);
    let uid = here.namespace.kubectl(&["get", "pod", "shop", "-o", "jsonpath={.metadata.uid}"]).unwrap();
    let read =
        |pid: u32, name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let is_agent =
        |pid: &u32| read(*pid, "cgroup").contains(&uid) && read(*pid, "cmdline").contains("--wait");
    let agent = Cluster::shared().processes().into_iter().find(is_agent).unwrap();
    kill_process(Pid::from_raw(i32::try_from(agent).unwrap()).unwrap(), Signal::KILL).unwrap();
    let ended = held.status();
    assert_ne!(ended, Some(0));
    wait::until("the target goes on", LIMIT, || life.goes_on(std::time::Duration::from_secs(2)));
    let again = here.run(&["stack", "pod/shop"]).ok();
    assert!(again.stdout.contains("tick"), "{}", again.stdout);
    before.assert_same();
    assert_eq!(here.helpers("shop").len(), 2, "a new one was made");
}

#[test]
fn a_pod_that_is_deleted_ends_the_session() {
    let here = Here::new("baseline").with(pod("shop", &[("app", &python(), json!({}))]));
    let (_, _, mut held) = held(&here);
    here.namespace.kubectl(&["delete", "pod", "shop", "--wait=false"]).unwrap();
    assert_ne!(held.status(), Some(0));
}

#[test]
fn an_api_server_that_is_killed_ends_the_session_and_the_target_goes_on() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &python(), strict())]));
    let (life, before, mut held) = held(&here);
    Cluster::shared().restart("kube-apiserver").unwrap();
    assert_ne!(held.status(), Some(0));
    assert_free(&here, &life, &before);
    let again = here.run(&["stack", "pod/shop"]).ok();
    assert!(again.stdout.contains("tick"), "{}", again.stdout);
}
