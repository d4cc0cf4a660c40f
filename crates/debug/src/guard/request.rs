//! What a debugger asks a stub, as far as the guard must know it, and which requests it refuses.
//!
//! The guard passes on what it does not know: debuggers have hundreds of requests. It must know those that change the
//! target's text, those that let the target run, and those that could end it.

use super::packet::hex;

/// A breakpoint or watchpoint as `Z` and `z` packets name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// 0 software, 1 hardware, 2 write, 3 read, 4 access.
    pub kind: u8,
    /// Where.
    pub address: u64,
    /// Bytes for a software breakpoint, length for a watchpoint.
    pub length: u64,
}

impl Point {
    /// The packet that removes it.
    #[must_use]
    pub fn removal(&self) -> Vec<u8> {
        format!("z{},{:x},{:x}", self.kind, self.address, self.length).into_bytes()
    }

    /// The packet that inserts it.
    #[must_use]
    pub fn insertion(&self) -> Vec<u8> {
        format!("Z{},{:x},{:x}", self.kind, self.address, self.length).into_bytes()
    }

    /// The bytes it changes in the target's text; none for those that live in registers.
    #[must_use]
    pub fn text_length(&self) -> usize {
        // The length of a software breakpoint is a hint: the longest instruction used for one is 4 bytes long.
        if self.kind == 0 { self.length.clamp(1, 4) as usize } else { 0 }
    }

    fn parse(rest: &[u8]) -> Option<Point> {
        let mut fields = rest.split(|&byte| byte == b',' || byte == b';');
        let kind = hex(fields.next()?)?;
        let address = hex(fields.next()?)?;
        let length = hex(fields.next()?)?;
        (kind <= 4).then_some(Point { kind: kind as u8, address, length })
    }
}

/// A request, sorted by what the guard does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Insert a breakpoint.
    Insert(Point),
    /// Remove one.
    Remove(Point),
    /// Read memory, answered in hexadecimal.
    Read {
        /// First address.
        address: u64,
        /// Bytes.
        length: u64,
    },
    /// Write memory: where and how much.
    Write {
        /// First address.
        address: u64,
        /// Bytes.
        length: u64,
    },
    /// Let the target run or step; the packet to send instead when it held something deadly.
    Resume(Vec<u8>),
    /// Let go of a process; of the target when none is named.
    Detach(Option<u64>),
    /// Which process the next requests are about; `None` for any.
    Select(Option<u64>),
    /// End the target: the guard lets go instead.
    Kill {
        /// What the asker expects to hear; `None` for nothing.
        answer: Option<&'static str>,
    },
    /// Which signals the stub may deliver by itself, as when it lets go; the packet to send instead.
    ProgramSignals(Vec<u8>),
    /// From now on without acknowledgements.
    NoAck,
    /// What each side can do.
    Supported,
    /// From now on threads stop one by one, and stops are notified; or no longer so.
    NonStop(bool),
    /// Stop the target, as a request.
    Interrupt,
    /// All threads' stops: LLDB has taken note that the target stands.
    Threads,
    /// The path of the target's executable.
    ExecutableFile,
    /// Facts of the target, the path of its executable among them.
    ProcessInfo,
    /// A question of ours, sent by LLDB ([`SETTLED`]): answered by the relay, slowly until LLDB has taken note of the stop.
    Settled,
    /// Tell the registers of the selected thread.
    ReadRegisters,
    /// Write them.
    WriteRegisters(Vec<u8>),
    /// Reserve memory in the target; the answer is its address.
    Allocate,
    /// Give it back.
    Free(u64),
    /// Keep a thread's registers; the answer is a number.
    SaveRegisters,
    /// Put them back.
    RestoreRegisters(Vec<u8>),
    /// Not passed on; this is answered.
    Refused(&'static str),
    /// Passed on as it is.
    Plain,
}

/// Starts of requests that are never passed on: they start, end or leave the target, change the stub itself, run its own
/// commands or write files. An empty answer means "not known here".
const REFUSED: &[(&[u8], &str)] = &[
    (b"vRun", ""),
    (b"vAttach", ""),
    (b"vFlash", ""),
    (b"A", ""),
    (b"!", ""),
    (b"R", ""),
    (b"r", ""),
    (b"b", ""),
    (b"B", ""),
    (b"t", ""),
    (b"QLaunchArch", ""),
    (b"QSetSTD", ""),
    (b"QSetDisableASLR", ""),
    (b"QSetDetachOnError", "OK"),
    (b"qRcmd", ""),
    (b"qLaunch", ""),
    (b"qPlatform", ""),
    (b"qSpeedTest", ""),
    (b"qKillSpawnedProcess", ""),
    (b"QTFrame", ""),
    (b"QTStart", ""),
    (b"vFile:pwrite", ""),
    (b"vFile:unlink", ""),
    (b"vFile:symlink", ""),
];

