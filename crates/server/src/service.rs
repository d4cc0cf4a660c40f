//! The two services: one for people, one for node agents. Each call proves who calls, then what it may.
//!
//! Tasks: one for each link of a node (ends with its stream), one for each stream to an agent (ends with either side, with the
//! caller's rights, or when its time is over).

use std::{sync::Arc, time::Duration};

use futures::stream::BoxStream;
use pepo_wire::{
    Code, Failure,
    agent::Right,
    resource::{AttachmentSpec, State},
    server::{
        Bounds, CarryRequest, CarryResponse, CertifyRequest, CertifyResponse, ListTargetsRequest,
        ListTargetsResponse, ListedTarget, NodeOrder, NodeReport, NodeTarget, NodeWelcome, OpenOrder,
        OpenReach, ReachOpened, ReachRequest, ReachResponse, carry_request, directory_server::Directory,
        node_order, node_report, nodes_server::Nodes as NodesService, reach_request, reach_response,
    },
    version,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use crate::{
    attachments::Attachments,
    audit::{Audit, Line},
    ending::Ending,
    folder::Folder,
    identity::{self, Caller, Kind},
    metrics::Metrics,
    nodes::{Carried, Nodes},
    policy::Verb,
    relay::{self, End, Person},
    requests::Requests,
    sessions::Sessions,
};

/// Messages under way in each direction of a stream; each is at most one HTTP/2 frame.
const WINDOW: usize = 4;
/// Orders under way to one node.
const ORDERS: usize = 64;
/// How long the first message of a stream may take.
const FIRST: Duration = Duration::from_secs(10);
/// How long a node may take to open a stream.
const OPENING: Duration = Duration::from_secs(15);
/// How often rights are asked again while a stream is open.
const AGAIN: Duration = Duration::from_secs(2);
/// What a session may ask for at most, and how long a stream lasts at most.
const LEASE_SECONDS: u32 = 60;
const PAUSE_BUDGET_MILLIS: u64 = 10 * 60 * 1000;
const LASTS: Duration = Duration::from_secs(8 * 3600);

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) folder: Folder,
    pub(crate) audit: Audit,
    pub(crate) nodes: Nodes,
    pub(crate) metrics: Metrics,
    pub(crate) attachments: Arc<Attachments>,
    pub(crate) requests: Requests,
    pub(crate) ending: Ending,
    /// How long a certificate of a node is good.
    pub(crate) certificates_last: Duration,
}

/// A stream that was opened for a person.
struct Opened {
    carried: Carried,
    rights: Vec<Right>,
    /// The target's.
    name: String,
    sessions: Sessions,
}

/// The services, over one desk.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(crate) Arc<Desk>);

/// A target as people name it and rules match it.
fn full_name(node: &str, target: &NodeTarget) -> String {
    format!("{}@{node}", target.name)
}

impl Desk {
    /// Who calls.
    ///
    /// # Errors
    /// As [`identity::caller`].
    pub(crate) fn caller(&self, metadata: &MetadataMap, kind: Kind) -> Result<Caller, Failure> {
        let caller = identity::caller(&self.folder.tokens()?.tokens, metadata, kind);
        self.metrics.unknown_callers.add(usize::from(caller.is_err()));
        caller
    }

    pub(crate) fn write(&self, line: Line<'_>) -> Result<(), Failure> {
        self.audit.write(line).map_err(|error| {
            Failure::new(Code::Internal, "the audit log cannot be written, so nothing is allowed")
                .because(error)
        })
    }

    /// The rights of those asked for that the policy gives.
    ///
    /// # Errors
    /// [`Code::TargetNotFound`] for what the caller may not even look at; [`Code::NotGranted`] without the right to stop it, where
    /// that was asked for.
    fn granted(&self, who: &str, target: &str, asked: &[Right]) -> Result<Vec<Right>, Failure> {
        let policy = self.folder.policy()?;
        if !policy.allows(who, Verb::Look, target) {
            return Err(not_found(target));
        }
        let allowed = |right: &Right| Verb::of(*right).is_some_and(|verb| policy.allows(who, verb, target));
        let granted: Vec<Right> = asked.iter().copied().filter(allowed).collect();
        if asked.contains(&Right::Stop) && !granted.contains(&Right::Stop) {
            return Err(Failure::new(
                Code::NotGranted,
                format!("{who} may look at {target}, and not stop it"),
            )
            .hint("who keeps the server's policy.json can add the verb `stop` for it")
            .try_command("look instead", ["pepo", "stack", target]));
        }
        Ok(granted)
    }

