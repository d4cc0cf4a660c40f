//! Debuggers that speak DAP by themselves, each a small file of mostly data: which program, which arguments, which stub.
//!
//! To add one: write its facts, what it needs of a process ([`Debugger::fits`]), and its [`Launch`]; add it to
//! [`crate::debugger::all`] and to the tools' catalogue.
//!
//! Processes in other namespaces are named by their number on this side; their files are found below `/proc/PID/root`.
//!
//! [`Debugger::fits`]: crate::debugger::Debugger::fits

/// delve, for Go.
pub mod delve;
/// gdb 14 and newer.
pub mod gdb;
/// LLDB's lldb-dap.
pub mod lldb;

use std::{
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use pepo_process::runtime::RuntimeFacts;
use pepo_wire::{Code, Failure};
use tokio::net::{UnixListener, UnixStream};

use crate::{
    debugger::{AdapterIo, AttachRequest, Fit, GuardChoice, GuardKind},
    guard::{
        control::{Needs, Order, Program, Protect, Stub, StubKind},
        files,
        handle::{self, Handle, Waiting},
    },
    sight::{self, Sight},
    tools::{Tool, Tools, entry},
};

/// How long an adapter that dials may take to do so.
const DIALS: Duration = Duration::from_secs(10);
/// Without a sign of life from the agent for so long, the guard lets go.
const AGENT_LEASE: Duration = Duration::from_secs(20);

/// How an adapter gives its DAP stream.
enum Dap {
    /// On its standard input and output.
    Stdio,
    /// It dials this socket.
    Dials(UnixListener),
}

/// What is started for an attach.
struct Launch {
    tool: Tool,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dap: Dap,
    ends_on_sigterm: bool,
    needs: Needs,
    protect: Protect,
    /// Removed when all has ended.
    files: Vec<PathBuf>,
}

/// Starts guard and adapter.
async fn launch(
    request: &AttachRequest<'_>,
    waiting: Option<Waiting>,
    launch: Launch,
) -> Result<(Box<dyn AdapterIo>, Handle), Failure> {
    let internal =
        |error: std::io::Error| Failure::new(Code::Internal, "no socket for the adapter").because_of(&error);
    let log = request.run_dir.join("adapter.log");
    let home = home(request.run_dir);
    std::fs::create_dir_all(&home).map_err(internal)?;
    let homes = ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"]
        .map(|name| (name.to_owned(), home.display().to_string()));
    let order = Order {
        pid: request.process.pid().get(),
        start_time: request.process.start_time(),
        protect: launch.protect,
        adapter: Program {
            program: launch.tool.path,
            args: launch.args,
            env: [launch.env, homes.to_vec()].concat(),
            log: log.clone(),
            dap_on_stdio: matches!(launch.dap, Dap::Stdio),
            ends_on_sigterm: launch.ends_on_sigterm,
            needs: Needs { raw: request.raw, ..launch.needs },
        },
        lease_millis: u64::try_from(AGENT_LEASE.as_millis()).unwrap_or(u64::MAX),
    };
    let waiting = match waiting {
        Some(waiting) => waiting,
        None => Waiting::start(request.self_exe, guard_log(request.run_dir)).map_err(|error| {
            Failure::new(Code::Internal, "the guard could not be started").because_of(&error)
        })?,
    };
    let (handle, ours) = waiting.take(&order).await?;
    request.begun.notify_one();
    let handle = handle.removes([vec![log.clone(), stub_log(request.run_dir), home], launch.files].concat());
    let io = match launch.dap {
        Dap::Stdio => {
            handle.entrust(ours.as_fd()).map_err(internal)?;
            ours.set_nonblocking(true).map_err(internal)?;
            UnixStream::from_std(ours).map_err(internal)?
        }
        Dap::Dials(listener) => match tokio::time::timeout(DIALS, listener.accept()).await {
            Ok(Ok((stream, _))) => {
                handle.entrust(stream.as_fd()).map_err(internal)?;
                stream
            }
            _ => {
                let words = handle::last_words(&log).unwrap_or_else(|| "it says nothing".to_owned());
                drop(handle);
                return Err(Failure::new(Code::ToolDied, "the adapter did not connect").because(words));
            }
        },
    };
    Ok((Box::new(io), handle))
}

/// A socket in the session's folder that only this user can reach.
fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let listen = || {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|error: std::io::Error| {
        Failure::new(Code::Internal, format!("cannot listen on {}", path.display())).because_of(&error)
    })
}

