//! Beside an adapter that owns ptrace itself: waits for its end, then puts the text back as it was.
//!
//! Best effort: a thread that was about to be stopped by a breakpoint when the adapter died cannot be saved by anybody.

use std::{
    io,
    os::fd::OwnedFd,
    process::Stdio,
    time::{Duration, Instant},
};

use pepo_process::Process;
use rustix::event::{PollFd, PollFlags};

use super::{
    cage::Inmate,
    child::{self, Watched},
    control::{Control, Program, Protect, Report, Tell},
    facts::{Outcome, settle},
    files::Opened,
    stub,
};

/// How long an adapter may take to detach by itself when its stream has closed.
const DETACHES: Duration = Duration::from_secs(5);

/// How long the target is watched, until the adapter sets no breakpoint again.
const DISARMS: Duration = Duration::from_secs(1);
/// How often in a row, some milliseconds apart, no breakpoint must be seen.
const LOOKS: u32 = 4;

/// What was known of the target before the adapter came; nothing when a relay stands between.
pub(super) struct Noted {
    text: Option<crate::text::Noted>,
    was_stopped: bool,
}

impl Noted {
    /// Looks at the target before the adapter comes.
    pub(super) fn of(process: &Process, protect: &Protect) -> Noted {
        let watched = matches!(protect, Protect::Text);
        let text = watched.then(|| crate::text::Noted::note(process).ok()).flatten();
        Noted { text, was_stopped: super::facts::is_stopped(process) }
    }
}

/// Takes the breakpoints out of the text while the adapter still answers for each stop. An adapter that has to let go, or is
/// ended, while threads run into its breakpoints loses them: LLDB's interrupt is lost among the stops, delve detaches from a
/// thread whose stop it has not seen. One that goes on from a stop may set its breakpoint once more, so it is looked again.
fn disarm(process: &Process, noted: &Noted) {
    let Some(text) = &noted.text else { return };
    let until = Instant::now() + DISARMS;
    let mut looks = 0;
    while looks < LOOKS && Instant::now() < until && process.status().is_ok_and(|status| status.tracer != 0) {
        let Ok(restored) = text.restore(process) else { return };
        looks = if restored.bytes == 0 { looks + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The adapter and what makes it go by itself.
pub(super) struct Adapter {
    pub(super) process: Watched,
    /// Its own end of the DAP stream: shutting it down is to the adapter as if its client had gone.
    dap: OwnedFd,
    /// That stream is the one it uses.
    on_stdio: bool,
    ends_on_sigterm: bool,
}

impl Adapter {
    /// Its DAP stream, to see its other end go; `None` when it has dialled one of its own.
    pub(super) fn stream(&self) -> Option<&OwnedFd> {
        self.on_stdio.then_some(&self.dap)
    }

    /// Closes its stream, whoever holds the other end, and waits; `false` when it does not go.
    pub(super) fn bow_out(&mut self, within: Duration) -> bool {
        let _ = rustix::net::shutdown(&self.dap, rustix::net::Shutdown::Both);
        if self.ends_on_sigterm {
            let _ = rustix::process::pidfd_send_signal(&self.process.pidfd, rustix::process::Signal::TERM);
        }
        self.process.wait(within)
    }
}

/// Starts the adapter in its cage, with the target's files where it needs them.
pub(super) fn start_adapter(
    program: &Program,
    owns_target: bool,
    dap: OwnedFd,
    files: &Opened,
) -> io::Result<Adapter> {
    let mut command = super::command(&program.program);
    command.args(&program.args).envs(program.env.iter().cloned()).current_dir("/");
    if program.dap_on_stdio {
        command.stdin(Stdio::from(dap.try_clone()?)).stdout(Stdio::from(dap.try_clone()?));
    } else {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    let inmate = Inmate::Adapter { needs: &program.needs, owns_target };
    let process = child::start(command, inmate, &program.log, files.numbers())?;
    Ok(Adapter { process, dap, on_stdio: program.dap_on_stdio, ends_on_sigterm: program.ends_on_sigterm })
}

/// Until the adapter has ended; then puts back and reports.
pub(super) fn run(
    process: &Process,
    control: &mut Control,
    mut adapter: Adapter,
    lease: Duration,
    noted: &Noted,
) -> io::Result<()> {
    let reason = wait(process, control, &mut adapter.process, lease, noted)?;
    adapter.process.warden = None;
    if reason != ADAPTER_ENDED {
        disarm(process, noted);
        control.end_entrusted();
        if !adapter.bow_out(DETACHES) {
            // It has lost its stream and does not go. As long as it lives the target is its hostage.
            adapter.process.kill();
        }
    }
    let outcome = after(process, noted);
    control.report(&Report::Ended {
        reason: reason.to_owned(),
        stood_micros: 0,
        repairs: outcome.repairs,
        left_behind: outcome.left_behind,
    });
    Ok(())
}

const ADAPTER_ENDED: &str = "the adapter ended";

fn wait(
    process: &Process,
    control: &mut Control,
    adapter: &mut Watched,
    lease: Duration,
    noted: &Noted,
) -> io::Result<&'static str> {
    let mut last_beat = Instant::now();
    loop {
        let mut fds =
            vec![PollFd::new(&adapter.pidfd, PollFlags::IN), PollFd::new(control.socket(), PollFlags::IN)];
        fds.extend(adapter.warden.iter().map(|warden| PollFd::new(warden, PollFlags::IN)));
        stub::wait(&mut fds, lease.saturating_sub(last_beat.elapsed()) + Duration::from_millis(1))?;
        let [ended, told, asked] = [0, 1, 2].map(|at| fds.get(at).is_some_and(|fd| !fd.revents().is_empty()));
        if ended {
            return Ok(ADAPTER_ENDED);
        }
        if told {
            control.read()?;
        }
        if asked {
            adapter.answer(false);
        }
        while let Some(tell) = control.next::<Tell>()? {
            last_beat = Instant::now();
            match tell {
                Tell::Beat => {}
                Tell::Disarm => disarm(process, noted),
                Tell::Release => return Ok("released"),
                Tell::State => control.report(&Report::State { standing: false, stood_micros: 0, points: 0 }),
            }
        }
        if control.closed {
            return Ok("the agent has gone");
        }
        if last_beat.elapsed() > lease {
            return Ok("lease lost");
        }
    }
}

/// The adapter has ended, however: text as it was, threads run.
pub(super) fn after(process: &Process, noted: &Noted) -> Outcome {
    let mut outcome = Outcome::default();
    if !process.alive() {
        return outcome;
    }
    match noted.text.as_ref().map(|text| text.restore(process)) {
        Some(Ok(restored)) => outcome.join(Outcome {
            repairs: restored.repair().into_iter().collect(),
            left_behind: restored.left_behind(),
        }),
        Some(Err(_)) if !process.alive() => return outcome,
        _ => outcome.left_behind.push("text that could not be compared".to_owned()),
    }
    outcome.join(settle(process, noted.was_stopped));
    outcome
}
