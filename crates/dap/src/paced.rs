//! gdb is given a moment after it was told to go on.
//!
//! gdb answers `continue` before it carries it out. A request that comes between the two is put into the same queue, and gdb
//! (16 and 18 seen) looks at that queue again only when the target has stopped: nothing more is answered until then. So what
//! follows such a request is held back until the target stops, or until gdb had time to let it go.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pepo_wire::{
    Failure,
    agent::Opened,
    dap::{Message, MessageKind},
};
use tokio::{sync::watch, time::Instant};

use crate::link::{Link, LinkEvent, Outgoing};

/// Requests after which the target runs.
const RESUMING: &[&str] = &["continue", "next", "stepIn", "stepOut", "reverseContinue", "stepBack", "goto"];
/// The longest wait for the answer to one of them.
const ANSWER: Duration = Duration::from_secs(2);
/// From the answer until the target surely runs.
const MOMENT: Duration = Duration::from_millis(100);

/// When the next request may go; none: at once.
type Gate = Arc<watch::Sender<Option<Instant>>>;

/// The link itself, or one that gives the adapter its moment where it needs one.
#[must_use]
pub(crate) fn paced(link: Box<dyn Link>, opened: &Opened) -> Box<dyn Link> {
    if opened.debugger != "gdb" {
        return link;
    }
    let gate: Gate = Arc::new(watch::Sender::new(None));
    let outgoing = Arc::new(PacedOutgoing { inner: link.outgoing(), gate: gate.clone() });
    Box::new(Paced { link, outgoing, gate })
}

struct Paced {
    link: Box<dyn Link>,
    outgoing: Arc<PacedOutgoing>,
    gate: Gate,
}

struct PacedOutgoing {
    inner: Arc<dyn Outgoing>,
    gate: Gate,
}

#[async_trait]
impl Link for Paced {
    fn outgoing(&self) -> Arc<dyn Outgoing> {
        self.outgoing.clone()
    }

    async fn next(&mut self) -> Option<LinkEvent> {
        let event = self.link.next().await;
        if let Some(LinkEvent::Dap(bytes)) = &event
            && let Ok(message) = Message::parse(bytes)
        {
            let answered = message.kind() == Some(MessageKind::Response) && resumes(&message);
            if answered && message.success() {
                // A stop that was told already has opened the gate for good.
                self.gate.send_if_modified(|gate| {
                    *gate = gate.map(|_| Instant::now() + MOMENT);
                    gate.is_some()
                });
            } else if answered || message.event_name() == Some("stopped") {
                self.gate.send_replace(None);
            }
        }
        event
    }
}

#[async_trait]
impl Outgoing for PacedOutgoing {
    async fn send(&self, message: Vec<u8>) -> Result<(), Failure> {
        self.wait().await;
        if Message::parse(&message).is_ok_and(|message| resumes(&message)) {
            self.gate.send_replace(Some(Instant::now() + ANSWER));
        }
        self.inner.send(message).await
    }

    async fn ready(&self) -> Result<(), Failure> {
        self.inner.ready().await
    }

    async fn close(&self) -> Result<(), Failure> {
        self.inner.close().await
    }
}

impl PacedOutgoing {
    /// Waits for the gate.
    async fn wait(&self) {
        let mut gate = self.gate.subscribe();
        loop {
            let until = *gate.borrow_and_update();
            match until {
                Some(until) if until > Instant::now() => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    // The sender is our own: it lives as long as we do.
                    _ = gate.changed() => {}
                },
                _ => return,
            }
        }
    }
}

fn resumes(message: &Message) -> bool {
    message.command().is_some_and(|command| RESUMING.contains(&command))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::link::StreamLink;

    async fn sent(there: &mut dyn Link, within: Duration) -> Option<String> {
        match tokio::time::timeout(within, there.next()).await {
            Ok(Some(LinkEvent::Dap(bytes))) => Message::parse(&bytes).unwrap().command().map(str::to_owned),
            _ => None,
        }
    }

    #[tokio::test]
    async fn what_follows_a_continue_waits_for_its_answer_or_a_stop() {
        let (here, there) = tokio::io::duplex(4096);
        let gdb = Opened { debugger: "gdb".into(), ..Opened::default() };
        let mut here = paced(Box::new(StreamLink::over(here)), &gdb);
        let mut there = StreamLink::over(there);
        let out = here.outgoing();
        let request = |seq, command: &str| Message::request(seq, command, Value::Null);
        out.send(request(1, "continue").to_bytes()).await.unwrap();
        let later = tokio::spawn(async move { out.send(request(2, "threads").to_bytes()).await });
        assert_eq!(sent(&mut there, Duration::from_secs(5)).await.as_deref(), Some("continue"));
        assert_eq!(sent(&mut there, Duration::from_millis(150)).await, None, "held until there is an answer");
        let answer = Message::response(1, &request(1, "continue"), json!({}));
        there.outgoing().send(answer.to_bytes()).await.unwrap();
        here.next().await.unwrap();
        assert_eq!(sent(&mut there, Duration::from_secs(5)).await.as_deref(), Some("threads"));
        later.await.unwrap().unwrap();
        // A stop opens it at once, also one that is told before the answer.
        let out = here.outgoing();
        out.send(request(3, "next").to_bytes()).await.unwrap();
        let stopped = Message::event(2, "stopped", json!({"reason": "step"}));
        there.outgoing().send(stopped.to_bytes()).await.unwrap();
        let answer = Message::response(3, &request(3, "next"), json!({}));
        there.outgoing().send(answer.to_bytes()).await.unwrap();
        here.next().await.unwrap();
        here.next().await.unwrap();
        tokio::time::timeout(Duration::from_millis(80), out.send(request(4, "threads").to_bytes()))
            .await
            .unwrap()
            .unwrap();
    }
}
