//! The agent in this process, and the end of everything that is held for a verb.
//!
//! Local is remote: what concerns this machine goes through the same service as what is far away, over a pipe inside the process.

use std::time::Duration;

use async_trait::async_trait;
use pepo_platform::{Io, Leave, LocalAgent};
use pepo_wire::{Code, Failure};
#[cfg(target_os = "linux")]
use tokio::sync::OnceCell;
use tokio::{sync::Mutex, task::JoinHandle};

use crate::environment::Environment;

/// How long letting go may take after a verb has ended. The agent's own limit is shorter.
const LETTING_GO: Duration = Duration::from_secs(35);

/// The agent of this process; each connection is served by a task of its own, which ends with its stream.
pub(crate) struct Local {
    #[cfg(target_os = "linux")]
    environment: Environment,
    served: Mutex<Vec<JoinHandle<Result<(), Failure>>>>,
    leaves: Mutex<Vec<Leave>>,
    /// An agent of this process has answered once: its folder can be used.
    #[cfg(target_os = "linux")]
    proven: OnceCell<()>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// Nothing is started yet.
    pub(crate) fn new(environment: &Environment) -> Local {
        #[cfg(not(target_os = "linux"))]
        let _ = environment;
        Local {
            #[cfg(target_os = "linux")]
            environment: environment.clone(),
            served: Mutex::default(),
            leaves: Mutex::default(),
            #[cfg(target_os = "linux")]
            proven: OnceCell::new(),
        }
    }

    /// What was made for a way to an agent, to be ended by [`Local::finish`].
    pub(crate) async fn hold(&self, leave: Leave) {
        self.leaves.lock().await.push(leave);
    }

    /// Ends what was made, and waits until agents of this process have let go. The streams to them must be dropped before.
    pub(crate) async fn finish(&self) {
        let all = async {
            for task in self.served.lock().await.drain(..) {
                if let Ok(Err(failure)) = task.await {
                    tracing::info!(%failure, "an agent in this process ended");
                }
            }
            for leave in self.leaves.lock().await.drain(..) {
                if let Err(failure) = leave.leave().await {
                    tracing::error!(%failure, "what was made beside the target may still be there");
                }
            }
            pepo_platform::settled().await;
        };
        if tokio::time::timeout(LETTING_GO, all).await.is_err() {
            tracing::error!("letting go took longer than {LETTING_GO:?}");
        }
    }
}

#[cfg(target_os = "linux")]
impl Local {
    /// What an agent of this process is told.
    pub(crate) fn agent_config(&self) -> Result<pepo_agent::AgentConfig, Failure> {
        let exe = std::env::current_exe().map_err(|error| {
            Failure::new(Code::Internal, "this program does not find itself").because(error)
        })?;
        Ok(pepo_agent::AgentConfig::new(
            pepo_debug::tools::Tools::from_env(),
            run_dir(&self.environment),
            exe,
        ))
    }
}

#[cfg(target_os = "linux")]
impl Local {
    /// An agent that cannot serve ends at once, and its client sees no more than a broken stream: here its own reason is heard.
    async fn prove(&self) -> Result<(), Failure> {
        let (io, task) = pepo_agent::serve_in_process(self.agent_config()?);
        match pepo_client::Agent::connect(io).await {
            Ok(_) => {
                self.served.lock().await.push(task);
                Ok(())
            }
            Err(failure) => match tokio::time::timeout(LETTING_GO, task).await {
                Ok(Ok(Err(reason))) => Err(reason),
                _ => Err(failure),
            },
        }
    }
}

/// `$PEPO_RUN`, else `$XDG_RUNTIME_DIR/pepo`, else `/run/pepo` for root and `/tmp/pepo-UID` for others.
#[cfg(target_os = "linux")]
fn run_dir(environment: &Environment) -> std::path::PathBuf {
    use std::path::PathBuf;
    let uid = rustix::process::getuid();
    match (&environment.run, &environment.runtime_dir) {
        (Some(run), _) => PathBuf::from(run),
        (None, Some(runtime)) => PathBuf::from(runtime).join("pepo"),
        (None, None) if uid.is_root() => PathBuf::from("/run/pepo"),
        (None, None) => PathBuf::from(format!("/tmp/pepo-{}", uid.as_raw())),
    }
}

#[cfg(target_os = "linux")]
#[async_trait]
impl LocalAgent for Local {
    async fn connect(&self) -> Result<Box<dyn Io>, Failure> {
        self.proven.get_or_try_init(|| self.prove()).await?;
        let (io, task) = pepo_agent::serve_in_process(self.agent_config()?);
        self.served.lock().await.push(task);
        Ok(Box::new(io))
    }
}

#[cfg(not(target_os = "linux"))]
#[async_trait]
impl LocalAgent for Local {
    async fn connect(&self) -> Result<Box<dyn Io>, Failure> {
        Err(not_here())
    }
}

/// An agent stands beside Linux processes alone.
#[cfg(not(target_os = "linux"))]
pub(crate) fn not_here() -> Failure {
    Failure::new(Code::NotReachable, "this machine's own processes cannot be debugged: it is not Linux")
        .because("containers of a Linux machine can, through its engine")
        .try_command("see what can be reached", ["pepo", "ps"])
}
