//! What there is to name: asked of this machine's engines, of a server, of the cluster. What does not answer in time is left out, and
//! nothing is said of it. No helper is made: processes are told of where the agent of this very process sees them.

use std::time::Duration;

use pepo_client::Agent;
use pepo_platform::{
    Listed, Names as OfCluster, Need, Options, Platforms, ReachPolicy, Resources, ServerAddress,
};
use pepo_wire::{
    name::{Kind, TargetName},
    resource::{AttachmentSpec, DebugRequest, Kind as Resource, Object, RequestSpec},
};

use super::{
    Candidate,
    line::{Line, Names},
};
use crate::{arguments::PodArgs, config::Context, reach};

/// So long one source has.
const SOURCE: Duration = Duration::from_secs(1);
/// So long a person waits, whatever is in the way.
const PATIENCE: Duration = Duration::from_secs(2);

/// What makes pods and can be changed.
const CHANGED: [Kind; 3] = [Kind::Deploy, Kind::Sts, Kind::Ds];

/// The names that may stand here: what answers in time, and what needs no asking.
pub(super) async fn names(names: Names, line: &Line, context: &Context) -> Vec<Candidate> {
    let asking = Asking { line, context };
    let mut all = tokio::time::timeout(PATIENCE, asking.asked(names)).await.unwrap_or_default();
    all.extend(asking.kinds(names).into_iter().map(|kind| Candidate::new(format!("{}/", kind.prefix()), "")));
    all
}

/// What a debug request waits for.
fn wished(request: &DebugRequest) -> String {
    [&request.spec.image, &request.spec.service].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
}

fn plain(names: Vec<String>) -> Vec<Candidate> {
    names.into_iter().map(|name| Candidate::new(name, "")).collect()
}

struct Asking<'a> {
    line: &'a Line,
    context: &'a Context,
}

