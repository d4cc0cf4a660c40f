//! All platforms of this machine together: found, asked at once, and searched by name.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use pepo_wire::{
    Code, Failure, Hint,
    agent::Finding,
    name::{Kind, TargetName},
};

use crate::{
    AgentBinary, ClusterOptions, Endpoint, Environment, Listed, LocalAgent, Located, Need, Platform,
    PlatformError, ReachPolicy, Reached, ServerAddress, Start, Started, cluster::Kubernetes, context,
    cri::Cri, engine::Engine, host::Host, local::Local, names::near, server::Server,
};

/// So long each source has to answer a list: on a machine with too much to do, or from afar, where a handshake comes first (and ssh
/// itself gives up).
const LIST: Duration = Duration::from_secs(10);
/// After so long it is told who has not answered yet.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long each source has to find a name, when it is reached through ssh too.
const LOCATE: Duration = Duration::from_secs(15);

/// Where to look, and how to reach what is found.
#[derive(Clone)]
pub struct Options {
    /// Only this platform.
    pub on: Option<Kind>,
    /// Nothing but what this server has; or why its address is none.
    pub server: Option<Result<ServerAddress, Failure>>,
    /// The CRI runtime's socket (`--cri-socket`).
    pub cri_socket: Option<PathBuf>,
    /// Which cluster, and what of it.
    pub cluster: ClusterOptions,
    /// Which way to take to a target.
    pub policy: ReachPolicy,
    /// What the agent must be allowed to do.
    pub need: Need,
    /// The agent in this process; on Linux only.
    pub local: Option<Arc<dyn LocalAgent>>,
    /// The binary for helpers.
    pub binary: AgentBinary,
    /// What the surroundings say.
    pub environment: Environment,
}

impl Options {
    /// Everything that this process' surroundings offer.
    #[must_use]
    pub fn usual(local: Option<Arc<dyn LocalAgent>>) -> Options {
        Options {
            on: None,
            server: None,
            cri_socket: None,
            cluster: ClusterOptions::default(),
            policy: ReachPolicy::Auto,
            need: Need::Look,
            local,
            binary: AgentBinary::Own,
            environment: Environment::of_this_process(),
        }
    }
}

/// The platforms found.
pub struct Platforms {
    sources: Vec<Source>,
    /// Addresses that were tried and where nothing was.
    absent: Vec<String>,
    /// Is a cluster asked by lists, and by names that do not say that they mean one?
    asks_cluster: bool,
    limits: Limits,
}

/// How long each source has to answer.
#[derive(Clone, Copy)]
struct Limits {
    list: Duration,
    patience: Duration,
    locate: Duration,
}

/// A platform, or why a chosen one cannot be had.
struct Source {
    kind: Kind,
    platform: Result<Arc<dyn Platform>, Failure>,
}

/// What all sources told.
#[derive(Debug)]
pub struct Listing {
    /// Every target once, by kind and name.
    pub listed: Vec<Listed>,
    /// Sources that could not be asked or did not answer, with their names.
    pub failed: Vec<(String, Failure)>,
    /// How many sources were asked.
    pub asked: usize,
    /// How long it took.
    pub took: Duration,
}

/// A target with the platform it was found on.
pub struct Found {
    /// The platform.
    pub platform: Arc<dyn Platform>,
    /// The target.
    pub located: Located,
}

impl Found {
    /// As [`Platform::foresee`].
    pub async fn foresee(&self) -> Vec<Finding> {
        self.platform.foresee(&self.located).await
    }

    /// A byte stream to an agent beside it.
    ///
    /// # Errors
    /// As [`Platform::reach`].
    pub async fn reach(&self) -> Result<Reached, Failure> {
        self.platform.reach(&self.located).await
    }

    /// As [`Platform::start`].
    ///
    /// # Errors
    /// As there.
    pub async fn start(&self, what: &Start) -> Result<Started, Failure> {
        self.platform.start(&self.located, what).await
    }
}

