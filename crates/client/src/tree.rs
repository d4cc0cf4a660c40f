//! Trees of files, from a target and to it.

use pepo_wire::{
    Code, Failure,
    agent::{
        ReadTreeRequest, StartWriteTree, TreePart, WriteTreeRequest, WriteTreeResponse,
        agent_client::AgentClient, write_tree_request::Kind,
    },
    tree::Part,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Streaming, transport::Channel};

use crate::agent::answer;

/// A tree as it comes. Dropping it ends it.
#[derive(Debug)]
pub struct Tree {
    parts: Streaming<TreePart>,
}

impl Tree {
    pub(crate) async fn read(
        mut service: AgentClient<Channel>,
        request: ReadTreeRequest,
    ) -> Result<Tree, Failure> {
        Ok(Tree { parts: answer(service.read_tree(request).await)? })
    }

    /// The next part; the last is the tree's end.
    ///
    /// # Errors
    /// The agent's own failure, or [`Code::StreamBroken`]: what has come is not all.
    pub async fn next(&mut self) -> Result<Part, Failure> {
        loop {
            let part = self.parts.message().await.map_err(|status| Failure::from_status(&status))?;
            let part =
                part.ok_or_else(|| Failure::new(Code::StreamBroken, "the files broke off before their end"))?;
            // A part of a newer agent's is not known here.
            if let Some(kind) = part.kind {
                return Ok(kind);
            }
        }
    }
}

/// Sends a tree; what comes out of `parts` follows the start.
pub(crate) async fn write(
    mut service: AgentClient<Channel>,
    start: StartWriteTree,
    parts: mpsc::Receiver<Part>,
) -> Result<WriteTreeResponse, Failure> {
    let start = WriteTreeRequest { kind: Some(Kind::Start(start)) };
    let parts = ReceiverStream::new(parts)
        .map(|part| WriteTreeRequest { kind: Some(Kind::Part(TreePart { kind: Some(part) })) });
    answer(service.write_tree(tokio_stream::once(start).chain(parts)).await)
}
