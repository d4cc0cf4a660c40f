//! An agent in a container of its own, beside the target.
//!
//! The helper is made from the target's own image (nothing is pulled, no image stays), with the static `pepo` binary put
//! in by the archive API (no shell is needed), in the target's PID namespace. Its input and output are the byte stream.
//!
//! Steps: image → binary → create → upload → attach → start. If one fails, what was made is removed and the error
//! names the step. A helper ends by itself when its stream does; the engine then removes it (`AutoRemove`). Where containers
//! outlive their engine (`live-restore` of Docker before 25) that is left to us: such an engine comes back and kills whatever it is to
//! remove at its end (moby/moby#46308), and a target whose guard is killed may die of it. A helper whose maker was killed before is
//! removed by the next reach.

/// The binary that is put into helpers.
mod binary;
/// Who made a helper, and whether that process still lives.
mod creator;
/// What a killed predecessor left.
mod leftovers;
/// What is asked of the engine.
mod spec;
/// The archive that is uploaded.
mod upload;

pub use binary::AgentBinary;
use creator::Creator;
pub(crate) use spec::CAPABILITIES;

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use pepo_wire::{
    Failure,
    agent::{ContainerTarget, Target, target},
};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    How, Located, PlatformError, Reached,
    cluster::Exec,
    engine::{
        api,
        client::{Client, Joined},
    },
};

/// Marks our helpers; its value is the id of the target's container.
pub const LABEL: &str = "dev.pepo.helper";
/// So long a helper may take to end by itself once its stream has ended; then its agent is asked to, which may not have seen that.
const POLITE: Duration = Duration::from_secs(3);
/// So long it may take then. Whatever is killed in the target's PID namespace before its children becomes a zombie of the target's,
/// for ever: this is longer than an agent takes to let go and to collect what it started.
const ASKED: Duration = Duration::from_secs(40);
/// So long is waited for its agent's first bytes.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// So long the engine may take to remove it.
const REMOVED: Duration = Duration::from_secs(10);

/// Helpers of this process that may exist, whoever wanted them.
static MADE: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until every helper that this process made or has asked for is gone or given up, also those whose reach was cancelled half-way.
/// A program calls it before it ends: with it end the tasks that remove them.
pub async fn settled() {
    MADE.close();
    MADE.wait().await;
}

/// What marks a container as ours, beside the target with this id: `ps` leaves it out, and when it has ended after this process, the next
/// reach removes it.
#[must_use]
pub fn labels(target: &str) -> [(&'static str, String); 2] {
    [(LABEL, target.to_owned()), (spec::CREATOR_LABEL, Creator::own().to_string())]
}

/// Is it proven that whoever made the container with these labels has ended?
#[must_use]
pub fn is_orphan(labels: &BTreeMap<String, String>) -> bool {
    labels
        .get(spec::CREATOR_LABEL)
        .and_then(|text| Creator::read(text))
        .is_some_and(|creator| creator.is_dead())
}

pub(crate) fn is_helper(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(LABEL)
}

/// Starts a helper beside the target and joins its agent.
pub(crate) async fn reach(
    client: &Arc<Client>,
    binary: &AgentBinary,
    located: &Located,
) -> Result<Reached, PlatformError> {
    let at = |step: &'static str| {
        let name = located.name.clone();
        move |source: PlatformError| PlatformError::Helper { name, step, source: Box::new(source) }
    };
    let binary = choose(client, binary, located).await.map_err(at("choose a binary for it"))?;
    leftovers::remove(client).await;
    let mut made = create(client, located).await.map_err(at("create it from the target's image"))?;
    match start(client, &binary, &made.name).await {
        Ok(joined) => {
            let how = How::Helper { container: made.name.clone() };
            made.phase = Phase::Running;
            Ok(Reached {
                io: Box::new(joined),
                target: target(located),
                how,
                proof: None,
                leave: Leave(Held::Container(Box::new(made))),
                notes: Vec::new(),
            })
        }
        Err((step, error)) => {
            let removed = made.remove_now().await;
            if let Err(error) = removed {
                tracing::warn!(%error, "a helper could not be removed");
            }
            Err(at(step)(error))
        }
    }
}

/// The binary for the machine the target runs on.
async fn choose(
    client: &Client,
    binary: &AgentBinary,
    located: &Located,
) -> Result<binary::Chosen, PlatformError> {
    let image: api::Image =
        client.get("inspect the target's image", &format!("/images/{}/json", located.facts.image_id)).await?;
    let engine = &client.met().await?.about.arch;
    binary.choose(&image, engine)
}