impl Platforms {
    /// Looks for sockets; asks nobody yet.
    #[must_use]
    pub fn find(options: &Options) -> Platforms {
        let limits = Limits { list: LIST, patience: PATIENCE, locate: LOCATE };
        let asks_cluster = options.on.is_some_and(Kind::is_in_cluster) || options.cluster.listed;
        let mut platforms = Platforms { sources: Vec::new(), absent: Vec::new(), asks_cluster, limits };
        if let Some(server) = options.server.clone() {
            return platforms.of_server(server, options.need);
        }
        let wants = |kind| options.on.is_none_or(|on| on == kind || (on == Kind::Pid && kind == Kind::Host));
        let local = Local::new(options.local.clone(), options.need);
        if wants(Kind::Docker) {
            platforms.add_engine(
                Kind::Docker,
                context::chosen(&options.environment),
                docker_sockets(&options.environment),
                options,
                &local,
            );
        }
        if wants(Kind::Podman) {
            let chosen = options.environment.get("CONTAINER_HOST").map(Endpoint::parse).transpose();
            platforms.add_engine(Kind::Podman, chosen, podman_sockets(&options.environment), options, &local);
        }
        if wants(Kind::Cri) {
            platforms.add_cri(options, &local);
        }
        if wants(Kind::Pod) {
            platforms.add(Kind::Pod, Arc::new(Kubernetes::new(options)));
        }
        if wants(Kind::Host) && local.exists() {
            platforms.add(Kind::Host, Arc::new(Host::new(local)));
        }
        platforms
    }

    /// A server alone: it is elsewhere, and what is here has no say.
    fn of_server(mut self, server: Result<ServerAddress, Failure>, need: Need) -> Platforms {
        let platform = server.map(|address| Arc::new(Server::new(address, need)) as Arc<dyn Platform>);
        self.sources.push(Source { kind: Kind::Server, platform });
        self
    }

