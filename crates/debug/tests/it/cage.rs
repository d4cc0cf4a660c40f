//! What an adapter can't do, whoever tells it to: no program, no connection, no changed file, no other process.
//!
//! Each way out is tried without a cage too, where it must work: else it would prove nothing that it fails inside.

mod debuggers {
    use std::{
        collections::BTreeMap,
        io::{Read as _, Write as _},
        net::TcpListener,
        os::{
            fd::OwnedFd,
            unix::{
                fs::PermissionsExt as _,
                net::{UnixListener, UnixStream},
            },
        },
        path::{Path, PathBuf},
        process::{Child, Stdio},
        time::Duration,
    };

    use pepo_debug::{
        debugger::{GuardChoice, Hold as _},
        guard::{
            control::{Needs, Order, Program, Protect, Stub, StubKind},
            handle::{Handle, Waiting},
        },
    };
    use pepo_testkit::{Life as _, Python, Running, Variant, children, fixtures, wait};
    use serde_json::{Value, json};

    use crate::{
        dap::{Client, Start},
        rig::{Rig, Which, guard_program, process, tools},
    };

    /// What there is to reach: a folder with a file, a bystander, and listeners of this machine.
    struct World {
        folder: tempfile::TempDir,
        bystander: Child,
        tcp: TcpListener,
        _unix: UnixListener,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("file"), "before").unwrap();
            let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            tcp.set_nonblocking(true).unwrap();
            let bystander = pepo_testkit::command("sleep").arg("600").spawn().unwrap();
            World { folder, bystander, tcp, _unix: unix }
        }

        /// `FOLDER`, `BYSTANDER` and `PORT` in a text are replaced.
        fn fill(&self, text: &str) -> String {
            text.replace("FOLDER", self.folder.path().to_str().unwrap())
                .replace("BYSTANDER", &self.bystander.id().to_string())
                .replace("PORT", &self.tcp.local_addr().unwrap().port().to_string())
        }

        /// Is anything not as it was? A signal's effect may take a moment, so a bystander is asked last.
        fn touched(&mut self) -> bool {
            let names = std::fs::read_dir(self.folder.path()).unwrap().count();
            let text = std::fs::read_to_string(self.folder.path().join("file")).unwrap_or_default();
            let connected = self.tcp.accept().is_ok();
            names != 2 || text != "before" || connected || self.bystander_ends()
        }

        fn bystander_ends(&mut self) -> bool {
            let pending = std::fs::read_to_string(format!("/proc/{}/status", self.bystander.id())).unwrap();
            let killed = |line: &str| line.starts_with("ShdPnd") && !line.ends_with("0000");
            pending.lines().any(killed) || self.bystander.try_wait().unwrap().is_some()
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = self.bystander.kill();
            let _ = self.bystander.wait();
        }
    }

    /// Tries everything and says what came of it, a line each: `NAME ok` or `NAME` and the error's name.
    const TRIES: &str = r#"
import ctypes, errno, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def result(number):
    if number < 0:
        raise OSError(ctypes.get_errno(), "")
def run(start):
    pid = os.fork()
    if pid == 0:
        try:
            start()
        except OSError as error:
            os._exit(error.errno)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, "")
def tcp():
    socket.create_connection(("127.0.0.1", PORT), 5)
def unix():
    socket.socket(socket.AF_UNIX).connect("FOLDER/socket")
def datagram():
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def in_memory():
    fd = os.memfd_create("true")
    os.write(fd, open("/bin/true", "rb").read())
    os.execve(fd, ["true"], {})
tries = {
    "exec": lambda: run(lambda: os.execv("/bin/true", ["true"])),
    "exec-in-memory": lambda: run(in_memory),
    "tcp": tcp,
    "unix": unix,
    "datagram": datagram,
    "append": lambda: open("FOLDER/file", "a"),
    "create": lambda: (open("FOLDER/new", "w"), os.unlink("FOLDER/new")),
    "rename": lambda: (os.rename("FOLDER/file", "FOLDER/other"), os.rename("FOLDER/other", "FOLDER/file")),
    "mkdir": lambda: (os.mkdir("FOLDER/folder"), os.rmdir("FOLDER/folder")),
    "chmod": lambda: os.chmod("FOLDER/file", 0o600),
    "link": lambda: (os.link("FOLDER/file", "FOLDER/link"), os.unlink("FOLDER/link")),
    "signal": lambda: os.kill(BYSTANDER, 0),
    "trace": lambda: result(libc.ptrace(0x4206, BYSTANDER, 0, 0)),
    "memory": lambda: open("/proc/%d/mem" % os.getppid(), "rb"),
    "ring": lambda: result(libc.syscall(425, 0, 0)),
    "read": lambda: open("FOLDER/file").read(),
    "signal-itself": lambda: os.kill(os.getpid(), 0),
}
if sys.argv[1:] == ["wait"]:
    sys.stdin.readline()
    tries = {"unix": unix}
