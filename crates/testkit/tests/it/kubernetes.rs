//! The cluster is a real one, and outlived by nothing.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use pepo_testkit::{
    Image, Life, Variant,
    clean::Snapshot,
    command, fixtures,
    kubernetes::{Cluster, Machine, Namespace, Pod, Settings},
    wait,
};
use serde_json::{Value, json};

/// A pod of one container, without a token of its account: a kubelet that was restarted would renew that file.
fn pod(name: &str, image: &Image, security: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": image.name(), "securityContext": security}],
        },
    })
}

/// Something that runs until it is ended.
fn loop_in_c() -> Image {
    let image = Image::of(&fixtures::c(Variant::debug()));
    Cluster::shared().import(&image).unwrap();
    image
}

#[test]
fn a_distroless_pod_of_an_image_of_ours_gets_ready_on_a_node_that_is() {
    let (cluster, image) = (Cluster::shared(), loop_in_c());
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).unwrap();
    assert!(!nodes.is_empty() && nodes.lines().all(|line| line.contains(" Ready ")), "{nodes}");
    let namespace = cluster.namespace("baseline").unwrap();
    namespace.apply(pod("first", &image, json!({}))).unwrap();
    namespace.wait_ready("first").unwrap();
    let shell = namespace.kubectl(&["exec", "first", "--", "/bin/sh", "-c", "true"]).unwrap_err();
    assert!(format!("{shell:#}").contains("no such file or directory"), "{shell:#}");
}

#[test]
fn ephemeral_containers_are_for_whoever_may_add_them_and_the_audit_log_tells_who_tried() {
    let (cluster, image) = (Cluster::shared(), loop_in_c());
    let namespace = cluster.namespace("baseline").unwrap();
    namespace.apply(pod("first", &image, json!({}))).unwrap();
    namespace.wait_ready("first").unwrap();
    let looking = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]});
    let adding = json!({"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"]});
    let without = namespace.account("without", json!([looking])).unwrap();
    let with = namespace.account("with", json!([looking, adding])).unwrap();
    let debug = |kubeconfig: &Path| {
        let kubeconfig = kubeconfig.display().to_string();
        let words = ["debug", "first", "--profile=baseline", "--image", image.name()];
        namespace.kubectl(&[&["--kubeconfig", &kubeconfig], &words[..]].concat())
    };
    let refused = format!("{:#}", debug(&without).unwrap_err());
    assert!(refused.contains("cannot patch resource \"pods/ephemeralcontainers\""), "{refused}");
    debug(&with).unwrap();
    for (account, code) in [("without", 403), ("with", 200)] {
        let user = format!("system:serviceaccount:{}:{account}", namespace.name());
        let told = |entry: &Value| {
            entry["user"]["username"] == user
                && entry["verb"] == "patch"
                && entry["objectRef"]["subresource"] == "ephemeralcontainers"
                && entry["responseStatus"]["code"] == code
        };
        let log = fs::read_to_string(cluster.audit_log()).unwrap();
        let mut entries = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert!(entries.any(|entry| told(&entry)), "{user} {code}");
    }
}