/// Paths of the target's executable and of its root, as an adapter sees them: one behind the relay may not look into `/proc/PID`.
fn target_files(request: &AttachRequest<'_>, relayed: bool) -> (String, String) {
    if relayed {
        return (files::EXE.to_owned(), files::ROOT.to_owned());
    }
    let folder = request.process.proc_path();
    (folder.join("exe").display().to_string(), folder.join("root").display().to_string())
}

/// Debuggers keep histories and settings at home: theirs is in the session's folder.
fn home(run_dir: &Path) -> PathBuf {
    run_dir.join("home")
}

/// Where split debug files may be: those of the session, then the target's own, below its root.
fn debug_folders(request: &AttachRequest<'_>, root: &str) -> Vec<String> {
    let brought = request.symbol_folders.iter().map(|folder| folder.display().to_string());
    brought.chain([format!("{root}/usr/lib/debug")]).collect()
}

/// Where a guard of this session writes what it has to say.
pub(crate) fn guard_log(run_dir: &Path) -> PathBuf {
    run_dir.join("guard.log")
}

fn stub_log(run_dir: &Path) -> PathBuf {
    run_dir.join("stub.log")
}

/// The relay between an adapter and a stub, at a socket of the session's folder.
fn relay(request: &AttachRequest<'_>, kind: StubKind, program: &Tool) -> (Protect, PathBuf) {
    let socket = request.run_dir.join("gdb.sock");
    let stub = Stub { kind, program: program.path.clone(), log: stub_log(request.run_dir) };
    (Protect::Relay { socket: socket.clone(), stub }, socket)
}

/// How the target is protected: by the relay if the stub is there; the stub is named when it is missing.
fn protection(
    choice: GuardChoice,
    default: GuardChoice,
    stub: &'static str,
    tools: &Tools,
) -> Result<(GuardKind, Option<Tool>, Vec<Failure>), Failure> {
    let choice = if choice == GuardChoice::Default { default } else { choice };
    if choice == GuardChoice::Off {
        return Ok((GuardKind::Text, None, Vec::new()));
    }
    match tools.need(stub) {
        Ok(tool) => Ok((GuardKind::Relay, Some(tool), Vec::new())),
        Err(_) => {
            let less = Failure::new(Code::ToolMissing, format!("`{stub}` is not installed, so the target is protected less"))
                .because("the debugger owns the target; if it is killed while a breakpoint is armed, the target may die");
            Ok((GuardKind::Text, None, vec![tools.remedy(less, "protect it fully", debugger(stub))]))
        }
    }
}

/// The program of a debugger, new enough.
fn program(name: &str, tools: &Tools) -> Result<Tool, Failure> {
    let tool = tools.need(name)?;
    let minimum = entry(name).map_or((0, 0), |entry| entry.minimum);
    match &tool.version {
        Some(version) if version.pair() < minimum => {
            let what = format!(
                "{} is version {version}, and {}.{} is needed",
                tool.path.display(),
                minimum.0,
                minimum.1
            );
            let failure = Failure::new(Code::ToolTooOld, what);
            Err(tools.remedy(failure, "install a newer one", debugger(name)))
        }
        _ => Ok(tool),
    }
}

/// The debugger that a program belongs to.
fn debugger(program: &str) -> &str {
    entry(program).map_or(program, |entry| entry.name)
}

/// What native debuggers ask of a program.
fn fits_native(name: &str, runtime: &RuntimeFacts, tools: &Tools) -> Fit {
    match program(name, tools).and_then(|_| fits_sight(runtime)) {
        Ok(warnings) => Fit::Yes(warnings),
        Err(failure) => Fit::No(failure),
    }
}

/// What would be seen less of, or why there is nothing to be seen.
fn fits_sight(runtime: &RuntimeFacts) -> Result<Vec<Failure>, Failure> {
    let sights = [sight::debug_info(runtime), sight::optimisation(runtime)];
    sights
        .into_iter()
        .flatten()
        .filter_map(|sight| match sight {
            Sight::Full(_) => None,
            Sight::Less(failure) => Some(Ok(failure)),
            Sight::None(failure) => Some(Err(failure)),
        })
        .collect()
}
