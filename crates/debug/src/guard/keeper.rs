//! Waits for its child, and does the child's last duty if that dies.
//!
//! The keeper holds a second end of the stub's stream, so the stub never sees its end while one of the two lives, and hears
//! through the [`Journal`] of every change before it is made. It waits on that journal alone: its end is the child's end.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use pepo_process::{AgentPid, Process};
use rustix::process::WaitOptions;

use super::{
    child::{self, Fork},
    control::{Control, Order, Protect, Report},
    facts::{Facts, Outcome},
    files::Opened,
    packet::hex,
    relay::{Door, Relay},
    request::Point,
    stub::{self, Link},
    watch,
};
use crate::text::Patch;

/// What the child tells the keeper: one line for each change, written before the change is made.
#[derive(Debug)]
pub(super) struct Journal(UnixStream);

impl Journal {
    fn line(&mut self, line: &str) {
        let _ = self.0.write_all(line.as_bytes());
    }

    pub(super) fn stub(&mut self, pid: u32) {
        self.line(&format!("stub {pid}\n"));
    }

    pub(super) fn adapter(&mut self, pid: u32) {
        self.line(&format!("adapter {pid}\n"));
    }

    pub(super) fn insert(&mut self, point: Point) {
        self.line(&format!("insert {:x} {:x} {:x}\n", point.kind, point.address, point.length));
    }

    pub(super) fn remove(&mut self, point: Point) {
        self.line(&format!("remove {:x} {:x} {:x}\n", point.kind, point.address, point.length));
    }

    pub(super) fn patch(&mut self, address: u64, patch: Patch) {
        let written = patch.written.map_or("-".to_owned(), |byte| format!("{byte:x}"));
        self.line(&format!("patch {address:x} {:x} {written}\n", patch.before));
    }

    /// Names and registers are of hexadecimal digits and points.
    pub(super) fn call(&mut self, thread: &[u8], registers: &[u8]) {
        let word = String::from_utf8_lossy;
        self.line(&format!("call {} {}\n", word(thread), word(registers)));
    }

    pub(super) fn call_ended(&mut self, thread: &[u8]) {
        self.line(&format!("called {}\n", String::from_utf8_lossy(thread)));
    }

    pub(super) fn multiprocess(&mut self) {
        self.line("multiprocess\n");
    }

    pub(super) fn non_stop(&mut self) {
        self.line("non-stop\n");
    }

    pub(super) fn detached(&mut self) {
        self.line("detached\n");
    }
}

/// What the keeper knows of its child's work.
#[derive(Debug, Default)]
struct Known {
    facts: Facts,
    stub: bool,
    adapter: Option<u32>,
}

impl Known {
    fn learn(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let what = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let number = |index: usize| rest.get(index).and_then(|word| hex(word.as_bytes()));
        let point = || Some(Point { kind: number(0)? as u8, address: number(1)?, length: number(2)? });
        match what {
            "stub" => self.stub = true,
            "adapter" => self.adapter = rest.first().and_then(|word| word.parse().ok()),
            "multiprocess" => self.facts.multiprocess = true,
            "non-stop" => self.facts.non_stop = true,
            "detached" => self.facts.detached = true,
            "call" => {
                if let [thread, registers] = rest[..] {
                    self.facts.calls.insert(thread.into(), registers.into());
                }
            }
            "called" => {
                rest.first().and_then(|thread| self.facts.calls.remove(thread.as_bytes()));
            }
            "insert" => self.facts.points.extend(point()),
            "remove" => {
                if let Some(point) = point() {
                    self.facts.points.remove(&point);
                    self.facts.patches.forget(point.address, point.text_length());
                }
            }
            "patch" => {
                if let (Some(address), Some(before)) = (number(0), number(1)) {
                    let patch = Patch { before: before as u8, written: number(2).map(|byte| byte as u8) };
                    self.facts.patches.remember(address, patch);
                }
            }
            _ => {}
        }
    }
}

