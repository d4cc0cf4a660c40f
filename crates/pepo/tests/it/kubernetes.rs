//! Verbs on pods of a real cluster, which have no shell, by an ephemeral container of Pepo's own image.

/// What keeps a verb from a pod, each made and told.
mod refused;
/// Whoever dies, the target lives.
mod safety;

use std::path::Path;

use pepo_platform::HELPER_IMAGE;
use pepo_testkit::{
    Image, Life, Symbols, Variant, clean, fixtures,
    kubernetes::{Cluster, Namespace},
    wait,
};
use serde_json::{Value, json};

use crate::{
    engines,
    session::{LIMIT, changes_a_variable},
    support::{PEPO, Run, Surroundings},
};

/// The shared cluster, with the helper's image on its nodes.
fn cluster() -> &'static Cluster {
    let cluster = Cluster::shared();
    cluster.import(&Image::new(HELPER_IMAGE).file(Path::new(PEPO), "/pepo")).unwrap();
    cluster
}

/// A program of Python that counts, in an image without a shell.
fn python() -> Image {
    let image = engines::image(&fixtures::python(Variant::debug()));
    Cluster::shared().import(&image).unwrap();
    image
}

/// A program of C.
fn native() -> Image {
    let image = Image::of(&fixtures::c(Variant::debug().symbols(Symbols::Stripped)));
    Cluster::shared().import(&image).unwrap();
    image
}

/// What `restricted` namespaces admit, with nothing that could be written to.
fn strict() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": 65532,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// A pod of these containers: name, image, security context.
fn pod(name: &str, containers: &[(&str, &Image, Value)]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, image, security)| json!({"name": name, "image": image.name(), "securityContext": security}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
    })
}

/// The command in a namespace.
struct Here<'a> {
    namespace: Namespace<'a>,
    surroundings: Surroundings,
}

impl Here<'_> {
    fn new(level: &str) -> Here<'static> {
        let cluster = cluster();
        let surroundings = Surroundings::new().in_cluster(&cluster.kubeconfig());
        Here { namespace: cluster.namespace(level).unwrap(), surroundings }
    }

    fn with(self, object: Value) -> Self {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.namespace.apply(object).unwrap();
        self.namespace.wait_ready(&name).unwrap();
        self
    }

    /// A verb and its words, in this namespace.
    fn line<'s>(&'s self, words: &[&'s str]) -> Vec<&'s str> {
        [words, &["--namespace", self.namespace.name()]].concat()
    }

    fn run(&self, words: &[&str]) -> Run {
        self.surroundings.run(&self.line(words))
    }

    /// The names of a pod's ephemeral containers.
    fn helpers(&self, pod: &str) -> Vec<String> {
        let path = "jsonpath={.spec.ephemeralContainers[*].name}";
        let names = self.namespace.kubectl(&["get", "pod", pod, "--output", path]).unwrap();
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// None of a pod's helpers has said a word, and of each only the agent that waits is left.
    #[track_caller]
    fn assert_quiet(&self, pod: &str) {
        for helper in self.helpers(pod) {
            assert_eq!(self.namespace.kubectl(&["logs", pod, "--container", &helper]).unwrap(), "");
        }
        wait::until("no exec is left", LIMIT, || match joiners(pod, &self.namespace) {
            0 => Ok(()),
            count => Err(format!("{count} of them")),
        });
    }
}

/// How many processes that carry a stream are in the pod.
fn joiners(pod: &str, namespace: &Namespace<'_>) -> usize {
    let uid = namespace.kubectl(&["get", "pod", pod, "--output", "jsonpath={.metadata.uid}"]).unwrap();
    let of_pod = |pid: &u32| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        read("cgroup").contains(&uid) && read("cmdline").contains("--join")
    };
    Cluster::shared().processes().iter().filter(|pid| of_pod(pid)).count()
}

