//! Engines on other machines, through the user's own `ssh` command.
//!
//! `ssh HOST docker system dial-stdio` joins the command's own input and output with the engine's socket there; docker's command does the
//! same (docker/cli, `cli/connhelper`). Keys, agents, known hosts and jump hosts are ssh's business.

use std::{
    fmt, io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};
use tokio_util::task::AbortOnDropHandle;

use super::attach::LastWords;
use crate::{Endpoint, Io};

/// After ssh has ended, so long is waited for what it said: what it started may keep its stderr open for longer (`ControlPersist`).
const SAID: Duration = Duration::from_millis(200);

/// ssh ended before the engine had said anything, and what it said itself.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Its last line, or how it ended.
    pub(crate) words: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Ended {}

/// Joined to the engine through a child process. The child ends when the stream is dropped.
struct SshStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Until the engine speaks, an end is ssh's own affair, which it explains on stderr.
    spoken: bool,
    end: End,
}

/// The child's end; dropping it ends the child.
enum End {
    Awaited(BoxFuture<'static, Ended>),
    Told(Ended),
}

/// The arguments of ssh. Host and user were checked by [`crate::Endpoint::parse`]: none begins with a dash.
pub(super) fn arguments(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    socket: Option<&str>,
    program: &str,
) -> Vec<String> {
    // Without a terminal nobody could answer ssh's questions.
    let mut words: Vec<String> =
        ["-T", "-o", "ConnectTimeout=10", "-o", "BatchMode=yes"].map(String::from).into();
    words.extend(place(user, port));
    words.extend(["--".into(), host.into(), program.into()]);
    if let Some(socket) = socket {
        let option = if program == "podman" { "--url" } else { "--host" };
        words.extend([option.into(), format!("unix://{socket}")]);
    }
    words.extend(["system".into(), "dial-stdio".into()]);
    words
}

fn place(user: Option<&str>, port: Option<u16>) -> Vec<String> {
    let option = |name: &str, value: Option<String>| value.map(|value| [name.to_owned(), value]);
    let words = [option("-l", user.map(str::to_owned)), option("-p", port.map(|port| port.to_string()))];
    words.into_iter().flatten().flatten().collect()
}

/// What a user types to see with their own eyes what ssh wants.
pub(crate) fn by_hand(endpoint: &Endpoint, program: &str) -> Option<String> {
    let Endpoint::Ssh { user, host, port, .. } = endpoint else { return None };
    let words = [vec!["ssh".to_owned()], place(user.as_deref(), *port), vec![host.clone()]].concat();
    Some(format!("{} {program} version", words.join(" ")))
}

/// Starts ssh (`program`), the only program this crate starts.
#[expect(clippy::disallowed_methods, reason = "the one helper of this room")]
pub(super) fn dial(program: &str, arguments: &[String]) -> io::Result<Box<dyn Io>> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Else Ctrl-C in the terminal, which pauses a target, would end the way to it.
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(windows)]
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    let mut child = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program} could not be started: {error}")))?;
    let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdin = Some(child.stdin.take().ok_or_else(broken)?);
    let stdout = child.stdout.take().ok_or_else(broken)?;
    let stderr = child.stderr.take().ok_or_else(broken)?;
    let watching = AbortOnDropHandle::new(tokio::spawn(watch(child, stderr)));
    let ended = async move {
        watching.await.unwrap_or_else(|error| Ended { words: format!("ssh is not watched: {error}") })
    };
    Ok(Box::new(SshStream { stdin, stdout, spoken: false, end: End::Awaited(Box::pin(ended)) }))
}

/// winbase.h
#[cfg(windows)]
const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;

/// Reads what ssh says of itself, so that it never waits for a reader, until it has ended.
async fn watch(mut child: Child, mut stderr: ChildStderr) -> Ended {
    let words = LastWords::default();
    let listen = async {
        let mut bytes = [0; 512];
        while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
            words.add(&bytes[..read]);
        }
    };
    let status = {
        tokio::pin!(listen);
        tokio::select! {
            status = child.wait() => {
                let _ = tokio::time::timeout(SAID, &mut listen).await;
                status
            }
            () = &mut listen => child.wait().await,
        }
    };
    let said = words.text();
    tracing::debug!(?status, said, "ssh ended");
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let words = match (last, status) {
        (Some(line), _) => line.chars().filter(|c| !c.is_control()).collect(),
        (None, Ok(status)) => format!("ssh ended with {status}"),
        (None, Err(error)) => format!("ssh ended: {error}"),
    };
    Ended { words }
}

impl SshStream {
    /// The reason for an end before anything came; `None` when the engine has spoken.
    fn poll_reason(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        if self.spoken {
            return Poll::Ready(None);
        }
        let ended = match &mut self.end {
            End::Awaited(ended) => ready!(ended.as_mut().poll(cx)),
            End::Told(ended) => ended.clone(),
        };
        self.end = End::Told(ended.clone());
        Poll::Ready(Some(io::Error::other(ended)))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stdout).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.spoken = true;
            return Poll::Ready(Ok(()));
        }
        match ready!(self.poll_reason(cx)) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(stdin) = &mut self.stdin else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        match ready!(Pin::new(stdin).poll_write(cx, buf)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                let reason = ready!(self.poll_reason(cx));
                Poll::Ready(Err(reason.unwrap_or(error)))
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe has nothing to flush.
        Poll::Ready(Ok(()))
    }

    /// Closes the child's input, which is how the other side hears the end.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[tokio::test]
    async fn the_stream_is_the_programs_input_and_output_and_its_end_is_heard() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = dial("sh", &["-c".to_owned(), "cat; echo done".to_owned()]).unwrap();
        stream.write_all(b"hello ").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello done\n");
        assert!(stream.write_all(b"more").await.is_err());
        let missing = dial("no-such-ssh", &[]).err().unwrap();
        assert!(missing.to_string().contains("no-such-ssh"), "{missing}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_end_before_the_first_byte_is_explained_by_the_programs_own_last_line() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let dial = |script: &str| dial("sh", &["-c".to_owned(), script.to_owned()]).unwrap();
        for (script, words) in [
            ("echo warning >&2; echo 'no way.' >&2; exit 255", "no way."),
            ("exit 3", "exit status: 3"),
            // What it leaves behind keeps its stderr.
            ("echo gone >&2; sleep 60 <&- >&- & exit 1", "gone"),
        ] {
            let mut stream = dial(script);
            let error = stream.read_u8().await.unwrap_err();
            assert!(error.to_string().contains(words), "{script}: {error}");
            // However it is learnt.
            let error = loop {
                if let Err(error) = stream.write_all(b"anybody?").await {
                    break error;
                }
            };
            assert!(error.to_string().contains(words), "{script}: {error}");
        }
        let mut stream = dial("echo hello; echo words >&2; exit 1");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello\n");
    }

    #[test]
    fn ssh_is_told_where_and_what() {
        assert_eq!(
            arguments(Some("ada"), "lab", Some(2222), Some("/run/p.sock"), "podman").join(" "),
            "-T -o ConnectTimeout=10 -o BatchMode=yes -l ada -p 2222 -- lab podman --url unix:///run/p.sock system dial-stdio"
        );
        assert_eq!(
            arguments(None, "lab", None, None, "docker").join(" "),
            "-T -o ConnectTimeout=10 -o BatchMode=yes -- lab docker system dial-stdio"
        );
    }
}
