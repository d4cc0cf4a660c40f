//! Programs started by an exec for a person: in the target's container, or ours in the helper beside it.

use futures::{SinkExt as _, channel::mpsc};
use k8s_openapi::{
    api::core::v1::{EphemeralContainer, Pod},
    apimachinery::pkg::apis::meta::v1::Status,
};
use kube::{
    Api,
    api::{AttachParams, AttachedProcess, TerminalSize},
};
use pepo_wire::{Failure, FailureExt as _};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{InPod, borrowed, client::Joined, find, helper::BINARY};
use crate::PlatformError;

/// Bytes under way in each direction.
const BUFFER: usize = 64 << 10;
/// Why a status is a failure: the program's own exit status is not 0.
const NOT_ZERO: &str = "NonZeroExitCode";

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where.
    pub within: Within,
    /// The program and its arguments; in a helper only the arguments, of the binary that is there.
    pub line: Vec<String>,
    /// On a terminal, which makes one stream of its output.
    pub terminal: bool,
}

/// In which container something is started.
#[derive(Clone, Debug)]
pub enum Within {
    /// The target's.
    Target,
    /// The helper's of this name.
    Helper(String),
}

/// A program that was started. Dropping it closes its streams.
pub struct Started {
    process: AttachedProcess,
}

/// What a program reads and writes.
pub struct Streams {
    /// Its input.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its words; on a terminal they are in its output.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
}

/// How a program came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Status(u8),
    /// It could not be started, in the runtime's words.
    NotStarted(String),
}

/// Tells a program's terminal its size.
pub struct Sizes(mpsc::Sender<TerminalSize>);

impl Sizes {
    /// Columns and rows. What cannot be told any more is nobody's loss.
    pub async fn tell(&mut self, (width, height): (u16, u16)) {
        let _ = self.0.send(TerminalSize { width, height }).await;
    }
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}

impl Started {
    /// Its streams, once.
    ///
    /// # Errors
    /// If they were taken before.
    pub fn streams(&mut self) -> Result<Streams, Failure> {
        let process = &mut self.process;
        let (Some(stdin), Some(stdout)) = (process.stdin(), process.stdout()) else {
            return Err(PlatformError::Silent { words: "its streams are missing".to_owned() }.failure());
        };
        let stderr: Box<dyn AsyncRead + Send + Unpin> = match process.stderr() {
            Some(stderr) => Box::new(stderr),
            None => Box::new(tokio::io::empty()),
        };
        Ok(Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr })
    }

    /// For the size of its terminal, if it has one, once.
    pub fn sizes(&mut self) -> Option<Sizes> {
        self.process.terminal_size().map(Sizes)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The stream broke before.
    pub async fn ended(&mut self) -> Result<Ended, Failure> {
        let status = match self.process.take_status() {
            Some(status) => status.await,
            None => None,
        };
        status.map(|status| read(&status)).ok_or_else(|| {
            PlatformError::Silent { words: "the stream ended before its program".to_owned() }.failure()
        })
    }
}

/// Starts it.
pub(super) async fn start(joined: &Joined, in_pod: &InPod, what: &Start) -> Result<Started, PlatformError> {
    let pod = find::name_of(&in_pod.pod);
    let (container, line) = match &what.within {
        Within::Target => (in_pod.container.clone(), what.line.clone()),
        Within::Helper(helper) => (helper.clone(), of_helper(joined, pod, helper, &what.line).await?),
    };
    let how = AttachParams::default()
        .container(container)
        .stdin(true)
        .stdout(true)
        .stderr(!what.terminal)
        .tty(what.terminal)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER);
    let api: Api<Pod> = Api::namespaced(joined.client.clone(), &joined.namespace);
    let executed = api.exec(pod, &line, &how).await;
    let process = executed.map_err(|error| joined.told("exec in the pod", error))?;
    Ok(Started { process })
}

/// The binary in a helper, which holds it or was given it, with these arguments.
async fn of_helper(
    joined: &Joined,
    pod: &str,
    helper: &str,
    arguments: &[String],
) -> Result<Vec<String>, PlatformError> {
    let pod = find::read(joined, pod).await?;
    let is_it = |one: &&EphemeralContainer| one.name == helper;
    let helper_of = find::spec(&pod).ephemeral_containers.iter().flatten().find(is_it);
    let program = helper_of.and_then(|one| one.command.as_ref()?.first());
    if program.is_some_and(|program| program == BINARY) {
        return Ok([BINARY.to_owned()].into_iter().chain(arguments.iter().cloned()).collect());
    }
    Ok(borrowed::run(helper, arguments))
}

fn read(status: &Status) -> Ended {
    if status.status.as_deref() == Some("Success") {
        return Ended::Status(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code = causes.filter_map(|cause| cause.message.as_ref()?.parse::<i32>().ok()).next();
    match (status.reason.as_deref(), code) {
        (Some(NOT_ZERO), Some(code)) => Ended::Status(u8::try_from(code).unwrap_or(1)),
        _ => Ended::NotStarted(status.message.clone().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_exit_status_is_told_apart_from_a_program_that_never_ran() {
        for (status, expected) in [
            (json!({"status": "Success"}), Ended::Status(0)),
            (
                json!({"status": "Failure", "reason": NOT_ZERO,
                    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}),
                Ended::Status(3),
            ),
            (
                json!({"status": "Failure", "reason": "InternalError", "message": "not found"}),
                Ended::NotStarted("not found".to_owned()),
            ),
        ] {
            let status = serde_json::from_value(status).unwrap();
            assert_eq!(read(&status), expected);
        }
    }
}
