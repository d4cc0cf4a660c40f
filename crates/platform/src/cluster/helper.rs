//! The ephemeral container in which an agent waits beside a pod's process.
//!
//! Steps: choose a shape by asking admission (a dry run) → append the container → wait until it runs → exec. Kubernetes removes no
//! ephemeral container, so one that runs and would be made the same is used again; it ends by itself when nobody has used it for a
//! while. One that does not start is told with the kubelet's own words.
//!
//! An image of ours holds the binary; any other one that has a shell is given it ([`super::borrowed`]). Which of the two it is its
//! name tells, mostly: where that is wrong, the kubelet says so within a second, and the other way is taken.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, EnvVar, EphemeralContainer, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use pepo_wire::{
    Failure, FailureExt as _,
    agent::{ContainerTarget, Finding, Level, Target, target},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    ClusterOptions, HELPER_IMAGE, IDLE, InPod, borrowed,
    client::Joined,
    custom::Custom,
    find, foresee, is_running, random,
    shape::{self, Shape, shapes},
    stream,
};
use crate::{AgentBinary, How, Io, Located, Need, PlatformError, Reached, helper::Leave};

/// Names of helpers begin so.
const PREFIX: &str = "pepo-";
/// Version and shape of a helper, in its environment.
pub(super) const MARK: &str = "PEPO_HELPER";
/// The binary in its image.
pub(super) const BINARY: &str = "/pepo";
/// So many may run at once in a pod: each takes of its memory.
const MOST: usize = 4;
/// So long a helper may take to start: its image may have to be pulled.
const START: Duration = Duration::from_secs(120);
/// How often the pod is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(150);

/// The last step.
const HEAR: &str = "hear its agent";

/// Reasons of the kubelet's for which waiting longer does not help.
pub(super) const HOPELESS: [&str; 10] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// How an image comes by the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It holds it at [`BINARY`].
    Holds,
    /// It has a shell, and is given it.
    IsGiven,
}

impl Way {
    /// Both, the one that the image's name tells first: images of ours are called `pepo` or `pepo-…`.
    fn of(image: &str) -> [Way; 2] {
        let name = image.rsplit('/').next().unwrap_or_default();
        let name = name.split([':', '@']).next().unwrap_or_default();
        match name == "pepo" || name.starts_with("pepo-") {
            true => [Way::Holds, Way::IsGiven],
            false => [Way::IsGiven, Way::Holds],
        }
    }

    fn program(self) -> &'static str {
        match self {
            Way::Holds => BINARY,
            Way::IsGiven => "sh",
        }
    }
}

/// What is wanted of a helper.
pub(super) struct Wanted<'a> {
    pub(super) options: &'a ClusterOptions,
    pub(super) need: Need,
    pub(super) binary: &'a AgentBinary,
}

/// An agent beside the target, in a helper that is there or is made.
pub(super) async fn reach(
    joined: &Joined,
    wanted: &Wanted<'_>,
    located: &Located,
    in_pod: &InPod,
) -> Result<Reached, Failure> {
    let custom = Custom::read(wanted.options.custom.as_deref())?;
    let (mut work, second) = Work::new(joined, wanted, located, in_pod, custom);
    let shapes = shapes(&in_pod.pod, &in_pod.container, wanted.need, wanted.options.profile);
    let tried = if work.has_failed() { None } else { Some(work.reach(&shapes).await) };
    let (helper, (io, exec)) = match tried {
        Some(Ok(reached)) => reached,
        Some(Err(error)) if lacking(&error).is_none() => return Err(error.into()),
        tried => {
            work.way = second;
            let before = tried.and_then(Result::err);
            work.reach(&shapes).await.map_err(|error| both(&error, before.as_ref()))?
        }
    };
    Ok(Reached {
        io,
        target: work.target(),
        how: How::Ephemeral { container: helper.name },
        proof: None,
        leave: Leave::exec(exec),
        notes: helper.shape.lost.map(str::to_owned).into_iter().collect(),
    })
}

