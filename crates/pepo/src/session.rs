//! Opening a debugger session, for `attach` and `dap` alike: from arguments to the agent's `OpenSession`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use clap::{Args, ValueEnum};
use pepo_client::{Agent, Session, SymbolPaths};
use pepo_dap::console::Files;
use pepo_platform::How;
use pepo_wire::{
    Code, Failure,
    agent::{Grant, Guard, OpenSession, Right, Target},
};

use crate::{
    config::Context,
    duration,
    reach::{self, Reached},
    who,
};

/// What a session is opened with.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SessionArgs {
    /// This debugger, not the one that fits the process best
    #[arg(long, value_name = "NAME")]
    pub(crate) debugger: Option<String>,
    /// The longest the target may stand still in a minute, as in 30s, or 0 for ever [default: as its health check allows, else 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) pause_budget: Option<Duration>,
    /// Protect the target from the debugger's death; without it, as measured best for the debugger
    #[arg(long, value_enum, value_name = "WHETHER")]
    pub(crate) guard: Option<OnOff>,
    /// Allow the debugger's own command language
    #[arg(long)]
    pub(crate) raw: bool,
    /// Debug files, or programs before they were stripped, on this side: a folder or a file; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) symbols: Vec<PathBuf>,
    /// Stop the target as soon as the debugger is there
    #[arg(long)]
    pub(crate) stop_on_entry: bool,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    // Yes.
    On,
    // No.
    Off,
}

/// How breakpoints will be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// By an editor: before it says that all is configured.
    Configured,
    /// By a person or a script, word by word: when calls may come is said apart.
    InWords,
}

/// Puts a debugger on the target.
///
/// # Errors
/// The agent's failure, with what `pepo check` has against it.
pub(crate) async fn open(
    context: &Context,
    reached: &Reached,
    arguments: &SessionArgs,
    spoken: Spoken,
) -> Result<Session, Failure> {
    let health = reached.located.health_pause_budget();
    // An agent in this process reads the very same files.
    let symbols = SymbolPaths::new(&arguments.symbols, reached.how == How::InProcess)?;
    let says_ready = spoken == Spoken::InWords;
    let request = OpenSession { says_ready, ..request(context, reached, arguments, &symbols, health) };
    let opening = async {
        match arguments.symbols.is_empty() {
            true => reached.agent.session(request).await,
            false => reached.agent.session_with(request, symbols).await,
        }
    };
    let mut session = match opening.await {
        Ok(session) => session,
        Err(failure) => return Err(reach::explained(hinted(failure, &reached.name), reached, "attach").await),
    };
    if arguments.pause_budget.is_none() && health.is_some() {
        session.opened.budget_source = "health check".to_owned();
    }
    Ok(session)
}

fn request(
    context: &Context,
    reached: &Reached,
    arguments: &SessionArgs,
    symbols: &SymbolPaths,
    health: Option<Duration>,
) -> OpenSession {
    let mut rights = vec![Right::Stop.into(), Right::Modify.into()];
    rights.extend(arguments.raw.then_some(i32::from(Right::Raw)));
    let budget = arguments.pause_budget.or(health);
    let folders = symbols.folders().filter(|_| reached.how == How::InProcess);
    OpenSession {
        target: Some(reached.target.clone()),
        debugger: arguments.debugger.clone().unwrap_or_default(),
        grant: Some(grant(context, rights, budget)),
        guard: match arguments.guard {
            None => Guard::Unspecified,
            Some(OnOff::On) => Guard::On,
            Some(OnOff::Off) => Guard::Off,
        }
        .into(),
        symbol_folders: folders.map(|folder| folder.display().to_string()).collect(),
        stop_on_entry: arguments.stop_on_entry,
        ..OpenSession::default()
    }
}

/// What a stop asks for, in this user's name, with the agent's own lease.
pub(crate) fn grant(context: &Context, rights: Vec<i32>, budget: Option<Duration>) -> Grant {
    Grant {
        who: who::who(&context.environment),
        rights,
        lease_seconds: 0,
        pause_budget_millis: budget.map(|budget| u64::try_from(budget.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Linux allows one tracer: how to get rid of it.
fn hinted(failure: Failure, target: &str) -> Failure {
    if failure.code() == Code::AlreadyTraced && failure.hints.is_empty() {
        return failure.try_command("let go of it, whoever holds it", ["pepo", "release", target]);
    }
    failure
}

/// Reads the target's files through its agent.
#[derive(Debug)]
pub(crate) struct RemoteFiles {
    /// The agent.
    pub(crate) agent: Agent,
    /// The target.
    pub(crate) target: Target,
}

impl RemoteFiles {
    /// Those of a target that was reached.
    pub(crate) fn of(reached: &Reached) -> Arc<dyn Files> {
        Arc::new(RemoteFiles { agent: reached.agent.clone(), target: reached.target.clone() })
    }
}

#[async_trait]
impl Files for RemoteFiles {
    async fn read(&self, path: &str) -> Result<Vec<u8>, Failure> {
        self.agent.read_file(self.target.clone(), path, 0).await
    }
}
