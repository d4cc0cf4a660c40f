//! Python 3.8 to 3.14: pydevd inside the running process, brought there with no file, no port and no gdb.
//!
//! A short piece of code is made to run in the process ([`inject`]); it opens a channel and starts a thread, into which pydevd
//! is filled from here through `/proc/PID/fd` ([`channel`]). From then on nothing is traced: the threads of the process wait
//! inside it at a breakpoint. When the stream ends, for whatever reason, the code inside lets everything run and takes itself
//! away; [`hold`] proves it. `payload/bootstrap.py` is that code.

/// Calls in a stopped thread.
mod call;
/// Descriptors out of and into the process.
mod channel;
/// What can go wrong.
mod error;
/// Points at which tests let the injector die.
mod fault;
/// The end.
mod hold;
/// ELF images in memory.
mod image;
/// The ways in.
mod inject;
/// Safe moments.
mod moment;
/// What is brought in.
mod payload;
/// ptrace(2).
mod ptrace;
/// CPython's own remote execution.
mod remote_exec;
/// From a program's first instruction to its interpreter's start.
mod start;
/// Registers and signal frames.
mod x86_64;

use std::{
    fs::File,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use pepo_process::{
    Memory, Process, held,
    runtime::{Language, Libc, RuntimeFacts},
};
use pepo_wire::{Code, Failure, FailureExt as _};
use serde_json::json;
use tokio::{
    net::{UnixStream, unix::pipe},
    sync::oneshot,
};

use self::{
    channel::{Control, Ready, Stream, Word},
    hold::PythonHold,
    image::Symbols,
    inject::{Injected, Injection},
    payload::Config,
    start::Start,
};
use crate::{
    debugger::{
        AdapterIo, AttachRequest, Attached, Debugger, DebuggerFacts, Fit, GuardChoice, GuardKind, Hold,
        Stands,
    },
    guard::handle::Waiting,
    tools::Tools,
};

pub use self::error::InjectError;
#[doc(hidden)]
pub use self::fault::{Fault, Point};

/// How long a safe moment is looked for.
const MOMENT: Duration = Duration::from_secs(5);
/// How long the interpreter may take to come to the code: a call into C may hold the GIL for long.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a held program may take to its interpreter's start, and from there to its first line.
const START: Duration = Duration::from_secs(30);
/// How long pydevd may take to load on a slow machine.
const LOAD: Duration = Duration::from_secs(60);
/// How long the code inside waits for its files, in seconds.
const WAIT_INSIDE: u32 = 10;

static FACTS: DebuggerFacts = DebuggerFacts {
    name: "python",
    summary: "Python 3.8 to 3.14, by pydevd inside the process",
    languages: &[Language::Python],
    tool: None,
    memory: 24 << 20,
    guard: GuardChoice::Default,
    repl_is_raw: false,
    ends_at_unknown: false,
    raw_words: &[],
    stands: Stands::ByEvents,
};

/// pydevd in the process.
#[derive(Debug)]
pub struct PythonDebugger;

#[async_trait]
impl Debugger for PythonDebugger {
    fn facts(&self) -> &'static DebuggerFacts {
        &FACTS
    }

    fn fits(&self, runtime: &RuntimeFacts, _tools: &Tools) -> Fit {
        match judge(runtime) {
            Ok(warnings) => Fit::Yes(warnings),
            Err(failure) => Fit::No(failure),
        }
    }

    async fn attach(
        &self,
        request: &AttachRequest<'_>,
        _guard: Option<Waiting>,
    ) -> Result<Attached, Failure> {
        // Its warnings were told by `fits`; here it is only the judgement that counts.
        judge(request.runtime)?;
        request.begun.notify_one();
        let warnings = lacks_cplusplus(request.process, request.runtime).into_iter().collect();
        let process = Process::open_started(request.process.pid(), request.process.start_time())
            .map_err(|error| error.failure())?;
        let (tell, told) = oneshot::channel();
        // A tracee belongs to one thread; this one is nobody else's.
        std::thread::Builder::new()
            .name("python-attach".to_owned())
            .spawn(move || {
                if let Err(Ok(placed)) = tell.send(place(process, &Fault::default(), None)) {
                    // The caller has gone: the stream ends here, and with it the code inside.
                    drop(placed);
                }
            })
            .map_err(|error| Failure::new(Code::Internal, "no thread could be started").because_of(&error))?;
        let placed = told
            .await
            .map_err(|_| Failure::new(Code::Internal, "putting the Python debugger in place panicked"))?
            .map_err(|error| error.failure())?;
        let io = placed.stream.into_io().map_err(|error| {
            Failure::new(Code::Internal, "the stream could not be used").because_of(&error)
        })?;
        Ok(Attached {
            io,
            attach_arguments: json!({
                "justMyCode": false, "redirectOutput": false, "subProcess": false, "showReturnValue": true,
            }),
            initialize_arguments: json!({ "adapterID": "python" }),
            guard: GuardKind::InProcess,
            version: format!("pydevd of debugpy {}", payload::VERSION),
            stood_still: placed.stood_still,
            warnings,
            quirks: vec!["any-function"],
            hold: Box::new(placed.hold),
        })
    }
}