/// What can be told of a helper before it is made.
pub(super) async fn foresee(
    joined: &Joined,
    wanted: &Wanted<'_>,
    located: &Located,
    in_pod: &InPod,
) -> Vec<Finding> {
    let custom = match Custom::read(wanted.options.custom.as_deref()) {
        Ok(custom) => custom,
        Err(failure) => return vec![foresee::row(Level::No, "custom", failure.what.clone(), Some(failure))],
    };
    let (work, _) = Work::new(joined, wanted, located, in_pod, custom);
    let InPod { pod, container } = in_pod;
    let mut rows: Vec<Finding> = foresee::rights(joined).await.into_iter().collect();
    let shapes = shapes(pod, container, wanted.need, wanted.options.profile);
    rows.extend(work.foresee(&shapes).await);
    rows.push(foresee::image(pod, &work.image, wanted.options.pull_policy.as_deref()));
    rows.extend(foresee::of_pod(pod, container, shape::uid(pod, container).is_some()));
    rows
}

/// The kubelet's words for a helper whose image has not what it was to run.
fn lacking(error: &PlatformError) -> Option<&str> {
    let PlatformError::Ephemeral { source, .. } = error else { return None };
    match &**source {
        PlatformError::HelperWaits { words, .. } if is_lacking(words) => Some(words),
        _ => None,
    }
}

/// In the words of runc and crun.
fn is_lacking(words: &str) -> bool {
    words.contains("executable file") || words.contains("no such file or directory")
}

/// Is it a failure that another helper would not mend?
fn is_of_this_side(error: &PlatformError) -> bool {
    use PlatformError::{BinaryMissing, File, NoBinary};
    matches!(error, BinaryMissing { .. } | NoBinary { .. } | File { .. })
}

/// Where neither way works, both are told.
fn both(error: &PlatformError, before: Option<&PlatformError>) -> Failure {
    let failure = error.failure();
    match before.and_then(lacking) {
        Some(words) if lacking(error).is_some() => failure.because(words),
        _ => failure,
    }
}

/// A helper that is there, or was made just now.
struct Helper {
    name: String,
    shape: Shape,
    is_new: bool,
}

/// A helper that is there, or may be made under this name, and why not in a better shape.
struct Choice<'s> {
    name: String,
    shape: &'s Shape,
    is_new: bool,
    refusals: Vec<String>,
}

/// The stream to an agent, and the exec that carries it.
type Opened = (Box<dyn Io>, stream::Exec);

/// What is done for one reach.
struct Work<'a> {
    joined: &'a Joined,
    image: String,
    way: Way,
    pull_policy: Option<String>,
    custom: Custom,
    binary: &'a AgentBinary,
    located: &'a Located,
    in_pod: &'a InPod,
}

impl<'a> Work<'a> {
    /// With the way that is taken first, and the other one.
    fn new(
        joined: &'a Joined,
        wanted: &Wanted<'a>,
        located: &'a Located,
        in_pod: &'a InPod,
        custom: Custom,
    ) -> (Work<'a>, Way) {
        let options = wanted.options;
        let image = options.image.clone().unwrap_or_else(|| HELPER_IMAGE.to_owned());
        let [way, second] = Way::of(&image);
        let pull_policy = options.pull_policy.clone();
        let binary = wanted.binary;
        (Work { joined, image, way, pull_policy, custom, binary, located, in_pod }, second)
    }
}

