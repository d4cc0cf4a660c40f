//! Pods in manifests, containers in pods, and what is changed in both.

use pepo_wire::{Code, Failure};
use serde_json::{Value, json};

use super::{
    IN_CONTAINER, IN_IMAGE, IN_VOLUME, ImageProgram, Injection, NAME, VARIABLE, Wanted,
    edit::{Edits, End},
    tree::{Kind, Node, Tree},
};

/// Kinds that have a pod in them, and where.
const KINDS: [(&str, &[&str]); 9] = [
    ("Pod", &["spec"]),
    ("PodTemplate", &["template", "spec"]),
    ("Deployment", TEMPLATE),
    ("ReplicaSet", TEMPLATE),
    ("ReplicationController", TEMPLATE),
    ("StatefulSet", TEMPLATE),
    ("DaemonSet", TEMPLATE),
    ("Job", TEMPLATE),
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
];
const TEMPLATE: &[&str] = &["spec", "template", "spec"];

/// What a container's image runs is asked here.
type Programs<'p> = &'p mut dyn FnMut(&Wanted) -> Result<ImageProgram, Failure>;

/// A pod, and where it stands, as an error names it.
struct Pod<'n> {
    spec: &'n Node,
    name: String,
    path: String,
}

/// Puts the entry into every pod of all documents.
pub(super) fn inject_all(
    tree: &Tree,
    injection: &Injection,
    edits: &mut Edits<'_>,
    notes: &mut Vec<String>,
    programs: Programs<'_>,
) -> Result<(), Failure> {
    let mut pods = Vec::new();
    for document in &tree.documents {
        find(tree, document, &mut pods)?;
    }
    if pods.is_empty() {
        let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
        return Err(Failure::new(Code::Usage, "the manifest has no pod")
            .because(format!("pods are in these kinds, and in lists of them: {}", kinds.join(", ")))
            .hint("give what runs them: kubectl get deploy NAME -o yaml | pepo inject -f - …"));
    }
    let mut work = Work { tree, injection, edits, notes, programs, seen: Vec::new(), wrapped: 0 };
    for pod in &pods {
        work.pod(pod)?;
    }
    if let Some(missing) = injection.containers.iter().find(|name| !work.seen.contains(name)) {
        return Err(Failure::new(Code::Usage, format!("the manifest has no container {missing}"))
            .because(format!("it has: {}", work.seen.join(", "))));
    }
    Ok(())
}

/// What a list of that name looks like.
fn example(key: &str) -> &'static str {
    match key {
        "command" | "args" => r#"["/app", "--flag"]"#,
        _ => "[{name: …}]",
    }
}

/// The pods of a document.
fn find<'n>(tree: &Tree, node: &'n Node, pods: &mut Vec<Pod<'n>>) -> Result<(), Failure> {
    let Some(kind) = tree.text(node, "kind")? else { return Ok(()) };
    if kind.ends_with("List") {
        for item in tree.get(node, "items")?.map(|(_, items)| items.items()).unwrap_or_default() {
            find(tree, item, pods)?;
        }
        return Ok(());
    }
    let Some((_, path)) = KINDS.iter().find(|(known, _)| *known == kind) else { return Ok(()) };
    if let Some(spec) = tree.at(node, path)? {
        let name = match tree.at(node, &["metadata", "name"])?.and_then(Node::text) {
            Some(name) => format!("{}/{name}", kind.to_lowercase()),
            None => kind.to_lowercase(),
        };
        pods.push(Pod { spec, name, path: path.join(".") });
    }
    Ok(())
}

/// The work on all pods of a manifest.
struct Work<'a, 't, 'p> {
    tree: &'a Tree,
    injection: &'a Injection,
    edits: &'a mut Edits<'t>,
    notes: &'a mut Vec<String>,
    programs: Programs<'p>,
    /// Names of containers that were met.
    seen: Vec<String>,
    /// How many containers of the current pod are run by the entry now.
    wrapped: usize,
}

