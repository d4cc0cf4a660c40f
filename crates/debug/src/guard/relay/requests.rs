//! What an adapter asks for: answered here, or noted and passed on to the stub.

use std::io;

use super::{Peer, Pending, Relay, SETTLES, calls::Change, contains, names};
use crate::guard::{
    control::StubKind,
    files::EXE,
    request::{Request, written},
};

/// The most bytes that are read without the stub: a packet must hold them twice.
const MAX_READ: u64 = 32 << 10;

impl Relay<'_> {
    /// A request of the adapter on its way to the stub.
    pub(super) fn request(&mut self, packet: &[u8]) -> io::Result<Option<String>> {
        let target = u64::from(self.process.pid().get());
        let request = Request::of(packet);
        if self.state.facts.detached {
            let late = if matches!(request, Request::Detach(_)) { "OK" } else { "E01" };
            self.tell_peer(late.as_bytes());
            return Ok(None);
        }
        match request {
            Request::Refused(answer) => self.tell_peer(answer.as_bytes()),
            Request::NoAck => {
                self.tell_peer(b"OK");
                self.state.peer.iter_mut().for_each(Peer::no_more_acks);
            }
            Request::Kill { answer } => {
                self.leave()?;
                self.state.peer.iter_mut().for_each(Peer::dismiss);
                if let Some(answer) = answer {
                    self.tell_peer(answer.as_bytes());
                }
            }
            Request::Detach(process) if process.is_none_or(|process| process == target) => {
                self.leave()?;
                self.state.peer.iter_mut().for_each(Peer::dismiss);
                self.tell_peer(b"OK");
            }
            Request::ExecutableFile => {
                self.tell_peer(format!("l{EXE}").as_bytes());
            }
            Request::Settled => {
                if self.state.unsettled > 0 {
                    self.state.unsettled -= 1;
                    std::thread::sleep(SETTLES);
                }
                self.tell_peer(b"OK");
            }
            Request::Interrupt => {
                self.interrupt()?;
                self.tell_peer(b"OK");
            }
            Request::NonStop(on) if self.stub_order.kind == StubKind::LldbServer => {
                self.tell_peer(if on { &b"E01"[..] } else { &b"OK"[..] });
            }
            other => match self.memory(&other) {
                Some(bytes) => self.tell_peer(names::to_hex(&bytes).as_bytes()),
                None => self.pass_on(other, packet, target)?,
            },
        }
        Ok(None)
    }

    /// What a read of memory finds, as the stub would tell it; `None` when only the stub can.
    ///
    /// delve reads a hundred times, eight bytes each, to tell of one goroutine: it should not wait for the stub as well.
    fn memory(&self, request: &Request) -> Option<Vec<u8>> {
        let Request::Read { address, length } = *request else { return None };
        let state = &self.state;
        if state.running || state.elsewhere || !state.pending.is_empty() || length > MAX_READ {
            return None;
        }
        let mut bytes = state.memory.as_ref()?.read_up_to(address, length as usize).ok()?;
        // A stub hides its own breakpoints.
        for point in state.facts.points.iter().filter(|point| point.kind == 0) {
            for at in (0..point.text_length() as u64).map(|offset| point.address.wrapping_add(offset)) {
                let here =
                    at.checked_sub(address).and_then(|offset| bytes.get_mut(usize::try_from(offset).ok()?));
                if let Some(byte) = here {
                    *byte = state.facts.patches.before(at)?;
                }
            }
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// A request that goes to the stub.
    fn pass_on(&mut self, request: Request, packet: &[u8], target: u64) -> io::Result<()> {
        match request {
            Request::Resume(resume) if self.state.facts.non_stop => {
                self.state.calls.resumed();
                if resume.windows(2).any(|two| matches!(two, b";c" | b";C" | b";s" | b";S" | b";r")) {
                    self.state.clock.run();
                }
                self.state.pending.push_back(Pending::Plain);
                self.link.send(&resume)?;
            }
            Request::Resume(resume) => {
                self.state.running = true;
                self.state.calls.resumed();
                self.state.clock.run();
                self.link.send(&resume)?;
                self.state.last_resume = resume;
            }
            Request::ProgramSignals(signals) => {
                self.state.pending.push_back(Pending::Plain);
                self.link.send(&signals)?;
            }
            other => {
                if other == Request::Threads {
                    self.state.unsettled = self.state.unsettled.min(1);
                }
                if let Request::Select(process) = other {
                    self.state.calls.select(packet.get(2..).unwrap_or_default());
                    self.state.elsewhere = process.is_some_and(|process| process != target && process != 0);
                }
                let pending = self.expect(other, packet);
                self.state.pending.push_back(pending);
                self.link.send(packet)?;
            }
        }
        Ok(())
    }

    /// Notes what a request is going to change, before it is passed on.
    fn expect(&mut self, request: Request, packet: &[u8]) -> Pending {
        match request {
            Request::Insert(point) if !self.state.elsewhere => {
                // What a breakpoint looks like is known for one architecture; on others any change counts.
                let code = if cfg!(target_arch = "x86_64") { Some(0xcc) } else { None };
                self.note(point.address, &vec![code; point.text_length()]);
                self.journal.insert(point);
                Pending::Insert(point, self.state.facts.points.insert(point))
            }
            Request::Remove(point) if !self.state.elsewhere => Pending::Remove(point),
            Request::Write { address, .. } if self.is_text(address) => {
                let bytes: Vec<_> = written(packet).into_iter().map(Some).collect();
                self.note(address, &bytes);
                Pending::Plain
            }
            Request::Allocate => Pending::Allocate,
            Request::Free(address) => Pending::Free(address),
            Request::SaveRegisters => {
                let suffix = packet.iter().position(|&byte| byte == b';').and_then(|at| packet.get(at..));
                Pending::SaveRegisters(suffix.unwrap_or_default().to_vec())
            }
            Request::RestoreRegisters(state) => Pending::RestoreRegisters(state),
            Request::NonStop(true) => Pending::NonStop,
            Request::Threads => Pending::Threads,
            Request::ReadRegisters => Pending::Registers,
            Request::WriteRegisters(registers) => {
                self.registers_change(&registers);
                Pending::Plain
            }
            Request::ProcessInfo => Pending::ProcessInfo,
            Request::Supported => Pending::Supported(contains(packet, b"multiprocess+")),
            _ => Pending::Plain,
        }
    }

    /// gdb begins a call, or ends one.
    fn registers_change(&mut self, registers: &[u8]) {
        let calls = &mut self.state.facts.calls;
        match self.state.calls.written(registers, calls) {
            Some(Change::Begins(thread, before)) => {
                self.journal.call(&thread, &before);
                calls.insert(thread, before);
            }
            Some(Change::Ends(thread)) => {
                self.journal.call_ended(&thread);
                calls.remove(&thread);
            }
            None => {}
        }
    }

    fn note(&mut self, address: u64, written: &[Option<u8>]) {
        if let Some(memory) = &self.state.memory {
            for (address, patch) in self.state.facts.patches.note(memory, address, written) {
                self.journal.patch(address, patch);
            }
        }
    }

    fn is_text(&self, address: u64) -> bool {
        crate::text::text_maps(self.process).is_ok_and(|maps| maps.iter().any(|map| map.contains(address)))
    }
}
