//! JavaScript's own frames, from what is in every Node (18 and newer): reached through its inspector, which SIGUSR1 opens at a
//! port of the target's own network namespace (`node --help`, `process`; "Chrome DevTools Protocol", domains Profiler, Runtime and Node's
//! own NodeWorker).
//!
//! The signal is sent only to a process that has a handler for it: a Node that is still starting would die of it. What was opened is
//! closed again. As long as it is open a timer in the program (`lease.js`) closes it by itself soon after nobody has put it off, and until
//! that is armed another process would ([`keeper`]): so a recorder which is killed leaves no port behind.

/// Who closes it when its opener dies.
mod keeper;
/// The listening port of the inspector.
mod port;
/// V8's profile.
mod profile;
/// Where each thread is.
mod stacks;
/// WebSocket, as far as the inspector speaks it.
mod websocket;

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Read, Write as _},
    net::{Ipv4Addr, TcpStream},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    time::{Duration, Instant},
};

use pepo_process::{Process, threads::SyscallNow};
use rustix::{
    process::Signal,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::{Value, json};

use self::{keeper::Keeper, websocket::WebSocket};
pub(crate) use self::{
    profile::{Sample, samples},
    stacks::Standing,
};

/// How long an answer may take: the program's thread may be in a call of the system that blocks it.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the port may take to open, and to close.
const OPENS: Duration = Duration::from_secs(3);
/// How often, and each how long after the last, it is looked whether the main thread is still in the same call of the system.
const LOOKS: (u32, Duration) = (10, Duration::from_millis(20));
/// How long it is waited for a port that opens late, to close it when nobody wants it any more.
const LATE: Duration = Duration::from_mins(10);
/// The program closes the inspector, and ends the profilers of its workers, by itself when it was not asked for this long, in milliseconds.
const LEASE: u32 = 10_000;
/// What does so, in JavaScript.
const LEASING: &str = include_str!("node/lease.js");
/// The most worker threads that are looked at.
const WORKERS: usize = 1000;
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

/// Whom something is said to: the main thread, or a worker thread by the name of its session.
pub(crate) type To<'a> = Option<&'a str>;

/// A worker thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    /// The name of its session.
    pub(crate) session: String,
    /// What the program calls it, or its number.
    pub(crate) name: String,
}

/// A connected inspector.
pub(crate) struct Inspector<'a> {
    process: &'a Process,
    socket: WebSocket<TcpStream>,
    port: u16,
    /// Was it open before?
    was_open: bool,
    next: u64,
    /// What waits for an answer, and what came.
    asked: HashSet<u64>,
    answers: HashMap<u64, Value>,
    profiles_workers: bool,
    /// Worker threads that live.
    workers: Vec<Worker>,
    /// Profiles that have ended, by their thread.
    ended: HashMap<Option<String>, Value>,
}