/// SIGKILL has the same number in gdb's and in Linux' own numbering.
const SIGKILL: u64 = 9;
/// For `vFile:open`: O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_TRUNC and O_EXCL in gdb's own numbering and LLDB's.
const WRITING_FLAGS: u64 = 0x1 | 0x2 | 0x8 | 0x200 | 0x400 | 0x800;

/// lldb-dap looks at the process's state right after it has connected, and gives up when the report of its stop, which another
/// of its threads deals with, comes a moment later ("process unloaded during launch or attach"). It is told to send this
/// packet some times in between, which gives that thread time.
pub const SETTLED: &str = "qPepoSettled";

impl Request {
    /// Sorts a packet. What is malformed counts as plain: the stub answers it.
    #[must_use]
    pub fn of(packet: &[u8]) -> Request {
        if let Some((_, answer)) = REFUSED.iter().find(|(start, _)| packet.starts_with(start)) {
            return Request::Refused(answer);
        }
        match packet {
            [b'Z', rest @ ..] => Point::parse(rest).map_or(Request::Refused("E01"), Request::Insert),
            [b'z', rest @ ..] => Point::parse(rest).map_or(Request::Refused("E01"), Request::Remove),
            [b'm', rest @ ..] => read_of(rest),
            [b'M' | b'X', rest @ ..] => write_of(rest),
            [b'c' | b'C' | b's' | b'S', rest @ ..] => old_resume(packet, rest),
            [b'D', b';', pid @ ..] => {
                hex(pid).map_or(Request::Refused("E01"), |pid| Request::Detach(Some(pid)))
            }
            [b'D', ..] => Request::Detach(None),
            [b'H', b'g', thread @ ..] => Request::Select(process_of(thread)),
            [b'g'] => Request::ReadRegisters,
            [b'G', registers @ ..] => Request::WriteRegisters(registers.to_vec()),
            [b'k'] => Request::Kill { answer: Some("X09") },
            [b'k', ..] => Request::Kill { answer: None },
            [b'_', b'M', ..] => Request::Allocate,
            [b'_', b'm', address @ ..] => hex(address).map_or(Request::Plain, Request::Free),
            _ => by_name(packet),
        }
    }
}

/// Requests with longer names.
fn by_name(packet: &[u8]) -> Request {
    if packet.starts_with(b"vKill") {
        return Request::Kill { answer: Some("OK") };
    }
    if let Some(signals) = packet.strip_prefix(b"QProgramSignals:") {
        return Request::ProgramSignals(without_faults(signals));
    }
    if packet == b"QStartNoAckMode" {
        return Request::NoAck;
    }
    if let Some(on) = packet.strip_prefix(b"QNonStop:") {
        return Request::NonStop(on == b"1");
    }
    if packet == SETTLED.as_bytes() {
        return Request::Settled;
    }
    if packet.starts_with(b"qXfer:exec-file:read:") {
        return Request::ExecutableFile;
    }
    if packet == b"qProcessInfo" || packet.starts_with(b"qProcessInfoPID:") {
        return Request::ProcessInfo;
    }
    if packet == b"jThreadsInfo" {
        return Request::Threads;
    }
    if packet == b"vCtrlC" {
        return Request::Interrupt;
    }
    if packet == b"qSupported" || packet.starts_with(b"qSupported:") {
        return Request::Supported;
    }
    if packet.starts_with(b"QSaveRegisterState") {
        return Request::SaveRegisters;
    }
    if let Some(state) = packet.strip_prefix(b"QRestoreRegisterState:") {
        let number = state.split(|&byte| byte == b';').next().unwrap_or_default();
        return Request::RestoreRegisters(number.to_vec());
    }
    if let Some(actions) = packet.strip_prefix(b"vCont;") {
        return vcont(actions);
    }
    if let Some(open) = packet.strip_prefix(b"vFile:open:") {
        let flags = open.split(|&byte| byte == b',').nth(1).and_then(hex);
        return if flags.is_some_and(|flags| flags & WRITING_FLAGS == 0) {
            Request::Plain
        } else {
            Request::Refused("F-1,d")
        };
    }
    Request::Plain
}