    /// The platforms that lists ask, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Platform>> {
        self.listed().filter_map(|source| source.platform.as_ref().ok())
    }

    /// The sources that lists ask: nothing is said to a cluster that nobody named.
    fn listed(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.kind != Kind::Pod || self.asks_cluster)
    }

    /// Where no engine was found, for messages.
    #[must_use]
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// Asks every source at once; each has ten seconds.
    pub async fn list_all(&self) -> Listing {
        self.list(self.limits.list, &|_| {}).await
    }

    /// As [`Platforms::list_all`]; `waits` is told the name of each that has not answered after two seconds.
    pub async fn list_telling(&self, waits: &(dyn Fn(&str) + Sync)) -> Listing {
        self.list(self.limits.list, waits).await
    }

    /// As [`Platforms::list_all`], for somebody who waits no longer than `most` for any of them.
    pub async fn list_within(&self, most: Duration) -> Listing {
        self.list(self.limits.list.min(most), &|_| {}).await
    }

    async fn list(&self, limit: Duration, waits: &(dyn Fn(&str) + Sync)) -> Listing {
        let begin = Instant::now();
        let answers = join_all(self.listed().map(|source| async move {
            let platform = source.platform.clone()?;
            let answer = within(&*platform, limit, platform.list());
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep(self.limits.patience) => waits(&source.name()),
            }
            answer.await
        }))
        .await;
        let mut listing = Listing {
            listed: Vec::new(),
            failed: Vec::new(),
            asked: self.listed().count(),
            took: Duration::ZERO,
        };
        let mut known = HashSet::new();
        // Engines come before the host, which sees their containers too but does not know their names.
        for (source, answer) in self.listed().zip(answers) {
            match answer {
                Ok(listed) => listing
                    .listed
                    .extend(listed.into_iter().filter(|one| known.insert(one.container_id.clone()))),
                Err(failure) => listing.failed.push((source.name(), failure)),
            }
        }
        listing.listed.sort_by(|a, b| a.name.cmp(&b.name));
        listing.took = begin.elapsed();
        listing
    }

    /// The one running target a name means. A bare name means the engines of this machine, and containers of its cgroups by id.
    ///
    /// # Errors
    /// [`Code::TargetNotFound`] with near names, [`Code::TargetAmbiguous`] with the full names, [`Code::NotRunning`], [`Code::NoEngine`],
    /// or why the only source asked did not answer.
    pub async fn locate(&self, name: &TargetName) -> Result<Found, Failure> {
        let name = &self.meant(name);
        let asked: Vec<&Source> = self.sources.iter().filter(|source| self.answers(source, name)).collect();
        if asked.is_empty() {
            return Err(self.no_source(name));
        }
        let answers = join_all(asked.iter().map(|source| async {
            let platform = source.platform.clone()?;
            let located = within(&*platform, self.limits.locate, platform.locate(name)).await?;
            Ok(Found { platform, located })
        }))
        .await;
        if let Some(failure) = no_engine_answers(&asked, &answers) {
            return Err(failure);
        }
        let searched = asked.iter().map(|source| source.name()).collect();
        match choose(name, searched, answers) {
            // A cluster has its own near names.
            Err(failure)
                if failure.code() == Code::TargetNotFound
                    && failure.hints.len() < 2
                    && !name.kind.is_some_and(Kind::is_in_cluster) =>
            {
                Err(self.with_near(name, failure).await)
            }
            other => other,
        }
    }

    /// All that a name means: every ready replica of a workload, else the one that [`Platforms::locate`] finds.
    ///
    /// # Errors
    /// As [`Platforms::locate`].
    pub async fn locate_all(&self, name: &TargetName) -> Result<Vec<Found>, Failure> {
        let name = &self.meant(name);
        let cluster = self.sources.iter().find(|source| source.kind == Kind::Pod);
        let Some(cluster) = cluster.filter(|_| name.kind.is_some_and(Kind::is_in_cluster)) else {
            return Ok(vec![self.locate(name).await?]);
        };
        let platform = cluster.platform.clone()?;
        let all = within(&*platform, self.limits.locate, platform.locate_all(name)).await?;
        Ok(all.into_iter().map(|located| Found { platform: Arc::clone(&platform), located }).collect())
    }

    fn answers(&self, source: &Source, name: &TargetName) -> bool {
        match name.kind {
            _ if source.kind == Kind::Server => true,
            Some(Kind::Pid) => source.kind == Kind::Host,
            Some(kind) if kind.is_in_cluster() => source.kind == Kind::Pod,
            Some(kind) => source.kind == kind,
            // A bare name means this machine.
            None => source.kind != Kind::Pod,
        }
    }

    /// A bare name is a pod's where nothing but a cluster is asked.
    fn meant(&self, name: &TargetName) -> TargetName {
        let pods = self.sources.iter().all(|source| source.kind == Kind::Pod);
        let kind = name.kind.or((pods && !self.sources.is_empty()).then_some(Kind::Pod));
        TargetName { kind, name: name.name.clone() }
    }

    /// Adds the names that come close, on whatever platform.
    async fn with_near(&self, name: &TargetName, mut failure: Failure) -> Failure {
        let names: Vec<TargetName> =
            self.list_within(self.limits.patience).await.listed.into_iter().map(|one| one.name).collect();
        let near = near(&name.name, names.iter().map(|one| one.name.as_str()));
        if !near.is_empty() {
            let full: Vec<String> = near
                .iter()
                .flat_map(|near| names.iter().filter(move |one| one.name == *near))
                .map(TargetName::to_string)
                .collect();
            failure.hints.insert(
                0,
                Hint { text: format!("near names: {}", crate::error::list(&full)), command: Vec::new() },
            );
        }
        failure
    }

    fn add(&mut self, kind: Kind, platform: Arc<dyn Platform>) {
        self.sources.push(Source { kind, platform: Ok(platform) });
    }

    /// The chosen engine; without a choice, every usual one that is there.
    fn add_engine(
        &mut self,
        kind: Kind,
        chosen: Result<Option<Endpoint>, PlatformError>,
        usual: Vec<Endpoint>,
        options: &Options,
        local: &Local,
    ) {
        let endpoints = match chosen {
            Ok(Some(endpoint)) => vec![endpoint],
            Ok(None) => {
                let (there, absent): (Vec<_>, Vec<_>) = usual.into_iter().partition(is_there);
                self.absent.extend(absent.iter().map(Endpoint::to_string));
                there
            }
            Err(error) => return self.sources.push(Source { kind, platform: Err(error.into()) }),
        };
        for endpoint in endpoints {
            let engine = Engine::new(kind, endpoint, local.clone(), options.policy, options.binary.clone());
            self.add(kind, Arc::new(engine));
        }
    }

    fn add_cri(&mut self, options: &Options, local: &Local) {
        match crate::cri::sockets::choose(options.cri_socket.as_deref(), &options.environment) {
            Ok(found) => {
                self.absent.extend(found.absent.iter().map(|path| format!("unix://{}", path.display())));
                if let Some(socket) = found.socket {
                    self.add(Kind::Cri, Arc::new(Cri::new(socket, local.clone())));
                }
            }
            Err(error) => self.sources.push(Source { kind: Kind::Cri, platform: Err(error.into()) }),
        }
    }

    fn no_source(&self, name: &TargetName) -> Failure {
        if matches!(name.kind, Some(Kind::Host | Kind::Pid)) {
            return Failure::new(Code::NotReachable, "this machine's own processes cannot be looked at")
                .because("the agent runs on Linux only");
        }
        let what =
            name.kind.map_or("container engine".to_owned(), |kind| format!("{} engine", kind.prefix()));
        Failure::new(Code::NoEngine, format!("no {what} was found on this machine"))
            .because(format!("there is nothing at {}", crate::error::list(&self.absent)))
            .hint("start the engine, or say where it is: DOCKER_HOST, CONTAINER_HOST or --cri-socket")
    }
}