impl<'a> Inspector<'a> {
    /// Opens the inspector, unless it is open, and connects to it. A program that would answer late is not asked.
    ///
    /// # Errors
    /// Why that cannot be; nothing is left open.
    pub(crate) fn open(process: &'a Process) -> Result<Inspector<'a>, Closed> {
        let network = Network::of(process)?;
        let told = port::told(process);
        // What lasts is told before what passes.
        if told.is_none() {
            catches_the_signal(process)?;
        }
        would_answer(process)?;
        if let Some(port) = told {
            return Inspector::connected(process, &network, port, true);
        }
        let before = port::listening(process);
        may_be_opened(process, &network)?;
        let keeper = Keeper::start(|| closed(process, &network, &before))?;
        process.signal(Signal::USR1).map_err(|error| Closed(error.to_string()))?;
        let port = match opened(process, &before) {
            Ok(port) => port,
            Err(why) => {
                // There is nothing to close yet, and nobody waits for it.
                keeper.outlive();
                return Err(why);
            }
        };
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
        Ok(Inspector {
            process,
            socket,
            port,
            was_open,
            next: 0,
            asked: HashSet::new(),
            answers: HashMap::new(),
            profiles_workers: false,
            workers: Vec::new(),
            ended: HashMap::new(),
        })
    }

    /// Was it opened by us, and at which port?
    pub(crate) fn opened_port(&self) -> Option<u16> {
        (!self.was_open).then_some(self.port)
    }

    /// Calls a method and waits for its result.
    fn call(&mut self, to: To<'_>, method: &str, parameters: &Value) -> Result<Value, Closed> {
        let id = self.ask(to, method, parameters)?;
        self.answer(to, id, method, ANSWER)
    }

    /// Calls a method, whose result is to be waited for.
    fn ask(&mut self, to: To<'_>, method: &str, parameters: &Value) -> Result<u64, Closed> {
        let id = self.next + 1;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = to {
            let carried = json!({"sessionId": session, "message": message.to_string()});
            message = json!({"id": id + 1, "method": "NodeWorker.sendMessageToWorker", "params": carried});
        }
        self.next = id + 1;
        self.socket.send(&message.to_string())?;
        self.asked.insert(id);
        Ok(id)
    }

    fn answer(&mut self, to: To<'_>, id: u64, method: &str, limit: Duration) -> Result<Value, Closed> {
        let end = Instant::now() + limit;
        loop {
            if let Some(mut answer) = self.answers.remove(&id) {
                return match answer.get("error") {
                    Some(error) => {
                        Err(Closed(format!("its inspector refuses {method}: {}", error["message"])))
                    }
                    None => Ok(answer["result"].take()),
                };
            }
            let lives = to.is_none_or(|session| self.workers.iter().any(|worker| worker.session == session));
            if !lives {
                return Err(Closed("the worker thread has ended".to_owned()));
            }
            if !self.socket.has_something(end.saturating_duration_since(Instant::now()), ANSWER)? {
                let limit = limit.as_secs();
                return Err(Closed(format!("its inspector gives no answer to {method} within {limit} s")));
            }
            self.hear()?;
        }
    }

    /// Takes the next message.
    fn hear(&mut self) -> Result<(), Closed> {
        let understood = |text: &[u8]| {
            serde_json::from_slice::<Value>(text)
                .map_err(|error| Closed(format!("its inspector's answer is not understood: {error}")))
        };
        let message = understood(&self.socket.receive()?)?;
        let parameters = &message["params"];
        let session = || parameters["sessionId"].as_str().unwrap_or_default().to_owned();
        match message["method"].as_str() {
            Some("NodeWorker.attachedToWorker") if self.workers.len() < WORKERS => {
                let name = worker_name(parameters["workerInfo"]["title"].as_str().unwrap_or_default());
                self.workers.push(Worker { session: session(), name });
            }
            Some("NodeWorker.detachedFromWorker") => {
                let gone = session();
                self.workers.retain(|worker| worker.session != gone);
            }
            Some("NodeWorker.receivedMessageFromWorker") => {
                let from = session();
                let said = understood(parameters["message"].as_str().unwrap_or_default().as_bytes())?;
                self.take(Some(from), said);
            }
            _ => self.take(None, message),
        }
        Ok(())
    }

    /// Takes what a thread says: an answer, or that a profile has ended.
    fn take(&mut self, from: Option<String>, mut said: Value) {
        if said["method"] == "Profiler.consoleProfileFinished" {
            self.ended.insert(from, said["params"]["profile"].take());
            return;
        }
        let Some(id) = said["id"].as_u64() else { return };
        if self.asked.remove(&id) {
            self.answers.insert(id, said);
        } else if said.get("error").is_some() && id > 0 && self.asked.remove(&(id - 1)) {
            // What was to be carried to a worker did not reach it.
            self.answers.insert(id - 1, said);
        }
    }

    /// Tells of the worker threads that there are, and from now on of those that begin and end.
    ///
    /// # Errors
    /// As every call.
    pub(crate) fn watch_workers(&mut self) -> Result<(), Closed> {
        self.call(None, "NodeWorker.enable", &json!({"waitForDebuggerOnStart": false})).map(drop)
    }

    /// Those that live, as far as is known.
    pub(crate) fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Puts off the time at which the program ends what we began.
    pub(crate) fn renew(&mut self) -> Result<(), Closed> {
        let (workers, closes) = (self.profiles_workers, !self.was_open);
        if !workers && !closes {
            return Ok(());
        }
        // Comments of lines and line ends are JavaScript's own.
        self.run(None, &format!("({LEASING})(Symbol.for('pepo'), {LEASE}, {workers}, {closes})"))
    }

    /// Starts the profiler of a thread, which samples each so many microseconds.
    pub(crate) fn profile(&mut self, to: To<'_>, interval: u32) -> Result<(), Closed> {
        if to.is_some() && !self.profiles_workers {
            self.profiles_workers = true;
            self.renew()?;
        }
        self.call(to, "Profiler.enable", &json!({}))?;
        self.call(to, "Profiler.setSamplingInterval", &json!({"interval": interval}))?;
        self.run(to, "profile('pepo 0')")
    }

    /// The profile of a thread since the last one. The next begins before it ends, for without any the profiler forgets which calls are
    /// compiled into their callers: the two overlap by a moment.
    pub(crate) fn fetch(&mut self, to: To<'_>, number: u64) -> Result<Value, Closed> {
        self.run(to, &format!("profile('pepo {}'); profileEnd('pepo {}')", (number + 1) % 2, number % 2))?;
        let ended = self.ended.remove(&to.map(str::to_owned));
        ended.ok_or_else(|| Closed("its profiler was stopped by another".to_owned()))
    }

    fn run(&mut self, to: To<'_>, expression: &str) -> Result<(), Closed> {
        let answer = self.call(to, "Runtime.evaluate", &expression_of(expression))?;
        match answer.get("exceptionDetails") {
            None => Ok(()),
            Some(why) => Err(Closed(format!("its inspector does not do as it is told: {}", why["text"]))),
        }
    }

    /// Closes what was opened; what is left, in words.
    pub(crate) fn close(mut self) -> Option<String> {
        for worker in self.workers.clone() {
            let _ = self.call(None, "NodeWorker.detach", &json!({"sessionId": worker.session}));
        }
        let _ = self.call(None, "Profiler.disable", &json!({}));
        let close = if self.was_open { "" } else { "process._debugEnd();" };
        // Its timers are touched when it does not do so itself. The answer to the last words is cut off by what they do.
        let forget = "const key = Symbol.for('pepo'); Promise.resolve().then(() => { \
                      try { clearTimeout(globalThis[key]); delete globalThis[key]; } catch {} });";
        let _ = self.run(None, &format!("(() => {{ {forget} {close} }})()"));
        if self.was_open {
            return None;
        }
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

/// What is to be evaluated, quietly.
fn expression_of(expression: &str) -> Value {
    json!({"expression": expression, "silent": true, "includeCommandLineAPI": true})
}

/// `[worker 1] name`, or before version 20 `Worker 1`.
fn worker_name(title: &str) -> String {
    let numbered = title.strip_prefix('[').and_then(|title| title.split_once(']'));
    match numbered {
        Some((number, name)) if name.trim().is_empty() => number.to_owned(),
        Some((_, name)) => name.trim().to_owned(),
        None => title.to_owned(),
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

/// Whether its main thread would answer now.
fn would_answer(process: &Process) -> Result<(), Closed> {
    if process.status().is_ok_and(|status| status.state.is_stopped()) {
        return Err(Closed("it is stopped".to_owned()));
    }
    if stands(process) {
        let why = "its main thread stands in a call of the system, and would answer only afterwards";
        return Err(Closed(why.to_owned()));
    }
    Ok(())
}

/// Is the main thread in one and the same call of the system all the time? Where it waits for events it is woken to answer.
fn stands(process: &Process) -> bool {
    let path = process.proc_path().join("syscall");
    let now = || SyscallNow::parse(&fs::read_to_string(&path).ok()?);
    let first = now();
    match first {
        Some(SyscallNow::Call { number, .. }) if !waits_for_events(number) => {}
        _ => return false,
    }
    (1..LOOKS.0).all(|_| {
        std::thread::sleep(LOOKS.1);
        now() == first
    })
}

fn waits_for_events(number: u64) -> bool {
    #[cfg(target_arch = "x86_64")]
    const OLD: &[i64] = &[libc::SYS_epoll_wait];
    #[cfg(not(target_arch = "x86_64"))]
    const OLD: &[i64] = &[];
    let calls = [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
    calls.iter().chain(OLD).any(|call| u64::try_from(*call) == Ok(number))
}

/// Whether the signal would be taken for what it is meant.
fn catches_the_signal(process: &Process) -> Result<(), Closed> {
    if process.status().is_ok_and(|status| status.catches(Signal::USR1.as_raw())) {
        return Ok(());
    }
    Err(Closed("it has no handler for SIGUSR1, which would open its inspector".to_owned()))
}

/// Whether it would open its inspector where we can close it.
fn may_be_opened(process: &Process, network: &Network) -> Result<(), Closed> {
    catches_the_signal(process)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_called_as_the_program_calls_them() {
        for (title, name) in [
            ("[worker 1] cruncher", "cruncher"),
            ("[worker 2]", "worker 2"),
            ("Worker 3", "Worker 3"),
            ("", ""),
        ] {
            assert_eq!(worker_name(title), name);
        }
    }
}
