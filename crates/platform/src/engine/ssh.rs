//! Engines on other machines, through the user's own `ssh` command.
//!
//! `ssh HOST docker system dial-stdio` joins the command's own input and output with the engine's socket there; docker's command does the
//! same (docker/cli, `cli/connhelper`). Keys, agents, known hosts and jump hosts are ssh's business.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::Io;

/// Joined to the engine through a child process. The child ends when the stream is dropped.
struct SshStream {
    _child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
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
    if let Some(user) = user {
        words.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = port {
        words.extend(["-p".into(), port.to_string()]);
    }
    words.extend(["--".into(), host.into(), program.into()]);
    if let Some(socket) = socket {
        let option = if program == "podman" { "--url" } else { "--host" };
        words.extend([option.into(), format!("unix://{socket}")]);
    }
    words.extend(["system".into(), "dial-stdio".into()]);
    words
}

/// Starts ssh (`program`), the only program this crate starts.
#[expect(clippy::disallowed_methods, reason = "the one helper of this room")]
pub(super) fn dial(program: &str, arguments: &[String]) -> io::Result<Box<dyn Io>> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program} could not be started: {error}")))?;
    let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdin = Some(child.stdin.take().ok_or_else(broken)?);
    let stdout = child.stdout.take().ok_or_else(broken)?;
    Ok(Box::new(SshStream { _child: child, stdin, stdout }))
}

impl SshStream {
    fn stdin(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.stdin.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stdin()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin()?.poll_flush(cx)
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
