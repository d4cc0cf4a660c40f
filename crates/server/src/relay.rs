//! Two streams of bytes, tied together: what one side sends is held by the other's window, so a slow reader never grows this process.
//! What the node says of sessions goes to those who write it down, and no further.

use std::{fmt, time::Duration};

use futures::StreamExt as _;
use pepo_wire::server::{
    CarryRequest, CarryResponse, ReachRequest, ReachResponse, SessionReport, carry_request, reach_request,
    reach_response,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::{
    metrics::{Count, Metrics},
    nodes::Carried,
    sessions::Sessions,
};

/// How long the agent may take to let go after its stream has ended.
const LETTING_GO: Duration = Duration::from_secs(40);

/// Who or what ended a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client said its last word.
    ClientEnded,
    /// The client is gone without one.
    ClientLost,
    /// The node's end of the stream ended.
    NodeEnded,
    /// The node is gone.
    NodeLost,
    /// The person may not do this any more.
    RightsTakenBack,
    /// It lasted as long as any may.
    TimeOver,
    /// This person ended the attachment.
    Deleted(String),
    /// The server is asked to end.
    ServerEnds,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::ClientEnded => "the client ended it",
            End::ClientLost => "the client went away",
            End::NodeEnded => "the node ended it",
            End::NodeLost => "the node went away",
            End::RightsTakenBack => "the rights were taken back",
            End::TimeOver => "its time is over",
            End::Deleted(who) => return write!(f, "{who} ended it"),
            End::ServerEnds => "the server ended",
        })
    }
}

/// The person's end of a stream.
pub(crate) struct Person {
    pub(crate) from: Streaming<ReachRequest>,
    pub(crate) to: mpsc::Sender<Result<ReachResponse, Status>>,
}

/// Carries bytes until one side ends or `end` says so, then waits until the agent has let go; says why it ended, and whether the node
/// said that it let go.
pub(crate) async fn tie(
    person: Person,
    carried: Carried,
    end: impl Future<Output = End>,
    metrics: &Metrics,
    sessions: &mut Sessions,
) -> (End, bool) {
    let Carried { mut from_node, to_node, .. } = carried;
    let Person { from, to } = person;
    let end = {
        let mut up = std::pin::pin!(up(from, to_node, &metrics.bytes_to_targets));
        let mut end = std::pin::pin!(end);
        loop {
            let turn = tokio::select! {
                end = &mut up => Turn::Ended(end),
                turn = down(&mut from_node, Some(&to), metrics) => turn,
                end = &mut end => Turn::Ended(end),
            };
            match turn {
                Turn::Said(report) => sessions.report(report).await,
                Turn::Ended(end) => break end,
            }
        }
    };
    if matches!(end, End::NodeEnded | End::NodeLost) {
        return (end, true);
    }
    sessions.ends(&end);
    // Nothing goes to the node from here on: its agent lets go. A client that has said its last word hears the rest.
    let to = Some(to).filter(|_| end == End::ClientEnded);
    let rest = async {
        loop {
            match down(&mut from_node, to.as_ref(), metrics).await {
                Turn::Said(report) => sessions.report(report).await,
                // Its agent is listened to also when nobody else is.
                Turn::Ended(End::ClientLost) => {}
                Turn::Ended(_) => return,
            }
        }
    };
    let has_let_go = tokio::time::timeout(LETTING_GO, rest).await.is_ok();
    (end, has_let_go)
}

/// What comes of carrying what a node sends.
enum Turn {
    /// It says what became of a session.
    Said(SessionReport),
    Ended(End),
}

/// From the node: bytes to the person, if any, until it says something of a session, or either side ends.
async fn down(
    from_node: &mut Streaming<CarryRequest>,
    to_person: Option<&mpsc::Sender<Result<ReachResponse, Status>>>,
    metrics: &Metrics,
) -> Turn {
    loop {
        let message = match from_node.next().await {
            None => return Turn::Ended(End::NodeEnded),
            Some(Err(_)) => return Turn::Ended(End::NodeLost),
            Some(Ok(message)) => message,
        };
        match message.kind {
            Some(carry_request::Kind::Data(data)) => {
                metrics.bytes_from_targets.add(data.len());
                let response = ReachResponse { kind: Some(reach_response::Kind::Data(data)) };
                if let Some(to_person) = to_person
                    && to_person.send(Ok(response)).await.is_err()
                {
                    return Turn::Ended(End::ClientLost);
                }
            }
            Some(carry_request::Kind::Session(report)) => return Turn::Said(report),
            Some(carry_request::Kind::Open(_)) | None => return Turn::Ended(End::NodeEnded),
        }
    }
}

/// From the person to the node; dropping the sender ends the node's stream.
async fn up(
    mut from: Streaming<ReachRequest>,
    to: mpsc::Sender<Result<CarryResponse, Status>>,
    bytes: &Count,
) -> End {
    loop {
        let data = match from.next().await {
            None => return End::ClientEnded,
            Some(Err(_)) => return End::ClientLost,
            Some(Ok(ReachRequest { kind: Some(reach_request::Kind::Data(data)) })) => data,
            Some(Ok(_)) => return End::ClientEnded,
        };
        bytes.add(data.len());
        if to.send(Ok(CarryResponse { data })).await.is_err() {
            // The other direction tells how the node ended.
            std::future::pending::<()>().await;
        }
    }
}
