//! Runs the binary in surroundings of its own: no engines but those a test names, no settings of this machine's user.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// The binary under test.
pub(crate) const PEPO: &str = env!("CARGO_BIN_EXE_pepo");

/// No command of a test needs so long, on the busiest machine: it hangs.
const LIMIT: Duration = Duration::from_mins(5);

/// Refuses itself the calls that its first argument names, and becomes the rest.
#[cfg(target_os = "linux")]
const FILTER: &str = "\
import ctypes, os, struct, sys
rules = [(0x20, 0, 0, 0)]
for call in sys.argv[1].split():
    number, error = map(int, call.split(':'))
    rules += [(0x15, 0, 1, number), (6, 0, 0, 0x50000 | error)]
rules.append((6, 0, 0, 0x7fff0000))
text = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))
filter = struct.pack('HP', len(rules), ctypes.addressof(text))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, filter, 0, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
";

/// A folder with nothing in it, and the command's surroundings made of it.
#[derive(Debug)]
pub(crate) struct Surroundings {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    /// What stands before the command.
    before: Vec<String>,
}

impl Surroundings {
    /// No engine, no settings, no state.
    pub(crate) fn new() -> Surroundings {
        let folder = tempfile::Builder::new().prefix("pepo-it-").tempdir().unwrap();
        let nothing = |name: &str| format!("unix://{}", folder.path().join(name).display());
        let mut variables = vec![
            ("DOCKER_HOST".to_owned(), nothing("no-docker.sock")),
            ("CONTAINER_HOST".to_owned(), nothing("no-podman.sock")),
            ("CONTAINER_RUNTIME_ENDPOINT".to_owned(), nothing("no-cri.sock")),
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
        ];
        for name in ["HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME", "PEPO_RUN"] {
            let path = folder.path().join(name.to_lowercase());
            let mut private = std::fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut private, 0o700);
            private.create(&path).unwrap();
            variables.push((name.to_owned(), path.display().to_string()));
        }
        let home = std::env::var("HOME").unwrap_or_default();
        let tools = std::env::var("PEPO_TOOLS").unwrap_or_else(|_| format!("{home}/.cache/pepo/tools"));
        variables.push(("PEPO_TOOLS".to_owned(), tools));
        Surroundings { folder, variables, before: Vec::new() }
    }

    /// A path inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// With the socket of this engine.
    #[cfg(target_os = "linux")]
    pub(crate) fn at(self, engine: &pepo_testkit::Engine) -> Surroundings {
        use pepo_testkit::Kind;
        let name = match engine.kind() {
            Kind::Docker => "DOCKER_HOST",
            Kind::Podman | Kind::PodmanRootless => "CONTAINER_HOST",
            Kind::Containerd | Kind::CriO => "CONTAINER_RUNTIME_ENDPOINT",
        };
        self.with(name, engine.address())
    }

    /// With this cluster.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_cluster(self, kubeconfig: &Path) -> Surroundings {
        self.with("KUBECONFIG", kubeconfig.display().to_string())
    }

    /// With another variable.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Surroundings {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Without the capability to touch what is another user's.
    #[cfg(target_os = "linux")]
    pub(crate) fn without_ptrace(self) -> Surroundings {
        let before = ["setpriv", "--bounding-set=-sys_ptrace"].map(str::to_owned).into();
        Surroundings { before, ..self }
    }

    /// As a user who is nobody, with a place of his own to note sessions.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_nobody(self) -> Surroundings {
        let before =
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).into();
        let run = self.path("nobody").display().to_string();
        std::os::unix::fs::chown(self.folder(), Some(65534), Some(65534)).unwrap();
        Surroundings { before, ..self.with("PEPO_RUN", run) }
    }

    /// Besides, these system calls are refused with these errors (seccomp(2)).
    #[cfg(target_os = "linux")]
    pub(crate) fn refused(mut self, calls: &[(u32, i32)]) -> Surroundings {
        let calls: Vec<_> = calls.iter().map(|(number, error)| format!("{number}:{error}")).collect();
        let python = pepo_testkit::Python::of_the_system().path.display().to_string();
        self.before.extend([python, "-c".into(), FILTER.into(), calls.join(" ")]);
        self
    }

    /// The command, not yet started; nothing on stdin.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.other(PEPO, arguments)
    }

    /// Another program in the same surroundings.
    pub(crate) fn other(&self, program: &str, arguments: &[&str]) -> Command {
        let mut line = self.before.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(line.next().unwrap());
        command.args(line).args(arguments).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::to_end(self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Of a command that has ended.
    pub(crate) fn of(output: Output) -> Run {
        Run {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Of one that runs, with pipes for its streams: waits for its end and for that of the streams, which something it started may hold.
    #[track_caller]
    pub(crate) fn to_end(child: Child) -> Run {
        let pid = child.id();
        let (said, all) = mpsc::channel();
        thread::spawn(move || said.send(child.wait_with_output()));
        let Ok(output) = all.recv_timeout(LIMIT) else {
            let list =
                Command::new("ps").args(["-eo", "pid,ppid,stat,etime,wchan:20,args"]).output().unwrap();
            let list = String::from_utf8_lossy(&list.stdout);
            panic!("process {pid} does not end, or something holds its streams:\n{list}");
        };
        Run::of(output.unwrap())
    }

    /// All of it, for a snapshot.
    pub(crate) fn snapshot(&self) -> String {
        let mut text = format!("exit: {:?}\n", self.status.unwrap_or(-1));
        for (name, said) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let _ = write!(text, "----- {name}\n{said}");
        }
        text
    }

    /// Asserts success and gives what was said.
    #[track_caller]
    pub(crate) fn ok(self) -> Run {
        assert_eq!(self.status, Some(0), "{}", self.snapshot());
        self
    }

    /// Asserts failure with this status.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> Run {
        assert_eq!(self.status, Some(status), "{}", self.snapshot());
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in\n{}", self.snapshot()))
    }

    /// Stdout as one JSON value a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let value = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in\n{}", self.snapshot()))
        };
        self.stdout.lines().map(value).collect()
    }
}

/// Compares with the committed snapshot; paths, numbers and times that differ from run to run are replaced before.
#[track_caller]
pub(crate) fn same(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r"/\S*/pepo-it-[A-Za-z0-9]+", "[FOLDER]");
    settings.add_filter(r"\d+\.\d+ s\b", "[TIME]");
    settings.bind(|| insta::assert_snapshot!(name, text));
}
