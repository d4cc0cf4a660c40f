//! Verbs on pods of a real cluster, which have no shell, by an ephemeral container of Pepo's own image.

/// What an API server is asked for.
mod audited;
/// Helpers of images that are not ours.
mod borrowed;
/// Starts that are held.
mod caught;
/// Debuggers on copies of pods.
mod copied;
/// Files out of them and into them.
mod copies;
/// Core files.
mod cores;
/// Debuggers of compiled programs.
mod debuggers;
/// What `pepo check` foresees.
mod foreseen;
/// Debuggers on several replicas.
mod groups;
/// A kubelet that ends what stands still.
mod health;
/// The entry put before programs, and taken back.
mod injected;
/// A look around inside.
mod inside;
/// Whose account it is, and from where.
mod joined;
/// Nodes that lose their runtime or their pods.
mod nodes;
/// Called by kubectl, as its plugin, and completed by it and by a shell.
mod plugin;
/// By a proxy.
mod proxied;
/// Images of a registry that asks who it is.
mod pulled;
/// What keeps a verb from a pod, each made and told.
mod refused;
/// Whoever dies, the target lives.
mod safety;
/// Every verb on pods of every shape.
mod shapes;

use std::{collections::HashSet, path::Path};

use pepo_platform::HELPER_IMAGE;
use pepo_testkit::{
    Image, Life, Symbols, Variant, clean, fixtures,
    kubernetes::{Cluster, Namespace},
    wait,
};
use serde_json::{Value, json};

use crate::{
    profiles::folded,
    session::{LIMIT, changes_a_variable},
    support::{PEPO, Run, Surroundings},
};

/// The shared cluster, with the helper's image on its nodes.
fn cluster() -> &'static Cluster {
    let cluster = Cluster::shared();
    cluster.import(&Image::pepo(Path::new(PEPO), HELPER_IMAGE)).unwrap();
    cluster
}

/// A program of Python that counts, in an image without a shell.
fn python() -> Image {
    let image = Image::usual(&fixtures::python(Variant::debug()));
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
    processes(pod, namespace, "agent\0--join")
}

/// How many processes with these words in their command line are in the pod.
fn processes(pod: &str, namespace: &Namespace<'_>, words: &str) -> usize {
    let uid = namespace.kubectl(&["get", "pod", pod, "--output", "jsonpath={.metadata.uid}"]).unwrap();
    let of_pod = |pid: &u32| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        read("cgroup").contains(&uid) && read("cmdline").contains(words)
    };
    namespace.cluster().processes().iter().filter(|pid| of_pod(pid)).count()
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
fn a_part_of_a_container_is_laid_over_the_helpers() {
    let here = Here::new("restricted").with(pod("shop", &[("app", &python(), strict())]));
    let file = here.surroundings.path("part.yaml");
    let part = file.to_str().unwrap();
    let stack = |custom: &[&str]| here.run(&[&["stack", "pod/shop"], custom].concat());
    std::fs::write(&file, "stdin: true\n").unwrap();
    let run = stack(&["--custom", part]);
    assert!(run.stderr.contains("`stdin` may not be changed") && run.status == Some(2), "{}", run.snapshot());
    std::fs::write(&file, "env: [{name: TEAM, value: blue}]\nsecurityContext: {runAsUser: 0}\n").unwrap();
    let run = stack(&["--custom", part, "--profile", "user"]);
    assert!(run.stderr.contains("runAsUser"), "admission is asked with it: {}", run.snapshot());
    assert_eq!(here.helpers("shop").len(), 0);
    std::fs::write(&file, "env: [{name: TEAM, value: blue}]\nsecurityContext: {privileged: false}\n")
        .unwrap();
    for _ in 0..2 {
        let run = stack(&["--custom", part]).ok();
        assert!(run.stdout.contains("tick"), "{}", run.stdout);
    }
    assert_eq!(here.helpers("shop").len(), 1, "it is used again");
    let made = here.namespace.object("pod", "shop").unwrap()["spec"]["ephemeralContainers"][0].clone();
    assert_eq!(
        (&made["env"][1]["value"], &made["securityContext"]["privileged"]),
        (&json!("blue"), &json!(false))
    );
    stack(&[]).ok();
    assert_eq!(here.helpers("shop").len(), 2, "one without it is another");
}

/// A Deployment of three pods that are ready, with a Service before them.
fn three_replicas() -> Here<'static> {
    let here = Here::new("privileged");
    let image = native();
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": pod("x", &[("app", &image, json!({})), ("side", &python(), json!({}))])["spec"],
    });
    let meta = |name: &str| json!({"name": name});
    let selector = json!({"matchLabels": {"app": "web"}});
    here.namespace
        .apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("web"),
            "spec": {"replicas": 3, "selector": selector, "template": template}}))
        .unwrap();
    here.namespace
        .apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("front"),
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}))
        .unwrap();
    here.namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    here
}

/// What makes one pod, called `one`.
fn of_one_pod(kind: &str) -> Value {
    let labels = json!({"app": kind});
    let mut pod = pod("x", &[("app", &native(), json!({}))])["spec"].clone();
    let (version, mut spec) = match kind {
        "Job" => ("batch/v1", json!({})),
        _ => ("apps/v1", json!({"selector": {"matchLabels": labels}})),
    };
    if kind == "Job" {
        pod["restartPolicy"] = "Never".into();
    }
    spec["template"] = json!({"metadata": {"labels": labels}, "spec": pod});
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "one"}, "spec": spec})
}