    /// Finds the node's end of a stream for a person, or why there is none.
    async fn open(&self, who: &str, open: &OpenReach) -> Result<Opened, Failure> {
        let target = self.nodes.target(&open.node, &open.container_id);
        let target = target.ok_or_else(|| not_found(&open.container_id))?;
        let name = full_name(&open.node, &target);
        let asked: Vec<Right> = open.rights().collect();
        let rights = match self.granted(who, &name, &asked) {
            Ok(rights) => rights,
            Err(failure) => {
                self.metrics.streams_refused.add(1);
                let why = failure.to_string();
                self.write(Line { act: "refuse", who, target: &name, rights: words(&asked), why: &why })?;
                return Err(failure);
            }
        };
        self.write(Line { act: "reach", who, target: &name, rights: words(&rights), why: "" })?;
        let mut sessions = Sessions::new(&self.attachments, spec(who, &name, open, &target, &rights));
        if open.session {
            sessions.announce().await?;
        }
        match self.order(who, open, target.name, &rights, &sessions).await {
            Ok(carried) => {
                sessions.announced(State::Attaching).await?;
                Ok(Opened { carried, rights, name, sessions })
            }
            Err(failure) => {
                sessions.refused(&failure).await;
                Err(failure)
            }
        }
    }

    /// Tells the node to open a stream, held to what was granted, and waits for it.
    async fn order(
        &self,
        who: &str,
        open: &OpenReach,
        name: String,
        rights: &[Right],
        sessions: &Sessions,
    ) -> Result<Carried, Failure> {
        // A name that nobody guesses.
        let order = identity::random::<16>()?;
        let bounds = Bounds {
            who: who.to_owned(),
            container_id: open.container_id.clone(),
            rights: rights.iter().map(|&right| right.into()).collect(),
            lease_seconds: LEASE_SECONDS,
            pause_budget_millis: PAUSE_BUDGET_MILLIS,
            lasts_seconds: LASTS.as_secs(),
        };
        let kind = node_order::Kind::Open(OpenOrder {
            order: order.clone(),
            name,
            bounds: Some(bounds),
            report_sessions: true,
            report_ready: true,
        });
        let answered = self.nodes.order(&open.node, &order, NodeOrder { kind: Some(kind) })?;
        sessions.announced(State::Scheduled).await?;
        let late =
            |_| Failure::new(Code::TimedOut, format!("node {} did not answer within {OPENING:?}", open.node));
        let gone = |_| Failure::new(Code::StreamBroken, format!("node {} went away", open.node));
        timeout(OPENING, answered).await.map_err(late)?.map_err(gone)?
    }

    /// Carries a stream from its first message to its end, and writes down how it ended.
    async fn tie(&self, caller: &Caller, opened: Opened, person: Person) {
        let Opened { carried, rights, name, mut sessions } = opened;
        self.metrics.streams_opened.add(1);
        let _open = self.metrics.streams.enter();
        let first = ReachOpened {
            target: Some(carried.target.clone()),
            rights: rights.iter().map(|&right| right.into()).collect(),
        };
        let _ = person.to.send(Ok(ReachResponse { kind: Some(reach_response::Kind::Opened(first)) })).await;
        let deleted = sessions.deleted();
        let end = async {
            tokio::select! {
                end = self.no_longer(caller, &name, &rights) => end,
                end = deleted => end,
                () = self.ending.is_over() => End::ServerEnds,
            }
        };
        let (end, has_let_go) = relay::tie(person, carried, end, &self.metrics, &mut sessions).await;
        sessions.finish(&end, has_let_go).await;
        let why = match has_let_go {
            true => end.to_string(),
            false => format!("{end}, and the node did not say that it let go"),
        };
        let line = Line { act: "end", who: &caller.name, target: &name, why: &why, ..Line::default() };
        if let Err(failure) = self.write(line) {
            tracing::error!(%failure, "the end of a stream was not written down");
        }
    }