#[test]
fn a_distroless_pod_of_a_restricted_namespace_is_looked_at_and_debugged_with_one_helper() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &python(), strict())]));
    let listed = here.run(&["ps", "--on", "kubernetes", "--output", "json"]).ok().json();
    assert_eq!(listed["targets"][0]["target"], "pod/shop/app", "{listed}");
    assert_eq!(listed["targets"][0]["state"], "running", "{listed}");
    let check = here.run(&["check", "pod/shop"]).ok();
    assert!(check.stdout.contains("ephemeral container pepo-"), "{}", check.stdout);
    let stack = here.run(&["stack", "pod/shop"]).ok();
    assert!(
        stack.stdout.starts_with("pod/shop/app · python") && stack.stdout.contains("tick"),
        "{}",
        stack.stdout
    );
    let profile = here.run(&["record", "pod/shop", "-d", "1", "-o", "-", "--format", "folded"]).ok();
    assert!(profile.stdout.contains("tick"), "{}", profile.stdout);
    let top = here.run(&["top", "pod/shop", "--once"]);
    assert_eq!(top.status, Some(0), "{}", top.snapshot());
    let life = InPod::of(&here, "shop");
    let before = clean::Snapshot::take(life.pid());
    let target = here.line(&["pod/shop"]);
    changes_a_variable(&here.surroundings, &target, &fixtures::python(Variant::debug()), &life, &before);
    // What stops asks for more rights than what looks; here both get the same.
    assert_eq!(here.helpers("shop").len(), 1, "{:?}", here.helpers("shop"));
    here.assert_quiet("shop");
}

#[test]
fn workloads_services_and_labels_mean_one_pod_which_is_named() {
    let here = Here::new("privileged");
    let image = native();
    let template = json!({
        "metadata": {"labels": {"app": "two"}},
        "spec": pod("x", &[("app", &image, json!({})), ("side", &python(), json!({}))])["spec"],
    });
    let meta = |name: &str| json!({"name": name});
    let selector = json!({"matchLabels": {"app": "two"}});
    here.namespace
        .apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("two"),
            "spec": {"replicas": 2, "selector": selector, "template": template}}))
        .unwrap();
    here.namespace
        .apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("front"),
            "spec": {"selector": {"app": "two"}, "ports": [{"port": 80}]}}))
        .unwrap();
    here.namespace.kubectl(&["rollout", "status", "deployment/two", "--timeout=60s"]).unwrap();
    for words in
        [&["deploy/two"][..], &["svc/front"], &["deployment.apps/two", "-c", "side"], &["-l", "app=two"]]
    {
        let run = here.run(&[&["stack"], words].concat()).ok();
        assert!(run.stdout.starts_with("pod/two-"), "{}", run.stdout);
        assert!(run.stderr.contains("has 2 pods; this is two-"), "{}", run.stderr);
        let side = words.contains(&"side");
        assert_eq!(run.stdout.contains("/side · python"), side, "{}", run.stdout);
    }
    let rows =
        here.run(&["ps", "--on", "kubernetes", "--selector", "app=two", "--output", "json"]).ok().json();
    assert_eq!(rows["targets"].as_array().unwrap().len(), 4, "{rows}");
}

#[test]
fn containers_that_share_a_pid_namespace_are_told_apart() {
    let mut both = pod("both", &[("app", &native(), json!({})), ("side", &python(), json!({}))]);
    both["spec"]["shareProcessNamespace"] = true.into();
    let here = Here::new("privileged").with(both);
    let app = here.run(&["stack", "pod/both/app"]).ok();
    assert!(app.stdout.starts_with("pod/both/app · native"), "{}", app.stdout);
    let side = here.run(&["stack", "pod/both", "-c", "side"]).ok();
    assert!(side.stdout.starts_with("pod/both/side · python"), "{}", side.stdout);
    here.assert_quiet("both");
}

/// The only container of a pod, seen from this machine.
struct InPod {
    namespace: String,
    pod: String,
    pid: u32,
}

impl InPod {
    fn of(here: &Here<'_>, pod: &str) -> InPod {
        let path = "jsonpath={.status.containerStatuses[0].containerID}";
        let id = here.namespace.kubectl(&["get", "pod", pod, "--output", path]).unwrap();
        let id = id.rsplit('/').next().unwrap().to_owned();
        let is_it = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(&id)
        };
        let pid = Cluster::shared().processes().into_iter().filter(is_it).min().unwrap();
        let life = InPod { namespace: here.namespace.name().to_owned(), pod: pod.to_owned(), pid };
        life.wait_started();
        life
    }
}

impl Life for InPod {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> String {
        let words = ["--namespace", &self.namespace, "logs", &self.pod, "--container", "app"];
        Cluster::shared().kubectl(&words).unwrap_or_default()
    }
}