impl Work<'_> {
    /// The helper that would be used, or the shape in which one would be admitted.
    async fn foresee(&self, shapes: &[Shape]) -> Vec<Finding> {
        let mut rows: Vec<Finding> = self.others().into_iter().collect();
        match self.choose(shapes, None).await {
            Ok(Choice { is_new: false, name, .. }) => {
                rows.push(foresee::ok("admission", format!("the helper {name} is there and is used again")));
            }
            Ok(Choice { shape, refusals, .. }) => {
                rows.extend(self.bounded().err().map(|error| {
                    let failure = error.failure();
                    foresee::row(Level::No, "helpers", failure.what.clone(), Some(failure))
                }));
                rows.push(admitted(shape, &refusals));
            }
            Err(error @ PlatformError::NotAdmitted { .. }) => {
                let failure = error.failure();
                let what = format!("{}: {}", failure.what, failure.why.join("; "));
                rows.push(foresee::row(Level::No, "admission", what, Some(failure)));
            }
            // A right that is missing has its own row.
            Err(_) => {}
        }
        rows
    }

    /// Helpers of ours that are listed in the pod.
    fn others(&self) -> Option<Finding> {
        let statuses = ephemeral_statuses(&self.in_pod.pod);
        let ours = statuses.iter().filter(|status| status.name.starts_with(PREFIX));
        let (running, ended): (Vec<_>, Vec<_>) = ours.partition(|status| is_running(status));
        if running.is_empty() && ended.is_empty() {
            return None;
        }
        let what = format!(
            "of Pepo's helpers in this pod {} run, at most {MOST} may, and {} have ended and stay listed",
            running.len(),
            ended.len()
        );
        Some(foresee::ok("helpers", what))
    }

    fn pod(&self) -> &str {
        find::name_of(&self.in_pod.pod)
    }

    fn failed(&self, step: &'static str, source: PlatformError) -> PlatformError {
        PlatformError::Ephemeral { name: self.located.name.clone(), step, source: Box::new(source) }
    }

    /// Has a helper of this image been unable to start this way?
    fn has_failed(&self) -> bool {
        let of_this = |one: &&EphemeralContainer| self.is_alike(one);
        let mut alike = find::spec(&self.in_pod.pod).ephemeral_containers.iter().flatten().filter(of_this);
        alike.any(|one| {
            let status = ephemeral_status(&self.in_pod.pod, &one.name);
            let ended = status.and_then(|status| status.state.as_ref()?.terminated.as_ref());
            ended.and_then(|ended| ended.message.as_deref()).is_some_and(is_lacking)
        })
    }

    /// A helper of this image that came by its binary the same way.
    fn is_alike(&self, one: &EphemeralContainer) -> bool {
        let program = one.command.as_ref().and_then(|command| command.first());
        one.name.starts_with(PREFIX)
            && one.image.as_deref() == Some(&self.image)
            && program.is_some_and(|program| program == self.way.program())
    }

    /// A helper, and the stream to its agent.
    async fn reach(&self, shapes: &[Shape]) -> Result<(Helper, Opened), PlatformError> {
        let helper = self.helper(shapes, None).await?;
        match self.open(&helper).await {
            // It was there a moment ago, or the kubelet has not told yet that it ended.
            Err(PlatformError::Ephemeral { step: HEAR, source, .. })
                if !helper.is_new && !is_of_this_side(&source) =>
            {
                let other = self.helper(shapes, Some(&helper.name)).await?;
                let opened = self.open(&other).await?;
                Ok((other, opened))
            }
            opened => Ok((helper, opened?)),
        }
    }

    /// The stream, once the helper runs.
    async fn open(&self, helper: &Helper) -> Result<Opened, PlatformError> {
        self.wait(&helper.name).await?;
        let (command, given) = match self.way {
            Way::Holds => ([BINARY, "agent", "--join"].map(str::to_owned).into(), None),
            Way::IsGiven => (borrowed::join(&helper.name), Some(self.binary)),
        };
        let opened = stream::open(self.joined, self.pod(), &helper.name, &command, given).await;
        opened.map_err(|error| match error {
            denied @ PlatformError::ClusterDenied { .. } => denied,
            error => self.failed(HEAR, error),
        })
    }

    /// A helper of the first shape that is admitted: one that is there (but not `except`), or a new one.
    async fn helper(&self, shapes: &[Shape], except: Option<&str>) -> Result<Helper, PlatformError> {
        let Choice { name, shape, is_new, .. } = self.choose(shapes, except).await?;
        if is_new {
            self.bounded()?;
            self.append(&name, shape, false).await?;
            tracing::info!(helper = name, shape = shape.name, "added an ephemeral container");
        }
        Ok(Helper { name, shape: shape.clone(), is_new })
    }

    /// The first shape in which a helper is there (but not `except`), or would be admitted.
    async fn choose<'s>(
        &self,
        shapes: &'s [Shape],
        except: Option<&str>,
    ) -> Result<Choice<'s>, PlatformError> {
        let mut refusals = Vec::new();
        for shape in shapes {
            if let Some(there) = self.there(shape, except) {
                return Ok(Choice { name: there.to_owned(), shape, is_new: false, refusals });
            }
            let name = new_name();
            match self.append(&name, shape, true).await {
                Ok(()) => return Ok(Choice { name, shape, is_new: true, refusals }),
                Err(PlatformError::Refused { status: 403 | 422, words, .. }) => {
                    refusals.push(format!("as {}: {words}", shape.name));
                }
                Err(error) => return Err(error),
            }
        }
        Err(PlatformError::NotAdmitted { name: self.located.name.clone(), refusals })
    }

    /// A helper that has not ended, of this version and shape, for this container.
    fn there(&self, shape: &Shape, except: Option<&str>) -> Option<&str> {
        let pod = &self.in_pod.pod;
        let is_same = |one: &&EphemeralContainer| {
            let status = ephemeral_status(pod, &one.name).and_then(|status| status.state.as_ref());
            self.is_alike(one)
                && except != Some(one.name.as_str())
                && one.target_container_name.as_deref() == Some(&self.in_pod.container)
                && mark_of(one) == Some(self.mark(shape).as_str())
                && status.is_none_or(|state| state.terminated.is_none())
        };
        find::spec(pod).ephemeral_containers.iter().flatten().find(is_same).map(|one| one.name.as_str())
    }

    /// Not more than a few at once.
    fn bounded(&self) -> Result<(), PlatformError> {
        let statuses = ephemeral_statuses(&self.in_pod.pod);
        let running: Vec<String> = statuses
            .iter()
            .filter(|status| status.name.starts_with(PREFIX) && is_running(status))
            .map(|status| status.name.clone())
            .collect();
        if running.len() < MOST {
            return Ok(());
        }
        Err(PlatformError::TooManyHelpers { name: self.located.name.clone(), running, idle: IDLE })
    }

    async fn append(&self, name: &str, shape: &Shape, dry: bool) -> Result<(), PlatformError> {
        let pods: Api<Pod> = Api::namespaced(self.joined.client.clone(), &self.joined.namespace);
        let container = self.container(name, shape)?;
        let patch = json!({ "spec": { "ephemeralContainers": [container] } });
        let how = PatchParams { dry_run: dry, ..PatchParams::default() };
        let patched = pods.patch_ephemeral_containers(self.pod(), &how, &Patch::Strategic(patch)).await;
        patched.map(|_| ()).map_err(|error| self.joined.told("add an ephemeral container", error))
    }

    fn container(&self, name: &str, shape: &Shape) -> Result<EphemeralContainer, PlatformError> {
        let command = match self.way {
            Way::Holds => {
                let idle = IDLE.as_secs().to_string();
                [BINARY, "agent", "--wait", &idle].map(str::to_owned).into()
            }
            Way::IsGiven => borrowed::main(name),
        };
        let ours = EphemeralContainer {
            name: name.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: self.pull_policy.clone(),
            command: Some(command),
            env: Some(vec![EnvVar {
                name: MARK.to_owned(),
                value: Some(self.mark(shape)),
                value_from: None,
            }]),
            target_container_name: Some(self.in_pod.container.clone()),
            security_context: Some(shape.context.clone()),
            ..EphemeralContainer::default()
        };
        self.custom.over(ours).map_err(|error| PlatformError::Garbled {
            engine: "kubernetes",
            act: "make a helper",
            why: error.to_string(),
        })
    }

    /// Version and shape, and what is laid over it.
    fn mark(&self, shape: &Shape) -> String {
        format!("{} {}{}", env!("CARGO_PKG_VERSION"), shape.name, self.custom.mark())
    }

    /// Waits until the helper runs.
    async fn wait(&self, name: &str) -> Result<(), PlatformError> {
        let end = Instant::now() + START;
        loop {
            let pod = find::read(self.joined, self.pod()).await?;
            match ephemeral_status(&pod, name).map(progress) {
                Some(Progress::Running) => return Ok(()),
                Some(Progress::Hopeless { reason, words }) => {
                    let image = self.image.clone();
                    let error = PlatformError::HelperWaits { helper: name.to_owned(), image, reason, words };
                    return Err(self.failed("start it", error));
                }
                Some(Progress::Waits) | None if Instant::now() < end => sleep(LOOK).await,
                _ => {
                    let what = format!("the node's kubelet, asked to start {name},");
                    return Err(self.failed("start it", PlatformError::Slow { what, limit: START }));
                }
            }
        }
    }

    /// The target as the agent in its PID namespace sees it; its main process is number 1 there, unless the pod's containers, or the
    /// whole node, share one.
    fn target(&self) -> Target {
        let spec = find::spec(&self.in_pod.pod);
        let shared = spec.share_process_namespace == Some(true) || spec.host_pid == Some(true);
        let container = ContainerTarget {
            id: self.located.container_id.clone(),
            name: self.located.name.to_string(),
            pid_hint: u32::from(!shared),
        };
        Target { kind: Some(target::Kind::Container(container)), selector: None }
    }
}