    /// Comes to an end when the caller may no more what was granted, or the time is over; says which.
    async fn no_longer(&self, caller: &Caller, target: &str, rights: &[Right]) -> End {
        let still = || -> Result<bool, Failure> {
            let known =
                self.folder.tokens()?.tokens.iter().any(|one| one.sha256 == caller.sha256 && one.is_good());
            Ok(known && self.granted(&caller.name, target, rights)?.len() == rights.len())
        };
        let end = tokio::time::Instant::now() + LASTS;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(AGAIN).await;
            if !still().unwrap_or(false) {
                return End::RightsTakenBack;
            }
        }
        End::TimeOver
    }
}

/// What is written down of a stream's sessions.
fn spec(who: &str, name: &str, open: &OpenReach, target: &NodeTarget, rights: &[Right]) -> AttachmentSpec {
    AttachmentSpec {
        target: name.to_owned(),
        node: open.node.clone(),
        container_id: open.container_id.clone(),
        image: target.image.clone(),
        who: who.to_owned(),
        rights: words(rights).into_iter().map(str::to_owned).collect(),
        request: None,
        holds: None,
    }
}

fn not_found(name: &str) -> Failure {
    Failure::new(Code::TargetNotFound, format!("no target `{name}` on this server"))
        .because("it has ended, its node is away, or you may not look at it")
        .try_command("list what there is", ["pepo", "ps"])
}

fn words(rights: &[Right]) -> Vec<&'static str> {
    let word = |right: &Right| match right {
        Right::Stop => "stop",
        Right::Modify => "modify",
        Right::Raw => "raw",
        Right::Unspecified => "unspecified",
    };
    std::iter::once("look").chain(rights.iter().map(word)).collect()
}

/// The first message of a stream.
async fn first<T>(stream: &mut Streaming<T>) -> Result<T, Failure> {
    let late = |_| Failure::new(Code::TimedOut, format!("nothing was said within {FIRST:?}"));
    match timeout(FIRST, stream.message()).await.map_err(late)? {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Failure::new(Code::StreamBroken, "the stream ended before its first message")),
        Err(status) => Err(Failure::from_status(&status)),
    }
}

fn out_of_order(what: &str) -> Failure {
    Failure::new(Code::Usage, format!("the stream must begin with `{what}`"))
}

#[tonic::async_trait]
impl Directory for Service {
    type ReachStream = BoxStream<'static, Result<ReachResponse, Status>>;

    async fn list_targets(
        &self,
        request: Request<ListTargetsRequest>,
    ) -> Result<Response<ListTargetsResponse>, Status> {
        let desk = &self.0;
        let caller = desk.caller(request.metadata(), Kind::Person).map_err(Failure::into_status)?;
        let policy = desk.folder.policy().map_err(Failure::into_status)?;
        let targets = desk
            .nodes
            .targets(|node, target| policy.allows(&caller.name, Verb::Look, &full_name(node, target)));
        let targets = targets.into_iter().map(|(node, target)| ListedTarget { node, target: Some(target) });
        Ok(Response::new(ListTargetsResponse { targets: targets.collect() }))
    }

