//! The node agent: this node's containers for people who reach a server. It dials; nothing listens here.
//!
//! A crate of its own because it joins what no other room may: the agent, this node's platforms, and a server's orders.
//! **Invariant:** knows nothing of the server's store or of its policy, and trusts it no further than the bounds that it sends: the
//! agent of each stream is held to one container, to the rights granted, and to a time.
//!
//! Tasks: one that keeps the link (ends when asked to, dials again after a break), one that looks for changes and one that has the
//! node's certificate renewed (with the link), one for each stream (ends with it, when its time is over, or with the link).

/// Who the node is at the server.
mod identity;
/// What the node has, and what changed.
mod targets;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::ready, stream};
use pepo_agent::{AgentConfig, Bounds, Report};
use pepo_platform::{Options, Platforms, ServerAddress, carry};
use pepo_wire::{
    Code, Failure,
    agent::Target,
    server::{
        CarryOpen, CarryRequest, NodeHello, NodeOrder, NodeReport, OpenOrder, OrderFailed, SessionReport,
        carry_request, node_order, node_report, nodes_client::NodesClient,
    },
    version,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Streaming, transport::Channel};

use self::{identity::Member, targets::Targets};

/// How often the node's platforms are asked what they have; the server is told of changes alone.
const LOOK: Duration = Duration::from_secs(1);
/// The first and the longest wait before the server is dialled again.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Reports and messages under way.
const WINDOW: usize = 16;
/// Streams at once.
const MAX_STREAMS: usize = 256;

/// What a node agent is told at its start.
#[derive(Clone)]
pub struct Config {
    /// The server's address, `https://HOST[:PORT]`.
    pub server: String,
    /// The token by which the node joins; none is needed once it has its certificate.
    pub token: Option<String>,
    /// Folder of the node's key and certificate.
    pub state: PathBuf,
    /// For the agents that it starts.
    pub agent: AgentConfig,
    /// Where it looks for targets.
    pub platforms: Options,
}

/// What happens, for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The server knows this node by this name.
    Joined(String),
    /// The server is away, for this reason; it is dialled again after so long.
    Away(Failure, Duration),
}

/// Serves until `stop` resolves; then every stream has ended and every target runs.
///
/// # Errors
/// The server's refusal at the first contact: a wrong token, a version that has nothing in common. Later ones are waited out.
pub async fn run(
    config: Config,
    tell: impl Fn(Event),
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut streams = Streams::default();
    let outcome = tokio::select! {
        () = stop => Ok(()),
        failure = keep(&config, &tell, &mut streams) => Err(failure),
    };
    streams.end().await;
    outcome
}

/// Keeps the link for ever; returns what makes it hopeless.
async fn keep(config: &Config, tell: &impl Fn(Event), streams: &mut Streams) -> Failure {
    let mut member = match Member::new(config) {
        Ok(member) => member,
        Err(failure) => return failure,
    };
    let (mut known, mut wait) = (false, FIRST_WAIT);
    loop {
        let mut joined = false;
        let failure = link(config, &mut member, streams, |name| {
            joined = true;
            tell(Event::Joined(name));
        })
        .await;
        // What the server carried is gone; its agents let go now, and not when the server is back.
        streams.end().await;
        known |= joined;
        let refused = matches!(failure.code(), Code::NotGranted | Code::VersionMismatch | Code::Usage);
        if failure.code() == Code::NotGranted && member.joins_anew() {
            continue;
        }
        if refused && !known {
            return failure;
        }
        wait = if joined { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
        let wait = jittered(wait);
        tell(Event::Away(failure, wait));
        sleep(wait).await;
    }
}

/// Between a half and the whole, so that nodes do not come back all at once.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    // Each state has random keys.
    let part = u32::try_from(RandomState::new().hash_one(()) % 1000).unwrap_or(0);
    wait / 2 + wait / 2 * part / 1000
}

/// The streams that are carried.
#[derive(Default)]
struct Streams {
    running: TaskTracker,
    ending: CancellationToken,
}

impl Streams {
    /// Ends all and waits until their agents have let go; then new ones may come.
    async fn end(&mut self) {
        self.ending.cancel();
        self.running.close();
        self.running.wait().await;
        *self = Streams::default();
    }
}

/// One link, from dialling to its end; returns why it ended.
async fn link(
    config: &Config,
    member: &mut Member,
    streams: &Streams,
    joined: impl FnOnce(String),
) -> Failure {
    match linked(config, member, streams, joined).await {
        Ok(()) => Failure::new(Code::StreamBroken, format!("the server {} ended the link", config.server)),
        Err(failure) => failure,
    }
}

async fn linked(
    config: &Config,
    member: &mut Member,
    streams: &Streams,
    joined: impl FnOnce(String),
) -> Result<(), Failure> {
    let server = member.server().await?;
    let channel = server.dial().await?;
    let (reports, outgoing) = mpsc::channel(WINDOW);
    let hello = NodeHello {
        protocol: version::PROTOCOL,
        protocol_min: version::PROTOCOL_MIN,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
    };
    let _ = reports.try_send(NodeReport { kind: Some(node_report::Kind::Hello(hello)) });
    let answer = NodesClient::new(channel.clone()).link(ReceiverStream::new(outgoing)).await;
    let mut orders = answer.map_err(|status| server.failed(&status))?.into_inner();
    match next(&server, &mut orders).await? {
        Some(node_order::Kind::Welcome(welcome)) => {
            member.joined();
            joined(welcome.node);
        }
        _ => return Err(Failure::new(Code::StreamBroken, "the server did not welcome this node")),
    }
    let follow = async {
        while let Some(kind) = next(&server, &mut orders).await? {
            let node_order::Kind::Open(order) = kind else { continue };
            if streams.running.len() >= MAX_STREAMS {
                refuse(
                    &reports,
                    order.order,
                    Failure::new(Code::TooLarge, "the node carries too many streams"),
                )
                .await;
                continue;
            }
            let ending = streams.ending.clone();
            streams.running.spawn(open(config.clone(), channel.clone(), reports.clone(), ending, order));
        }
        Ok(())
    };
    tokio::select! {
        outcome = follow => outcome,
        () = watch(config, &reports) => Ok(()),
        never = member.renewing(&server, &channel) => match never {},
    }
}