impl Source {
    fn name(&self) -> String {
        match &self.platform {
            Ok(platform) => format!("{} ({})", self.kind.platform(), platform.address()),
            Err(_) => self.kind.platform().to_owned(),
        }
    }
}

/// The answer, or the failure that says who was too slow.
async fn within<T>(
    platform: &dyn Platform,
    limit: Duration,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| PlatformError::Slow {
        what: format!("{} at {}", platform.kind().platform(), platform.address()),
        limit,
    };
    tokio::time::timeout(limit, answer)
        .await
        .map_err(|late_by| others(platform.kind(), late(late_by).into()))?
}

/// What to do about a source that is too slow.
fn others(kind: Kind, failure: Failure) -> Failure {
    let is_of_engine = matches!(kind, Kind::Docker | Kind::Podman | Kind::Cri);
    let failure = match is_of_engine {
        true => failure
            .hint("on a busy machine ask again later; an engine that answers nobody has to be started anew"),
        false => failure.hint("ask again later"),
    };
    failure.try_command("meanwhile, what this machine itself sees", ["pepo", "ps", "--on", "host"])
}

/// What the answers to one name come to.
fn choose(
    name: &TargetName,
    searched: Vec<String>,
    answers: Vec<Result<Found, Failure>>,
) -> Result<Found, Failure> {
    let mut found: Vec<Found> = Vec::new();
    let mut elsewhere = Vec::new();
    let mut failures = Vec::new();
    for answer in answers {
        match answer {
            Ok(one) if name.kind.is_none() && !one.platform.is_here() => {
                elsewhere.push(one.located.name.to_string())
            }
            // The host sees the engines' containers too, and two addresses may lead to one engine.
            Ok(one) if found.iter().any(|other| is_same(&other.located, &one.located)) => {}
            Ok(one) => found.push(one),
            Err(failure) => failures.push(failure),
        }
    }
    match found.len() {
        0 => Err(none(name, searched, elsewhere, failures)),
        1 => found.pop().ok_or_else(|| Failure::new(Code::Internal, "a target was lost")),
        _ => Err(PlatformError::Ambiguous { name: name.clone(), candidates: full_names(&found) }.into()),
    }
}

/// The first engine's own failure, where none of those asked could be, and the machine itself has no such container.
fn no_engine_answers(asked: &[&Source], answers: &[Result<Found, Failure>]) -> Option<Failure> {
    let away = |(answer, source): (&Result<Found, Failure>, &&Source)| match answer {
        Err(failure) if source.kind == Kind::Host => failure.code() == Code::TargetNotFound,
        Err(failure) => matches!(failure.code(), Code::EngineUnreachable | Code::SocketDenied),
        Ok(_) => false,
    };
    let first = answers.iter().zip(asked).find(|(_, source)| source.kind != Kind::Host)?.0.as_ref().err()?;
    answers.iter().zip(asked).all(away).then(|| first.clone())
}

