//! A debugger's own adapter without Pepo: the control of the tests, and the other column of the tables.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use pepo_dap::{Link, StreamLink};
use pepo_wire::agent::Opened;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixStream};

use pepo_testkit::Python;

/// An adapter started as a user would, on a process of this machine.
pub struct Bare {
    child: Child,
    /// What owns the target in its place, if it was started apart.
    stub: Option<Child>,
    /// What [`pepo_dap::session::Debuggee::begin`] wants to know of it.
    pub opened: Opened,
}

/// The programs of the toolkit folder, else those of PATH.
fn tool(folder: &str, program: &str, in_path: &str) -> PathBuf {
    let toolkit = std::env::var_os("PEPO_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/pepo/tools")
    });
    let inside = toolkit.join(folder).join("bin").join(program);
    if inside.exists() { inside } else { PathBuf::from(in_path) }
}

impl Bare {
    /// Starts `debugger` (`lldb`, `gdb`, `delve`, `python`) for the process `pid`.
    ///
    /// # Errors
    /// The adapter does not start.
    pub async fn start(debugger: &str, pid: u32) -> Result<(Bare, Box<dyn Link>)> {
        match debugger {
            "lldb" => {
                on_stdio(&mut pepo_testkit::command(tool("lldb", "lldb-dap", "lldb-dap-19")), lldb(pid))
            }
            "gdb" => {
                let attach = json!({"pid": pid, "program": format!("/proc/{pid}/exe")});
                on_stdio(&mut gdb_of(pid), opened(attach, GDB_QUIRKS))
            }
            "delve" => {
                dials(&mut pepo_testkit::command(tool("delve", "dlv", "dlv")), delve(pid, "native")).await
            }
            "python" => {
                let mut command = pepo_testkit::command(Python::of_the_system().path);
                command.args(["-m", "debugpy.adapter"]).env("PYTHONPATH", debugpy()?);
                on_stdio(&mut command, python(pid))
            }
            other => bail!("no adapter called {other}"),
        }
    }

    /// The same over a stub, as the guard does it: `lldb-server`, `gdbserver`, and delve's lldb backend.
    ///
    /// # Errors
    /// Adapter or stub do not start.
    pub async fn over_a_stub(debugger: &str, pid: u32) -> Result<(Bare, Box<dyn Link>)> {
        let address = free_address()?;
        let attach = pid.to_string();
        let (mut bare, link, stub) = match debugger {
            "lldb" => {
                let stub = pepo_testkit::command(tool("lldb", "lldb-server", "lldb-server-19"))
                    .args(["gdbserver", "--attach", &attach, &address])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                let opened = opened(
                    json!({
                        "program": format!("/proc/{pid}/exe"),
                        "attachCommands": [format!("gdb-remote {address}")],
                    }),
                    &[],
                );
                let mut command = pepo_testkit::command(tool("lldb", "lldb-dap", "lldb-dap-19"));
                let (bare, link) = on_stdio(&mut command, opened)?;
                (bare, link, Some(stub))
            }
            "gdb" => {
                let stub = pepo_testkit::command(tool("gdb", "gdbserver", "gdbserver"))
                    .args(["--once", "--attach", &address, &attach])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                let target = json!({"target": address, "program": format!("/proc/{pid}/exe")});
                let mut command = gdb_of(pid);
                // Else it sets no breakpoint while the target runs.
                command.args(["-iex", "maint set target-non-stop on"]);
                let (bare, link) = on_stdio(&mut command, opened(target, GDB_QUIRKS))?;
                (bare, link, Some(stub))
            }
            "delve" => {
                let mut command = pepo_testkit::command(tool("delve", "dlv", "dlv"));
                command.env("PATH", tool("lldb", "lldb-server", "lldb-server").with_file_name(""));
                let (bare, link) = dials(&mut command, delve(pid, "lldb")).await?;
                (bare, link, None)
            }
            other => bail!("no stub for {other}"),
        };
        bare.stub = stub;
        Ok((bare, link))
    }

    /// The adapter's own process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The stream is closed by now: adapters end by themselves, detaching first.
        let mut left = Duration::from_secs(5);
        for child in [Some(&mut self.child), self.stub.as_mut()].into_iter().flatten() {
            while matches!(child.try_wait(), Ok(None)) {
                if left.is_zero() {
                    let _ = kill_process(Pid::from_child(child), Signal::KILL);
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
                left = left.saturating_sub(Duration::from_millis(20));
            }
        }
    }
}

fn opened(attach: Value, quirks: &[&str]) -> Opened {
    Opened {
        attach_arguments: attach.to_string(),
        initialize_arguments: json!({}).to_string(),
        quirks: quirks.iter().map(|quirk| (*quirk).to_owned()).collect(),
        ..Opened::default()
    }
}

fn lldb(pid: u32) -> Opened {
    opened(json!({"pid": pid, "program": format!("/proc/{pid}/exe")}), &[])
}

const GDB_QUIRKS: &[&str] = &["continue-after-attach", "breakpoints-verify-late"];

fn gdb_of(pid: u32) -> Command {
    let mut command = pepo_testkit::command(tool("gdb", "gdb", "gdb"));
    command.args(["-nx", "-q", "-i=dap", "-iex", &format!("set sysroot /proc/{pid}/root")]);
    command
}

/// An address of this machine that nobody listens on.
fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn delve(pid: u32, backend: &str) -> Opened {
    opened(json!({"mode": "local", "processId": pid, "backend": backend, "stopOnEntry": false}), &[])
}

fn python(pid: u32) -> Opened {
    opened(json!({"processId": pid, "justMyCode": false}), &[])
}

/// An adapter that speaks on its standard input and output: both are one socket.
fn on_stdio(command: &mut Command, opened: Opened) -> Result<(Bare, Box<dyn Link>)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let output = theirs.try_clone()?;
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    command.stdout(Stdio::from(std::os::fd::OwnedFd::from(output))).stderr(Stdio::null());
    let child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
    // The command keeps copies of the adapter's end, and so would keep the stream open.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    ours.set_nonblocking(true)?;
    Ok((Bare { child, stub: None, opened }, Box::new(StreamLink::over(UnixStream::from_std(ours)?))))
}

/// Delve dials to us, so no port has to be guessed.
async fn dials(command: &mut Command, opened: Opened) -> Result<(Bare, Box<dyn Link>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    command
        .args(["dap", "--client-addr", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
    let mut bare = Bare { child, stub: None, opened };
    let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept()).await;
    match accepted {
        Ok(Ok((stream, _))) => Ok((bare, Box::new(StreamLink::over(stream)))),
        _ => bail!("delve did not dial: {:?}", bare.child.try_wait()),
    }
}

/// The folder of debugpy as its wheel ships it, unpacked once.
fn debugpy() -> Result<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?);
    let wheel = home.join(".cache/pepo/wheels/debugpy-1.8.22-py2.py3-none-any.whl");
    let folder = home.join(".cache/pepo/debugpy-1.8.22");
    if !folder.join("debugpy/adapter").is_dir() {
        let mut unzip = pepo_testkit::command(Python::of_the_system().path);
        let status = unzip.args(["-m", "zipfile", "-e"]).args([&wheel, &folder]).status()?;
        anyhow::ensure!(status.success(), "{} cannot be unpacked: run `cargo xtask setup`", wheel.display());
    }
    Ok(folder)
}
