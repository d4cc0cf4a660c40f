//! The byte stream to a helper's agent: an exec, whose process only carries bytes between us and the agent's socket.

use std::{io, time::Duration};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, AttachedProcess},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    task::JoinHandle,
};

use super::{borrowed, client::Joined};
use crate::{AgentBinary, Io, PlatformError};

/// Bytes under way in each direction.
const BUFFER: usize = 256 << 10;
/// Last words longer than this are cut.
const WORDS: u64 = 4 << 10;
/// So long is waited for the agent's first bytes.
const FIRST_WORD: Duration = Duration::from_secs(15);
/// So long the agent may take to let go once its stream has ended.
const LETTING_GO: Duration = Duration::from_secs(32);

/// The exec'd process; its end says that the agent has let go.
pub(crate) struct Exec {
    process: AttachedProcess,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").finish_non_exhaustive()
    }
}

impl Exec {
    /// Waits for its end.
    pub(crate) async fn ended(self) {
        if tokio::time::timeout(LETTING_GO, self.process.join()).await.is_err() {
            tracing::warn!("the agent beside the pod's process did not say that it let go");
        }
    }
}

/// Runs the command in the container and hears the first bytes of the agent behind it. Where the container is to be `given` the
/// binary first, the command is that of [`borrowed::join`].
pub(super) async fn open(
    joined: &Joined,
    pod: &str,
    container: &str,
    command: &[String],
    given: Option<&AgentBinary>,
) -> Result<(Box<dyn Io>, Exec), PlatformError> {
    let api: Api<Pod> = Api::namespaced(joined.client.clone(), &joined.namespace);
    let how = AttachParams::default()
        .container(container)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER);
    let executed = api.exec(pod, command, &how).await;
    let mut process = executed.map_err(|error| joined.told("exec in the helper", error))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (process.stdin(), process.stdout(), process.stderr())
    else {
        return Err(PlatformError::Silent { words: "its streams are missing".to_owned() });
    };
    let words = tokio::spawn(last_words(stderr));
    let mut stdout = BufReader::with_capacity(BUFFER, stdout);
    if let Some(binary) = given
        && borrowed::bring(binary, &mut stdout, &mut stdin).await?.is_none()
    {
        return Err(PlatformError::Silent { words: why(process, words).await });
    }
    match tokio::time::timeout(FIRST_WORD, stdout.fill_buf()).await {
        Ok(Ok(bytes)) if !bytes.is_empty() => {
            Ok((Box::new(tokio::io::join(stdout, stdin)), Exec { process }))
        }
        Ok(_) => Err(PlatformError::Silent { words: why(process, words).await }),
        Err(_) => Err(PlatformError::Slow { what: "the agent in the helper".to_owned(), limit: FIRST_WORD }),
    }
}

/// What an exec'd process that ended at once said, and how it ended.
async fn why(mut process: AttachedProcess, words: JoinHandle<io::Result<String>>) -> String {
    let status = process.take_status().and_then(|status| status.now_or_never()).flatten();
    let status = status.and_then(|status| status.message).unwrap_or_default();
    let words = words.await.ok().and_then(Result::ok).unwrap_or_default();
    [words.trim(), status.trim()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

async fn last_words(stderr: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut stderr = stderr.take(WORDS);
    stderr.read_to_end(&mut bytes).await?;
    // What follows is read too, or the stream would stand still.
    tokio::io::copy(stderr.get_mut(), &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