async fn next(
    server: &ServerAddress,
    orders: &mut Streaming<NodeOrder>,
) -> Result<Option<node_order::Kind>, Failure> {
    let order = orders.message().await.map_err(|status| server.failed(&status))?;
    Ok(order.and_then(|order| order.kind))
}

/// Tells the server what changed, until it hears no more.
async fn watch(config: &Config, reports: &mpsc::Sender<NodeReport>) {
    let mut targets = Targets::default();
    loop {
        // Engines come and go: they are looked for each time.
        let listing = Platforms::find(&config.platforms).list_all().await;
        if let Some(changed) = targets.changed(listing) {
            let report = NodeReport { kind: Some(node_report::Kind::Changed(changed)) };
            if reports.send(report).await.is_err() {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

/// Carries out an order: the agent beside the target, held to the bounds, and the stream to it.
async fn open(
    config: Config,
    channel: Channel,
    reports: mpsc::Sender<NodeReport>,
    ending: CancellationToken,
    order: OpenOrder,
) {
    let name = order.order.clone();
    if let Err(failure) = opened(&config, channel, &ending, order).await {
        tracing::info!(%failure, "a stream was not opened");
        refuse(&reports, name, failure).await;
    }
}

async fn refuse(reports: &mpsc::Sender<NodeReport>, order: String, failure: Failure) {
    let failed = OrderFailed { order, failure: Some(failure) };
    // Without a link nobody waits.
    let _ = reports.send(NodeReport { kind: Some(node_report::Kind::Failed(failed)) }).await;
}

async fn opened(
    config: &Config,
    channel: Channel,
    ending: &CancellationToken,
    order: OpenOrder,
) -> Result<(), Failure> {
    let bounds = order.bounds.ok_or_else(|| Failure::new(Code::NotGranted, "the order has no bounds"))?;
    let target = proven(config, &order.name, &bounds.container_id).await?;
    let lasts = Duration::from_secs(bounds.lasts_seconds);
    let held = Bounds {
        who: bounds.who.clone(),
        container: bounds.container_id.clone(),
        rights: bounds.rights().collect(),
        lease_seconds: bounds.lease_seconds,
        pause_budget_millis: bounds.pause_budget_millis,
    };
    let (reports, sessions) = mpsc::channel(WINDOW);
    let reports = order.report_sessions.then_some(reports);
    let agent = AgentConfig { bounds: Some(Arc::new(held)), reports, ..config.agent.clone() };
    let (io, served) = pepo_agent::serve_in_process(agent);
    let (to_server, bytes) = mpsc::channel::<Vec<u8>>(WINDOW);
    let data = |data| CarryRequest { kind: Some(carry_request::Kind::Data(data)) };
    let begin = CarryOpen { order: order.order, target: Some(target) };
    let begin = CarryRequest { kind: Some(carry_request::Kind::Open(begin)) };
    // Both end when the agent has.
    let bytes = ReceiverStream::new(bytes).map(data);
    let says_ready = order.report_ready;
    let sessions =
        ReceiverStream::new(sessions).filter_map(move |report| ready(session_report(report, says_ready)));
    let requests = stream::iter([begin]).chain(stream::select(sessions, bytes));
    // The end of this one, held until the agent has let go, is how the server knows.
    let last = to_server.clone();
    let answer = NodesClient::new(channel).carry(requests).await;
    let from_server = answer.map_err(|status| Failure::from_status(&status))?.into_inner();
    let incoming = from_server.scan((), |(), message| ready(message.ok().map(|message| message.data)));
    // The time that was granted is kept here too: a server that forgets it gets no more.
    tokio::select! {
        () = carry(io, incoming, to_server) => {}
        () = sleep(lasts) => tracing::info!(who = bounds.who, "the time of a stream is over"),
        () = ending.cancelled() => {}
    }
    if let Ok(Err(failure)) = served.await {
        tracing::info!(%failure, "an agent ended");
    }
    drop(last);
    Ok(())
}

/// What the agent says of a session, as the server is told; nothing where it would not understand it.
fn session_report(report: Report, says_ready: bool) -> Option<CarryRequest> {
    let report = match report {
        Report::Opened { session, debugger } => {
            SessionReport { session, debugger, ready_follows: says_ready, ..SessionReport::default() }
        }
        Report::Ready { session } if says_ready => {
            SessionReport { session, ready: true, ..SessionReport::default() }
        }
        Report::Ready { .. } => return None,
        Report::Closed { session, closed } => {
            SessionReport { session, closed: Some(closed), ..SessionReport::default() }
        }
    };
    Some(CarryRequest { kind: Some(carry_request::Kind::Session(report)) })
}

/// The target as this node's agent is told, when the name still means the container that was granted.
async fn proven(config: &Config, name: &str, container: &str) -> Result<Target, Failure> {
    let found = Platforms::find(&config.platforms).locate(&name.parse()?).await?;
    if found.located.container_id != container {
        return Err(Failure::new(Code::NotRunning, format!("{name} is another container by now"))
            .try_command("look again", ["pepo", "ps"]));
    }
    Ok(found.reach().await?.target)
}