    async fn reach(
        &self,
        request: Request<Streaming<ReachRequest>>,
    ) -> Result<Response<Self::ReachStream>, Status> {
        let desk = Arc::clone(&self.0);
        let caller = desk.caller(request.metadata(), Kind::Person).map_err(Failure::into_status)?;
        let open = desk.ending.open().map_err(Failure::into_status)?;
        let mut from_person = request.into_inner();
        let opened = async {
            let message = first(&mut from_person).await?;
            let Some(reach_request::Kind::Open(open)) = message.kind else {
                return Err(out_of_order("open"));
            };
            desk.open(&caller.name, &open).await
        };
        let opened = opened.await.map_err(Failure::into_status)?;
        let (to_person, outgoing) = mpsc::channel(WINDOW);
        tokio::spawn(async move {
            desk.tie(&caller, opened, Person { from: from_person, to: to_person }).await;
            drop(open);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

#[tonic::async_trait]
impl NodesService for Service {
    type LinkStream = BoxStream<'static, Result<NodeOrder, Status>>;
    type CarryStream = BoxStream<'static, Result<CarryResponse, Status>>;

    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        self.0.certify(&request).map(Response::new).map_err(Failure::into_status)
    }

    async fn link(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let desk = Arc::clone(&self.0);
        let node = desk.node(request.extensions()).map_err(Failure::into_status)?.node.clone();
        let mut reports = request.into_inner();
        let protocol = async {
            let message = first(&mut reports).await?;
            let Some(node_report::Kind::Hello(hello)) = message.kind else {
                return Err(out_of_order("hello"));
            };
            version::meet((hello.protocol, hello.protocol_min), (version::PROTOCOL, version::PROTOCOL_MIN))
        };
        let protocol = protocol.await.map_err(Failure::into_status)?;
        desk.write(Line { act: "link", who: &node, ..Line::default() }).map_err(Failure::into_status)?;
        let (orders, outgoing) = mpsc::channel(ORDERS);
        let welcome = node_order::Kind::Welcome(NodeWelcome { node: node.clone(), protocol });
        let _ = orders.try_send(Ok(NodeOrder { kind: Some(welcome) }));
        let serial = desk.nodes.link(&node, orders);
        desk.metrics.node_links.add(1);
        tokio::spawn(async move {
            let why = tokio::select! {
                followed = follow(&desk, &node, serial, reports) =>
                    followed.err().map(|failure| failure.to_string()).unwrap_or_default(),
                () = desk.ending.is_over() => End::ServerEnds.to_string(),
            };
            desk.nodes.unlink(&node, serial);
            tracing::info!(node, why, "a node is away");
            let _ = desk.write(Line { act: "unlink", who: &node, why: &why, ..Line::default() });
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn carry(
        &self,
        request: Request<Streaming<CarryRequest>>,
    ) -> Result<Response<Self::CarryStream>, Status> {
        let node = self.0.node(request.extensions()).map_err(Failure::into_status)?.node.clone();
        let mut from_node = request.into_inner();
        let message = first(&mut from_node).await.map_err(Failure::into_status)?;
        let Some(carry_request::Kind::Open(open)) = message.kind else {
            return Err(out_of_order("open").into_status());
        };
        let (to_node, outgoing) = mpsc::channel(WINDOW);
        let carried = Carried { target: open.target.unwrap_or_default(), from_node, to_node };
        self.0.nodes.answer(&node, &open.order, Ok(carried)).map_err(Failure::into_status)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// Takes a node's reports until its stream ends.
async fn follow(
    desk: &Desk,
    node: &str,
    serial: u64,
    mut reports: Streaming<NodeReport>,
) -> Result<(), Failure> {
    while let Some(report) = reports.message().await.map_err(|status| Failure::from_status(&status))? {
        match report.kind {
            Some(node_report::Kind::Changed(changed)) => {
                let started = desk.nodes.changed(node, serial, changed)?;
                // Without a policy nothing is bound, and what waits goes on waiting.
                let bound = async { desk.requests.started(node, &started, &*desk.folder.policy()?).await };
                if let Err(failure) = bound.await {
                    tracing::error!(%failure, "debug requests were not bound");
                }
            }
            Some(node_report::Kind::Failed(failed)) => {
                let failure =
                    failed.failure.unwrap_or_else(|| Failure::new(Code::Internal, "the node said no reason"));
                // Whoever waited may have gone.
                let _ = desk.nodes.answer(node, &failed.order, Err(failure));
            }
            Some(node_report::Kind::Hello(_)) | None => {}
        }
    }
    Ok(())
}
