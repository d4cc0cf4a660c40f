//! Sessions whose node loses its runtime, or its pods: on a cluster of their own, as others would be disturbed.

use std::time::Duration;

use pepo_platform::HELPER_IMAGE;
use pepo_testkit::{
    Fixture, Image, Life as _, Variant, clean, fixtures,
    kubernetes::{Cluster, Settings},
    wait,
};
use serde_json::json;

use super::{Here, joiners, pod, strict};
use crate::{
    held::Held,
    session::LIMIT,
    support::{PEPO, Surroundings},
};

/// A cluster of two nodes, ended with this.
struct Own {
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Own {
    fn new() -> Own {
        let folder = tempfile::Builder::new().prefix("pepo-own-").tempdir().unwrap();
        let settings =
            Settings { folder: folder.path().to_owned(), version: Cluster::shared().version(), nodes: 2 };
        let cluster = Cluster::up(&settings, &|_| {}).unwrap();
        cluster.import(&Image::pepo(PEPO.as_ref(), HELPER_IMAGE)).unwrap();
        Own { cluster, _folder: folder }
    }

    fn here(&self) -> Here<'_> {
        let surroundings = Surroundings::new().in_cluster(&self.cluster.kubeconfig());
        Here { namespace: self.cluster.namespace("restricted").unwrap(), surroundings }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.cluster.down().unwrap();
    }
}

/// A session at a breakpoint, with the helper that it uses and keeps.
fn held(here: &Here<'_>, target: &str, fixture: &Fixture) -> Held {
    let line = here.line(&["attach", target, "--pause-budget", "0"]);
    Held::open(&here.surroundings, &line, fixture)
}

#[test]
fn a_runtime_that_is_restarted_and_a_node_that_is_drained_end_sessions_and_leave_nothing() {
    let own = Own::new();
    let fixture = fixtures::python(Variant::debug());
    let image = Image::usual(&fixture);
    own.cluster.import(&image).unwrap();
    let mut shop = pod("shop", &[("app", &image, strict())]);
    shop["spec"]["nodeName"] = own.cluster.nodes()[0].clone().into();
    let here = own.here().with(shop);
    // Its helper stays, and with it the socket that it waits on.
    here.run(&["check", "pod/shop", "--for", "attach"]).ok();
    let life = here.namespace.container("shop", "app").unwrap();
    let before = clean::Snapshot::take(life.pid());
    let mut session = held(&here, "pod/shop", &fixture);
    own.cluster.restart(&format!("{}/containerd", own.cluster.nodes()[0])).unwrap();
    assert_ne!(session.status(), Some(0));
    wait::until("the target goes on", LIMIT, || life.goes_on(Duration::from_secs(2)));
    before.assert_same();
    here.assert_quiet("shop");
    wait::until("it is looked at again", LIMIT, || {
        let again = here.run(&["stack", "pod/shop"]);
        if again.stdout.contains("tick") { Ok(()) } else { Err(again.snapshot()) }
    });
    assert_eq!(here.helpers("shop").len(), 1, "the helper is used again");
    // Another, of a Deployment, is moved to the other node in the middle of a session.
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": pod("x", &[("app", &image, strict())])["spec"]});
    here.namespace
        .apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}}))
        .unwrap();
    here.namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    let web = |path: &str| {
        let path = format!("jsonpath={{.items[0].{path}}}");
        here.namespace.kubectl(&["get", "pods", "--selector", "app=web", "--output", &path]).unwrap()
    };
    let (name, uid, node) = (web("metadata.name"), web("metadata.uid"), web("spec.nodeName"));
    let mut session = held(&here, "deploy/web", &fixture);
    assert_eq!(joiners(&name, &here.namespace), 1);
    own.cluster.kubectl(&["drain", &node, "--force", "--ignore-daemonsets", "--timeout=60s"]).unwrap();
    assert_ne!(session.status(), Some(0));
    let is_its =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(&uid);
    wait::until("nothing of the pod is left", LIMIT, || {
        match own.cluster.processes().iter().filter(|pid| is_its(pid)).count() {
            0 => Ok(()),
            count => Err(format!("{count} processes")),
        }
    });
    here.namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    let moved = here.run(&["stack", "deploy/web"]).ok();
    assert!(moved.stdout.contains("tick") && !moved.stdout.contains(&name), "{}", moved.stdout);
}
