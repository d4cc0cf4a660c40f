//! Two streams of bytes, tied together: what one side sends is held by the other's window, so a slow reader never grows this process.

use std::time::Duration;

use futures::StreamExt as _;
use pepo_wire::server::{
    CarryResponse, ReachRequest, ReachResponse, carry_request, reach_request, reach_response,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::{
    metrics::{Count, Metrics},
    nodes::Carried,
};

/// How long the agent may take to let go after its client has ended the stream.
const LETTING_GO: Duration = Duration::from_secs(40);

/// Carries bytes until one side ends or `end` says so; says why it ended.
pub(crate) async fn tie(
    from_person: Streaming<ReachRequest>,
    to_person: mpsc::Sender<Result<ReachResponse, Status>>,
    carried: Carried,
    end: impl Future<Output = String>,
    metrics: &Metrics,
) -> String {
    let Carried { mut from_node, to_node, .. } = carried;
    let mut up = std::pin::pin!(up(from_person, to_node, &metrics.bytes_to_targets));
    let mut down = std::pin::pin!(async {
        while let Some(Ok(message)) = from_node.next().await {
            let Some(carry_request::Kind::Data(data)) = message.kind else { return };
            metrics.bytes_from_targets.add(data.len());
            let response = ReachResponse { kind: Some(reach_response::Kind::Data(data)) };
            if to_person.send(Ok(response)).await.is_err() {
                return;
            }
        }
    });
    let reason = tokio::select! {
        () = &mut up => None,
        () = &mut down => Some("the node ended it".to_owned()),
        reason = end => Some(reason),
    };
    if let Some(reason) = reason {
        return reason;
    }
    // The client's end is its last word. The agent's end, which follows, says that it has let go.
    match tokio::time::timeout(LETTING_GO, down).await {
        Ok(()) => "the client ended it".to_owned(),
        Err(_) => "the client ended it, and the node did not say that it let go".to_owned(),
    }
}

/// From the person to the node; dropping the sender ends the node's stream.
async fn up(
    mut from: Streaming<ReachRequest>,
    to: mpsc::Sender<Result<CarryResponse, Status>>,
    bytes: &Count,
) {
    while let Some(Ok(message)) = from.next().await {
        let Some(reach_request::Kind::Data(data)) = message.kind else { return };
        bytes.add(data.len());
        if to.send(Ok(CarryResponse { data })).await.is_err() {
            return;
        }
    }
}
