//! One editor: its streams, the greeting, and what kind of session its `attach` becomes.

use std::sync::Arc;

use pepo_wire::{
    Code, Failure,
    dap::{FrameDecoder, Message, MessageKind},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::mpsc,
};

use super::{
    Access, Shared, access,
    arguments::AttachArguments,
    children::{Child, FIELD},
    group::Group,
    member::Member,
    parent,
    queue::{Gone, Queue},
};

/// Requests of the editor's that wait to be taken.
const WAITING: usize = 64;
/// The longest first line.
const MAX_LINE: usize = 256;

/// One editor.
pub(crate) struct Connection {
    pub(crate) requests: mpsc::Receiver<Message>,
    pub(crate) queue: Queue,
    pub(crate) shared: Shared,
    access: Access,
    /// Over a socket, where children can come by connections of their own.
    socket: bool,
    /// The arguments of its `initialize`.
    client: Value,
}

/// What an editor is told before the debugger is known. What the debugger cannot do after all is refused when asked for, and a
/// `capabilities` event corrects it.
fn first_capabilities() -> Value {
    json!({
        "supportsConfigurationDoneRequest": true,
        "supportsFunctionBreakpoints": true,
        "supportsConditionalBreakpoints": true,
        "supportsHitConditionalBreakpoints": true,
        "supportsLogPoints": true,
        "supportsEvaluateForHovers": true,
        "supportsSetVariable": true,
        "supportsDelayedStackTraceLoading": true,
        "supportTerminateDebuggee": false,
        "supportsTerminateRequest": false,
        "supportsRestartRequest": false,
    })
}

impl Connection {
    pub(crate) fn new<R, W>(reader: R, writer: W, shared: Shared, access: Access, socket: bool) -> Connection
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (taken, requests) = mpsc::channel(WAITING);
        let stop = shared.stop.child_token();
        let (first, known) = tokio::sync::oneshot::channel();
        tokio::spawn(read(reader, taken, first));
        let queue = Queue::new(writer, stop.clone());
        let shared = Shared { stop, ..shared };
        let access = match access {
            Access::Open => Access::Open,
            Access::Token(token) => Access::Asked { token, known: std::sync::Mutex::new(Some(known)).into() },
            asked @ Access::Asked { .. } => asked,
        };
        Connection { requests, queue, shared, access, socket, client: Value::Null }
    }

    /// Serves it to its end.
    pub(crate) async fn run(mut self) {
        // `Gone` ends it as the end of the stream does: everything was let go on the way.
        let _ = self.serve().await;
    }

    async fn serve(&mut self) -> Result<(), Gone> {
        while let Some(request) = self.next().await {
            if request.kind() != Some(MessageKind::Request) {
                continue;
            }
            match request.command().unwrap_or_default() {
                "initialize" => {
                    self.client = request.arguments().clone();
                    self.queue.send(Message::response(0, &request, first_capabilities())).await?;
                }
                "attach" => {
                    if self.attach(&request).await? {
                        return Ok(());
                    }
                }
                "launch" => {
                    let words = "pepo attaches to what runs: write \"request\": \"attach\" and a \"target\"";
                    self.refuse(&request, words).await?;
                }
                "disconnect" | "terminate" => {
                    self.queue.send(Message::response(0, &request, Value::Null)).await?;
                    return Ok(());
                }
                _ => self.refuse(&request, "nothing is attached yet").await?,
            }
        }
        Ok(())
    }

    /// The editor's next message; none when it is gone or all is to end.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        tokio::select! {
            request = self.requests.recv() => request,
            () = self.shared.stop.cancelled() => None,
        }
    }

    pub(crate) async fn refuse(&mut self, request: &Message, words: &str) -> Result<(), Gone> {
        self.queue.send(Message::refusal(0, request, words)).await.map(drop)
    }

    /// Carries an `attach` through to the end of its session; `false` when it was refused and may be tried again.
    async fn attach(&mut self, request: &Message) -> Result<bool, Gone> {
        let arguments = match self.admit(request.arguments()).await {
            Ok(arguments) => arguments,
            Err(failure) => return self.refuse(request, &words(&failure)).await.map(|()| false),
        };
        let child = match request.arguments().get(FIELD).and_then(Value::as_str) {
            None => None,
            Some(name) => match self.shared.children.add_child(name) {
                Some(child) => Some(child),
                None => {
                    return self
                        .refuse(request, "the session this belonged to is over")
                        .await
                        .map(|()| false);
                }
            },
        };
        if !arguments.unknown.is_empty() {
            let text = format!("attach arguments that mean nothing here: {}\n", arguments.unknown.join(", "));
            self.say(&text).await?;
        }
        if child.is_none() && arguments.names().len() > 1 && self.takes_children() {
            return parent::run(self, request, &arguments).await.map(|()| true);
        }
        self.attach_group(request, &arguments, child).await
    }

    /// One adapter a target, all behind this connection.
    async fn attach_group(
        &mut self,
        request: &Message,
        arguments: &AttachArguments,
        child: Option<Child>,
    ) -> Result<bool, Gone> {
        let mut members = Vec::new();
        for name in arguments.names() {
            let own = arguments.for_target(&name);
            let opening = Member::open(&self.shared, &own, &self.client);
            let opened = tokio::select! {
                opened = opening => opened,
                // An editor that goes meanwhile is noticed here: dropping what was opened lets it go.
                () = gone(&mut self.requests, &self.shared) => return Err(Gone),
            };
            match opened {
                Ok(member) => members.push(member),
                Err(failure) => {
                    for member in &mut members {
                        member.let_go().await;
                    }
                    return self.refuse(request, &words(&failure)).await.map(|()| false);
                }
            }
        }
        let stop = child.as_ref().map(|child| child.stop.clone()).unwrap_or_default();
        Group::new(self, members, request.clone(), arguments.stop_on_entry, stop).run().await;
        drop(child);
        Ok(true)
    }

    /// Checks the arguments, and the token where one is needed.
    async fn admit(&mut self, arguments: &Value) -> Result<AttachArguments, Failure> {
        let parsed = AttachArguments::parse(arguments)?;
        if let Access::Asked { token, known } = &self.access {
            let line = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let shown = match (&parsed.token, line) {
                (Some(token), _) => token.clone(),
                (None, Some(line)) => line.await.unwrap_or_default(),
                (None, None) => String::new(),
            };
            if !access::same_token(&shown, token) {
                return Err(Failure::new(Code::NotGranted, "this server needs a token")
                    .hint("add \"token\" to the attach arguments, as `pepo dap --listen` printed it"));
            }
        }
        Ok(parsed)
    }

    /// Can the editor open child sessions? Helix can over a socket, but does not say so.
    fn takes_children(&self) -> bool {
        let says = self.client.get("supportsStartDebuggingRequest").and_then(Value::as_bool) == Some(true);
        let helix = self.client.get("clientID").and_then(Value::as_str) == Some("hx");
        self.socket && (says || helix)
    }

    /// Words in the editor's console.
    pub(crate) async fn say(&mut self, text: &str) -> Result<(), Gone> {
        self.queue.send(output(text)).await.map(drop)
    }
}

