//! From a container's name to its process.

use anyhow::Result;
use pepo_trials::locate;

/// Over an open socket, beside `docker inspect`, with a dockerd started for it.
pub(crate) async fn run(rounds: usize) -> Result<String> {
    let times = locate::docker(rounds).await?;
    Ok(format!(
        "With a dockerd started for it.\n\n| | median |\n|---|---|\n\
         | a container's name to its proven process, over an open socket | {:.2?} |\n\
         | `docker inspect --format {{{{.State.Pid}}}}` (a process, a new connection, nothing proven) | {:.2?} |\n",
        times.located, times.inspected
    ))
}
