//! A look around inside a pod's container: by its own shell over an exec, else by the entry's small tools in the helper beside it, where
//! the target's root is that of its main process.
//!
//! Tasks, until the program ends: one for each stream, one that tells the terminal's size. They are ended with it.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use pepo_platform::{Ended, Found, How, Sizes, Start, Started, Within};
use pepo_wire::{Code, Failure, agent::Process};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::{JoinHandle, JoinSet},
};

use super::SHELLS;
use crate::{
    arguments::Chosen,
    config::Context,
    reach::{self, Reached},
    render::{End, Outcome, no_runtime},
    signals::{Signal, Signals},
};

/// A runtime that hears of the input's end while what came before is still under way may lose that (containerd's `CloseIO`).
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Bytes that are carried at once.
const PORTION: usize = 32 << 10;

/// Runs a shell in the container or beside it, in this terminal if there is one.
pub(super) async fn run(context: &Context, chosen: &Chosen, found: &Found) -> Outcome {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    // What is held for the way is held as long as its shell runs.
    let (what, beside) = match own_shell(found, terminal).await? {
        Some(what) => (what, None),
        None => {
            let reached = reach::to(context, chosen, found).await?;
            (beside(&reached, terminal).await?, Some(reached))
        }
    };
    let status = match in_terminal(found.start(&what).await?, terminal).await? {
        Ended::Status(status) => status,
        Ended::NotStarted(words) => return Err(failed(found).because(words).into()),
    };
    drop(beside);
    if status == 0 {
        return Ok(());
    }
    still_runs(context, chosen, found).await?;
    Err(End::Status(status))
}

fn failed(found: &Found) -> Failure {
    Failure::new(Code::NotReachable, format!("no shell in {}", found.located.name))
}

/// The container's own shell, if its image has one.
async fn own_shell(found: &Found, terminal: bool) -> Result<Option<Start>, Failure> {
    for shell in SHELLS {
        let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let tried = Start { within: Within::Target, line: line(&[shell, "-c", "exit"]), terminal: false };
        if found.start(&tried).await?.ended().await? == Ended::Status(0) {
            return Ok(Some(Start { within: Within::Target, line: line(&[shell]), terminal }));
        }
    }
    Ok(None)
}

/// The tools in the helper, before the target's root.
async fn beside(reached: &Reached, terminal: bool) -> Result<Start, Failure> {
    let How::Ephemeral { container } = &reached.how else {
        return Err(Failure::new(Code::NotReachable, format!("no shell beside {}", reached.name)));
    };
    let processes = reached.agent.list(Some(reached.target.clone())).await?;
    let process = main_process(&processes).ok_or_else(|| {
        Failure::new(Code::ProcessGone, format!("{} has no process any more", reached.name))
    })?;
    if let Some(why) = process.look.as_ref().filter(|look| !look.yes).and_then(|look| look.why.clone()) {
        return Err(reach::explained(why, reached, "stack").await);
    }
    let root = format!("/proc/{}/root", process.agent_pid);
    let line = ["entry", "sh", &root].map(str::to_owned).into();
    Ok(Start { within: Within::Helper(container.clone()), line, terminal })
}

/// The first of the container's processes, which none of the others started.
fn main_process(processes: &[Process]) -> Option<&Process> {
    let is_child = |one: &&Process| processes.iter().any(|other| other.agent_pid == one.parent);
    processes.iter().filter(|one| !is_child(one)).min_by_key(|one| (one.start_time, one.agent_pid))
}

/// Carries its streams until it ends.
async fn in_terminal(mut started: Started, terminal: bool) -> Result<Ended, Failure> {
    let mut signals = Signals::listen().map_err(no_runtime)?;
    let streams = started.streams()?;
    let raw = terminal.then(Raw::new).transpose()?;
    let mut tasks = JoinSet::new();
    if let Some(sizes) = started.sizes() {
        tasks.spawn(tell_sizes(sizes));
    }
    tasks.spawn(async move {
        let mut stdin = streams.stdin;
        let _ = carry(tokio::io::stdin(), &mut stdin).await;
        tokio::time::sleep(LAST_WORDS).await;
        let _ = stdin.shutdown().await;
    });
    let words: [JoinHandle<io::Result<()>>; 2] = [
        tokio::spawn(carry(streams.stdout, tokio::io::stdout())),
        tokio::spawn(carry(streams.stderr, tokio::io::stderr())),
    ];
    let ended = tokio::select! {
        ended = started.ended() => ended,
        signal = interrupted(&mut signals, terminal) => {
            words.iter().for_each(JoinHandle::abort);
            let name = if signal == Signal::Interrupt { "Ctrl-C" } else { "a signal" };
            Err(Failure::new(Code::Interrupted, format!("{name} ended the shell")))
        }
    };
    // What it said last is on its way.
    drop(started);
    for task in words {
        let _ = task.await;
    }
    drop(raw);
    ended
}

/// A terminal sends Ctrl-C as a letter, to the program.
async fn interrupted(signals: &mut Signals, terminal: bool) -> Signal {
    loop {
        match signals.next().await {
            Signal::Interrupt if terminal => {}
            signal => return signal,
        }
    }
}

/// Copies, and hands on at once what has come.
async fn carry(
    mut from: impl AsyncRead + Unpin + Send,
    mut to: impl AsyncWrite + Unpin + Send,
) -> io::Result<()> {
    let mut portion = vec![0; PORTION];
    loop {
        let count = from.read(&mut portion).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&portion[..count]).await?;
        to.flush().await?;
    }
}

/// Tells the size of this terminal, at first and whenever it changes.
#[cfg(unix)]
async fn tell_sizes(mut sizes: Sizes) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = crossterm::terminal::size() {
            sizes.tell(size).await;
        }
        changes.recv().await;
    }
}

/// Tells the size of this console, which does not say when it changes.
#[cfg(not(unix))]
async fn tell_sizes(mut sizes: Sizes) {
    let mut told = None;
    loop {
        let size = crossterm::terminal::size().ok();
        if let Some(size) = size.filter(|_| size != told) {
            sizes.tell(size).await;
            told = Some(size);
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// This terminal, which hands on every key as it is; dropping it makes it as before.
struct Raw;

impl Raw {
    fn new() -> Result<Raw, Failure> {
        crossterm::terminal::enable_raw_mode().map_err(no_runtime)?;
        Ok(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// A shell that is ended with its container has no word for it.
async fn still_runs(context: &Context, chosen: &Chosen, found: &Found) -> Result<(), Failure> {
    let Found { platform, located } = found;
    let gone = Failure::new(Code::ProcessGone, format!("{} ended while it was looked into", located.name));
    let (pod, container) = located.name.parts();
    let namespace = context.global.namespace.iter().flat_map(|name| ["-n", name.as_str()]);
    let container = container.or(chosen.pod.container.as_deref()).into_iter().flat_map(|name| ["-c", name]);
    let line = ["kubectl", "logs", pod].into_iter().chain(namespace).chain(container);
    let line: Vec<&str> = line.chain(["--tail=20", "--previous"]).collect();
    match platform.locate(&located.name).await {
        Ok(now) if now.container_id == located.container_id => Ok(()),
        Ok(_) => Err(gone.because("it was started anew").try_command("its last words", line)),
        Err(why) => Err(gone.because(why.what)),
    }
}