/// Lines of that many replicas, each once.
#[track_caller]
fn assert_replicas<'t>(names: impl Iterator<Item = &'t str>, count: usize, container: &str) {
    let names: HashSet<&str> = names.collect();
    let is_one = |name: &&str| name.starts_with("pod/web-") && name.ends_with(container);
    assert!(names.len() == count && names.iter().all(is_one), "{names:?}");
}

#[test]
fn workloads_services_and_labels_mean_all_their_ready_pods_or_one_which_is_named() {
    let here = three_replicas();
    for words in
        [&["deploy/web"][..], &["svc/front"], &["deployment.apps/web", "-c", "side"], &["-l", "app=web"]]
    {
        let run = here.run(&[&["stack", "--at-once", "2"], words].concat()).ok();
        let container = if words.contains(&"side") { "/side" } else { "/app" };
        let heads = run.stdout.lines().filter_map(|line| line.split_once(" · ")).map(|(name, _)| name);
        assert_replicas(heads, 3, container);
    }
    let kinds = [("StatefulSet", "sts/one"), ("DaemonSet", "ds/one"), ("Job", "job/one")];
    for (kind, _) in kinds {
        here.namespace.apply(of_one_pod(kind)).unwrap();
    }
    for (kind, name) in kinds {
        let labels = format!("app={kind}");
        let words = ["get", "pods", "--selector", &labels, "--output", "jsonpath={.items[*].metadata.name}"];
        let pod = wait::until("its pod", LIMIT, || {
            let name = here.namespace.kubectl(&words).unwrap();
            if name.is_empty() { Err(name) } else { Ok(name) }
        });
        here.namespace.wait_ready(&pod).unwrap();
        let run = here.run(&["stack", name]).ok();
        assert!(run.stdout.starts_with(&format!("pod/{pod}/app · native")), "{}", run.stdout);
    }
    let set = here.namespace.kubectl(&["get", "replicasets", "--output", "name"]).unwrap();
    let set = format!("rs/{}", set.trim().rsplit('/').next().unwrap());
    let run = here.run(&["stack", &set]).ok();
    assert_eq!(run.stdout.matches("/app · native").count(), 3, "{}", run.stdout);
    let one = here.run(&["check", "deploy/web", "--for", "stack"]).ok();
    assert!(one.stderr.contains("has 3 pods; this is web-"), "{}", one.stderr);
    let rows =
        here.run(&["ps", "--on", "kubernetes", "--selector", "app=web", "--output", "json"]).ok().json();
    assert_eq!(rows["targets"].as_array().unwrap().len(), 6, "{rows}");
}

#[test]
fn all_replicas_are_recorded_at_once_merged_and_apart_and_one_that_is_not_ready_is_left_out() {
    let here = three_replicas();
    let record = ["record", "deploy/web", "-c", "side", "-d", "2", "--format", "folded"];
    let run = here.run(&record).ok();
    let (stacks, _) = folded(&run.stdout);
    let ticks = stacks.iter().filter(|(stack, _)| stack.iter().any(|one| one == "tick_for_ever"));
    assert_replicas(ticks.map(|(stack, _)| stack[0].as_str()), 3, "/side");
    let top = here.run(&["top", "deploy/web", "-c", "side", "--once", "--output", "json"]).ok().json();
    let told = top["targets"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap());
    assert_replicas(told, 3, "/side");
    // Its image is nowhere.
    let mut new = pod("web-broken", &[("app", &native(), json!({})), ("side", &python(), json!({}))]);
    new["metadata"]["labels"]["app"] = "web".into();
    new["spec"]["containers"][1]["image"] = "nowhere.invalid/none:1".into();
    new["spec"]["containers"][1]["imagePullPolicy"] = "Never".into();
    here.namespace.apply(new).unwrap();
    let run = here.run(&[&record[..], &["-l", "app=web"], &["--apart", "-o", "a.folded"]].concat());
    assert_eq!(run.status, Some(2), "{}", run.snapshot());
    let record = ["record", "-l", "app=web", "-c", "side", "-d", "1", "--apart", "-o", "{target}.folded"];
    let run = here.run(&record).ok();
    assert!(run.stderr.contains("4 pods, of which 3 are ready: without web-broken"), "{}", run.stderr);
    let files = std::fs::read_dir(here.surroundings.folder()).unwrap();
    let files = files.map(|one| one.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        files.filter(|name| name.starts_with("pod-web-") && name.ends_with("-side.folded")).count(),
        3
    );
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

/// A container of a pod, seen from this machine.
struct InPod {
    namespace: String,
    pod: String,
    container: &'static str,
    pid: u32,
}

impl InPod {
    fn of(here: &Here<'_>, pod: &str) -> InPod {
        let life = InPod::started(here, pod);
        life.wait_started();
        life
    }

    /// Of whatever program.
    fn started(here: &Here<'_>, pod: &str) -> InPod {
        InPod::named(here, pod, "app")
    }

    /// Of whatever program, in this container.
    fn named(here: &Here<'_>, pod: &str, container: &'static str) -> InPod {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].containerID}}");
        let id = here.namespace.kubectl(&["get", "pod", pod, "--output", &path]).unwrap();
        let id = id.rsplit('/').next().unwrap().to_owned();
        let is_it = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(&id)
        };
        let pid = Cluster::shared().processes().into_iter().filter(is_it).min().unwrap();
        InPod { namespace: here.namespace.name().to_owned(), pod: pod.to_owned(), container, pid }
    }
}

impl Life for InPod {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> String {
        let words = ["--namespace", &self.namespace, "logs", &self.pod, "--container", self.container];
        Cluster::shared().kubectl(&words).unwrap_or_default()
    }
}