/// Names that mean one each: by id where two engines of one kind know the same name.
fn full_names(found: &[Found]) -> Vec<String> {
    let twins = |one: &Found| found.iter().filter(|other| other.located.name == one.located.name).count() > 1;
    found
        .iter()
        .map(|one| match twins(one) {
            true => {
                format!("{}/{}", one.platform.kind().prefix(), crate::names::short(&one.located.container_id))
            }
            false => one.located.name.to_string(),
        })
        .collect()
}

fn is_same(one: &Located, other: &Located) -> bool {
    !one.container_id.is_empty() && one.container_id == other.container_id
}

/// No source has it. "Not running" and "several" tell more than "not found"; who could not be asked is told beside that.
fn none(name: &TargetName, searched: Vec<String>, elsewhere: Vec<String>, failures: Vec<Failure>) -> Failure {
    let telling = |failure: &&Failure| {
        matches!(failure.code(), Code::NotRunning | Code::TargetAmbiguous | Code::NotReachable)
    };
    if elsewhere.is_empty()
        && let Some(failure) = failures.iter().find(telling)
    {
        return failure.clone();
    }
    // A cluster is asked alone, and knows near names.
    if name.kind.is_some_and(Kind::is_in_cluster)
        && let Some(failure) = failures.first()
    {
        return failure.clone();
    }
    let unknown = |failure: &&Failure| failure.code() == Code::TargetNotFound;
    let unasked: Vec<&Failure> = failures.iter().filter(|failure| !unknown(failure)).collect();
    if elsewhere.is_empty()
        && unasked.len() == failures.len()
        && let Some(failure) = unasked.first()
    {
        return (*failure).clone();
    }
    let not_found = PlatformError::NotFound { name: name.clone(), near: Vec::new(), searched, elsewhere };
    unasked.into_iter().fold(not_found.into(), |all: Failure, failure| all.because(failure))
}

/// Docker's sockets, where no setting chooses one: the machine's, this user's own (rootless), Docker Desktop's.
fn docker_sockets(environment: &Environment) -> Vec<Endpoint> {
    if cfg!(windows) {
        return vec![Endpoint::Pipe(r"\\.\pipe\docker_engine".to_owned())];
    }
    let mut paths = vec![environment.path("/var/run/docker.sock")];
    paths.extend(environment.runtime_folder().map(|folder| folder.join("docker.sock")));
    if let Some(home) = environment.home() {
        paths.extend([home.join(".docker/run/docker.sock"), home.join(".docker/desktop/docker.sock")]);
    }
    different(paths)
}

/// Podman's sockets, where no setting chooses one: the machine's and this user's own.
fn podman_sockets(environment: &Environment) -> Vec<Endpoint> {
    if cfg!(windows) {
        return vec![Endpoint::Pipe(r"\\.\pipe\podman-machine-default".to_owned())];
    }
    let mut paths = vec![environment.path("/run/podman/podman.sock")];
    paths.extend(environment.runtime_folder().map(|folder| folder.join("podman/podman.sock")));
    different(paths)
}

/// Each file once: Docker Desktop links one socket to another.
fn different(paths: Vec<PathBuf>) -> Vec<Endpoint> {
    let mut seen = HashSet::new();
    paths
        .into_iter()
        .filter(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())))
        .map(Endpoint::Unix)
        .collect()
}