/// Words in the editor's console.
pub(crate) fn output(text: &str) -> Message {
    Message::event(0, "output", json!({"category": "console", "output": text}))
}

/// A failure as an editor shows it.
pub(crate) fn words(failure: &Failure) -> String {
    let trouble = crate::console::output::Trouble::from(failure);
    let hints: String = trouble.hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
    format!("{}: {}{hints}", trouble.code, trouble.message)
}

/// Waits until the editor is gone, or all is to end; its requests stay where they are.
async fn gone(requests: &mut mpsc::Receiver<Message>, shared: &Shared) {
    let closed = async {
        while !requests.is_closed() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = closed => {}
        () = shared.stop.cancelled() => {}
    }
}

/// Reads messages until the stream ends or is no DAP. A first line `token TEXT` is kept for whoever asks.
async fn read(
    mut reader: impl AsyncRead + Send + Unpin,
    taken: mpsc::Sender<Message>,
    first: tokio::sync::oneshot::Sender<String>,
) {
    let mut decoder = FrameDecoder::default();
    let mut line = Some((Vec::new(), first));
    let mut portion = vec![0; 16 << 10];
    loop {
        let count = tokio::select! {
            count = reader.read(&mut portion) => count.unwrap_or(0),
            () = taken.closed() => 0,
        };
        if count == 0 {
            return;
        }
        match line.take() {
            None => decoder.feed(&portion[..count]),
            Some((mut begun, first)) => {
                begun.extend_from_slice(&portion[..count]);
                line = first_line(begun, first, &mut decoder);
            }
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => match Message::parse(&frame) {
                    Ok(message) => {
                        if taken.send(message).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::debug!(%error, "the editor sent something that is not a message"),
                },
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "the editor's stream is not DAP");
                    return;
                }
            }
        }
    }
}

/// What was read before it is known whether a line with the token stands first, and who wants to know it.
type FirstLine = (Vec<u8>, tokio::sync::oneshot::Sender<String>);

/// Cuts off the first line if it holds the token; gives everything back while that cannot be said yet.
fn first_line(
    begun: Vec<u8>,
    first: tokio::sync::oneshot::Sender<String>,
    decoder: &mut FrameDecoder,
) -> Option<FirstLine> {
    const WORD: &[u8] = b"token ";
    let length = begun.len().min(WORD.len());
    if begun[..length] != WORD[..length] || begun.len() > MAX_LINE && !begun[..MAX_LINE].contains(&b'\n') {
        decoder.feed(&begun);
        return None;
    }
    let Some(end) = begun.iter().position(|byte| *byte == b'\n') else { return Some((begun, first)) };
    let token = String::from_utf8_lossy(&begun[WORD.len().min(end)..end]).trim().to_owned();
    // Nobody waits for it when none is needed.
    let _ = first.send(token);
    decoder.feed(&begun[end + 1..]);
    None
}

/// An [`Arc`] around what is taken once.
pub(crate) type Once<T> = Arc<std::sync::Mutex<Option<T>>>;
