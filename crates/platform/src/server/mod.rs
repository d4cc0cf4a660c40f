//! A server: the containers of all nodes that are joined to it, each with an agent that the node's own starts.
//!
//! A name there ends with the node, as in `docker/shop@node-a`; without it, the name means the only one that there is.

/// Bytes both ways.
mod carry;
/// The way to it.
mod dial;
/// Its resources.
mod rest;

use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use futures::{StreamExt as _, future::ready, stream};
use pepo_wire::{
    Code, Failure,
    agent::Right,
    name::{Kind, TargetName},
    server::{
        ListTargetsRequest, ListedTarget, NodeTarget, OpenReach, ReachOpened, ReachRequest, ReachResponse,
        directory_client::DirectoryClient, reach_request, reach_response,
    },
};
use tokio::sync::{OnceCell, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

pub use self::{
    carry::carry,
    dial::{Certificate, ServerAddress},
    rest::{ResourceChange, Resources},
};
use crate::{
    HealthCheck, How, Listed, Located, Need, Platform, PlatformError, Reached, State,
    engine::Facts,
    helper::Leave,
    names::{Known, Meant, find},
};

/// Bytes under way to the agent inside this process.
const DUPLEX: usize = 256 << 10;
/// Messages under way.
const WINDOW: usize = 4;
/// The largest list of targets that is read, in bytes.
const MAX_LIST: usize = 64 << 20;

/// A server.
pub(crate) struct Server {
    address: ServerAddress,
    need: Need,
    channel: OnceCell<Channel>,
}

impl Server {
    /// Dials nothing yet.
    pub(crate) fn new(address: ServerAddress, need: Need) -> Server {
        Server { address, need, channel: OnceCell::new() }
    }

    async fn directory(&self) -> Result<DirectoryClient<Channel>, Failure> {
        let channel = self.channel.get_or_try_init(|| self.address.dial()).await?;
        Ok(DirectoryClient::new(channel.clone()).max_decoding_message_size(MAX_LIST))
    }

    /// Every target with what it is called here.
    async fn targets(&self) -> Result<Vec<(TargetName, NodeTarget)>, Failure> {
        let request = self.address.signed(ListTargetsRequest {});
        let answer = self.directory().await?.list_targets(request).await;
        let listed = answer.map_err(|status| self.address.failed(&status))?.into_inner().targets;
        Ok(listed.into_iter().filter_map(named).collect())
    }

    /// Asks for the stream and waits until the agent is at its other end.
    async fn open(
        &self,
        open: OpenReach,
    ) -> Result<(ReachOpened, Streaming<ReachResponse>, mpsc::Sender<Vec<u8>>), Failure> {
        let (to_server, bytes) = mpsc::channel::<Vec<u8>>(WINDOW);
        let data = |data| ReachRequest { kind: Some(reach_request::Kind::Data(data)) };
        let open = ReachRequest { kind: Some(reach_request::Kind::Open(open)) };
        let requests = stream::iter([open]).chain(ReceiverStream::new(bytes).map(data));
        let answer = self.directory().await?.reach(self.address.signed(requests)).await;
        let mut from_server = answer.map_err(|status| self.address.failed(&status))?.into_inner();
        match from_server
            .message()
            .await
            .map_err(|status| self.address.failed(&status))?
            .and_then(|one| one.kind)
        {
            Some(reach_response::Kind::Opened(opened)) => Ok((opened, from_server, to_server)),
            _ => {
                Err(Failure::new(Code::StreamBroken, format!("the server {} opened no stream", self.address)))
            }
        }
    }
}

/// A target as people name it here; nothing for one whose name is none.
fn named(listed: ListedTarget) -> Option<(TargetName, NodeTarget)> {
    let target = listed.target?;
    let mut name: TargetName = target.name.parse().ok()?;
    name.name = format!("{}@{}", name.name, listed.node);
    Some((name, target))
}

/// The node at the end of a name.
fn split(name: &str) -> (&str, Option<&str>) {
    name.rsplit_once('@').map_or((name, None), |(name, node)| (name, Some(node)))
}

/// The bytes of a message; nothing at the end, or where there are none.
fn data(message: Result<ReachResponse, Status>) -> Option<Vec<u8>> {
    match message.ok()?.kind? {
        reach_response::Kind::Data(data) => Some(data),
        reach_response::Kind::Opened(_) => None,
    }
}

fn health(target: &NodeTarget) -> Option<HealthCheck> {
    target.health.map(|check| HealthCheck {
        interval: Duration::from_millis(check.interval_millis),
        timeout: Duration::from_millis(check.timeout_millis),
        retries: check.retries,
    })
}

#[async_trait]
impl Platform for Server {
    fn kind(&self) -> Kind {
        Kind::Server
    }

    fn address(&self) -> String {
        self.address.to_string()
    }

    fn is_here(&self) -> bool {
        // Whoever names a server means its targets.
        true
    }

    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let targets = self.targets().await?.into_iter();
        Ok(targets
            .map(|(name, target)| Listed {
                name,
                state: State::read(&target.state),
                health: health(&target),
                created: (target.created > 0).then(|| UNIX_EPOCH + Duration::from_secs(target.created)),
                image: target.image,
                container_id: target.container_id,
                pid: None,
                labels: target.labels.into_iter().collect(),
            })
            .collect())
    }

    async fn locate(&self, name: &TargetName) -> Result<Located, Failure> {
        let (plain, node) = split(&name.name);
        let mut targets = self.targets().await?;
        targets.retain(|(one, _)| {
            name.kind.is_none_or(|kind| one.kind == Some(kind))
                && node.is_none_or(|node| split(&one.name).1 == Some(node))
        });
        let known: Vec<Known> = targets
            .iter()
            .map(|(one, target)| Known {
                name: one.to_string(),
                aliases: vec![split(&one.name).0.to_owned()],
                id: target.container_id.clone(),
            })
            .collect();
        match find(plain, &known) {
            Meant::One(at) => {
                let (name, target) = targets.swap_remove(at);
                let state = State::read(&target.state);
                if !state.has_process() {
                    return Err(PlatformError::NotRunning { name, state: state.to_string() }.into());
                }
                Ok(Located {
                    name,
                    state,
                    health: health(&target),
                    image: target.image,
                    container_id: target.container_id,
                    pid: None,
                    labels: target.labels.into_iter().collect(),
                    start_time: 0,
                    facts: Facts::default(),
                    in_pod: None,
                    production: None,
                    notes: Vec::new(),
                })
            }
            Meant::Many(candidates) => {
                Err(PlatformError::Ambiguous { name: name.clone(), candidates }.into())
            }
            Meant::None(near) => Err(PlatformError::NotFound {
                name: name.clone(),
                near,
                searched: vec![self.address()],
                elsewhere: Vec::new(),
            }
            .into()),
        }
    }

    async fn reach(&self, located: &Located) -> Result<Reached, Failure> {
        let (_, node) = split(&located.name.name);
        let rights = match self.need {
            Need::Look => Vec::new(),
            Need::Stop | Need::Debug => vec![Right::Stop.into(), Right::Modify.into()],
            Need::Write => vec![Right::Modify.into()],
        };
        let open = OpenReach {
            node: node.unwrap_or_default().to_owned(),
            container_id: located.container_id.clone(),
            rights,
            session: self.need == Need::Debug,
        };
        let (opened, from_server, to_server) = self.open(open).await?;
        let (io, ours) = tokio::io::duplex(DUPLEX);
        let incoming = from_server.scan((), |(), message| ready(data(message)));
        tokio::spawn(carry(ours, incoming, to_server));
        let mut notes = Vec::new();
        if self.need.stops() && !opened.rights().any(|right| right == Right::Modify) {
            notes.push("the server allows to stop it, and not to change it or to run code in it".to_owned());
        }
        Ok(Reached {
            io: Box::new(io),
            target: opened.target.unwrap_or_default(),
            how: How::Node { server: self.address(), node: node.unwrap_or_default().to_owned() },
            proof: None,
            leave: Leave::nothing(),
            notes,
        })
    }
}