/// Creates the container. It is a task of its own: when the caller is cancelled meanwhile, the engine makes the container all the same, and only
/// after its answer can it be removed (by dropping [`Made`]).
async fn create(client: &Arc<Client>, located: &Located) -> Result<Made, PlatformError> {
    let act = "create a container";
    let name = format!("pepo-helper-{:016x}", RandomState::new().hash_one(&located.container_id));
    let body = spec::body(located, is_spared(client).await?);
    let made = Made { client: client.clone(), name, phase: Phase::Waiting, _counted: MADE.token() };
    let task = tokio::spawn(async move {
        let options = CreateContainerOptionsBuilder::default().name(&made.name).build();
        let docker = &made.client.met().await?.docker;
        let created = docker.create_container(Some(options), body).await;
        // Without an answer it may exist: then dropping `made` removes it.
        created.map_err(|error| made.client.bollard(act, error))?;
        Ok(made)
    });
    let lost = |error: tokio::task::JoinError| PlatformError::Garbled {
        engine: client.engine,
        act,
        why: error.to_string(),
    };
    task.await.map_err(lost)?
}

/// The first Docker that spares what it is to remove later.
const SPARES: u32 = 25;

/// Does an engine that comes back leave a helper alone that it is to remove at its end?
async fn is_spared(client: &Client) -> Result<bool, PlatformError> {
    let version = &client.met().await?.about.version;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= SPARES) {
        return Ok(true);
    }
    let info: api::Info = client.get("tell of itself", "/info").await?;
    Ok(!info.live_restore_enabled)
}

/// Upload, attach, start; the step that failed stands with its error.
async fn start(
    client: &Client,
    binary: &binary::Chosen,
    name: &str,
) -> Result<BufReader<Joined>, (&'static str, PlatformError)> {
    let docker = &client.met().await.map_err(|error| ("ask the engine", error))?.docker;
    let upload = "put the binary into it";
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let archive = upload::archive(binary).await.map_err(|error| (upload, error))?;
    let uploaded = docker.upload_to_container(name, Some(options), bollard::body_try_stream(archive)).await;
    uploaded.map_err(|error| (upload, client.bollard("unpack an archive", error)))?;
    let joined = client.attach(name).await.map_err(|error| ("join its input and output", error))?;
    let started = docker.start_container(name, None).await;
    started.map_err(|error| ("start it", client.bollard("start a container", error)))?;
    hear(joined).await.map_err(|error| ("hear its agent", error))
}

/// Waits for the agent's first bytes: an HTTP/2 server sends its settings unasked. A program that cannot run ends instead, and its last
/// words tell why. One that is silent may be slow; then the handshake, which has a limit of its own, will show.
async fn hear(joined: Joined) -> Result<BufReader<Joined>, PlatformError> {
    let words = joined.last_words();
    let mut stream = BufReader::new(joined);
    match tokio::time::timeout(FIRST_WORD, stream.fill_buf()).await {
        Ok(Ok([])) => Err(PlatformError::Silent { words: words.text() }),
        Ok(Err(error)) => Err(PlatformError::Silent { words: format!("{error} {}", words.text()) }),
        Ok(Ok(_)) | Err(_) => Ok(stream),
    }
}

/// The target as an agent in its PID namespace sees it. Unless the namespace is shared with others, its main process is number 1 there.
fn target(located: &Located) -> Target {
    let alone = matches!(located.facts.pid_mode.as_str(), "" | "private");
    let container = ContainerTarget {
        id: located.container_id.clone(),
        name: located.name.to_string(),
        pid_hint: u32::from(alone),
    };
    Target { kind: Some(target::Kind::Container(container)), selector: None }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Created; no process of it runs.
    Waiting,
    /// An agent runs in it, which ends by itself and must not be ended otherwise while a target is held.
    Running,
    /// Gone.
    Gone,
}

/// A helper container that exists.
struct Made {
    client: Arc<Client>,
    name: String,
    phase: Phase,
    _counted: TaskTrackerToken,
}

impl Made {
    /// Removes it whatever it does.
    async fn remove_now(mut self) -> Result<(), PlatformError> {
        self.phase = Phase::Gone;
        remove(&self.client, &self.name).await
    }