impl Asking<'_> {
    async fn asked(&self, names: Names) -> Vec<Candidate> {
        let typed = &self.line.typed;
        match names {
            Names::Targets => self.targets(typed).await,
            Names::Paths if typed.contains(':') || typed.starts_with(['.', '/', '~']) => Vec::new(),
            Names::Paths => {
                let colon = |one: Candidate| Candidate::new(format!("{}:", one.word), one.what);
                self.targets(typed).await.into_iter().map(colon).collect()
            }
            Names::Workloads => self.workloads(typed).await,
            Names::Containers => self.containers().await,
            Names::Namespaces => plain(self.cluster(OfCluster::Namespaces).await),
            Names::Contexts => plain(self.cluster(OfCluster::Contexts).await),
            Names::Processes => self.processes().await.unwrap_or_default(),
            Names::Attachments => self.objects::<AttachmentSpec>(|one| one.spec.target.clone()).await,
            Names::Requests => self.objects::<RequestSpec>(wished).await,
        }
    }

    /// The server's objects, each with what it is for.
    async fn objects<S: Resource>(&self, what: impl Fn(&Object<S>) -> String) -> Vec<Candidate> {
        let token = self.context.environment.token.as_deref();
        let server = self.context.global.server().and_then(|server| ServerAddress::parse(server, token).ok());
        let Some(server) = server else { return Vec::new() };
        let all = Resources::new(server).list::<S>().await.unwrap_or_default();
        all.iter().map(|one| Candidate::new(one.metadata.name.clone(), what(one))).collect()
    }

    /// What may stand before a name in the cluster.
    fn kinds(&self, names: Names) -> Vec<Kind> {
        match names {
            _ if self.line.typed.contains('/') => Vec::new(),
            Names::Targets | Names::Paths if self.on().is_none_or(|on| on == Kind::Pod) => {
                Kind::ALL.into_iter().filter(|kind| kind.is_in_cluster()).collect()
            }
            Names::Workloads => CHANGED.to_vec(),
            _ => Vec::new(),
        }
    }

    fn options(&self, on: Option<Kind>) -> Options {
        let pod = PodArgs { labels: self.line.labels.clone(), ..PodArgs::default() };
        Options { policy: ReachPolicy::InProcess, ..reach::options(self.context, on, Need::Look, &pod) }
    }

    /// The platform that was typed, or that kubectl's users mean.
    fn on(&self) -> Option<Kind> {
        reach::usual(self.context)
    }

    /// Targets whose name begins so.
    async fn targets(&self, typed: &str) -> Vec<Candidate> {
        match typed.split_once('/') {
            None => self.unprefixed(typed).await,
            Some(_) if self.context.global.server().is_some() => self.listed(None).await,
            Some((prefix, rest)) => match Kind::ALL.into_iter().find(|kind| kind.prefix() == prefix) {
                Some(kind) if kind.is_in_cluster() => match rest.split_once('/') {
                    Some((name, _)) => self.with_containers(kind, name).await,
                    None => self.of_kind(kind).await,
                },
                Some(kind) => self.listed(Some(kind)).await,
                None => Vec::new(),
            },
        }
    }

    /// What a word without a kind may become: targets that lists show, and bare names of one of them.
    async fn unprefixed(&self, typed: &str) -> Vec<Candidate> {
        let on = self.on();
        let mut all = if on == Some(Kind::Pod) && self.context.global.server().is_none() {
            plain(self.cluster(OfCluster::Of(Kind::Pod)).await)
        } else {
            self.listed(on).await
        };
        let bare = |one: &Candidate| {
            let (kind, name) = one.word.split_once('/')?;
            let is_container = matches!(kind, "docker" | "podman" | "cri");
            is_container.then(|| Candidate::new(name, one.what.clone()))
        };
        // Only where somebody began to type it: each would be shown twice else.
        if !typed.is_empty() {
            let bare: Vec<_> = all.iter().filter_map(bare).collect();
            let one = |name: &&Candidate| bare.iter().filter(|other| other.word == name.word).count() == 1;
            all.extend(bare.iter().filter(one).cloned());
        }
        all
    }

    /// What lists show and runs.
    async fn listed(&self, on: Option<Kind>) -> Vec<Candidate> {
        let listing = Platforms::find(&self.options(on)).list_within(SOURCE).await;
        let running = listing.listed.into_iter().filter(|one| one.state.has_process());
        running.map(|Listed { name, image, .. }| Candidate::new(name.to_string(), image)).collect()
    }

    /// `deploy/NAME` for each.
    async fn of_kind(&self, kind: Kind) -> Vec<Candidate> {
        let names = self.cluster(OfCluster::Of(kind)).await;
        names.into_iter().map(|name| Candidate::new(format!("{}/{name}", kind.prefix()), "")).collect()
    }

    /// What makes pods and can be changed.
    async fn workloads(&self, typed: &str) -> Vec<Candidate> {
        let prefix = typed.split_once('/').map(|(prefix, _)| prefix);
        match CHANGED.into_iter().find(|kind| Some(kind.prefix()) == prefix) {
            Some(kind) => self.of_kind(kind).await,
            None => Vec::new(),
        }
    }

    /// `pod/NAME/CONTAINER` for each.
    async fn with_containers(&self, kind: Kind, name: &str) -> Vec<Candidate> {
        let of = TargetName { kind: Some(kind), name: name.to_owned() };
        let full = |container| Candidate::new(format!("{of}/{container}"), "");
        self.cluster(OfCluster::Containers(of.clone())).await.into_iter().map(full).collect()
    }

    /// Those of what was typed before.
    async fn containers(&self) -> Vec<Candidate> {
        let Some(target) = &self.line.target else { return Vec::new() };
        let in_cluster = target.kind.map_or(self.on() == Some(Kind::Pod), Kind::is_in_cluster);
        if !in_cluster || self.context.global.server().is_some() {
            return Vec::new();
        }
        plain(self.cluster(OfCluster::Containers(target.clone())).await)
    }

    async fn cluster(&self, names: OfCluster) -> Vec<String> {
        names.ask(&self.options(Some(Kind::Pod))).await.unwrap_or_default()
    }

    /// The names of the target's processes, where they can be seen from here.
    async fn processes(&self) -> Option<Vec<Candidate>> {
        let target = self.line.target.as_ref()?;
        let on = self.on();
        let far =
            target.kind.or(on).is_some_and(Kind::is_in_cluster) || self.context.global.server().is_some();
        if far {
            return None;
        }
        let found = Platforms::find(&self.options(on)).locate(target).await.ok()?;
        let reached = found.reach().await.ok()?;
        self.context.local.hold(reached.leave).await;
        let processes = Agent::connect(reached.io).await.ok()?.list(Some(reached.target)).await.ok()?;
        Some(processes.into_iter().map(|one| Candidate::new(one.name, one.command_line.join(" "))).collect())
    }
}