for name, do in tries.items():
    try:
        do()
        print(name, "ok", flush=True)
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error.errno), flush=True)
"#;

    /// What it says, by name.
    fn outcomes(said: &str) -> BTreeMap<String, String> {
        said.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
            .collect()
    }

    /// A program of ours in an adapter's place.
    struct Inmate {
        target: Running,
        handle: Option<Handle>,
        stream: UnixStream,
        _folder: tempfile::TempDir,
    }

    impl Inmate {
        async fn start(program: &Path, args: &[&str], needs: Needs) -> Inmate {
            let target = pepo_testkit::spawn(&fixtures::c(Variant::debug()), &["1000", "worker"]);
            let folder = tempfile::tempdir().unwrap();
            let stub = tools().find("lldb-server").expect("the stub is installed").path;
            let order = Order {
                pid: target.pid(),
                start_time: process(target.pid()).start_time(),
                protect: Protect::Relay {
                    socket: folder.path().join("gdb.sock"),
                    stub: Stub {
                        kind: StubKind::LldbServer,
                        program: stub,
                        log: folder.path().join("stub.log"),
                    },
                },
                adapter: Program {
                    program: program.to_owned(),
                    args: args.iter().map(|&arg| arg.to_owned()).collect(),
                    env: Vec::new(),
                    log: folder.path().join("adapter.log"),
                    dap_on_stdio: true,
                    ends_on_sigterm: true,
                    needs,
                },
                lease_millis: 20_000,
            };
            let waiting = Waiting::start(&guard_program(), folder.path().join("guard.log")).unwrap();
            let (handle, stream) = waiting.take(&order).await.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Inmate { target, handle: Some(handle), stream, _folder: folder }
        }

        /// Everything it says until it ends.
        fn said(&mut self) -> BTreeMap<String, String> {
            let mut said = String::new();
            self.stream.read_to_string(&mut said).unwrap();
            outcomes(&said)
        }

        async fn let_go(mut self) {
            let handle = self.handle.take().unwrap();
            assert_eq!(Box::new(handle).let_go().await.left_behind, Vec::<String>::new());
            self.target.assert_goes_on();
        }
    }

    fn python() -> PathBuf {
        Python::of_the_system().path
    }

    const REFUSED: [(&str, &str); 15] = [
        ("exec", "EPERM"),
        ("exec-in-memory", "EPERM"),
        ("tcp", "EAFNOSUPPORT"),
        ("unix", "EACCES"),
        ("datagram", "EACCES"),
        ("append", "EROFS"),
        ("create", "EROFS"),
        ("rename", "EROFS"),
        ("mkdir", "EROFS"),
        ("chmod", "EROFS"),
        ("link", "EROFS"),
        ("signal", "EPERM"),
        ("trace", "EPERM"),
        ("memory", "EACCES"),
        ("ring", "ENOSYS"),
    ];

    /// A script that starts a program and then becomes `program`.
    fn wrapper(folder: &Path, program: &Path) -> PathBuf {
        let path = folder.join("wrapper");
        let text = format!("#!/bin/sh\ndirname \"$0\" > /dev/null\nexec {} \"$@\"\n", program.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_caged_program_reaches_nothing_and_a_free_one_everything() {
        let world = World::new();
        let free = pepo_testkit::command(python()).args(["-c", &world.fill(TRIES)]).output().unwrap();
        let free = outcomes(&String::from_utf8(free.stdout).unwrap());
        // That call would need a good argument.
        assert!(free.iter().all(|(name, outcome)| outcome == "ok" || name == "ring"), "{free:?}");
        let mut world = World::new();
        let tries = world.fill(TRIES);
        let folder = tempfile::tempdir().unwrap();
        for program in [python(), wrapper(folder.path(), &python())] {
            let mut inmate = Inmate::start(&program, &["-c", &tries], Needs::default()).await;
            let said = inmate.said();
            for (name, error) in REFUSED {
                assert_eq!(said.get(name).map(String::as_str), Some(error), "{name}: {said:?}");
            }
            assert_eq!((said["read"].as_str(), said["signal-itself"].as_str()), ("ok", "ok"), "{said:?}");
            assert_eq!(said.len(), free.len(), "{said:?}");
            inmate.let_go().await;
            assert!(!world.touched(), "{}", program.display());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_an_adapter_needs_is_let_through_once() {
        let world = World::new();
        let tries = world.fill(TRIES).replace("tries = {", "tries = {\"first\": unix,");
        let sockets = vec![world.folder.path().join("socket")];
        let needs = Needs { program: Some("/bin/true".into()), sockets, ..Needs::default() };
        let mut inmate = Inmate::start(&python(), &["-c", &tries], needs).await;
        let said = inmate.said();
        let outcome = |name: &str| said[name].as_str();
        assert_eq!((outcome("first"), outcome("unix")), ("ok", "EACCES"), "{said:?}");
        assert_eq!((outcome("exec"), outcome("exec-in-memory")), ("ok", "EPERM"), "{said:?}");
        inmate.let_go().await;
    }

    /// Whoever decides may die: a call that waits for it fails, and so does every later one.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_hangs_when_the_one_that_decides_has_died() {
        let world = World::new();
        let needs = Needs { sockets: vec![world.folder.path().join("socket")], ..Needs::default() };
        let mut inmate = Inmate::start(&python(), &["-c", &world.fill(TRIES), "wait"], needs).await;
        let keeper = inmate.handle.as_ref().unwrap().guard().unwrap();
        let worker = children(keeper)[0];
        crate::rig::kill(worker);
        crate::rig::gone(&[worker]).unwrap();
        inmate.stream.write_all(b"go\n").unwrap();
        assert_eq!(inmate.said()["unix"], "ENOSYS");
        drop(inmate.handle.take());
        inmate.target.assert_goes_on();
    }

    /// Known ways out of a debugger's own language.
    const WAYS: &[(Which, &str)] = &[
        (Which::GdbC, "shell touch FOLDER/new"),
        (Which::GdbC, "print $_shell(\"touch FOLDER/new\")"),
        (Which::GdbC, "pipe print 1 | tee FOLDER/new"),
        (Which::GdbC, "python import os; os.system('touch FOLDER/new')"),
        (
            Which::GdbC,
            "python import os; os.posix_spawn('/bin/sh', ['sh', '-c', '> FOLDER/new'], {}); os.wait()",
        ),
        (Which::GdbC, "python open('FOLDER/new', 'w')"),
        (Which::GdbC, "python open('FOLDER/file', 'w')"),
        (Which::GdbC, "python import os; os.unlink('FOLDER/file')"),
        (Which::GdbC, "python import os; os.kill(BYSTANDER, 9)"),
        (Which::GdbC, "python import socket; socket.create_connection(('127.0.0.1', PORT), 5)"),
        (Which::GdbC, "save breakpoints FOLDER/new"),
        (Which::LldbC, "platform shell touch FOLDER/new"),
        (Which::LldbC, "script import os; os.system('touch FOLDER/new')"),
        (Which::LldbC, "script open('FOLDER/new', 'w')"),
        (Which::LldbC, "script open('FOLDER/file', 'w')"),
        (Which::LldbC, "script import os; os.unlink('FOLDER/file')"),
        (Which::LldbC, "script import os; os.kill(BYSTANDER, 9)"),
        (Which::LldbC, "script import socket; socket.create_connection(('127.0.0.1', PORT), 5)"),
        (Which::LldbC, "breakpoint write -f FOLDER/new"),
    ];

    /// Tries the ways out of one debugger, each in a world of its own; which of them touched it.
    async fn tried(client: &mut Client, which: Which) -> Vec<&'static str> {
        let mut touching = Vec::new();
        for (_, way) in WAYS.iter().filter(|(of, _)| *of == which) {
            let mut world = World::new();
            let arguments = json!({"expression": world.fill(way), "context": "repl"});
            // Refusals come as answers of either kind.
            let _ = client.ask("evaluate", arguments).await;
            if world.touched() {
                touching.push(*way);
            }
        }
        touching
    }

    fn all_ways(which: Which) -> Vec<&'static str> {
        WAYS.iter().filter(|(of, _)| *of == which).map(|(_, way)| *way).collect()
    }

    /// The control: what a debugger does for its user when nobody stands between.
    async fn ways_of_the_bare_adapter(which: Which, program: &str, args: &[&str]) -> Vec<&'static str> {
        let fixture = which.fixture(Variant::debug());
        let target = pepo_testkit::spawn(&fixture, &["1000", "worker"]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = pepo_testkit::command(tools().find(program).unwrap().path);
        command.args(args).stdin(Stdio::from(OwnedFd::from(theirs.try_clone().unwrap())));
        command.stdout(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::null());
        let mut adapter = command.spawn().unwrap();
        drop(command);
        ours.set_nonblocking(true).unwrap();
        let mut client = Client::new(Box::new(tokio::net::UnixStream::from_std(ours).unwrap()));
        let start = Start {
            initialize: json!({"adapterID": program}),
            attach: json!({"pid": target.pid(), "program": fixture.path}),
            source: &fixture.source.display().to_string(),
            lines: &[fixture.line("BREAK")],
            condition: "",
            continue_after_attach: which == Which::GdbC,
        };
        client.begin(&start).await.unwrap();
        client.hit_at_last().await.unwrap();
        let touching = tried(&mut client, which).await;
        client.disconnect().await.unwrap();
        drop(client);
        wait::until("the adapter's end", Duration::from_secs(10), || match adapter.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        touching
    }

    /// Nobody judges what is said here: it is the adapter alone that must be unable.
    async fn no_way_leads_out_of(which: Which, program: &str, args: &[&str]) {
        assert_eq!(ways_of_the_bare_adapter(which, program, args).await, all_ways(which));
        let mut rig = Rig::new(which, GuardChoice::On).await;
        rig.ready(&["BREAK"]).await.unwrap();
        rig.client().hit().await.unwrap();
        assert_eq!(tried(rig.client(), which).await, Vec::<&str>::new());
        rig.client().disconnect().await.unwrap();
        assert_eq!(rig.let_go().await.left_behind, Vec::<String>::new());
        rig.goes_on().unwrap();
        rig.snapshot.assert_same();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_way_leads_out_of_gdb() {
        no_way_leads_out_of(Which::GdbC, "gdb", &["-nx", "-q", "-i=dap"]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_way_leads_out_of_lldb() {
        no_way_leads_out_of(Which::LldbC, "lldb-dap", &[]).await;
    }

    /// Unguarded they own the target; programs and the network stay closed.
    #[tokio::test(flavor = "multi_thread")]
    async fn unguarded_adapters_start_no_program_and_reach_no_network() {
        for which in [Which::GdbC, Which::LldbC] {
            let mut rig = Rig::new(which, GuardChoice::Off).await;
            rig.ready(&["BREAK"]).await.unwrap();
            rig.client().hit_at_last().await.unwrap();
            for way in tried(rig.client(), which).await {
                let starts =
                    ["shell", "system", "spawn", "pipe", "socket"].iter().any(|word| way.contains(word));
                assert!(!starts, "{way}");
            }
            rig.client().disconnect().await.unwrap();
            rig.let_go().await;
            rig.goes_on().unwrap();
        }
    }

    /// With the debugger's own commands granted they do what their user may do.
    #[tokio::test(flavor = "multi_thread")]
    async fn with_raw_the_debuggers_own_commands_work() {
        let way = |which| {
            all_ways(which).into_iter().filter(|way| !way.contains("create_connection")).collect::<Vec<_>>()
        };
        for which in [Which::GdbC, Which::LldbC] {
            let mut rig = Rig::raw(which).await;
            rig.ready(&["BREAK"]).await.unwrap();
            rig.client().hit().await.unwrap();
            assert_eq!(tried(rig.client(), which).await, way(which));
            rig.client().disconnect().await.unwrap();
            rig.let_go().await;
            rig.goes_on().unwrap();
        }
    }

    /// delve has no commands of a shell: its way to another program is to launch one.
    async fn launch(client: &mut Client, program: &Path) -> Result<Value, String> {
        client.ask("initialize", json!({"adapterID": "go"})).await?;
        let arguments = json!({"mode": "exec", "program": program, "backend": "native", "stopOnEntry": true});
        let launch = client.send("launch", arguments).await?;
        client.answer(launch).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delve_launches_nothing() {
        let fixture = fixtures::go(Variant::debug());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("dap.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = pepo_testkit::command(tools().find("dlv").unwrap().path);
        command.args(["dap", &format!("--client-addr=unix:{}", socket.display())]).stdout(Stdio::null());
        let mut delve = command.stderr(Stdio::null()).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut client = Client::new(Box::new(tokio::net::UnixStream::from_std(stream).unwrap()));
        launch(&mut client, &fixture.path).await.expect("the control: a bare delve launches");
        client.ask("disconnect", json!({"terminateDebuggee": true})).await.unwrap();
        drop(client);
        delve.wait().unwrap();

        for guard in [GuardChoice::On, GuardChoice::Off] {
            let mut rig = Rig::new(Which::DelveGo, guard).await;
            let refused = launch(rig.client(), &fixture.path).await.unwrap_err();
            assert!(refused.contains("operation not permitted"), "{refused}");
            rig.let_go().await;
            rig.goes_on().unwrap();
        }
    }
}