fn admitted(shape: &Shape, refusals: &[String]) -> Finding {
    const RULE: &str = "admission";
    match (refusals, shape.lost) {
        ([], None) => {
            foresee::ok(RULE, format!("the cluster admits a helper, in the shape `{}`", shape.name))
        }
        (refusals, lost) => {
            let mut what = format!("the cluster admits a helper in the shape `{}`", shape.name);
            for words in lost.into_iter().chain(refusals.iter().map(String::as_str)) {
                what += &format!("; {words}");
            }
            foresee::row(Level::Lost, RULE, what, None)
        }
    }
}

enum Progress {
    Running,
    Waits,
    Hopeless { reason: String, words: String },
}

fn progress(status: &ContainerStatus) -> Progress {
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return Progress::Running;
    }
    if let Some(ended) = state.terminated {
        let words = ended.message.unwrap_or_else(|| format!("it ended with exit code {}", ended.exit_code));
        return Progress::Hopeless { reason: ended.reason.unwrap_or_else(|| "Ended".to_owned()), words };
    }
    let waiting = state.waiting.unwrap_or_default();
    match waiting.reason {
        Some(reason) if HOPELESS.contains(&reason.as_str()) => {
            Progress::Hopeless { reason, words: waiting.message.unwrap_or_default() }
        }
        _ => Progress::Waits,
    }
}

fn mark_of(container: &EphemeralContainer) -> Option<&str> {
    container.env.iter().flatten().find(|one| one.name == MARK)?.value.as_deref()
}

fn new_name() -> String {
    format!("{PREFIX}{:010x}", random() & 0xff_ffff_ffff)
}

fn ephemeral_statuses(pod: &Pod) -> &[ContainerStatus] {
    let statuses = pod.status.as_ref().and_then(|status| status.ephemeral_container_statuses.as_ref());
    statuses.map(Vec::as_slice).unwrap_or_default()
}

fn ephemeral_status<'p>(pod: &'p Pod, name: &str) -> Option<&'p ContainerStatus> {
    ephemeral_statuses(pod).iter().find(|status| status.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_name_tells_whether_it_is_ours() {
        for (image, first) in [
            (HELPER_IMAGE, Way::Holds),
            ("mirror.test:5000/tools/pepo@sha256:00", Way::Holds),
            ("mirror.test/pepo-debuggers:1", Way::Holds),
            ("busybox", Way::IsGiven),
            ("mirror.test/pepo/busybox:1", Way::IsGiven),
        ] {
            assert_eq!(Way::of(image)[0], first, "{image}");
        }
    }
}