/// `QProgramSignals` without the signals of faults. gdb's call of a function ends with one, on purpose, which is the last that the stub
/// has seen of the thread: when it let go it would deliver it. Whoever really has one comes to it again by running on.
fn without_faults(signals: &[u8]) -> Vec<u8> {
    // SIGILL, SIGTRAP, SIGEMT, SIGFPE, SIGBUS, SIGSEGV in gdb's own numbering.
    let is_fault =
        |signal: &&[u8]| hex(signal).is_some_and(|signal| matches!(signal, 4 | 5 | 7 | 8 | 10 | 11));
    let kept: Vec<&[u8]> = signals.split(|&byte| byte == b';').filter(|signal| !is_fault(signal)).collect();
    [b"QProgramSignals:", &kept.join(&b';')[..]].concat()
}

fn read_of(rest: &[u8]) -> Request {
    let mut fields = rest.splitn(2, |&byte| byte == b',');
    match (fields.next().and_then(hex), fields.next().and_then(hex)) {
        (Some(address), Some(length)) => Request::Read { address, length },
        _ => Request::Plain,
    }
}

fn write_of(rest: &[u8]) -> Request {
    let head = rest.split(|&byte| byte == b':').next().unwrap_or_default();
    let mut fields = head.split(|&byte| byte == b',');
    match (fields.next().and_then(hex), fields.next().and_then(hex)) {
        (Some(address), Some(length)) => Request::Write { address, length },
        _ => Request::Refused("E01"),
    }
}

/// The process in a thread's name `pPID.TID`.
#[must_use]
pub fn process_of(thread: &[u8]) -> Option<u64> {
    hex(thread.strip_prefix(b"p")?.split(|&byte| byte == b'.').next()?)
}

/// The bytes that an `M` or `X` packet writes.
#[must_use]
pub fn written(packet: &[u8]) -> Vec<u8> {
    let Some(colon) = packet.iter().position(|&byte| byte == b':') else { return Vec::new() };
    let data = packet.get(colon + 1..).unwrap_or_default();
    if packet.first() == Some(&b'M') { from_hex(data) } else { unescape(data) }
}

/// Two hexadecimal digits a byte; what is no digit is left out.
#[must_use]
pub fn from_hex(data: &[u8]) -> Vec<u8> {
    data.chunks(2).filter_map(|pair| hex(pair).map(|byte| byte as u8)).collect()
}

/// Binary data without its escapes.
#[must_use]
pub fn unescape(data: &[u8]) -> Vec<u8> {
    let mut data = data.iter();
    let mut out = Vec::new();
    while let Some(&byte) = data.next() {
        // In binary data `}` announces a byte that is sent with bit 5 flipped.
        out.push(if byte == b'}' { data.next().map_or(byte, |next| next ^ 0x20) } else { byte });
    }
    out
}

/// `c`, `s`, and `C sig`, `S sig` from the days before `vCont`.
fn old_resume(packet: &[u8], rest: &[u8]) -> Request {
    let signalled = matches!(packet.first(), Some(b'C' | b'S'));
    let signal = rest.split(|&byte| byte == b';').next().and_then(hex);
    match packet.first() {
        Some(b'C') if signalled && signal == Some(SIGKILL) => Request::Resume(b"c".to_vec()),
        Some(b'S') if signalled && signal == Some(SIGKILL) => Request::Resume(b"s".to_vec()),
        _ => Request::Resume(packet.to_vec()),
    }
}

/// `vCont;action[:thread];…` with SIGKILL taken out of the actions.
fn vcont(actions: &[u8]) -> Request {
    let mut out = b"vCont".to_vec();
    for action in actions.split(|&byte| byte == b';') {
        let (act, thread) = match action.iter().position(|&byte| byte == b':') {
            Some(colon) => action.split_at(colon),
            None => (action, &[][..]),
        };
        out.push(b';');
        match act {
            [b'C', signal @ ..] if hex(signal) == Some(SIGKILL) => out.push(b'c'),
            [b'S', signal @ ..] if hex(signal) == Some(SIGKILL) => out.push(b's'),
            _ => out.extend_from_slice(act),
        }
        out.extend_from_slice(thread);
    }
    Request::Resume(out)
}