    /// Lets it end by itself, asks it to, then makes sure that it is gone.
    async fn remove_politely(mut self) -> Result<(), PlatformError> {
        self.phase = Phase::Gone;
        // An engine that is away for a moment leaves the other ways to be tried.
        if !matches!(ended(&self.client, &self.name, POLITE).await, Ok(true))
            && terminate(&self.client, &self.name).await.is_ok()
        {
            ended(&self.client, &self.name, ASKED).await?;
        }
        remove(&self.client, &self.name).await
    }
}

impl Drop for Made {
    /// The last resort when the caller was cancelled or forgot: it needs a runtime that lives on.
    fn drop(&mut self) {
        if self.phase == Phase::Gone {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let rest = Made {
            client: self.client.clone(),
            name: self.name.clone(),
            phase: Phase::Gone,
            _counted: MADE.token(),
        };
        let running = self.phase == Phase::Running;
        runtime.spawn(async move {
            let _ = if running { rest.remove_politely().await } else { rest.remove_now().await };
        });
    }
}

/// SIGTERM to its main process, the agent.
async fn terminate(client: &Client, name: &str) -> Result<(), PlatformError> {
    let options = KillContainerOptionsBuilder::default().signal("SIGTERM").build();
    let docker = &client.met().await?.docker;
    let sent = docker.kill_container(name, Some(options)).await;
    sent.map_err(|error| client.bollard("signal a container", error))
}

async fn remove(client: &Client, name: &str) -> Result<(), PlatformError> {
    let act = "remove a container";
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match client
        .met()
        .await?
        .docker
        .remove_container(name, Some(options))
        .await
        .map_err(|error| client.bollard(act, error))
    {
        // 404: it is gone. 409: the engine is about to remove it.
        Ok(()) | Err(PlatformError::Refused { status: 404, .. }) => return Ok(()),
        Err(PlatformError::Refused { status: 409, .. }) => {}
        Err(error) => return Err(error),
    }
    if gone(client, name, REMOVED).await? {
        return Ok(());
    }
    Err(PlatformError::Slow { what: format!("{}, asked to remove {name},", client.engine), limit: REMOVED })
}

/// Waits until nothing runs in the container. `false`: something still does after `limit`; an error: the engine is away then.
async fn ended(client: &Client, name: &str, limit: Duration) -> Result<bool, PlatformError> {
    until(client, name, limit, |inspected| !inspected.state.running).await
}

/// Waits until the engine does not know the container any more.
async fn gone(client: &Client, name: &str, limit: Duration) -> Result<bool, PlatformError> {
    until(client, name, limit, |_| false).await
}

/// Waits until the container is so, or gone.
async fn until(
    client: &Client,
    name: &str,
    limit: Duration,
    is_so: impl Fn(&api::Inspect) -> bool,
) -> Result<bool, PlatformError> {
    let end = tokio::time::Instant::now() + limit;
    let mut pause = Duration::from_millis(10);
    loop {
        let late = tokio::time::Instant::now() >= end;
        match client.get::<api::Inspect>("inspect a container", &format!("/containers/{name}/json")).await {
            Err(PlatformError::Refused { status: 404, .. }) => return Ok(true),
            Ok(inspected) if is_so(&inspected) => return Ok(true),
            Ok(_) | Err(PlatformError::Refused { .. }) if late => return Ok(false),
            // It may be starting again.
            Err(error) if late => return Err(error),
            Ok(_) | Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Ends what was made to reach a target.
#[must_use = "call leave() when the stream is dropped"]
pub struct Leave(Held);

/// What is held for a way.
enum Held {
    Nothing,
    Container(Box<Made>),
    Exec(Exec),
}

impl Leave {
    pub(crate) fn nothing() -> Leave {
        Leave(Held::Nothing)
    }

    pub(crate) fn exec(exec: Exec) -> Leave {
        Leave(Held::Exec(exec))
    }

    /// Waits until the agent has let go: until a helper container is gone, which is removed if it does not go by itself, or an exec has
    /// ended. Drop the stream (and every client on it) first: its end is what ends the agent. In process there is nothing to do.
    ///
    /// # Errors
    /// [`pepo_wire::Code::EngineRefused`], [`pepo_wire::Code::EngineUnreachable`], [`pepo_wire::Code::TimedOut`]: the helper may still be there.
    pub async fn leave(self) -> Result<(), Failure> {
        match self.0 {
            Held::Container(made) => Ok(made.remove_politely().await?),
            Held::Exec(exec) => {
                exec.ended().await;
                Ok(())
            }
            Held::Nothing => Ok(()),
        }
    }
}
