//! JavaScript's own frames, from the profiler that is in every Node (18 and newer): reached through its inspector, which SIGUSR1 opens at a
//! port of the target's own network namespace (`node --help`, `process`; "Chrome DevTools Protocol", domain Profiler).
//!
//! The signal is sent only to a process that has a handler for it: a Node that is still starting would die of it. What was opened is
//! closed again. As long as it is open a timer in the program closes it by itself soon after nobody has put it off (`LEASE`), and until
//! that is armed another process would ([`keeper`]): so a recorder which is killed leaves no port behind.

/// Who closes it when its opener dies.
mod keeper;
/// The listening port of the inspector.
mod port;
/// V8's profile.
mod profile;
/// WebSocket, as far as the inspector speaks it.
mod websocket;

use std::{
    collections::HashSet,
    fs,
    io::{self, Read, Write as _},
    net::{Ipv4Addr, TcpStream},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    time::{Duration, Instant},
};

use pepo_process::Process;
use rustix::{
    process::Signal,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::{Value, json};

pub(crate) use self::profile::samples;
use self::{keeper::Keeper, websocket::WebSocket};

/// How long an answer may take: the program's thread may be in a call of the system that blocks it.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the port may take to open, and to close.
const OPENS: Duration = Duration::from_secs(3);
/// How long it is waited for a port that opens late, to close it when nobody wants it any more.
const LATE: Duration = Duration::from_mins(10);
/// The program closes the inspector by itself when it was not asked for this long, in milliseconds.
const LEASE: u32 = 10_000;
/// Most bytes of the list of what can be inspected.
const LIST: u64 = 64 << 10;

/// Why there is no inspector, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) String);

impl From<std::io::Error> for Closed {
    fn from(error: std::io::Error) -> Closed {
        Closed(format!("its inspector does not answer: {error}"))
    }
}

/// A connected inspector.
pub(crate) struct Inspector<'a> {
    process: &'a Process,
    socket: WebSocket<TcpStream>,
    port: u16,
    /// Was it open before?
    was_open: bool,
    next: u64,
    /// A profile that has ended.
    ended: Option<Value>,
}

impl<'a> Inspector<'a> {
    /// Opens the inspector, unless it is open, and connects to it.
    ///
    /// # Errors
    /// Why that cannot be; nothing is left open.
    pub(crate) fn open(process: &'a Process) -> Result<Inspector<'a>, Closed> {
        let network = Network::of(process)?;
        if let Some(port) = port::told(process) {
            return Inspector::connected(process, &network, port, true);
        }
        let before = port::listening(process);
        may_be_opened(process, &network)?;
        let keeper = Keeper::start(|| closed(process, &network, &before))?;
        process.signal(Signal::USR1).map_err(|error| Closed(error.to_string()))?;
        let port = opened(process, &before)?;
        let mut inspector = Inspector::connected(process, &network, port, false)?;
        inspector.renew()?;
        keeper.leave();
        Ok(inspector)
    }

    fn connected(
        process: &'a Process,
        network: &Network,
        port: u16,
        was_open: bool,
    ) -> Result<Inspector<'a>, Closed> {
        let socket = connect(network, port)?;
        Ok(Inspector { process, socket, port, was_open, next: 0, ended: None })
    }

    /// Was it opened by us, and at which port?
    pub(crate) fn opened_port(&self) -> Option<u16> {
        (!self.was_open).then_some(self.port)
    }

    /// Calls a method and waits for its result.
    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, Closed> {
        self.next += 1;
        let id = self.next;
        self.socket.send(&json!({"id": id, "method": method, "params": parameters}).to_string())?;
        let end = Instant::now() + ANSWER;
        while Instant::now() < end {
            let text = self.socket.receive()?;
            let mut message: Value = serde_json::from_slice(&text)
                .map_err(|error| Closed(format!("its inspector's answer is not understood: {error}")))?;
            if message["method"] == "Profiler.consoleProfileFinished" {
                self.ended = Some(message["params"]["profile"].take());
            }
            if message["id"] == id {
                return match message.get("error") {
                    Some(error) => {
                        Err(Closed(format!("its inspector refuses {method}: {}", error["message"])))
                    }
                    None => Ok(message["result"].take()),
                };
            }
        }
        Err(Closed(format!("its inspector gives no answer to {method} within {} s", ANSWER.as_secs())))
    }

    /// Puts off the time at which the program closes what we opened.
    pub(crate) fn renew(&mut self) -> Result<(), Closed> {
        if self.was_open {
            return Ok(());
        }
        self.evaluate(&format!(
            "(() => {{ const key = Symbol.for('pepo'); clearTimeout(globalThis[key]); \
             globalThis[key] = setTimeout(() => {{ delete globalThis[key]; process._debugEnd(); }}, {LEASE}).unref(); }})()"
        ))
    }

    /// Starts the profiler, which samples each so many microseconds.
    pub(crate) fn profile(&mut self, interval: u32) -> Result<(), Closed> {
        self.call("Profiler.enable", &json!({}))?;
        self.call("Profiler.setSamplingInterval", &json!({"interval": interval}))?;
        self.evaluate("profile('pepo 0')")
    }