/// Does it fit, and what should be known before?
fn judge(runtime: &RuntimeFacts) -> Result<Vec<Failure>, Failure> {
    if runtime.language != Language::Python {
        return Err(Failure::new(Code::RuntimeUnsupported, "this debugger is for Python processes only"));
    }
    if !cfg!(target_arch = "x86_64") {
        return Err(InjectError::Architecture { arch: std::env::consts::ARCH }.failure());
    }
    let text = runtime.version.as_deref().unwrap_or_default();
    let Some(version) = major_and_minor(text) else { return Ok(Vec::new()) };
    if !((3, 8)..=(3, 14)).contains(&version) {
        return Err(Failure::new(Code::RuntimeUnsupported, format!("Python {text} is outside 3.8 to 3.14")));
    }
    let mut warnings = Vec::new();
    if version < (3, 12) && runtime.libc == Libc::Musl {
        warnings.push(
            Failure::new(Code::NotInDebugger, "threads that already run stop at no breakpoint")
                .because("the library that sets trace functions in them is built for glibc"),
        );
    }
    Ok(warnings)
}

/// Up to 3.11 a library of pydevd's sets trace functions in threads that already run, and it is written in C++.
fn lacks_cplusplus(process: &Process, runtime: &RuntimeFacts) -> Option<Failure> {
    const NAME: &str = "libstdc++.so.6";
    const FOLDERS: [&str; 6] = [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
    ];
    let version = major_and_minor(runtime.version.as_deref().unwrap_or_default())?;
    if version >= (3, 12) || runtime.libc == Libc::Musl {
        return None;
    }
    let mapped = process.maps().unwrap_or_default().iter().any(|map| map.file_name() == Some(NAME));
    let there = || FOLDERS.iter().any(|folder| process.open_in_root(format!("{folder}/{NAME}")).is_ok());
    (!mapped && !there()).then(|| {
        Failure::new(Code::NotInDebugger, "threads that already run stop at no breakpoint")
            .because(format!(
                "the image has no {NAME}, which the library that sets trace functions in them needs"
            ))
            .hint("threads that start from now on do; Python 3.12 and later need no such library")
    })
}

fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A debugger inside a process.
#[doc(hidden)]
#[derive(Debug)]
pub struct Placed {
    stream: Stream,
    hold: PythonHold,
    /// How long the target stood still for it.
    pub stood_still: Duration,
    /// Which way it went in.
    pub route: &'static str,
}

impl Placed {
    /// The stream and what ends it.
    ///
    /// # Errors
    /// Those of making the stream asynchronous.
    pub fn into_parts(self) -> std::io::Result<(Box<dyn AdapterIo>, Box<dyn Hold>)> {
        Ok((self.stream.into_io()?, Box::new(self.hold)))
    }
}