impl Work<'_, '_, '_> {
    fn pod(&mut self, pod: &Pod<'_>) -> Result<(), Failure> {
        let (tree, edits) = (self.tree, &*self.edits);
        let Some((key, containers)) = tree.get(pod.spec, "containers")? else { return Ok(()) };
        let style = edits.indent(key, containers);
        if tree.at(pod.spec, &["os", "name"])?.and_then(Node::text) == Some("windows") {
            return Err(Failure::new(Code::Usage, format!("{} is a pod of Windows'", pod.name))
                .because("the entry is a program for Linux")
                .hint("leave it out of the manifest: only pods of Linux can be injected"));
        }
        self.wrapped = 0;
        for list in ["initContainers", "containers"] {
            for (index, container) in self.list(pod.spec, list)?.iter().enumerate() {
                self.container(pod, list, index, container, style)?;
            }
        }
        if self.wrapped == 0 {
            return Ok(());
        }
        let volume = json!({"name": NAME, "emptyDir": {}});
        self.named(pod.spec, "volumes", volume, End::Last, style)?;
        self.named(pod.spec, "initContainers", self.copies(), End::First, style)
    }

    fn list<'n>(&self, map: &'n Node, key: &str) -> Result<&'n [Node], Failure> {
        match self.tree.get(map, key)? {
            Some((_, Node { kind: Kind::List { items, .. }, .. })) => Ok(items),
            Some((_, other)) if !other.is_null() => {
                Err(Failure::new(Code::Usage, format!("`{key}` is no list"))
                    .hint(format!("Kubernetes takes a list here, as in {key}: {}", example(key))))
            }
            _ => Ok(&[]),
        }
    }

    /// The container that copies the entry, such as every namespace admits.
    fn copies(&self) -> Value {
        json!({
            "name": NAME,
            "image": self.injection.image,
            "command": [IN_IMAGE, "--copy-to", IN_VOLUME],
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65534,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"cpu": "100m", "memory": "64Mi"},
            },
            "volumeMounts": [{"name": NAME, "mountPath": folder(IN_VOLUME)}],
        })
    }

    /// Puts an item into a list unless one of its name is there.
    fn named(&mut self, map: &Node, key: &str, item: Value, end: End, style: usize) -> Result<(), Failure> {
        let name = item["name"].as_str();
        for other in self.list(map, key)? {
            if self.tree.text(other, "name")? == name {
                return Ok(());
            }
        }
        self.edits.add_to_list(self.tree, map, key, &[item], (end, style))
    }

    fn container(
        &mut self,
        pod: &Pod<'_>,
        list: &str,
        index: usize,
        container: &Node,
        style: usize,
    ) -> Result<(), Failure> {
        let tree = self.tree;
        tree.alone(container, list)?;
        let Some(name) = tree.text(container, "name")?.map(str::to_owned) else {
            return Err(Failure::new(Code::Usage, format!("{}: a container has no name", pod.name)));
        };
        if name == NAME {
            return Ok(());
        }
        self.seen.push(name.clone());
        let all = self.injection.containers.is_empty() && list == "containers";
        if !all && !self.injection.containers.contains(&name) {
            return Ok(());
        }
        let first = self.list(container, "command")?.first();
        self.words(container, style)?;
        if first.and_then(Node::text) == Some(IN_CONTAINER) {
            self.notes.push(format!("{}: {name} has the entry already: only its words are set", pod.name));
            return Ok(());
        }
        let mount = json!({"name": NAME, "mountPath": folder(IN_CONTAINER), "readOnly": true});
        self.edits.add_to_list(tree, container, "volumeMounts", &[mount], (End::Last, style))?;
        self.command(container, first.is_some(), style)?;
        self.wrapped += 1;
        self.probes(pod, &format!("{}.{list}[{index}]", pod.path), &name, container)
    }

    /// The entry, then what the manifest or the image runs.
    fn command(&mut self, container: &Node, said: bool, style: usize) -> Result<(), Failure> {
        let mut words = vec![Value::from(IN_CONTAINER), Value::from("--")];
        if !said {
            let wanted = Wanted {
                name: self.tree.text(container, "name")?.unwrap_or_default().to_owned(),
                image: self.tree.text(container, "image")?.unwrap_or_default().to_owned(),
                has_arguments: !self.list(container, "args")?.is_empty(),
            };
            let program = (self.programs)(&wanted)?;
            words.extend(program.entrypoint.iter().map(|word| unexpanded(word)));
            if !wanted.has_arguments && !program.command.is_empty() {
                // A command of the manifest's takes the image's arguments away.
                let arguments: Vec<_> = program.command.iter().map(|word| unexpanded(word)).collect();
                self.edits.add_to_list(self.tree, container, "args", &arguments, (End::First, style))?;
            }
        }
        self.edits.add_to_list(self.tree, container, "command", &words, (End::First, style))
    }

    /// The variable with the words.
    fn words(&mut self, container: &Node, style: usize) -> Result<(), Failure> {
        if self.injection.words.is_empty() {
            return Ok(());
        }
        for variable in self.list(container, "env")? {
            self.tree.alone(variable, "env")?;
            if self.tree.text(variable, "name")? == Some(VARIABLE) {
                let Some((_, value)) = self.tree.get(variable, "value")? else {
                    return Err(Failure::new(Code::Usage, format!("{VARIABLE} comes from elsewhere"))
                        .because("its value stands not in the manifest: take the variable out"));
                };
                return self.edits.scalar(value, &self.injection.words);
            }
        }
        let variable = json!({"name": VARIABLE, "value": self.injection.words});
        self.edits.add_to_list(self.tree, container, "env", &[variable], (End::Last, style))
    }

    /// What would end a container that is held.
    fn probes(&mut self, pod: &Pod<'_>, path: &str, name: &str, container: &Node) -> Result<(), Failure> {
        let holds = |word: &str| ["stayalive", "wait"].contains(&word.split('=').next().unwrap_or_default());
        if !self.injection.words.split(',').any(holds) {
            return Ok(());
        }
        for probe in ["livenessProbe", "startupProbe"] {
            if self.tree.get(container, probe)?.is_some_and(|(_, value)| !value.is_null()) {
                self.notes.push(format!(
                    "{}: the {probe} of {name} would end it while it is held: take {path}.{probe} out",
                    pod.name
                ));
            }
        }
        Ok(())
    }
}

/// The folder that is mounted.
fn folder(of: &'static str) -> &'static str {
    of.rsplit_once('/').map_or("/", |(folder, _)| folder)
}

/// What an image says is taken as it is; in a manifest `$(NAME)` would be a variable's value.
fn unexpanded(word: &str) -> Value {
    word.replace("$(", "$$(").into()
}