    /// The profile since the last one. The next begins before it ends, for without any the profiler forgets which calls are compiled into
    /// their callers: the two overlap by a moment.
    pub(crate) fn fetch(&mut self, number: u64) -> Result<Value, Closed> {
        self.evaluate(&format!("profile('pepo {}'); profileEnd('pepo {number}')", number + 1))?;
        self.ended.take().ok_or_else(|| Closed("its profiler was stopped by another".to_owned()))
    }

    fn evaluate(&mut self, expression: &str) -> Result<(), Closed> {
        let parameters = json!({"expression": expression, "silent": true, "includeCommandLineAPI": true});
        let answer = self.call("Runtime.evaluate", &parameters)?;
        match answer.get("exceptionDetails") {
            None => Ok(()),
            Some(why) => Err(Closed(format!("its inspector does not do as it is told: {}", why["text"]))),
        }
    }

    /// Closes what was opened; what is left, in words.
    pub(crate) fn close(mut self) -> Option<String> {
        let _ = self.call("Profiler.disable", &json!({}));
        if self.was_open {
            return None;
        }
        // The answer to the last words is cut off by what they do.
        let _ = self.evaluate(
            "(() => { const key = Symbol.for('pepo'); clearTimeout(globalThis[key]); delete globalThis[key]; process._debugEnd(); })()",
        );
        drop(self.socket);
        let end = Instant::now() + OPENS;
        while self.process.alive() && port::listening(self.process).contains(&self.port) {
            if Instant::now() > end {
                return Some(format!(
                    "its inspector is still open at port {}; the program closes it within {} s, or when it is free again",
                    self.port,
                    LEASE / 1000
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

/// The network namespace of a process, where its loopback is.
struct Network {
    /// Nothing where it is ours.
    other: Option<fs::File>,
}

impl Network {
    fn of(process: &Process) -> Result<Network, Closed> {
        let failed = |error| Closed(format!("its network namespace cannot be entered: {error}"));
        let path = format!("/proc/{}/ns/net", process.pid());
        let other = fs::File::open(path).map_err(failed)?;
        let is_ours = fs::metadata("/proc/self/ns/net").map_err(failed)?.ino()
            == other.metadata().map_err(failed)?.ino();
        Ok(Network { other: (!is_ours).then_some(other) })
    }

    /// A connection to a port of its loopback: by a thread that enters it, and ends there.
    fn connect(&self, port: u16) -> io::Result<TcpStream> {
        std::thread::scope(|scope| {
            let there = std::thread::Builder::new().name("network".to_owned()).spawn_scoped(scope, || {
                if let Some(other) = &self.other {
                    move_into_link_name_space(other.as_fd(), Some(LinkNameSpaceType::Network))?;
                }
                TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), OPENS)
            })?;
            there.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        })
    }
}

/// Whether it would open its inspector where we can close it.
fn may_be_opened(process: &Process, network: &Network) -> Result<(), Closed> {
    if !process.status().is_ok_and(|status| status.catches(Signal::USR1.as_raw())) {
        return Err(Closed("it has no handler for SIGUSR1, which would open its inspector".to_owned()));
    }
    match network.connect(port::USUAL) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(Closed(format!("the loopback of its network cannot be reached: {error}"))),
        Ok(_) => Err(Closed(format!(
            "port {} of its network, where its inspector would be, is taken",
            port::USUAL
        ))),
    }
}

/// Waits for the port that is new.
fn opened(process: &Process, before: &HashSet<u16>) -> Result<u16, Closed> {
    let end = Instant::now() + OPENS;
    loop {
        if let Some(port) = port::listening(process).difference(before).next() {
            return Ok(*port);
        }
        if Instant::now() > end {
            return Err(Closed(format!("it opens no inspector within {} s of SIGUSR1", OPENS.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Closes what was opened, as its opener's last will: however late a program that stands, or is in a long call, opens it.
fn closed(process: &Process, network: &Network, before: &HashSet<u16>) {
    let end = Instant::now() + LATE;
    let mut pause = Duration::from_millis(2);
    while process.alive() && Instant::now() < end {
        for port in port::listening(process).difference(before) {
            let inspector = Inspector::connected(process, network, *port, false);
            if inspector.is_ok_and(|inspector| inspector.close().is_none()) {
                return;
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// The body of an answer of HTTP. The inspector keeps the connection, so its length is believed, within bounds.
fn body(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && (head.len() as u64) < LIST {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<u64>().ok());
    let mut body = Vec::new();
    stream.take(length.unwrap_or(0).min(LIST)).read_to_end(&mut body)?;
    Ok(body)
}

/// Connects to the only program that an inspector has.
fn connect(network: &Network, port: u16) -> Result<WebSocket<TcpStream>, Closed> {
    let host = format!("127.0.0.1:{port}");
    let mut stream = network.connect(port)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET /json/list HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let list: Option<Value> = serde_json::from_slice(&body(&mut stream)?).ok();
    let address = list.as_ref().and_then(|list| list[0]["webSocketDebuggerUrl"].as_str());
    let path =
        address.and_then(|address| address.strip_prefix("ws://")?.find('/').map(|at| &address[at + 5..]));
    let plain = |path: &&str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-".contains(&byte));
    let path = path.filter(plain).ok_or_else(|| Closed("its inspector lists no program".to_owned()))?;
    let stream = network.connect(port)?;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(WebSocket::connect(stream, &host, path)?)
}