fn is_there(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Unix(path) => crate::cri::sockets::is_socket(path),
        Endpoint::Pipe(path) => std::fs::metadata(path).is_ok(),
        Endpoint::Tcp { .. } | Endpoint::Tls { .. } | Endpoint::Ssh { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{State, testing};

    /// A platform with containers of these names and ids.
    struct Fake {
        kind: Kind,
        here: bool,
        containers: &'static [(&'static str, &'static str)],
        /// Answers with this instead; a time-out never answers.
        failure: Option<Code>,
    }

    impl Fake {
        fn name(&self, name: &str) -> TargetName {
            TargetName { kind: Some(self.kind), name: name.to_owned() }
        }

        async fn fail(&self) -> Result<(), Failure> {
            match self.failure {
                Some(Code::TimedOut) => std::future::pending().await,
                Some(code) => Err(Failure::new(code, format!("{} says no", self.kind.platform()))),
                None => Ok(()),
            }
        }
    }

    #[async_trait]
    impl Platform for Fake {
        fn kind(&self) -> Kind {
            self.kind
        }

        fn address(&self) -> String {
            "fake".to_owned()
        }

        fn is_here(&self) -> bool {
            self.here
        }

        async fn list(&self) -> Result<Vec<Listed>, Failure> {
            self.fail().await?;
            let listed = |&(name, id): &(&str, &str)| Listed {
                name: self.name(name),
                image: String::new(),
                state: State::Running,
                health: None,
                container_id: id.to_owned(),
                pid: None,
                labels: Default::default(),
                created: None,
            };
            Ok(self.containers.iter().map(listed).collect())
        }

        async fn locate(&self, name: &TargetName) -> Result<Located, Failure> {
            self.fail().await?;
            let found = self.containers.iter().find(|(one, id)| *one == name.name || *id == name.name);
            let not_found = || PlatformError::NotFound {
                name: name.clone(),
                near: vec![],
                searched: vec![],
                elsewhere: vec![],
            };
            let (name, id) = found.ok_or_else(not_found)?;
            Ok(testing::located(&self.name(name).to_string(), id))
        }

        async fn reach(&self, _: &Located) -> Result<Reached, Failure> {
            Err(Failure::new(Code::NotReachable, "a fake"))
        }
    }

    fn platforms(fakes: Vec<Fake>) -> Platforms {
        let sources =
            fakes.into_iter().map(|fake| Source { kind: fake.kind, platform: Ok(Arc::new(fake)) }).collect();
        let soon = Duration::from_millis(200);
        let limits = Limits { list: soon, patience: soon / 4, locate: soon };
        let absent = vec!["unix:///nowhere.sock".to_owned()];
        Platforms { sources, absent, asks_cluster: false, limits }
    }

    fn fake(kind: Kind, containers: &'static [(&'static str, &'static str)]) -> Fake {
        Fake { kind, here: true, containers, failure: None }
    }

    async fn locate(platforms: &Platforms, name: &str) -> Result<String, Failure> {
        Ok(platforms.locate(&name.parse().unwrap()).await?.located.name.to_string())
    }

    async fn failure(platforms: &Platforms, name: &str) -> Failure {
        locate(platforms, name).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_bare_name_is_taken_when_one_engine_of_this_machine_has_it() {
        let far = Fake { here: false, ..fake(Kind::Docker, &[("shop", "1"), ("far", "2")]) };
        let platforms = platforms(vec![far, fake(Kind::Podman, &[("shop", "3"), ("cart", "4")])]);
        assert_eq!(locate(&platforms, "shop").await.unwrap(), "podman/shop");
        assert_eq!(locate(&platforms, "docker/shop").await.unwrap(), "docker/shop");
        let far = failure(&platforms, "far").await;
        assert_eq!(far.code(), Code::TargetNotFound);
        assert_eq!(far.hints[1].command, ["pepo", "check", "docker/far"]);
    }

    #[tokio::test]
    async fn several_hits_are_listed_and_never_taken() {
        let one = [fake(Kind::Docker, &[("shop", "1111")]), fake(Kind::Podman, &[("shop", "2222")])];
        let both = failure(&platforms(one.into()), "shop").await;
        assert_eq!(both.code(), Code::TargetAmbiguous);
        assert!(both.to_string().contains("docker/shop and podman/shop"), "{both}");
        let twins = [fake(Kind::Docker, &[("shop", "1111")]), fake(Kind::Docker, &[("shop", "2222")])];
        let twins = failure(&platforms(twins.into()), "docker/shop").await;
        assert!(twins.to_string().contains("docker/1111 and docker/2222"), "{twins}");
    }

    #[tokio::test]
    async fn one_container_seen_by_engine_and_cgroups_is_one_target() {
        let platforms = platforms(vec![
            fake(Kind::Docker, &[("shop", "1111")]),
            fake(Kind::Host, &[("1111", "1111"), ("9999", "9999")]),
        ]);
        assert_eq!(locate(&platforms, "1111").await.unwrap(), "docker/shop");
        let names: Vec<String> =
            platforms.list_all().await.listed.iter().map(|one| one.name.to_string()).collect();
        assert_eq!(names, ["docker/shop", "host/9999"]);
    }

    #[tokio::test]
    async fn a_source_that_fails_or_sleeps_is_named_and_the_others_are_shown() {
        let denied = Fake { failure: Some(Code::SocketDenied), ..fake(Kind::Podman, &[]) };
        let asleep = Fake { failure: Some(Code::TimedOut), ..fake(Kind::Cri, &[]) };
        let platforms = platforms(vec![fake(Kind::Docker, &[("shop", "1"), ("cart", "2")]), denied, asleep]);
        let waited = std::sync::Mutex::new(Vec::new());
        let listing = platforms.list_telling(&|name| waited.lock().unwrap().push(name.to_owned())).await;
        assert_eq!(waited.into_inner().unwrap(), ["cri (fake)"], "who keeps it waiting is told meanwhile");
        let slow = &listing.failed[1].1;
        assert!(slow.hints.iter().any(|hint| hint.command == ["pepo", "ps", "--on", "host"]), "{slow:?}");
        assert_eq!((listing.listed.len(), listing.asked), (2, 3));
        let failed: Vec<(&str, Code)> =
            listing.failed.iter().map(|(name, failure)| (name.as_str(), failure.code())).collect();
        assert_eq!(failed, [("podman (fake)", Code::SocketDenied), ("cri (fake)", Code::TimedOut)]);
        assert_eq!(locate(&platforms, "shop").await.unwrap(), "docker/shop");
        let unknown = failure(&platforms, "shpo").await;
        assert_eq!(unknown.code(), Code::TargetNotFound);
        assert!(unknown.to_string().contains("podman says no"), "{unknown}");
        assert_eq!(failure(&platforms, "podman/shop").await.code(), Code::SocketDenied);
    }

    #[tokio::test]
    async fn near_names_are_told_with_their_kinds() {
        let platforms = platforms(vec![
            fake(Kind::Docker, &[("checkout", "1")]),
            fake(Kind::Podman, &[("checkout-2", "2")]),
        ]);
        let failure = failure(&platforms, "chekout").await;
        assert_eq!(failure.hints[0].text, "near names: docker/checkout");
    }

    #[tokio::test]
    async fn without_any_engine_it_is_told_where_it_was_looked_for() {
        for (name, code) in
            [("shop", Code::NoEngine), ("docker/shop", Code::NoEngine), ("pid/1", Code::NotReachable)]
        {
            assert_eq!(failure(&platforms(vec![]), name).await.code(), code, "{name}");
        }
        assert!(failure(&platforms(vec![]), "shop").await.to_string().contains("/nowhere.sock"));
    }

    #[cfg(unix)]
    #[test]
    fn every_usual_socket_that_is_there_is_a_source() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path);
        let mut sockets = Vec::new();
        for socket in [
            "var/run/docker.sock",
            "run/podman/podman.sock",
            "me/docker.sock",
            "me/podman/podman.sock",
            "run/crio/crio.sock",
        ] {
            std::fs::create_dir_all(path(socket).parent().unwrap()).unwrap();
            sockets.push(std::os::unix::net::UnixListener::bind(path(socket)).unwrap());
        }
        let mut options = Options::usual(None);
        options.environment =
            Environment::of(root.path(), [("XDG_RUNTIME_DIR", path("me").to_str().unwrap())]);
        let kinds = |options: &Options| {
            Platforms::find(options).iter().map(|one| one.kind().prefix()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&options), ["docker", "docker", "podman", "podman", "cri"]);
        options.on = Some(Kind::Podman);
        assert_eq!(kinds(&options), ["podman", "podman"]);
        options.on = None;
        options.environment = Environment::of(
            root.path(),
            [("DOCKER_HOST", "tcp://10.0.0.1:2375"), ("CONTAINER_HOST", "nonsense")],
        );
        let platforms = Platforms::find(&options);
        let addresses: Vec<String> = platforms.iter().map(|one| one.address()).collect();
        assert_eq!(addresses[0], "tcp://10.0.0.1:2375");
        assert_eq!(platforms.sources.iter().filter(|source| source.platform.is_err()).count(), 1);
    }
}
