//! A session with children: the editor opens one child session for each target, by connections of its own, when it is asked
//! to by `startDebugging`. The parent itself has no target; when it goes, its children go.

use pepo_wire::dap::{Message, MessageKind};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    access,
    arguments::AttachArguments,
    children::{Count, FIELD},
    connection::Connection,
    queue::Gone,
};

/// Carries a parent to its end.
pub(super) async fn run(
    connection: &mut Connection,
    attach: &Message,
    arguments: &AttachArguments,
) -> Result<(), Gone> {
    let Ok(name) = access::new_token() else {
        return connection.refuse(attach, "the system gives no random numbers").await;
    };
    let children = connection.shared.children.clone();
    let (stop, counts) = children.add_parent(&name, arguments.first);
    let ended = carry(connection, attach, arguments, &name, counts).await;
    stop.cancel();
    children.remove_parent(&name);
    ended
}

async fn carry(
    connection: &mut Connection,
    attach: &Message,
    arguments: &AttachArguments,
    name: &str,
    mut counts: watch::Receiver<Count>,
) -> Result<(), Gone> {
    connection.queue.send(Message::event(0, "initialized", Value::Null)).await?;
    connection.queue.send(Message::response(0, attach, Value::Null)).await?;
    let mut asked = std::collections::HashMap::new();
    for target in arguments.names() {
        let configuration = child(attach.arguments(), &target, name);
        let request = json!({"request": "attach", "configuration": configuration});
        let seq = connection.queue.send(Message::request(0, "startDebugging", request)).await?;
        asked.insert(seq, target);
    }
    let count = asked.len();
    let mut refused = 0;
    loop {
        let message = tokio::select! {
            message = connection.next() => message.ok_or(Gone)?,
            Ok(()) = counts.changed() => {
                let now = *counts.borrow_and_update();
                if now.now == 0 && now.ever + refused >= count {
                    return connection.queue.send(Message::event(0, "terminated", Value::Null)).await.map(drop);
                }
                continue;
            }
        };
        match message.kind() {
            Some(MessageKind::Response) => {
                if let Some(target) = asked.remove(&message.request_seq())
                    && !message.success()
                {
                    refused += 1;
                    let text = format!("{target}: the editor opened no session: {}\n", message.error_text());
                    connection.say(&text).await?;
                    if refused == count {
                        return connection
                            .queue
                            .send(Message::event(0, "terminated", Value::Null))
                            .await
                            .map(drop);
                    }
                }
            }
            Some(MessageKind::Request) => match message.command().unwrap_or_default() {
                "disconnect" | "terminate" => {
                    return connection
                        .queue
                        .send(Message::response(0, &message, Value::Null))
                        .await
                        .map(drop);
                }
                _ => answer(connection, &message).await?,
            },
            _ => {}
        }
    }
}

/// What a child session is opened with: the parent's arguments for one target.
fn child(arguments: &Value, target: &str, parent: &str) -> Value {
    let mut child = arguments.as_object().cloned().unwrap_or_default();
    // By the protocol the type is the parent's and not repeated.
    for name in ["targets", "all", "first", "atOnce", "type", "request"] {
        child.remove(name);
    }
    child.insert("name".into(), target.into());
    child.insert("target".into(), target.into());
    child.insert(FIELD.into(), parent.into());
    Value::Object(child)
}

/// An editor sends breakpoints to the parent too; it says yes to them, so that they are not shown as broken.
async fn answer(connection: &mut Connection, request: &Message) -> Result<(), Gone> {
    let body = match request.command().unwrap_or_default() {
        "threads" => json!({"threads": []}),
        "configurationDone" => Value::Null,
        command if command.starts_with("set") && command.ends_with("Breakpoints") => {
            let wished = request.arguments().get("breakpoints").and_then(Value::as_array);
            let yes = |wish: &Value| match wish.get("line") {
                Some(line) => json!({"verified": true, "line": line}),
                None => json!({"verified": true}),
            };
            json!({"breakpoints": wished.map(|list| list.iter().map(yes).collect::<Vec<_>>()).unwrap_or_default()})
        }
        _ => {
            return connection
                .refuse(request, "this belongs to one of the targets: choose its session")
                .await;
        }
    };
    connection.queue.send(Message::response(0, request, body)).await.map(drop)
}
