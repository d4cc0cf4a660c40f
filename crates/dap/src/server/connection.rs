//! One editor: its streams, the greeting, and what kind of session its `attach` becomes.

use std::sync::Arc;

use futures::future::join_all;
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
/// The longest first line, in bytes.
const MAX_LINE: usize = 4096;

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

/// All that Helix knows of the protocol's events. At any other, also a custom one, it takes the adapter for gone.
const HELIX_TAKES: &[&str] = &[
    "breakpoint",
    "capabilities",
    "continued",
    "exited",
    "initialized",
    "loadedSource",
    "memory",
    "module",
    "output",
    "process",
    "stopped",
    "terminated",
    "thread",
];

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
        self.queue.finish().await;
    }

    async fn serve(&mut self) -> Result<(), Gone> {
        while let Some(request) = self.next().await {
            if request.kind() != Some(MessageKind::Request) {
                continue;
            }
            match request.command().unwrap_or_default() {
                "initialize" => {
                    self.client = request.arguments().clone();
                    if self.is_helix() {
                        self.queue.send_only(HELIX_TAKES);
                    }
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
        let arguments = match self.all(arguments).await? {
            Ok(arguments) => arguments,
            Err(failure) => return self.refuse(request, &words(&failure)).await.map(|()| false),
        };
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
        let own: Vec<_> = arguments.names().iter().map(|name| arguments.for_target(name)).collect();
        let opening = join_all(own.iter().map(|own| Member::open(&self.shared, own, &self.client)));
        let opened = tokio::select! {
            opened = opening => opened,
            // An editor that goes meanwhile is noticed here: dropping what was opened lets it go.
            () = gone(&mut self.requests, &self.shared) => return Err(Gone),
        };
        let (mut members, mut failed) = (Vec::new(), Vec::new());
        for (own, opened) in own.into_iter().zip(opened) {
            match opened {
                Ok(member) => members.push(member),
                Err(failure) => failed.push((own.target.unwrap_or_default(), failure)),
            }
        }
        // Who names each wants each; of all that a name means, those that can be had.
        let enough = failed.is_empty() || (arguments.means_all() && !members.is_empty());
        if let Some((_, failure)) = failed.first().filter(|_| !enough) {
            join_all(members.iter_mut().map(Member::let_go)).await;
            return self.refuse(request, &words(failure)).await.map(|()| false);
        }
        for (name, failure) in &failed {
            self.say(&format!("{name} is left out: {}\n", words(failure))).await?;
        }
        Group::new(self, members, request.clone(), arguments, child).run().await;
        Ok(true)
    }

    /// Names that may mean several targets become the names of those.
    async fn all(&mut self, arguments: AttachArguments) -> Result<Result<AttachArguments, Failure>, Gone> {
        if !arguments.means_all() {
            return Ok(Ok(arguments));
        }
        let names = tokio::select! {
            names = self.shared.opener.all(&arguments) => names,
            () = gone(&mut self.requests, &self.shared) => return Err(Gone),
        };
        Ok(names.and_then(|names| arguments.with_all(names)))
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
        self.socket && (says || self.is_helix())
    }

    fn is_helix(&self) -> bool {
        self.client.get("clientID").and_then(Value::as_str) == Some("hx")
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
                match first_line(begun, first, &mut decoder) {
                    First::Unfinished(begun) => line = Some(begun),
                    First::Done => {}
                    First::Foreign => {
                        tracing::debug!("the stream does not begin as an editor's does");
                        return;
                    }
                }
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

/// What was read before its first line is whole, and who wants to know the token in it.
type FirstLine = (Vec<u8>, tokio::sync::oneshot::Sender<String>);

/// What the first line says.
enum First {
    /// It is not whole yet.
    Unfinished(FirstLine),
    /// All that was read went on from there.
    Done,
    /// Nothing an editor would send: a browser's request, for example, which would come from the same user.
    Foreign,
}

/// Looks at the first line: the token, which is cut off, or else a header field.
fn first_line(
    begun: Vec<u8>,
    first: tokio::sync::oneshot::Sender<String>,
    decoder: &mut FrameDecoder,
) -> First {
    const WORD: &str = "token ";
    let Some(end) = begun.iter().position(|byte| *byte == b'\n') else {
        return if begun.len() > MAX_LINE { First::Foreign } else { First::Unfinished((begun, first)) };
    };
    let line = String::from_utf8_lossy(&begun[..end]).into_owned();
    if let Some(token) = line.strip_prefix(WORD) {
        // Nobody waits for it when none is needed.
        let _ = first.send(token.trim().to_owned());
        decoder.feed(&begun[end + 1..]);
        return First::Done;
    }
    let letters = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let field = line.split_once(':').is_some_and(|(name, _)| letters(name));
    if !field {
        return First::Foreign;
    }
    decoder.feed(&begun);
    First::Done
}

/// An [`Arc`] around what is taken once.
pub(crate) type Once<T> = Arc<std::sync::Mutex<Option<T>>>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::server::{OpenedTarget, Opener};

    /// Admits nobody any further: what counts here is whether it is asked.
    struct Never;

    #[async_trait]
    impl Opener for Never {
        async fn open(&self, _: &AttachArguments) -> Result<OpenedTarget, Failure> {
            Err(Failure::new(Code::TargetNotFound, "the opener was asked"))
        }
    }

    fn guarded() -> DuplexStream {
        let (editor, server) = tokio::io::duplex(4096);
        let (reader, writer) = tokio::io::split(server);
        let shared = Shared { opener: Arc::new(Never), children: Arc::default(), stop: Default::default() };
        tokio::spawn(Connection::new(reader, writer, shared, Access::Token("sesame".into()), true).run());
        editor
    }

    /// What a connection that begins with `first` is told when it attaches with these arguments.
    async fn told(first: &str, arguments: Value) -> String {
        let mut editor = guarded();
        let attach = Message::request(1, "attach", arguments).to_bytes();
        editor.write_all(first.as_bytes()).await.unwrap();
        editor.write_all(&pepo_wire::dap::encode_frame(&attach)).await.unwrap();
        let mut decoder = FrameDecoder::default();
        let mut portion = [0; 4096];
        loop {
            let read = tokio::time::timeout(Duration::from_secs(5), editor.read(&mut portion))
                .await
                .unwrap()
                .unwrap();
            assert!(read > 0, "the connection was closed");
            decoder.feed(&portion[..read]);
            if let Some(frame) = decoder.next_frame().unwrap() {
                return Message::parse(&frame).unwrap().error_text();
            }
        }
    }

    #[tokio::test]
    async fn who_does_not_know_the_token_opens_nothing() {
        for (first, arguments, open) in [
            ("", json!({"target": "x"}), false),
            ("", json!({"target": "x", "token": "wrong"}), false),
            ("", json!({"target": "x", "token": "sesame"}), true),
            ("token wrong\n", json!({"target": "x"}), false),
            ("token sesame\r\n", json!({"target": "x"}), true),
            ("token sesame\n", json!({"target": "x", "token": "wrong"}), false),
        ] {
            let told = told(first, arguments.clone()).await;
            assert_eq!(told.contains("the opener was asked"), open, "{first:?} {arguments}: {told}");
            assert_eq!(told.contains("needs a token"), !open, "{first:?} {arguments}: {told}");
        }
    }

    #[test]
    fn a_first_line_is_recognised_however_it_is_cut() {
        let text = b"token abc\nContent-Length: 2\r\n\r\n{}";
        for cut in 1..text.len() {
            let (first, mut token) = tokio::sync::oneshot::channel();
            let mut decoder = FrameDecoder::default();
            match first_line(text[..cut].to_vec(), first, &mut decoder) {
                First::Done => decoder.feed(&text[cut..]),
                First::Unfinished((mut begun, first)) => {
                    begun.extend_from_slice(&text[cut..]);
                    assert!(matches!(first_line(begun, first, &mut decoder), First::Done));
                }
                First::Foreign => panic!("cut at {cut}"),
            }
            assert_eq!(token.try_recv().as_deref(), Ok("abc"), "cut at {cut}");
            assert_eq!(decoder.next_frame(), Ok(Some(b"{}".to_vec())));
        }
    }

    #[test]
    fn what_a_browser_sends_is_no_editors() {
        for text in [
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
            "GET http://x:1/ HTTP/1.1\r\n",
            "\n",
            "{\"seq\": 1}\n",
        ] {
            let (first, _) = tokio::sync::oneshot::channel();
            let said = first_line(text.as_bytes().to_vec(), first, &mut FrameDecoder::default());
            assert!(matches!(said, First::Foreign), "{text:?}");
        }
    }
}
