//! The stub's stream: start it, ask, interrupt.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use pepo_process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    cage::Inmate,
    child::{self, Watched},
    control::{Stub, StubKind},
    packet::{Decoder, Item, encode},
    request::{Stop, stop_of},
};

/// How long a stub may take for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// How long it may take to attach and say its first word; a large program on a loaded machine takes long.
pub(super) const ATTACH: Duration = Duration::from_secs(30);

/// The stream to a stub.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    decoder: Decoder,
    kind: StubKind,
}

impl Link {
    pub(super) fn new(socket: UnixStream, kind: StubKind) -> io::Result<Link> {
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(ANSWER))?;
        Ok(Link { socket, decoder: Decoder::default(), kind })
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Agrees on a stream without acknowledgements. Also waits until the stub has attached.
    pub(super) fn greet(&mut self) -> io::Result<()> {
        self.send(b"QStartNoAckMode")?;
        let answer = self.receive(ATTACH)?;
        self.socket.write_all(b"+")?;
        match answer.as_deref() {
            Some(b"OK") => Ok(()),
            Some(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the stub insists on acknowledgements"))
            }
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub(super) fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.socket.write_all(&encode(payload))
    }

    /// Whatever is readable now goes to the decoder; `false` at the end of the stream.
    pub(super) fn take(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.decoder.feed(&buffer[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next packet or notification that was taken.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            match self
                .decoder
                .next_item()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            {
                Some(Item::Ack | Item::Nak | Item::Interrupt) => {}
                other => return Ok(other),
            }
        }
    }

    /// The next packet; `None` when none came in time.
    pub(super) fn receive(&mut self, within: Duration) -> io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + within;
        loop {
            match self.next()? {
                Some(Item::Packet(packet)) => return Ok(Some(packet)),
                Some(_) => continue,
                None => {}
            }
            if !readable(&self.socket, until.saturating_duration_since(Instant::now()))? {
                return Ok(None);
            }
            if !self.take()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Asks and waits for the answer.
    pub(super) fn ask(&mut self, payload: &[u8]) -> io::Result<Vec<u8>> {
        self.send(payload)?;
        self.receive(ANSWER)?.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Makes the running target stop; the stub then reports it.
    ///
    /// gdbserver answers the interrupt byte with SIGINT to the target's whole process group: programs of the same group that
    /// nobody debugs would die of it. So it gets SIGSTOP, for one thread of the target alone.
    pub(super) fn interrupt(&mut self, process: &Process) -> io::Result<()> {
        if self.kind == StubKind::Gdbserver && self.stop_one_thread(process).is_ok() {
            return Ok(());
        }
        self.socket.write_all(&[0x03])
    }

    fn stop_one_thread(&self, process: &Process) -> io::Result<()> {
        let threads = process.threads().map_err(io::Error::other)?;
        let alive = threads.iter().find(|thread| !thread.state.is_zombie() && thread.tracer != 0);
        let tid = alive.ok_or(io::ErrorKind::NotFound)?.tid.get();
        child::stop_thread(process.pid().get(), tid)
    }

    /// Interrupts and waits for the report of the stop.
    pub(super) fn halt(&mut self, process: &Process) -> io::Result<Stop> {
        for _ in 0..3 {
            self.interrupt(process)?;
            let until = Instant::now() + ANSWER;
            while let Some(answer) = self.receive(until.saturating_duration_since(Instant::now()))? {
                if let Some(stop) = stop_of(&answer) {
                    return Ok(stop);
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// In non-stop mode.
impl Link {
    /// Stops every thread; their own reports are not waited for, their states tell.
    pub(super) fn halt_threads(&mut self, process: &Process, multiprocess: bool) -> io::Result<()> {
        let all = if multiprocess {
            format!("vCont;t:p{:x}.-1", process.pid().get())
        } else {
            "vCont;t".to_owned()
        };
        self.ask(all.as_bytes())?;
        let until = Instant::now() + ANSWER;
        while runs(process) {
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Is there a thread that its tracer does not hold still?
pub(super) fn runs(process: &Process) -> bool {
    let threads = process.threads().unwrap_or_default();
    threads.iter().any(|thread| !thread.state.is_traced() && !thread.state.is_zombie())
}

/// Starts a stub on a process; it attaches at once.
pub(super) fn start(stub: &Stub, pid: u32, theirs: UnixStream) -> io::Result<Watched> {
    let mut command = super::command(&stub.program);
    command.current_dir("/");
    match stub.kind {
        StubKind::LldbServer => {
            let fd = theirs.as_raw_fd();
            command.args(["gdbserver", "--fd", &fd.to_string(), "--attach", &pid.to_string()]);
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            child::start(command, Inmate::Stub, &stub.log, vec![(fd, fd)])
        }
        StubKind::Gdbserver => {
            command.args(["--once", "-", "--attach", &pid.to_string()]);
            let copy = theirs.try_clone()?;
            command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(std::os::fd::OwnedFd::from(copy));
            child::start(command, Inmate::Stub, &stub.log, Vec::new())
        }
    }
}

/// Waits until there is something to read, or the other end has gone.
pub(super) fn readable(fd: &impl AsFd, within: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    wait(&mut fds, within)?;
    let [fd] = fds;
    Ok(!fd.revents().is_empty())
}

/// poll(2) with a duration.
pub(super) fn wait(fds: &mut [PollFd<'_>], within: Duration) -> io::Result<()> {
    let within = Timespec {
        tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: within.subsec_nanos().into(),
    };
    match poll(fds, Some(&within)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
