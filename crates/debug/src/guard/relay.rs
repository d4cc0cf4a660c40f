//! Between adapter and stub: passes packets on, knows every breakpoint, keeps the clock and the lease, and lets go.
//!
//! One loop, one thread. It waits on: the control stream (orders, heartbeat, the agent's end), the adapter's connection, the
//! stub's answers, and the ends of both processes. Whatever ends first ends the session.

use std::{
    collections::VecDeque,
    io,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use pepo_process::{Memory, Process};
use rustix::event::{PollFd, PollFlags};

use super::{
    cage::Warden,
    child::Watched,
    control::{Control, Report, Stub, StubKind, Tell},
    facts::{Facts, Outcome},
    keeper::Journal,
    packet::Item,
    request::{Stop, stop_of},
    stub::{self, Link},
    watch::Adapter,
};

/// Calls of functions in the target.
mod calls;
/// How long the target stood still.
mod clock;
/// What a stub says of a target in other namespaces.
mod names;
/// The adapter's connection.
mod peer;
/// What an adapter asks for.
mod requests;
/// A child in the target's memory.
mod vfork;

use clock::Clock;
pub(super) use peer::{Door, Peer};

/// How long an adapter may take to end by itself after its streams are closed.
const ADAPTER_ENDS: Duration = Duration::from_secs(3);
/// How long an adapter whose client has gone may take to let go by itself.
const ADAPTER_DETACHES: Duration = Duration::from_secs(2);
/// How long a stub may take to end after it has let go.
const STUB_ENDS: Duration = Duration::from_secs(2);
/// How long LLDB gets at a time to take note of the first stop.
const SETTLES: Duration = Duration::from_millis(10);
/// SIGSTOP in gdb's own numbering of signals.
const GDB_SIGSTOP: u8 = 17;

/// What an answer of the stub will be to.
enum Pending {
    Plain,
    Insert(super::request::Point, bool),
    Remove(super::request::Point),
    Allocate,
    Free(u64),
    SaveRegisters(Vec<u8>),
    RestoreRegisters(Vec<u8>),
    Supported(bool),
    NonStop,
    Threads,
    ProcessInfo,
    Registers,
}

/// How far an interrupt of ours is that the stub sees as an ordinary SIGSTOP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    None,
    /// Sent; its stop is to be reported as an interrupt.
    Asked,
    /// Something else stopped the target first: its stop is to be swallowed.
    Stale,
}

/// The relay.
pub(super) struct Relay<'a> {
    pub(super) process: &'a Process,
    pub(super) control: &'a mut Control,
    pub(super) journal: Journal,
    pub(super) door: Door,
    pub(super) adapter: Adapter,
    pub(super) stub_order: &'a Stub,
    /// Ours and, until the stub has it, the stub's end of the stream.
    pub(super) link: Link,
    pub(super) theirs: Option<UnixStream>,
    pub(super) lease: Duration,
    state: State,
}

struct State {
    stub: Option<Watched>,
    peer: Option<Peer>,
    memory: Option<Memory>,
    facts: Facts,
    pending: VecDeque<Pending>,
    running: bool,
    last_resume: Vec<u8>,
    interrupt: Interrupt,
    /// Requests are about another process than the target: a child it has forked.
    elsewhere: bool,
    /// A child uses the target's memory: the breakpoints are out of it.
    memory_is_lent: bool,
    /// What gdb knows of registers, and changes.
    calls: calls::Calls,
    clock: Clock,
    last_beat: Instant,
    /// Since when the adapter's client has gone.
    cut: Option<Instant>,
    /// How many answers to [`Request::Settled`] still take their time.
    unsettled: u8,
}