#[test]
fn a_restricted_namespace_takes_restricted_pods_alone() {
    let (cluster, image) = (Cluster::shared(), loop_in_c());
    let namespace = cluster.namespace("restricted").unwrap();
    let refused = format!("{:#}", namespace.apply(pod("root", &image, json!({}))).unwrap_err());
    assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
    let restricted = json!({
        "runAsNonRoot": true,
        "runAsUser": 65534,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    namespace.apply(pod("nobody", &image, restricted)).unwrap();
    namespace.wait_ready("nobody").unwrap();
}

#[test]
fn pods_go_on_when_daemons_are_killed_and_come_back() {
    let (cluster, image) = (Cluster::shared(), loop_in_c());
    let namespace = cluster.namespace("baseline").unwrap();
    namespace.apply(pod("first", &image, json!({}))).unwrap();
    let pod = namespace.wait_ready("first").unwrap();
    pod.wait_started();
    let before = Snapshot::take(pod.pid());
    for daemon in ["kube-apiserver", "node1/containerd", "node1/kubelet"] {
        cluster.restart(daemon).unwrap();
    }
    let answer =
        || namespace.kubectl(&["exec", "first", "--", "/bin/sh"]).map_err(|error| format!("{error:#}"));
    // The shell that is not there is looked for by the whole chain: API server, kubelet, containerd.
    wait::until("an exec reaches the container", Duration::from_secs(60), || match answer() {
        Err(error) if error.contains("no such file or directory") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    before.assert_same();
    pod.assert_goes_on();
    assert_eq!(cluster.trouble(), None);
}

#[test]
fn services_are_reached_from_this_machine() {
    let cluster = Cluster::shared();
    let path = "jsonpath={.spec.clusterIP}";
    let address = cluster.kubectl(&["get", "service", "kubernetes", "--output", path]).unwrap();
    let server = format!("https://{address}");
    assert_eq!(cluster.kubectl(&["--server", &server, "get", "--raw=/readyz"]).unwrap(), "ok");
}

/// A cluster of a test's own, ended whatever becomes of the test.
struct Own {
    settings: Settings,
    _folder: tempfile::TempDir,
}

impl Own {
    fn new(nodes: u8) -> Own {
        let folder = tempfile::Builder::new().prefix("pepo-cluster-").tempdir().unwrap();
        let version = Cluster::shared().version();
        Own { settings: Settings { folder: folder.path().to_owned(), version, nodes }, _folder: folder }
    }

    /// The process that keeps it.
    fn hold(&self) -> Child {
        let mut keeper = command(env!("CARGO_BIN_EXE_cluster"));
        keeper.args(["hold", "--version", &self.settings.version.to_string()]);
        keeper.args(["--nodes", &self.settings.nodes.to_string()]).arg(&self.settings.folder);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    fn found(&self) -> Option<Cluster> {
        Cluster::at(&self.settings.folder).unwrap()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(cluster) = self.found() {
            let _ = cluster.down();
        }
    }
}

/// Waits for the keeper to say that its cluster is up.
fn wait_up(keeper: &mut Child) {
    let mut line = String::new();
    let out = keeper.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line, "up\n");
}

/// A pod reaches one of another node, and so does this machine; by a service it reaches the API server.
fn reach_each_other(pods: &[Pod; 2], namespace: &Namespace<'_>) {
    let listener = in_network_of(&pods[1], || TcpListener::bind("0.0.0.0:0")).unwrap();
    let other = namespace.object("pod", "pod-1").unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    let other = (other, listener.local_addr().unwrap().port());
    TcpStream::connect(&other).unwrap();
    in_network_of(&pods[0], || TcpStream::connect(&other)).unwrap();
    let service =
        namespace.kubectl(&["get", "service", "kubernetes", "--namespace=default", "--output=json"]);
    let service: Value = serde_json::from_str(&service.unwrap()).unwrap();
    let address = (service["spec"]["clusterIP"].as_str().unwrap().to_owned(), 443);
    wait::until("the service leads to the API server", Duration::from_secs(30), || {
        in_network_of(&pods[0], || TcpStream::connect(&address))
    });
}

/// Does something in the network namespace of a pod.
fn in_network_of<T: Send>(pod: &Pod, act: impl FnOnce() -> T + Send) -> T {
    pepo_testkit::in_network_of(pod.pid(), act).unwrap()
}

#[test]
fn nothing_is_left_of_two_nodes_and_their_pods_though_their_keeper_was_killed() {
    let image = loop_in_c();
    let (before, own) = (Machine::look(), Own::new(2));
    let mut keeper = own.hold();
    wait_up(&mut keeper);
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    let cluster = own.found().unwrap();
    assert_eq!(cluster.trouble(), None, "it goes on without its keeper");
    cluster.import(&image).unwrap();
    let namespace = cluster.namespace("baseline").unwrap();
    for (pod_name, node) in cluster.nodes().iter().enumerate() {
        let mut object = pod(&format!("pod-{pod_name}"), &image, json!({}));
        object["spec"]["nodeName"] = node.clone().into();
        namespace.apply(object).unwrap();
    }
    let pods = ["pod-0", "pod-1"].map(|name| namespace.wait_ready(name).unwrap());
    reach_each_other(&pods, &namespace);
    drop((pods, namespace));
    assert!(before.differences(&cluster).len() > 20, "a running cluster is seen");
    cluster.down().unwrap();
    assert_eq!(before.differences(&cluster), [] as [&str; 0]);
    assert!(own.found().is_none());
}

#[test]
fn a_start_that_was_killed_half_way_is_ended_as_well() {
    let (before, own) = (Machine::look(), Own::new(1));
    let mut keeper = own.hold();
    let cluster = wait::until("the first processes", Duration::from_secs(30), || {
        own.found().filter(|cluster| cluster.processes().len() > 1).ok_or("none")
    });
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    assert!(!before.differences(&cluster).is_empty());
    cluster.down().unwrap();
    assert_eq!(before.differences(&cluster), [] as [&str; 0]);
}

#[test]
fn a_daemon_that_does_not_start_is_told_with_the_end_of_its_log_and_nothing_is_left() {
    let own = Own::new(1);
    // Where its data should be.
    fs::write(own.settings.folder.join("etcd"), "").unwrap();
    let error = Cluster::up(&own.settings, &|_| {}).err().unwrap();
    let error = format!("{error:#}");
    assert!(error.contains("etcd ended (exit status: ") && error.contains("etcd.log:\n"), "{error}");
    assert!(own.found().is_none(), "it is only forgotten when all of it is gone");
}
