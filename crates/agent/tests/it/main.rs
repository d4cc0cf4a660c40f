//! The agent's service over a stream, on real processes of this machine.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod calls;
mod life;
mod symbols;

use std::path::Path;

use pepo_agent::{AgentConfig, serve_in_process};
use pepo_client::Agent;
use pepo_debug::tools::Tools;
use pepo_wire::{
    Failure,
    agent::{ProcessTarget, Target, target},
};
use tokio::task::JoinHandle;

/// An agent in this process and a client of it.
async fn agent(run: &Path) -> (Agent, JoinHandle<Result<(), Failure>>) {
    let (stream, served) = serve_in_process(config(run));
    (Agent::connect(stream).await.unwrap(), served)
}

fn config(run: &Path) -> AgentConfig {
    AgentConfig::new(Tools::from_env(), run.join("run"), pepo_testkit::pepo())
}

fn process(pid: u32) -> Target {
    Target {
        kind: Some(target::Kind::Process(ProcessTarget { agent_pid: pid, ..ProcessTarget::default() })),
        selector: None,
    }
}