/// Puts pydevd into the process; blocks, and traces from the calling thread. `pipes` overrides the choice of the stream.
///
/// # Errors
/// [`InjectError`]; whatever was begun is undone.
#[doc(hidden)]
pub fn place(process: Process, fault: &Fault, pipes: Option<bool>) -> Result<Placed, InjectError> {
    let memory = process.memory()?;
    let tracer = process.status()?.tracer;
    if tracer != 0 {
        return Err(InjectError::Traced { tracer });
    }
    let nonce = nonce();
    let pipes = pipes.unwrap_or_else(|| !channel::may_take(&process));
    let config = Config { nonce: nonce.clone(), pipes, wait: WAIT_INSIDE, start: START.as_secs() };
    let (injected, limit) = match held::at_first_instruction(&process) {
        true => (Start { process: &process, memory: &memory, fault }.run_on(START, &config)?, START),
        false => (inject_now(&process, &memory, &config, fault)?, ANSWER),
    };
    let end = Instant::now() + limit;
    let answer = Control::find(&process, &nonce, end, limit).and_then(|mut control| {
        let ready = control.wait(end, ready).ok_or(InjectError::Silent { limit })?;
        Ok((control, ready))
    });
    let (control, ready) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let left = inject::take_back(injected.route, &memory);
            tracing::warn!(?left, "the code did not run in time and was taken back");
            return Err(error);
        }
    };
    fault.reach(Point::Answered);
    let stood_still = injected.stood_still + Duration::try_from_secs_f64(ready.took).unwrap_or_default();
    let route = injected.route.name();
    let mut hold = PythonHold { process, control, thread: ready.thread, left: Vec::new() };
    let stream = start(&mut hold, &ready, fault)?;
    Ok(Placed { stream, hold, stood_still, route })
}

/// Gets the code to run in a process that has an interpreter.
fn inject_now(
    process: &Process,
    memory: &Memory,
    config: &Config,
    fault: &Fault,
) -> Result<Injected, InjectError> {
    let symbols = Symbols::find(process, memory)?;
    Injection { process, memory, symbols: &symbols, config, fault }.run(MOMENT)
}

/// Fills the channel and waits until pydevd listens.
fn start(hold: &mut PythonHold, ready: &Ready, fault: &Fault) -> Result<Stream, InjectError> {
    let stream = channel::open(&hold.process, ready)?;
    fault.reach(Point::Filled);
    let started = hold.control.wait(Instant::now() + LOAD, |word| match word {
        Word::Started => Some(Ok(())),
        Word::Failed { why } => Some(Err(InjectError::Inside { words: why })),
        _ => None,
    });
    match started.unwrap_or(Err(InjectError::Silent { limit: LOAD })) {
        Ok(()) => Ok(stream),
        Err(error) => {
            drop(stream);
            let left = hold.prove();
            tracing::warn!(?left, "pydevd did not start");
            Err(error)
        }
    }
}

fn ready(word: Word) -> Option<Ready> {
    match word {
        Word::Ready(ready) => Some(ready),
        _ => None,
    }
}

/// Unique among all sessions of this machine: our number and the time.
fn nonce() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    format!("{:x}-{:x}{:08x}", std::process::id(), now.tv_sec, now.tv_nsec)
}

impl inject::Route {
    fn name(self) -> &'static str {
        match self {
            inject::Route::Parked => "parked thread",
            inject::Route::Pending { .. } => "pending call",
            inject::Route::Remote(_) => "remote execution",
            inject::Route::Entry => "start",
        }
    }
}

impl Stream {
    fn into_io(self) -> std::io::Result<Box<dyn AdapterIo>> {
        match self {
            Stream::Socket(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Box::new(UnixStream::from_std(socket)?))
            }
            Stream::Pipes(from, to) => {
                let owned = |file: File| OwnedFd::from(file);
                let from = pipe::Receiver::from_owned_fd(owned(from))?;
                let to = pipe::Sender::from_owned_fd(owned(to))?;
                Ok(Box::new(tokio::io::join(from, to)))
            }
        }
    }
}