/// Runs a guard: reads its order, forks, waits.
pub(super) fn run() -> io::Result<()> {
    child::close_on_exec_all();
    child::leave_network();
    let _ = rustix::process::setsid();
    let _ = rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1));
    child::ignore(libc::SIGPIPE);
    let control = UnixStream::from(child::standard(0)?);
    let dap = child::standard(1)?;
    let mut control = Control::new(control);
    let Some(order) = control.order()? else { return Ok(()) };
    control.socket().set_nonblocking(true)?;
    let pid = AgentPid::new(order.pid).ok_or(io::ErrorKind::InvalidInput)?;
    let process = Process::open_started(pid, order.start_time).map_err(io::Error::other)?;
    let (ours, theirs) = UnixStream::pair()?;
    let noted = watch::Noted::of(&process, &order.protect);
    let (journal, journal_end) = UnixStream::pair()?;
    match child::fork()? {
        Fork::Child => {
            drop(journal_end);
            work(&order, &process, control, dap, Journal(journal), ours, theirs, &noted)
        }
        Fork::Parent(worker) => {
            drop((journal, theirs, dap));
            let was_stopped = super::facts::is_stopped(&process);
            let mut known = Known { facts: Facts { was_stopped, ..Facts::default() }, ..Known::default() };
            for line in BufReader::new(journal_end).lines().map_while(Result::ok) {
                known.learn(&line);
            }
            let status = rustix::process::waitpid(Some(worker), WaitOptions::empty())?;
            match status.map(|(_, status)| status.exit_status()) {
                Some(Some(0)) => Ok(()),
                _ => take_over(&order, &process, &control, known, ours, &noted),
            }
        }
    }
}

/// The child: relay or watch.
#[expect(clippy::too_many_arguments, reason = "all that was made before the fork")]
fn work(
    order: &Order,
    process: &Process,
    mut control: Control,
    dap: std::os::fd::OwnedFd,
    mut journal: Journal,
    ours: UnixStream,
    theirs: UnixStream,
    noted: &watch::Noted,
) -> io::Result<()> {
    let door = match &order.protect {
        Protect::Relay { socket, .. } => Some(Door::open(socket)?),
        Protect::Text => None,
    };
    let owns_target = door.is_none();
    let files = if owns_target { Opened::none() } else { Opened::of(process) };
    let adapter = watch::start_adapter(&order.adapter, owns_target, dap, &files)?;
    drop(files);
    let id = adapter.process.id();
    journal.adapter(id);
    control.report(&Report::Started { adapter: id });
    let lease = Duration::from_millis(order.lease_millis);
    match (&order.protect, door) {
        (Protect::Relay { stub, .. }, Some(door)) => {
            let link = Link::new(ours, stub.kind)?;
            Relay::new(process, &mut control, journal, door, adapter, stub, link, theirs, lease).run()
        }
        _ => {
            drop((ours, theirs));
            watch::run(process, &mut control, adapter, lease, noted)
        }
    }
}

/// The child died: lets go in its place.
fn take_over(
    order: &Order,
    process: &Process,
    control: &Control,
    mut known: Known,
    ours: UnixStream,
    noted: &watch::Noted,
) -> io::Result<()> {
    let mut outcome = Outcome::default();
    match &order.protect {
        Protect::Relay { stub, .. } => {
            if known.stub && !known.facts.detached {
                outcome.join(rescue(process, &mut known.facts, Link::new(ours, stub.kind)?));
            }
            end_children();
            outcome.join(known.facts.after(process));
        }
        Protect::Text => {
            // The adapter owns the target and may live: only its own way out is safe.
            collect_children(None);
            outcome.join(watch::after(process, noted));
        }
    }
    control.report(&Report::Ended {
        reason: "the guard's worker died".to_owned(),
        stood_micros: 0,
        repairs: outcome.repairs,
        left_behind: outcome.left_behind,
    });
    Ok(())
}

/// Through the stub, whose stream we share.
fn rescue(process: &Process, facts: &mut Facts, mut link: Link) -> Outcome {
    // Whatever answer was on its way to our child is not for us.
    while let Ok(Some(_)) = link.receive(Duration::from_millis(100)) {}
    let outcome = facts.release(&mut link, process, stub::runs(process)).unwrap_or_default();
    let _ = link.socket().shutdown(std::net::Shutdown::Both);
    outcome
}

/// Adapter and stub own nothing any more: they get a moment, then they are ended.
fn end_children() {
    if collect_children(Some(Duration::from_secs(3))) {
        return;
    }
    for pid in own_children() {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    collect_children(Some(Duration::from_secs(3)));
}

/// Collects children until none is left (`true`) or time is over.
fn collect_children(within: Option<Duration>) -> bool {
    let begin = std::time::Instant::now();
    loop {
        let options = if within.is_some() { WaitOptions::NOHANG } else { WaitOptions::empty() };
        match rustix::process::wait(options) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return true,
        }
        if within.is_some_and(|within| begin.elapsed() > within) {
            return false;
        }
    }
}

/// Our children, adopted ones too (proc_pid_task_tid_children(5)).
fn own_children() -> Vec<rustix::process::Pid> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()))
        .unwrap_or_default();
    text.split_whitespace().filter_map(|word| rustix::process::Pid::from_raw(word.parse().ok()?)).collect()
}
