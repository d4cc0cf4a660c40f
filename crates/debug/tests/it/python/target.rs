//! Small Python programs as processes: busy and idle ones, with threads, as another user in namespaces of their own.

use std::{
    fs,
    io::{Read, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use pepo_process::{AgentPid, Process};
use pepo_testkit::{Python, only_child, pythons, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// What the main thread does while others work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Calls `tick` as fast as it can.
    Busy,
    /// Computes with floating point and checks itself.
    Numbers,
    /// As busy, with SIGPIPE at its default.
    Sigpipe,
    /// Sleeps for an hour.
    Sleep,
    /// Waits in select(2).
    Select,
    /// Waits in accept(2).
    Accept,
    /// Waits for an event.
    Event,
    /// Waits for a thread.
    Join,
    /// Four threads.
    Threads,
    /// Single-threaded, waits for a line.
    Stdin,
    /// Says what is in its interpreter for each line.
    Report,
    /// Forks for each line.
    Fork,
}

const HEAD: &str = "\
import sys, time
def say(*words):
    sys.stdout.write(' '.join(map(str, words)) + '\\n')
    sys.stdout.flush()
def tick(n):
    answer = 42
    n = n + 0  # stop here
    return answer
def work(every):
    n, beat = 0, time.monotonic()
    while True:
        n += 1
        answer = tick(n)
        if answer != 42:
            say('answer', answer)
        if time.monotonic() - beat > 0.02:
            beat = time.monotonic()
            say('beat', n)
        if every:
            time.sleep(every)
def start(count=1):
    import threading
    for _ in range(count):
        threading.Thread(target=work, args=(0.001,), daemon=True).start()
";

const REPORT: &str = "\
import gc, os, threading, atexit, builtins
def tool():
    monitoring = getattr(sys, 'monitoring', None)
    return [monitoring.get_tool(i) for i in range(6)] if monitoring else None
def mine(o):
    t = type(o)
    module = getattr(t, '__module__', '')
    return isinstance(module, str) and module.startswith(('pydevd', '_pydev', 'pepo'))
for line in sys.stdin:
    while gc.collect(): pass
    print('modules', sorted(m for m in sys.modules if 'pydev' in m or 'pepo' in m))
    print('path', sys.path, sorted(p for p in sys.path_importer_cache if 'proc' in p))
    print('threads', [(t.name, sorted(vars(t))) for t in threading.enumerate()], len(threading._active))
    print('hooks', sys.excepthook is sys.__excepthook__, sys.breakpointhook is sys.__breakpointhook__, sys.gettrace(), sys.settrace, threading._trace_hook)
    print('functions', threading.Thread.start.__module__, getattr(threading, '_start_new_thread', None), sorted(n for n in vars(builtins) if 'pydev' in n or 'pdb' in n), builtins.__import__)
    print('tools', tool())
    print('main', sorted(set(globals()) - {'answer'}))
    print('environ', sorted(e for e in os.environ if 'PYDEV' in e or 'PEPO' in e))
    objects = [o for o in gc.get_objects() if mine(o)]
    print('objects', sorted({type(o).__name__ for o in objects}))
    if objects: print([(type(o).__name__, [(type(r).__name__, str(r)[:300]) for r in gc.get_referrers(o) if r is not objects][:3]) for o in objects[:12]])
    del objects
    answer = line  # report here
    print('report end', flush=True)
";

impl Program {
    fn text(self) -> String {
        let tail = match self {
            Program::Busy => "work(0)\n",
            Program::Sigpipe => "import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\nwork(0)\n",
            Program::Numbers => {
                "import math\nbeat = 0\nwhile True:\n    total = 0.0\n    for i in range(1, 2000):\n        \
                 total += math.sin(i) * 1.5 / i\n    expected = globals().setdefault('expected', total)\n    \
                 if total != expected: print('wrong', total, expected, flush=True)\n    beat += 1\n    \
                 if beat % 20 == 0: print('beat', beat, flush=True)\n"
            }
            Program::Sleep => "start()\ntime.sleep(3600)\n",
            Program::Select => "start()\nimport select, os\nr, w = os.pipe()\nselect.select([r], [], [])\n",
            Program::Accept => {
                "start()\nimport socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\ns.accept()\n"
            }
            Program::Event => "start()\nimport threading\nthreading.Event().wait()\n",
            Program::Join => {
                "import threading\nt = threading.Thread(target=work, args=(0.001,))\nt.start()\nt.join()\n"
            }
            Program::Threads => "start(4)\nwork(0.002)\n",
            Program::Stdin => {
                "import os\nwhile True:\n    print('read', os.read(0, 100).decode().strip(), flush=True)\n"
            }
            Program::Report => REPORT,
            Program::Fork => {
                "import os\nfor line in sys.stdin:\n    child = os.fork()\n    if child == 0:\n        \
                 x = 7  # child here\n        os._exit(x)\n    \
                 print('child ended', os.waitpid(child, 0)[1] >> 8, flush=True)\n"
            }
        };
        format!("{HEAD}print('up', flush=True)\n{tail}")
    }
}

/// One running program; ended when dropped.
pub(super) struct Target {
    name: String,
    child: Child,
    pid: u32,
    input: Option<ChildStdin>,
    output: Arc<Mutex<String>>,
    errors: Arc<Mutex<String>>,
    script: PathBuf,
    text: String,
    _folder: TempDir,
}

/// All interpreters of this machine.
pub(super) fn all_pythons() -> Vec<Python> {
    let all = pythons();
    assert!(!all.is_empty(), "no Python 3.8 to 3.14 on this machine");
    match std::env::var("PEPO_TEST_PYTHON") {
        Ok(only) => {
            all.into_iter().filter(|one| format!("{}.{}", one.version.0, one.version.1) == only).collect()
        }
        Err(_) => all,
    }
}

/// Every interpreter with each of these.
pub(super) fn each_with<T: Clone>(others: impl IntoIterator<Item = T>) -> Vec<(Python, T)> {
    let others: Vec<T> = others.into_iter().collect();
    let pairs = |python: Python| others.clone().into_iter().map(move |other| (python.clone(), other));
    all_pythons().into_iter().flat_map(pairs).collect()
}

impl Target {
    pub(super) fn start(python: &Python, program: Program) -> Target {
        let mut command = Command::new(&python.path);
        Target::spawn(python, program, &mut command, |child| child.id()).up(program)
    }

    /// Held at its first instruction by the word `wait`; its script is run by name, or as a module.
    pub(super) fn held(python: &Python, program: Program, as_module: bool) -> Target {
        let mut command = Command::new(pepo_testkit::pepo());
        command.args(["entry", "--"]).arg(&python.path).env("PEPO_DEBUG", "wait");
        if as_module {
            command.arg("-m");
        }
        Target::spawn(python, program, &mut command, |entry| {
            let pid = only_child(entry.id());
            wait::until("the held program", LIMIT, || {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let is_held = status.contains("State:\tT") && status.contains("TracerPid:\t0\n");
                if is_held { Ok(pid) } else { Err(status) }
            })
        })
    }

    /// Stopped by a signal.
    pub(super) fn is_stopped(&self) -> bool {
        self.state().contains("State:\tT")
    }

    /// Sends SIGCONT.
    pub(super) fn goes_on(&self) {
        self.process().resume().expect("it lives");
    }

    /// Waits until it works.
    fn up(self, program: Program) -> Target {
        // A beat says that workers run, and that the main thread is where it waits.
        let quiet = matches!(program, Program::Stdin | Program::Report | Program::Fork);
        self.wait_for(if quiet { "up" } else { "beat" }, LIMIT);
        self
    }

    /// As user 65534 in PID, mount, network and IPC namespaces of its own, with every file system read-only.
    pub(super) fn isolated(python: &Python, program: Program) -> Target {
        let mut command = Command::new("unshare");
        // The interpreter may lie in a home that only its owner may enter: it is bound to a place of its own.
        let prefix =
            python.path.parent().and_then(|bin| bin.parent()).expect("bin below a prefix").to_owned();
        // An interpreter of a side directory runs by its own loader.
        let way = match prefix.join("lib64/ld-linux-x86-64.so.2").exists() {
            true => {
                "/mnt/py/lib64/ld-linux-x86-64.so.2 --library-path /mnt/py/lib/x86_64-linux-gnu /mnt/py/bin/$1"
            }
            false => "/mnt/py/bin/$1",
        };
        let line = "mount --make-rprivate / && mount -t tmpfs none /mnt && mkdir /mnt/py && mount --bind \"$0\" /mnt/py \
                    && mount -t proc proc /proc && mount -o remount,ro,bind / && mount -o remount,ro /mnt; \
                    exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all \
                    env LD_LIBRARY_PATH=/mnt/py/lib PYTHONHOME=/mnt/py PROGRAM -u \"$2\"";
        let line = line.replace("PROGRAM", way);
        let program_name = python.path.file_name().expect("a file").to_owned();
        command.args(["-f", "-p", "-m", "-n", "-i", "--kill-child", "sh", "-c", &line]);
        command.arg(prefix).arg(program_name);
        Target::spawn(python, program, &mut command, |helper| only_child(helper.id())).up(program)
    }

    fn spawn(
        python: &Python,
        program: Program,
        command: &mut Command,
        find: impl Fn(&Child) -> u32,
    ) -> Target {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("own folder");
        let (script, text) = (folder.path().join("program.py"), program.text());
        fs::write(&script, &text).expect("a temporary file");
        let piped = Stdio::piped;
        let module = command.get_args().last().is_some_and(|word| word == "-m");
        let mut child = command
            .arg(if module { "program".as_ref() } else { script.as_os_str() })
            .current_dir(folder.path())
            .stdin(piped())
            .stdout(piped())
            .stderr(piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = follow(child.stdout.take().expect("piped"));
        let errors = follow(child.stderr.take().expect("piped"));
        let input = child.stdin.take();
        let pid = find(&child);
        let name = format!("{}.{} {program:?}", python.version.0, python.version.1);
        Target { name, child, pid, input, output, errors, script, text, _folder: folder }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn process(&self) -> Process {
        Process::open(AgentPid::new(self.pid).expect("a pid")).expect("the target lives")
    }

    pub(super) fn script(&self) -> &str {
        self.script.to_str().expect("plain")
    }

    /// The line that contains `mark`.
    pub(super) fn line(&self, mark: &str) -> u32 {
        let at = self.text.lines().position(|line| line.contains(mark)).expect("the mark is there");
        u32::try_from(at + 1).expect("a short program")
    }

    pub(super) fn output(&self) -> String {
        self.output.lock().expect("following cannot panic").clone()
    }

    pub(super) fn errors(&self) -> String {
        let all = self.errors.lock().expect("following cannot panic");
        // What the entry says is none of the program's.
        all.split_inclusive('\n').filter(|line| !line.starts_with("pepo-entry: ")).collect()
    }

    pub(super) fn write_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open until dropped");
        writeln!(input, "{line}").expect("the target reads");
    }

    pub(super) fn wait_for(&self, text: &str, limit: Duration) {
        wait::until(&format!("{}: {text:?}", self.name), limit, || {
            let output = self.output();
            if output.lines().any(|line| line.contains(text)) { Ok(()) } else { Err(self.state()) }
        });
    }

    fn state(&self) -> String {
        let output = self.output();
        let last: Vec<_> = output.lines().rev().take(3).collect();
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let state = status.lines().find(|line| line.starts_with("State")).unwrap_or("State: gone").to_owned();
        format!("{state}; last lines {last:?}; errors {:?}", self.errors())
    }

    /// It lives and says two more beats.
    pub(super) fn assert_goes_on(&mut self) {
        let beats = |output: &str| output.lines().filter(|line| line.starts_with("beat")).count();
        let before = beats(&self.output());
        wait::until(&format!("{} goes on", self.name), LIMIT, || {
            if beats(&self.output()) >= before + 2 { Ok(()) } else { Err(self.state()) }
        });
        assert!(matches!(self.child.try_wait(), Ok(None)), "{}: {}", self.name, self.state());
    }

    /// What the program says of its own interpreter.
    pub(super) fn report(&mut self) -> String {
        let before = self.output().len();
        self.write_line("report");
        wait::until("a report", LIMIT, || {
            // An unbuffered interpreter writes a line and its end apart.
            let output = self.output()[before..].trim_start().to_owned();
            if output.ends_with("report end\n") { Ok(output) } else { Err(self.state()) }
        })
    }

    /// Descriptors, mappings and threads that are not the program's own.
    pub(super) fn trace_of_ours(&self) -> Vec<String> {
        let mut ours = Vec::new();
        let folder = PathBuf::from(format!("/proc/{}", self.pid));
        for entry in fs::read_dir(folder.join("fd")).into_iter().flatten().flatten() {
            let link = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
            if link.contains("memfd:pepo") || link.starts_with("socket:") && !self.name.contains("Accept") {
                ours.push(link);
            }
        }
        let maps = fs::read_to_string(folder.join("maps")).unwrap_or_default();
        ours.extend(maps.lines().filter(|line| line.contains("memfd:pepo")).map(str::to_owned));
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let wanted = match self.name.split(' ').next_back() {
            Some("Sleep" | "Select" | "Accept" | "Event" | "Join") => 2,
            Some("Threads") => 5,
            _ => 1,
        };
        let threads =
            status.lines().find_map(|line| line.strip_prefix("Threads:")).map(str::trim).unwrap_or("0");
        if threads != wanted.to_string() {
            ours.push(format!("{threads} threads, {wanted} are its own"));
        }
        if !status.contains("TracerPid:\t0") {
            ours.push("a tracer".to_owned());
        }
        ours
    }

    /// What its threads do, for the message of a test that failed.
    pub(super) fn stacks(&self) -> String {
        let stacks = Command::new(pepo_testkit::pepo())
            .args(["stack", &format!("pid/{}", self.pid)])
            .output()
            .expect("pepo runs");
        [stacks.stdout, stacks.stderr].iter().map(|text| String::from_utf8_lossy(text)).collect()
    }

    /// Does something while another process traces it.
    pub(super) fn while_traced<T>(&self, act: impl FnOnce() -> T) -> T {
        let seize = "import ctypes, sys; ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None); sys.stdin.read()";
        let mut tracer = Command::new("python3")
            .args(["-c", seize, &self.pid.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a Python is here");
        wait::until("the tracer", LIMIT, || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
            if status.contains("TracerPid:\t0") { Err("no tracer") } else { Ok(()) }
        });
        let result = act();
        drop(tracer.stdin.take());
        tracer.wait().expect("it was started");
        result
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself. `unshare --kill-child` alone does not reach a process that has changed its user.
        if let Some(process) = AgentPid::new(self.pid).and_then(|pid| Process::open(pid).ok())
            && let Some(pidfd) = process.pidfd()
        {
            let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(mut stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let copy = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            copy.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    text
}
