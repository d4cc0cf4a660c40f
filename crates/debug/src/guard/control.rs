//! What the guard is told to do and what it reports: JSON lines on a socket between agent and guard.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest line accepted, in bytes.
const MAX_LINE: usize = 64 << 10;

/// The first line: everything about the session to guard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The target, in the agent's `/proc`.
    pub pid: u32,
    /// When it started, in clock ticks after boot.
    pub start_time: u64,
    /// How it is protected.
    pub protect: Protect,
    /// The adapter to start.
    pub adapter: Program,
    /// Without a sign of life from the agent for so long the target is let go, in milliseconds.
    pub lease_millis: u64,
}

/// How the target is protected.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protect {
    /// The adapter connects to this socket, and the guard owns the stub.
    Relay {
        /// Where the adapter's debugger connects; made by the guard, mode 0600.
        socket: PathBuf,
        /// What owns ptrace.
        stub: Stub,
    },
    /// The adapter owns ptrace; the text is put back after its death.
    Text,
}

/// A program that owns ptrace and speaks gdb's remote protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stub {
    /// Which one.
    pub kind: StubKind,
    /// Where it is.
    pub program: PathBuf,
    /// Where it writes what it has to say.
    pub log: PathBuf,
}

/// The stubs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StubKind {
    /// LLVM's `lldb-server gdbserver`.
    LldbServer,
    /// gdb's `gdbserver`.
    Gdbserver,
}

/// A program to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
    /// Where it writes what it has to say.
    pub log: PathBuf,
    /// Its standard input and output are the DAP stream; else it dials by itself.
    pub dap_on_stdio: bool,
    /// SIGTERM makes it detach and end; others it would leave hanging or kill the target.
    pub ends_on_sigterm: bool,
    /// What it may do.
    pub needs: Needs,
}

/// What an adapter needs beside its streams and the target's files; all else that reaches out of it is refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Needs {
    /// The one program it starts by itself, once, by this very path.
    pub program: Option<PathBuf>,
    /// The sockets of this machine that it connects to, each once.
    pub sockets: Vec<PathBuf>,
    /// It dials its stub by TCP, once.
    pub dials_stub: bool,
    /// Its user may have it do whatever they may do themselves.
    pub raw: bool,
}

/// What the agent says later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Tell {
    /// A sign of life.
    Beat,
    /// Take the breakpoints out of the text: the adapter, which owns the target, is about to let go.
    Disarm,
    /// Let go, now.
    Release,
    /// Report the state.
    State,
}

/// What the guard reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Report {
    /// The adapter was started.
    Started {
        /// Its number in the agent's `/proc`.
        adapter: u32,
    },
    /// How the target does.
    State {
        /// It stands still now.
        standing: bool,
        /// How long it stood still in all, in microseconds.
        stood_micros: u64,
        /// Breakpoints that are in the target now.
        points: u32,
    },
    /// The last report.
    Ended {
        /// Why, for people: "detached", "adapter died", "lease lost".
        reason: String,
        /// How long the target stood still in all, in microseconds.
        stood_micros: u64,
        /// What had to be put back.
        repairs: Vec<String>,
        /// What could not be.
        left_behind: Vec<String>,
    },
}

/// Hands the guard a descriptor, with an empty line.
pub(super) fn entrust(control: &UnixStream, stream: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let streams = [stream];
    ancillary.push(SendAncillaryMessage::ScmRights(&streams));
    rustix::net::sendmsg(control, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// The guard's end of the control stream.
#[derive(Debug)]
pub(super) struct Control {
    socket: UnixStream,
    bytes: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
    /// The agent's end of the adapter's stream, which must not end with the agent.
    pub(super) entrusted: Option<OwnedFd>,
    /// The agent has gone.
    pub(super) closed: bool,
}

impl Control {
    pub(super) fn new(socket: UnixStream) -> Control {
        Control { socket, bytes: Vec::new(), lines: VecDeque::new(), entrusted: None, closed: false }
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Waits for the first line; none comes when the agent has no work for the guard, or has gone.
    pub(super) fn order(&mut self) -> io::Result<Option<Order>> {
        loop {
            if let Some(order) = self.next()? {
                return Ok(Some(order));
            }
            if self.closed {
                return Ok(None);
            }
            self.read()?;
        }
    }

    /// Takes what has come, without waiting if the socket does not block.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.receive(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                while let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
                    self.lines.push_back(self.bytes.drain(..=end).collect());
                }
                if self.bytes.len() > MAX_LINE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.closed = true,
        }
        Ok(())
    }

    /// Bytes, and a descriptor that came with them.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(buffer)];
        let received = rustix::net::recvmsg(&self.socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut files) = message {
                self.entrusted = files.next();
            }
        }
        Ok(received.bytes)
    }

    /// The adapter's stream ends now, whoever else holds an end of it.
    pub(super) fn end_entrusted(&mut self) {
        if let Some(stream) = self.entrusted.take() {
            let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Both);
        }
    }

    /// The next line that is understood; others are skipped, a newer agent may say more.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        while let Some(line) = self.lines.pop_front() {
            if let Ok(told) = serde_json::from_slice(&line) {
                return Ok(Some(told));
            }
        }
        Ok(None)
    }

    /// Reports; an agent that has gone or does not read is not waited for.
    pub(super) fn report(&self, report: &Report) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            let _ = (&self.socket).write(&line);
        }
    }
}
