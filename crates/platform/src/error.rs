//! What can go wrong between a name and an agent beside its process.

use std::{io, path::PathBuf, time::Duration};

use pepo_wire::{
    Code, Failure, FailureExt,
    name::{Kind, TargetName},
};

/// A failed act of this crate, with its facts.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// An address that cannot be dialled.
    #[error("the engine's address `{address}` cannot be used: {why}")]
    BadAddress {
        /// As it was written.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Docker's settings could not be read.
    #[error("docker's settings in {} cannot be read", path.display())]
    BadSettings {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Settings name a docker context that does not exist.
    #[error("there is no docker context `{name}`")]
    NoContext {
        /// Its name.
        name: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The socket may not be opened by this user.
    #[error("the socket {address} may not be opened by this user")]
    SocketDenied {
        /// The engine's address.
        address: String,
        /// What the engine is called.
        engine: &'static str,
    },
    /// Nobody answers at the address.
    #[error("{engine} does not answer at {address}")]
    Unreachable {
        /// What the engine is called.
        engine: &'static str,
        /// Its address.
        address: String,
        /// What came back.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An engine behind TLS could not be joined.
    #[error("no TLS connection to {engine} at {address}")]
    NoTls {
        /// What the engine is called.
        engine: &'static str,
        /// Its address.
        address: String,
        /// What is wrong.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The ssh command ended before the engine spoke.
    #[error("{engine} does not answer at {address}: ssh ended")]
    SshEnded {
        /// What the engine is called.
        engine: &'static str,
        /// Its address.
        address: String,
        /// What ssh, or the command it was to run, said last.
        words: String,
        /// What shows more, typed by hand.
        by_hand: String,
    },
    /// Too slow.
    #[error("{what} did not answer within {} s", limit.as_secs_f32())]
    Slow {
        /// Who, for what.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The engine said no.
    #[error("{engine} refused to {act}: {words} (status {status})")]
    Refused {
        /// What the engine is called.
        engine: &'static str,
        /// What was asked of it: "list its containers".
        act: &'static str,
        /// The status of its answer: HTTP's, or gRPC's.
        status: u16,
        /// Its own words.
        words: String,
    },
    /// The engine's answer is not what it should be.
    #[error("{engine} was asked to {act} and its answer cannot be understood: {why}")]
    Garbled {
        /// What the engine is called.
        engine: &'static str,
        /// What was asked of it.
        act: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing answers to the name.
    #[error("no target answers to `{name}`")]
    NotFound {
        /// As typed.
        name: TargetName,
        /// Names that come close.
        near: Vec<String>,
        /// Where it was looked for.
        searched: Vec<String>,
        /// Names of the same word on other machines, which a bare name does not mean.
        elsewhere: Vec<String>,
    },
    /// Several targets answer to the name.
    #[error("`{name}` means more than one target")]
    Ambiguous {
        /// As typed.
        name: TargetName,
        /// Names that mean one each.
        candidates: Vec<String>,
    },
    /// The container has no process.
    #[error("{name} is not running")]
    NotRunning {
        /// What `ps` calls it.
        name: TargetName,
        /// The engine's word.
        state: String,
    },
    /// Pepo's own process, or one of its helpers.
    #[error("{name} is one of Pepo's own helpers")]
    OwnHelper {
        /// What was named.
        name: TargetName,
    },
    /// The number an engine gives cannot be proven to be the container's process.
    #[error("the main process of {name} is not proven to be on this machine")]
    NotProven {
        /// What `ps` calls it.
        name: TargetName,
        /// What was looked at.
        why: String,
    },
    /// No agent can stand beside the target from here.
    #[error("{name} cannot be reached from here: {why}")]
    NotReachable {
        /// What `ps` calls it.
        name: TargetName,
        /// What is missing.
        why: String,
    },
    /// A helper container could not be made.
    #[error("no helper container could be started beside {name}: failed to {step}")]
    Helper {
        /// What `ps` calls the target.
        name: TargetName,
        /// The step that failed.
        step: &'static str,
        /// Why.
        source: Box<PlatformError>,
    },
    /// No binary of Pepo's fits the target's machine.
    #[error("there is no Pepo binary for {arch} Linux: {why}")]
    NoBinary {
        /// As Rust names it.
        arch: String,
        /// What was looked at.
        why: String,
    },
    /// None is where those for other machines are looked for.
    #[error("there is no Pepo binary for {arch} Linux: looked for {searched}")]
    BinaryMissing {
        /// As Rust names it.
        arch: String,
        /// Where it would be.
        searched: String,
    },
    /// No cluster is known, or its settings cannot be used.
    #[error("the Kubernetes cluster is not known: {why}")]
    NoCluster {
        /// What is missing or wrong.
        why: String,
    },
    /// A right in the cluster is missing.
    #[error("the cluster does not allow to {act}")]
    ClusterDenied {
        /// What was asked of it: "list pods".
        act: &'static str,
        /// RBAC's verb.
        verb: String,
        /// RBAC's resource.
        resource: String,
        /// Where.
        namespace: String,
        /// The server's own words.
        words: String,
    },
    /// No pod has these labels.
    #[error("{name} has no pod")]
    NoPod {
        /// As typed.
        name: TargetName,
        /// Where it was looked for.
        namespace: String,
        /// By what.
        labels: String,
    },
    /// The pod has no such container.
    #[error("pod/{pod} has no container `{container}`")]
    NoContainer {
        /// The pod.
        pod: String,
        /// As typed.
        container: String,
        /// Those it has.
        there: Vec<String>,
    },
    /// A container of a pod has no process.
    #[error("{name} is not running")]
    PodNotRunning {
        /// What `ps` calls it.
        name: TargetName,
        /// The kubelet's words.
        state: String,
        /// What tells more.
        hint: String,
    },
    /// A helper in a pod could not be made, or does not start.
    #[error("no ephemeral container could be used beside {name}: failed to {step}")]
    Ephemeral {
        /// What `ps` calls the target.
        name: TargetName,
        /// The step that failed.
        step: &'static str,
        /// Why.
        source: Box<PlatformError>,
    },
    /// The kubelet does not start a helper.
    #[error("{helper} does not start: {reason}")]
    HelperWaits {
        /// The ephemeral container.
        helper: String,
        /// Its image.
        image: String,
        /// The kubelet's reason.
        reason: String,
        /// The kubelet's words.
        words: String,
    },
    /// Admission refuses every shape of a helper.
    #[error("the cluster admits no helper into the pod of {name}")]
    NotAdmitted {
        /// What `ps` calls the target.
        name: TargetName,
        /// Admission's words for each shape.
        refusals: Vec<String>,
    },
    /// As many helpers run in the pod as may.
    #[error("{} helpers run in the pod of {name} already", running.len())]
    TooManyHelpers {
        /// What `ps` calls the target.
        name: TargetName,
        /// Their names.
        running: Vec<String>,
        /// How long each waits for somebody to use it.
        idle: Duration,
    },
    /// A file of ours could not be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The helper's stream broke before the agent spoke.
    #[error("the helper ended before its agent spoke: {words}")]
    Silent {
        /// Its last words.
        words: String,
    },
}

impl FailureExt for PlatformError {
    fn failure(&self) -> Failure {
        let failure = self.hints(Failure::new(self.code(), self.to_string()));
        match std::error::Error::source(self) {
            Some(source) => failure.because_of(source),
            None => failure,
        }
    }
}

impl From<PlatformError> for Failure {
    fn from(error: PlatformError) -> Failure {
        error.failure()
    }
}

impl PlatformError {
    fn code(&self) -> Code {
        match self {
            PlatformError::BadAddress { .. }
            | PlatformError::BadSettings { .. }
            | PlatformError::NoContext { .. }
            | PlatformError::NoCluster { .. } => Code::NoEngine,
            PlatformError::ClusterDenied { .. } => Code::ClusterDenied,
            PlatformError::NotAdmitted { .. } => Code::NotAdmitted,
            PlatformError::SocketDenied { .. } => Code::SocketDenied,
            PlatformError::Unreachable { .. }
            | PlatformError::NoTls { .. }
            | PlatformError::SshEnded { .. }
            | PlatformError::Silent { .. } => Code::EngineUnreachable,
            PlatformError::Slow { .. } => Code::TimedOut,
            PlatformError::Refused { .. } | PlatformError::Garbled { .. } => Code::EngineRefused,
            PlatformError::NotFound { .. }
            | PlatformError::NoPod { .. }
            | PlatformError::NoContainer { .. } => Code::TargetNotFound,
            PlatformError::Ambiguous { .. } => Code::TargetAmbiguous,
            PlatformError::NotRunning { .. } | PlatformError::PodNotRunning { .. } => Code::NotRunning,
            PlatformError::NotProven { .. } => Code::PidNotProven,
            PlatformError::NotReachable { .. } | PlatformError::OwnHelper { .. } => Code::NotReachable,
            PlatformError::Helper { .. }
            | PlatformError::NoBinary { .. }
            | PlatformError::BinaryMissing { .. }
            | PlatformError::Ephemeral { .. }
            | PlatformError::HelperWaits { .. }
            | PlatformError::TooManyHelpers { .. } => Code::AgentNotStarted,
            PlatformError::File { .. } => Code::FileDenied,
        }
    }

    /// Causes that are no error of their own, and what to do next.
    fn hints(&self, failure: Failure) -> Failure {
        match self {
            PlatformError::BadAddress { .. } => failure
                .hint("set DOCKER_HOST or CONTAINER_HOST to an address of the form unix:///run/docker.sock"),
            PlatformError::BadSettings { .. } => failure.hint("mend the file, or set DOCKER_HOST"),
            PlatformError::NoContext { path, .. } => failure
                .because(format!("{} does not exist", path.display()))
                .hint("`docker context ls` lists those there are"),
            PlatformError::SocketDenied { engine, .. } => failure.hint(denied_hint(engine)),
            PlatformError::Unreachable { engine: "kubernetes", .. } => failure.hint(
                "`kubectl version` must work with the same --context and --kubeconfig, without a question",
            ),
            PlatformError::Unreachable { .. } => {
                failure.hint("is the engine running?").try_command("look at this machine", ["pepo", "check"])
            }
            PlatformError::NoTls { why, hint, .. } => failure.because(why).hint(hint),
            PlatformError::SshEnded { words, by_hand, .. } => {
                failure.because(words).hint(format!("`{by_hand}` must work without a question"))
            }
            PlatformError::NotFound { name, near, searched, elsewhere } => {
                let in_cluster = name.kind.is_some_and(Kind::is_in_cluster);
                not_found(unserved(failure, name, searched), in_cluster, near, searched, elsewhere)
            }
            PlatformError::Ambiguous { candidates, .. } => failure
                .because(format!("it could be {}", list(candidates)))
                .hint("type one of these names in full"),
            PlatformError::NotRunning { name, state } => not_running(failure, name, state),
            PlatformError::NotProven { why, .. } => failure
                .because(why)
                .hint("a helper container in the target's PID namespace needs no such proof"),
            PlatformError::BinaryMissing { .. } => {
                failure.hint("the archives of a release have it beside the command: put it there")
            }
            other => other.hints_in_cluster(failure),
        }
    }

    /// The same for what only clusters have.
    fn hints_in_cluster(&self, failure: Failure) -> Failure {
        match self {
            PlatformError::NoCluster { .. } => {
                failure.hint("say which: --kubeconfig FILE, KUBECONFIG, --context NAME; `kubectl config get-contexts` lists them")
            }
            PlatformError::ClusterDenied { verb, resource, namespace, words, .. } => failure.because(words).hint(format!(
                "an administrator grants it: kubectl create role pepo -n {namespace} --verb={verb} --resource={resource}, \
                 and kubectl create rolebinding pepo -n {namespace} --role=pepo --user=YOU; all that Pepo needs is in deploy/, and in docs/kubernetes.md"
            )),
            PlatformError::NoPod { namespace, labels, .. } => {
                failure.because(format!("no pod in namespace {namespace} has the labels {labels}"))
            }
            PlatformError::NoContainer { there, .. } => failure.because(format!("it has {}", list(there))),
            PlatformError::PodNotRunning { state, hint, .. } => failure.because(state).hint(hint),
            PlatformError::Ephemeral { source, .. } => match (&**source, source.hints(failure)) {
                (PlatformError::BinaryMissing { .. }, failure) => failure.hint(
                    "or name an image that holds Pepo for that machine: --image, and `cargo xtask image` makes one for amd64 and arm64",
                ),
                (_, failure) => failure,
            },
            PlatformError::HelperWaits { image, reason, words, .. } => {
                let failure = if words.is_empty() { failure } else { failure.because(words) };
                failure.hint(waits_hint(reason, image)).hint("what was added stays listed in the pod: Kubernetes removes no ephemeral container")
            }
            PlatformError::NotAdmitted { refusals, .. } => refusals
                .iter()
                .fold(failure, Failure::because)
                .hint("let the pod say runAsUser in its securityContext, or label the namespace pod-security.kubernetes.io/enforce=baseline"),
            PlatformError::TooManyHelpers { running, idle, .. } => failure
                .because(format!("they are {}", list(running)))
                .hint(format!("each ends {} minutes after its last use", idle.as_secs() / 60)),
            _ => failure,
        }
    }
}

/// What to change when the kubelet does not start a helper.
fn waits_hint(reason: &str, image: &str) -> String {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "InvalidImageName" => format!(
            "the node cannot pull {image}: put it into a registry that the node reaches and the pod's imagePullSecrets open, and say --image NAME"
        ),
        "ErrImageNeverPull" => {
            format!("{image} is not on the node: import it there, or say --image-pull-policy IfNotPresent")
        }
        "CreateContainerConfigError" => {
            "the pod asks for runAsNonRoot and does not say as whom: let it say runAsUser".to_owned()
        }
        _ => format!(
            "does {image} hold a static /pepo for the node's architecture, or a sh, by which it can be given one?"
        ),
    }
}

fn denied_hint(engine: &str) -> &'static str {
    match engine {
        "docker" => {
            "join the group that owns the socket (`sudo usermod -aG docker $USER`), use docker's rootless mode, or run as root"
        }
        "podman" => "start your own service (`systemctl --user start podman.socket`), or run as root",
        _ => "run as root",
    }
}

/// What does not run can be started, and what ends again and again be held at its start.
fn not_running(failure: Failure, name: &TargetName, state: &str) -> Failure {
    let failure = failure.because(format!("its state is \"{state}\""));
    let engine = match name.kind {
        Some(Kind::Docker) => "docker",
        Some(Kind::Podman) => "podman",
        _ => return failure,
    };
    let failure = failure.try_command("see its end", [engine, "logs", &name.name]);
    match state {
        "restarting" => failure.hint(
            "one that ends at its start is held there: pepo run --debug wait -- … IMAGE, then pepo attach",
        ),
        _ => failure.try_command("start it", [engine, "start", &name.name]),
    }
}

/// An engine that was named may have no socket, although its commands work.
fn unserved(failure: Failure, name: &TargetName, searched: &[String]) -> Failure {
    let (engine, hint) = match name.kind {
        Some(Kind::Podman) => (
            "podman",
            "podman serves no socket until it is told to: `systemctl --user start podman.socket`, or \
             `podman system service --time=0`; without one, `pepo ps` names its processes host/…",
        ),
        Some(Kind::Docker) => {
            ("docker", "docker is reached at its socket: start its daemon, or set DOCKER_HOST")
        }
        _ => return failure,
    };
    match searched.iter().any(|one| one.contains(engine)) {
        true => failure,
        false => failure.hint(hint),
    }
}

fn not_found(
    mut failure: Failure,
    in_cluster: bool,
    near: &[String],
    searched: &[String],
    elsewhere: &[String],
) -> Failure {
    if searched.is_empty() {
        failure = failure.because("no container engine was found");
    } else {
        failure = failure.because(format!("looked at {}", list(searched)));
    }
    if let [first, ..] = elsewhere {
        failure =
            failure.hint(format!("a bare name means this machine; elsewhere there is {}", list(elsewhere)));
        return failure.try_command("name it in full", ["pepo", "check", first]);
    }
    if !near.is_empty() {
        failure = failure.hint(format!("near names: {}", list(near)));
    }
    let ps: &[&str] = if in_cluster { &["pepo", "ps", "--on", "kubernetes"] } else { &["pepo", "ps"] };
    failure.try_command("list the names that work", ps.iter().copied())
}

/// `a, b and c`.
pub(crate) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// An error and its causes. An error of IO may itself wrap another one, which its `source` skips.
pub(crate) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// The kind of the system's error among the causes.
pub(crate) fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let plain = |error: &io::Error| error.get_ref().is_none().then(|| error.kind());
    causes(error).find_map(|error| error.downcast_ref::<io::Error>().and_then(plain))
}