impl<'a> Relay<'a> {
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own")]
    pub(super) fn new(
        process: &'a Process,
        control: &'a mut Control,
        journal: Journal,
        door: Door,
        adapter: Adapter,
        stub_order: &'a Stub,
        link: Link,
        theirs: UnixStream,
        lease: Duration,
    ) -> Relay<'a> {
        let facts = Facts { was_stopped: super::facts::is_stopped(process), ..Facts::default() };
        let state = State {
            stub: None,
            peer: None,
            memory: process.memory().ok(),
            facts,
            pending: VecDeque::new(),
            running: false,
            last_resume: Vec::new(),
            interrupt: Interrupt::None,
            elsewhere: false,
            memory_is_lent: false,
            calls: calls::Calls::default(),
            clock: Clock::default(),
            last_beat: Instant::now(),
            cut: None,
            unsettled: u8::MAX,
        };
        Relay {
            process,
            control,
            journal,
            door,
            adapter,
            stub_order,
            link,
            theirs: Some(theirs),
            lease,
            state,
        }
    }

    /// Until something ends it; then lets go and reports.
    pub(super) fn run(mut self) -> io::Result<()> {
        let reason = loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(reason)) => break reason,
                Err(error) => break format!("the stream broke: {error}"),
            }
        };
        let outcome = self.let_go();
        let stood_micros = self.state.clock.micros();
        self.control.report(&Report::Ended {
            reason,
            stood_micros,
            repairs: outcome.repairs,
            left_behind: outcome.left_behind,
        });
        Ok(())
    }

    /// Waits for one thing and deals with it; a reason when the session ends.
    fn turn(&mut self) -> io::Result<Option<String>> {
        let ready = self.wait()?;
        if ready.asked {
            self.adapter.process.answer(self.state.peer.is_some());
        }
        if ready.cut {
            self.state.cut = Some(Instant::now());
        }
        if ready.stub
            && let Some(reason) = self.hear_stub()?
        {
            return Ok(Some(reason));
        }
        if ready.control
            && let Some(reason) = self.hear_agent()?
        {
            return Ok(Some(reason));
        }
        if self.state.last_beat.elapsed() > self.lease {
            return Ok(Some("lease lost".to_owned()));
        }
        if self.state.cut.is_some_and(|since| since.elapsed() > ADAPTER_DETACHES) {
            return Ok(Some("the adapter's client has gone".to_owned()));
        }
        if ready.door {
            self.welcome()?;
        }
        if ready.peer
            && let Some(reason) = self.hear_peer()?
        {
            return Ok(Some(reason));
        }
        if let Some(warden) = &mut self.adapter.process.warden {
            warden.release(self.state.peer.is_some());
        }
        if ready.adapter && self.adapter.process.ended() {
            return Ok(Some(if self.state.facts.detached { "detached" } else { "adapter died" }.to_owned()));
        }
        Ok(None)
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let state = &self.state;
        let mut fds = vec![
            PollFd::new(self.control.socket(), PollFlags::IN),
            PollFd::new(&self.adapter.process.pidfd, PollFlags::IN),
            PollFd::new(self.link.socket(), PollFlags::IN),
        ];
        match &state.peer {
            Some(peer) => fds.push(PollFd::from_borrowed_fd(peer.as_fd(), peer.interest())),
            None => fds.push(PollFd::from_borrowed_fd(self.door.as_fd(), PollFlags::IN)),
        }
        if let Some(stub) = &state.stub {
            fds.push(PollFd::new(&stub.pidfd, PollFlags::IN));
        }
        let warden = self.adapter.process.warden.as_ref();
        let asked = fds.len();
        fds.extend(warden.map(|warden| PollFd::new(warden, PollFlags::IN)));
        let cut = fds.len();
        let stream = self.adapter.stream().filter(|_| state.cut.is_none());
        fds.extend(stream.map(|stream| PollFd::new(stream, PollFlags::RDHUP)));
        let left = self.lease.saturating_sub(state.last_beat.elapsed());
        let left = state.cut.map_or(left, |since| left.min(ADAPTER_DETACHES.saturating_sub(since.elapsed())));
        let left = warden.and_then(Warden::deadline).map_or(left, |deadline| left.min(deadline));
        stub::wait(&mut fds, left + Duration::from_millis(1))?;
        let hit = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            control: hit(0),
            adapter: hit(1),
            // Before the stub has its end, ours says nothing; after its death there may be last words to read.
            stub: state.stub.is_some() && (hit(2) || hit(4)),
            asked: warden.is_some() && hit(asked),
            cut: stream.is_some() && hit(cut),
            peer: state.peer.is_some() && hit(3),
            door: state.peer.is_none() && hit(3),
        })
    }

    /// The adapter connects: the stub attaches now and not before, so that the target does not stand longer than it must.
    fn welcome(&mut self) -> io::Result<()> {
        let Some(peer) = self.door.accept()? else { return Ok(()) };
        self.state.peer = Some(peer);
        let Some(theirs) = self.theirs.take() else { return Ok(()) };
        if let Some(warden) = &mut self.adapter.process.warden {
            warden.release(true);
        }
        self.state.clock.stand();
        let stub = stub::start(self.stub_order, self.process.pid().get(), theirs)?;
        self.journal.stub(stub.id());
        self.state.stub = Some(stub);
        self.link.greet().map_err(|error| {
            let words = std::fs::read_to_string(&self.stub_order.log).unwrap_or_default();
            let last =
                words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
            io::Error::new(error.kind(), format!("the stub did not attach: {error} {last}"))
        })
    }

    fn hear_agent(&mut self) -> io::Result<Option<String>> {
        self.control.read()?;
        while let Some(tell) = self.control.next::<Tell>()? {
            self.state.last_beat = Instant::now();
            match tell {
                Tell::Beat | Tell::Disarm => {}
                Tell::Release => return Ok(Some("released".to_owned())),
                Tell::State => self.control.report(&Report::State {
                    standing: self.state.clock.stands(),
                    stood_micros: self.state.clock.micros(),
                    points: u32::try_from(self.state.facts.points.len()).unwrap_or(u32::MAX),
                }),
            }
        }
        Ok(self.control.closed.then(|| "the agent has gone".to_owned()))
    }

    fn hear_stub(&mut self) -> io::Result<Option<String>> {
        let open = self.link.take()?;
        while let Some(item) = self.link.next()? {
            match item {
                Item::Packet(packet) => {
                    if let Some(reason) = self.answer(packet)? {
                        return Ok(Some(reason));
                    }
                }
                Item::Notification(notification) => self.notified(&notification),
                Item::Ack | Item::Nak | Item::Interrupt => {}
            }
        }
        if open || self.state.facts.detached {
            return Ok((!open).then(|| "detached".to_owned()));
        }
        Ok(Some(if self.process.alive() { "the stub died" } else { "the target ended" }.to_owned()))
    }

    /// An answer of the stub on its way to the adapter.
    fn answer(&mut self, packet: Vec<u8>) -> io::Result<Option<String>> {
        if self.state.running {
            return self.stopped(packet);
        }
        let pending = self.state.pending.pop_front().unwrap_or(Pending::Plain);
        let ok = packet == b"OK";
        let facts = &mut self.state.facts;
        match pending {
            Pending::Insert(point, new) if !ok && new => {
                facts.points.remove(&point);
                facts.patches.forget(point.address, point.text_length());
                self.journal.remove(point);
            }
            Pending::Remove(point) if ok => {
                facts.points.remove(&point);
                facts.patches.forget(point.address, point.text_length());
                self.journal.remove(point);
            }
            Pending::Allocate => facts.allocations.extend(super::packet::hex(&packet)),
            Pending::Free(address) if ok => {
                facts.allocations.remove(&address);
            }
            Pending::SaveRegisters(suffix) if super::packet::hex(&packet).is_some() => {
                facts.registers.insert(packet.clone(), suffix);
            }
            Pending::RestoreRegisters(state) if ok => {
                facts.registers.remove(&state);
            }
            Pending::Supported(asked) => {
                facts.multiprocess = asked && contains(&packet, b"multiprocess+");
                if facts.multiprocess {
                    self.journal.multiprocess();
                }
                if self.stub_order.kind == StubKind::LldbServer {
                    self.tell_peer(&replace(&packet, b"QNonStop+", b"QNonStop-"));
                    return Ok(None);
                }
            }
            Pending::NonStop if ok => {
                facts.non_stop = true;
                self.journal.non_stop();
            }
            Pending::Registers => self.state.calls.read(&packet),
            Pending::Threads => {
                let threads = names::without_stray_stops(&packet);
                self.tell_peer(&threads);
                return Ok(None);
            }
            Pending::ProcessInfo => {
                let info = names::with_executable(&packet);
                self.tell_peer(&info);
                return Ok(None);
            }
            _ => {}
        }
        // In non-stop mode further stops come as answers too.
        let packet = if self.state.facts.non_stop { self.told(packet) } else { packet };
        self.tell_peer(&packet);
        Ok(None)
    }

    /// A notification: in non-stop mode the first of some stops.
    fn notified(&mut self, notification: &[u8]) {
        let told = match notification.strip_prefix(b"Stop:") {
            Some(stop) => [&b"Stop:"[..], &self.told(stop.to_vec())].concat(),
            None => notification.to_vec(),
        };
        if let Some(peer) = &mut self.state.peer {
            peer.send_notification(&told);
        }
    }

    /// The report of a thread's stop on its way to the adapter.
    fn told(&mut self, packet: Vec<u8>) -> Vec<u8> {
        match stop_of(&packet) {
            Some(Stop::Ended) => {
                self.state.facts.detached = true;
                self.state.clock.run();
                self.journal.detached();
                packet
            }
            Some(Stop::Signal(signal)) => {
                self.state.clock.stand();
                if signal == GDB_SIGSTOP && self.state.interrupt == Interrupt::Asked {
                    self.state.interrupt = Interrupt::None;
                    return as_interrupt(&packet);
                }
                packet
            }
            None => packet,
        }
    }

    /// A packet of the stub while the target runs: output, or a stop.
    fn stopped(&mut self, packet: Vec<u8>) -> io::Result<Option<String>> {
        let Some(stop) = stop_of(&packet) else {
            self.tell_peer(&packet);
            return Ok(None);
        };
        if self.is_about_a_borrower(&packet)? {
            return Ok(None);
        }
        let ours = self.stub_order.kind == StubKind::Gdbserver && stop == Stop::Signal(GDB_SIGSTOP);
        match self.state.interrupt {
            Interrupt::Stale if ours => {
                self.state.interrupt = Interrupt::None;
                let again = self.state.last_resume.clone();
                return self.link.send(&again).map(|()| None);
            }
            Interrupt::Asked => self.state.interrupt = if ours { Interrupt::None } else { Interrupt::Stale },
            _ => {}
        }
        let mut report = if ours { as_interrupt(&packet) } else { packet };
        if self.stub_order.kind == StubKind::LldbServer {
            report = names::without_stray_stops_in_report(&report);
        }
        self.state.running = false;
        self.state.clock.stand();
        self.tell_peer(&report);
        if stop == Stop::Ended {
            self.state.facts.detached = true;
            self.state.clock.run();
            self.journal.detached();
        }
        Ok(None)
    }

    fn hear_peer(&mut self) -> io::Result<Option<String>> {
        let Some(peer) = &mut self.state.peer else { return Ok(None) };
        peer.flush()?;
        let open = peer.take()?;
        loop {
            let item = match &mut self.state.peer {
                Some(peer) => peer.next()?,
                None => None,
            };
            match item {
                Some(Item::Packet(packet)) => {
                    if let Some(reason) = self.request(&packet)? {
                        return Ok(Some(reason));
                    }
                }
                Some(Item::Interrupt) if self.state.running => {
                    self.interrupt()?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let reason = if self.state.facts.detached { "detached" } else { "the adapter closed its stream" };
        Ok((!open).then(|| reason.to_owned()))
    }

    fn interrupt(&mut self) -> io::Result<()> {
        self.state.interrupt = Interrupt::Asked;
        self.link.interrupt(self.process)
    }

    /// The adapter wants to leave: everything is undone first, whatever it forgot.
    fn leave(&mut self) -> io::Result<()> {
        self.state.facts.release(&mut self.link, self.process, self.state.running)?;
        self.state.running = false;
        self.state.clock.run();
        self.journal.detached();
        Ok(())
    }

    fn tell_peer(&mut self, packet: &[u8]) {
        if let Some(peer) = &mut self.state.peer {
            peer.send(packet);
        }
    }

    /// However it ended: the target runs afterwards as it did before.
    fn let_go(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        // Whatever the adapter waits for fails now: it must be able to go.
        self.adapter.process.warden = None;
        let state = &mut self.state;
        if state.stub.is_some() && !state.facts.detached && self.process.alive() {
            // An answer that is still on its way must not be taken for one to us.
            while !state.running && state.pending.pop_front().is_some() {
                let _ = self.link.receive(Duration::from_millis(500));
            }
            let released = state.facts.release(&mut self.link, self.process, state.running);
            state.clock.run();
            outcome.join(released.unwrap_or_default());
        }
        state.peer = None;
        self.door.close();
        let _ = self.link.socket().shutdown(std::net::Shutdown::Both);
        if let Some(stub) = &mut state.stub
            && !stub.wait(STUB_ENDS)
        {
            stub.kill();
        }
        state.clock.run();
        outcome.join(state.facts.after(self.process));
        self.journal.detached();
        // Its stream may be held open by an agent that hangs; and it owns no target any more.
        if !self.adapter.bow_out(ADAPTER_ENDS) {
            self.adapter.process.kill();
        }
        outcome
    }
}

/// What there is to do.
struct Ready {
    asked: bool,
    cut: bool,
    control: bool,
    adapter: bool,
    stub: bool,
    peer: bool,
    door: bool,
}

/// Our SIGSTOP as the adapter expects its interrupt: as SIGINT.
fn as_interrupt(packet: &[u8]) -> Vec<u8> {
    [b"T02", packet.get(3..).unwrap_or_default()].concat()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Replaces the first occurrence by something of the same length.
fn replace(packet: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = packet.to_vec();
    if let Some(at) = packet.windows(what.len()).position(|window| window == what) {
        out.splice(at..at + what.len(), with.iter().copied());
    }
    out
}