/// Is this answer of a stub the report of a stop, after the target was let run?
#[must_use]
pub fn stop_of(answer: &[u8]) -> Option<Stop> {
    match answer {
        [b'T' | b'S', high, low, ..] => hex(&[*high, *low]).map(|signal| Stop::Signal(signal as u8)),
        [b'W' | b'X', ..] => Some(Stop::Ended),
        [b'N', ..] => Some(Stop::Signal(0)),
        _ => None,
    }
}

/// How a target stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By this signal, in the stub's own numbering.
    Signal(u8),
    /// It ended.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(packet: &str, expected: Request) {
        assert_eq!(Request::of(packet.as_bytes()), expected, "{packet}");
    }

    #[test]
    fn breakpoints_of_every_kind_are_known() {
        let point = Point { kind: 0, address: 0x401_136, length: 1 };
        check("Z0,401136,1", Request::Insert(point));
        check("z0,401136,1", Request::Remove(point));
        check("Z0,401136,1;cmds:1,X1", Request::Insert(point));
        check("Z2,7fff0010,8", Request::Insert(Point { kind: 2, address: 0x7fff_0010, length: 8 }));
        check("Z9,1,1", Request::Refused("E01"));
        check("Z0,xyz,1", Request::Refused("E01"));
        assert_eq!(point.removal(), b"z0,401136,1");
    }

    #[test]
    fn nothing_that_ends_or_leaves_the_target_passes() {
        check("k", Request::Kill { answer: Some("X09") });
        check("vKill;1a2b", Request::Kill { answer: Some("OK") });
        for packet in [
            "vRun;2f62696e",
            "vAttach;1",
            "A6,0,666f6f",
            "R00",
            "!",
            "qRcmd,65786974",
            "t01",
            "bs",
            "vFile:unlink:2f",
        ] {
            check(packet, Request::Refused(""));
        }
        check("QNonStop:1", Request::NonStop(true));
        check("vCtrlC", Request::Interrupt);
        check("vFile:open:2f6574632f,601,1a4", Request::Refused("F-1,d"));
        check("vFile:open:2f6574632f,0,0", Request::Plain);
    }

    #[test]
    fn a_deadly_signal_is_taken_out_of_a_resume() {
        check("vCont;C09:p1.1;c", Request::Resume(b"vCont;c:p1.1;c".to_vec()));
        check("vCont;S9:1", Request::Resume(b"vCont;s:1".to_vec()));
        check("C09", Request::Resume(b"c".to_vec()));
        check("vCont;C0b:1;c", Request::Resume(b"vCont;C0b:1;c".to_vec()));
        check("s", Request::Resume(b"s".to_vec()));
        check("vCont?", Request::Plain);
    }

    #[test]
    fn a_fault_is_never_delivered_by_the_stub_itself() {
        let kept = Request::ProgramSignals(b"QProgramSignals:1;3;6;9;c;97".to_vec());
        check("QProgramSignals:1;3;4;5;6;7;8;9;a;b;c;97", kept);
        check("QProgramSignals:b", Request::ProgramSignals(b"QProgramSignals:".to_vec()));
    }

    #[test]
    fn reads_and_writes_are_seen() {
        check("m401000,8", Request::Read { address: 0x401_000, length: 8 });
        check("m401000", Request::Plain);
        check("mx,8", Request::Plain);
        check("M401000,2:90cc", Request::Write { address: 0x401_000, length: 2 });
        check("X401000,0:", Request::Write { address: 0x401_000, length: 0 });
        check("Mzz", Request::Refused("E01"));
        assert_eq!(written(b"M401000,2:90cc"), [0x90, 0xcc]);
        assert_eq!(written(b"X401000,3:a}\x03:"), [b'a', b'#', b':']);
    }

    #[test]
    fn it_is_known_which_process_is_meant() {
        check("D", Request::Detach(None));
        check("D1", Request::Detach(None));
        check("D;1a2b", Request::Detach(Some(0x1a2b)));
        check("Hgp1a2b.-1", Request::Select(Some(0x1a2b)));
        check("Hg0", Request::Select(None));
        check("Hc-1", Request::Plain);
    }

    #[test]
    fn stops_are_told_from_other_answers() {
        assert_eq!(stop_of(b"T05thread:1;"), Some(Stop::Signal(5)));
        assert_eq!(stop_of(b"W00"), Some(Stop::Ended));
        assert_eq!(stop_of(b"OK"), None);
        assert_eq!(stop_of(b"Tx"), None);
    }
}
