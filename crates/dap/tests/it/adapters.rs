//! Bare adapters on fixture programs, as links.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, OnceLock},
};

use pepo_dap::{Link, StreamLink};
use pepo_testkit::{Fixture, Language, Life as _, Running, Variant, fixtures, skip};
use pepo_wire::agent::Opened;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::Command,
};

/// A real adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adapter {
    Delve,
    Gdb,
    Lldb,
    Python,
}

impl Adapter {
    pub(crate) const ALL: [Adapter; 4] = [Adapter::Delve, Adapter::Gdb, Adapter::Lldb, Adapter::Python];

    pub(crate) fn language(self) -> Language {
        match self {
            Adapter::Delve => Language::Go,
            Adapter::Gdb => Language::C,
            Adapter::Lldb => Language::Rust,
            Adapter::Python => Language::Python,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Adapter::Delve => "delve",
            Adapter::Gdb => "gdb",
            Adapter::Lldb => "lldb",
            Adapter::Python => "python",
        }
    }

    fn program(self) -> Option<PathBuf> {
        let (folder, program) = match self {
            Adapter::Delve => ("delve", "dlv"),
            Adapter::Gdb => ("gdb", "gdb"),
            Adapter::Lldb => ("lldb", "lldb-dap"),
            Adapter::Python => return debugpy().map(Path::to_path_buf),
        };
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let tools =
            std::env::var_os("PEPO_TOOLS").map(PathBuf::from).unwrap_or(home.join(".cache/pepo/tools"));
        let path = tools.join(folder).join("bin").join(program);
        path.is_file().then_some(path)
    }

    /// The fixture this adapter is tested with, running; none (and a counted skip) where the adapter is not installed.
    pub(crate) fn target(self) -> Option<(Fixture, Running)> {
        if self.program().is_none() {
            skip(&format!("adapter-{}", self.name()), "the adapter is not installed (cargo xtask setup)");
            return None;
        }
        let fixture = fixtures::build(self.language(), "loop", Variant::debug());
        let running = match self {
            Adapter::Python => listening_python(&fixture),
            _ => pepo_testkit::spawn(&fixture, &["1000"]),
        };
        Some((fixture, running))
    }

    /// The adapter, waiting for `initialize`, and what an agent would say of it.
    pub(crate) async fn open(self, fixture: &Fixture, pid: u32) -> (Box<dyn Link>, Opened) {
        let program = self.program().expect("whoever has a target has its adapter");
        let (attach, quirks): (Value, &[&str]) = match self {
            Adapter::Delve => (json!({"mode": "local", "processId": pid, "stopOnEntry": false}), &[]),
            Adapter::Gdb => (
                json!({"pid": pid, "program": fixture.path}),
                &["continue-after-attach", "breakpoints-verify-late"],
            ),
            Adapter::Lldb => (json!({"pid": pid, "stopOnEntry": false}), &[]),
            Adapter::Python => (json!({"justMyCode": true}), &["any-function"]),
        };
        let link: Box<dyn Link> = match self {
            Adapter::Delve => open_delve(&program).await,
            Adapter::Gdb => over_pipes(Command::new(program).args(["-q", "-nx", "-i=dap"])),
            Adapter::Lldb => over_pipes(&mut Command::new(program)),
            Adapter::Python => {
                let port =
                    PORTS.lock().expect("no test panics with it").get(&pid).copied().expect("it listens");
                connect(&format!("127.0.0.1:{port}")).await
            }
        };
        let opened = Opened {
            session: "control".into(),
            debugger: self.name().into(),
            attach_arguments: attach.to_string(),
            initialize_arguments: json!({"adapterID": self.name()}).to_string(),
            quirks: quirks.iter().map(|quirk| (*quirk).to_owned()).collect(),
            guard: "off".into(),
            sources: vec![fixture.source.display().to_string()],
            ..Opened::default()
        };
        (link, opened)
    }
}

fn over_pipes(command: &mut Command) -> Box<dyn Link> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("the adapter starts");
    let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    tokio::spawn(async move { child.wait().await });
    Box::new(StreamLink::new(stdout, stdin))
}

async fn open_delve(program: &Path) -> Box<dyn Link> {
    let mut child = Command::new(program)
        .args(["dap", "--listen=127.0.0.1:0", "--check-go-version=false"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("delve starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("delve speaks").expect("delve says where it listens");
    tokio::spawn(async move {
        while let Ok(Some(_)) = lines.next_line().await {}
        child.wait().await
    });
    connect(line.rsplit(' ').next().expect("the address stands last")).await
}

async fn connect(address: &str) -> Box<dyn Link> {
    let stream = TcpStream::connect(address).await.expect("it listens where it says");
    stream.set_nodelay(true).expect("a socket");
    Box::new(StreamLink::over(stream))
}

/// Where debugpy listens inside the targets, by their process ids.
static PORTS: Mutex<BTreeMap<u32, u16>> = Mutex::new(BTreeMap::new());

/// The script with debugpy's own server in it: putting it into a running process is not what is tested here.
fn listening_python(fixture: &Fixture) -> Running {
    const START: &str = "import sys, runpy; sys.path.insert(0, sys.argv[1]); import debugpy; \
        print('port', debugpy.listen(('127.0.0.1', 0))[1], flush=True); script = sys.argv[2]; \
        sys.argv = [script, '1000']; runpy.run_path(script, run_name='__main__')";
    let python = &fixture.python.as_ref().expect("a script has an interpreter").path;
    let mut command = std::process::Command::new(python);
    command
        .args(["-Xfrozen_modules=off", "-c", START])
        .arg(debugpy().expect("asked before"))
        .arg(&fixture.source);
    let running = pepo_testkit::spawn_command(&mut command);
    let line = running.wait_for_line("port ", std::time::Duration::from_secs(20));
    // A warning of debugpy's may follow on the same line.
    let told = line.split("port ").nth(1).unwrap_or_default();
    let digits: String = told.chars().take_while(char::is_ascii_digit).collect();
    let port = digits.parse().unwrap_or_else(|_| panic!("no port in {line:?}"));
    PORTS.lock().expect("no test panics with it").insert(running.pid(), port);
    running.wait_started();
    running
}

/// The unpacked wheel of debugpy's, if it is on this machine.
fn debugpy() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let mut wheel = zip::ZipArchive::new(std::fs::File::open(wheel()?).ok()?).ok()?;
        let folder = tempfile::tempdir().ok()?;
        wheel.extract(folder.path()).ok()?;
        Some(folder)
    });
    folder.as_ref().map(tempfile::TempDir::path)
}

/// The pinned wheel of debugpy's.
pub(crate) fn wheel() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from)?;
    let files = std::fs::read_dir(home.join(".cache/pepo/wheels")).ok()?;
    let any = |path: &PathBuf| path.to_string_lossy().ends_with("-py2.py3-none-any.whl");
    files.flatten().map(|file| file.path()).find(any)
}

/// A file of the wheel's.
pub(crate) fn from_wheel(name: &str) -> Option<String> {
    let mut wheel = zip::ZipArchive::new(std::fs::File::open(wheel()?).ok()?).ok()?;
    let mut text = String::new();
    wheel.by_name(name).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Waits until the target beats again, untraced.
pub(crate) fn lives_on(running: &mut Running) {
    assert!(running.is_alive(), "the target died");
    running.assert_goes_on();
}
