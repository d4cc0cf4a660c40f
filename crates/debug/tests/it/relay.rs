//! The relay, spoken to in gdb's own protocol: what it refuses, what it undoes, what it keeps.

mod debuggers {
    use std::{
        io::{Read as _, Write as _},
        os::{fd::OwnedFd, unix::net::UnixStream},
        process::Stdio,
        time::Duration,
    };

    use pepo_debug::{
        debugger::{Hold as _, LetGo},
        guard::{
            control::{Needs, Order, Program, Protect, Report, Stub, StubKind},
            handle::{Handle, Waiting},
            packet::{Decoder, Item, encode},
        },
    };
    use pepo_testkit::{Life as _, Running, Variant, clean::Snapshot, fixtures, wait};

    use crate::rig::{gone, guard_program, process, tools, tracer};

    /// A guard whose adapter only sleeps; the test is the debugger.
    struct Spoken {
        target: Running,
        snapshot: Snapshot,
        handle: Option<Handle>,
        stream: UnixStream,
        decoder: Decoder,
        _folder: tempfile::TempDir,
    }

    fn order(target: u32, folder: &std::path::Path, kind: StubKind, lease_millis: u64) -> Order {
        let program = match kind {
            StubKind::LldbServer => "lldb-server",
            StubKind::Gdbserver => "gdbserver",
        };
        let program = tools().find(program).expect("the stub is installed").path;
        Order {
            pid: target,
            start_time: process(target).start_time(),
            protect: Protect::Relay {
                socket: folder.join("gdb.sock"),
                stub: Stub { kind, program, log: folder.join("stub.log") },
            },
            adapter: Program {
                program: "/bin/sleep".into(),
                args: vec!["600".to_owned()],
                env: Vec::new(),
                log: folder.join("adapter.log"),
                dap_on_stdio: true,
                ends_on_sigterm: true,
                needs: Needs::default(),
            },
            lease_millis,
        }
    }

    fn target() -> Running {
        pepo_testkit::spawn(&fixtures::c(Variant::debug()), &["1000", "worker"])
    }

    impl Spoken {
        async fn to(kind: StubKind) -> Spoken {
            Spoken::with(kind, target()).await
        }

        async fn with(kind: StubKind, target: Running) -> Spoken {
            let folder = tempfile::tempdir().unwrap();
            let snapshot = Snapshot::take(target.pid());
            let order = order(target.pid(), folder.path(), kind, 20_000);
            let waiting = Waiting::start(&guard_program(), folder.path().join("guard.log")).unwrap();
            let (handle, _stream) = waiting.take(&order).await.unwrap();
            let stream = UnixStream::connect(folder.path().join("gdb.sock")).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut spoken = Spoken {
                target,
                snapshot,
                handle: Some(handle),
                stream,
                decoder: Decoder::default(),
                _folder: folder,
            };
            assert!(spoken.ask("qSupported:multiprocess+;swbreak+").contains("PacketSize"));
            assert_eq!(spoken.ask("QStartNoAckMode"), "OK");
            // gdbserver knows no thread before it was asked why the target stands.
            assert!(spoken.ask("?").starts_with('T'));
            spoken
        }

        fn say(&mut self, packet: &str) {
            self.stream.write_all(&encode(packet.as_bytes())).unwrap();
        }

        fn ask(&mut self, packet: &str) -> String {
            self.say(packet);
            self.hear()
        }

        fn hear(&mut self) -> String {
            loop {
                match self.decoder.next_item().unwrap() {
                    Some(Item::Packet(packet)) => return String::from_utf8_lossy(&packet).into_owned(),
                    Some(_) => continue,
                    None => {}
                }
                let mut buffer = [0; 4096];
                let count = match self.stream.read(&mut buffer) {
                    // A read with a time-out is not taken up again after a stop (signal(7)).
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    count => count.expect("the relay answers in time"),
                };
                let log =
                    || std::fs::read_to_string(self._folder.path().join("guard.log")).unwrap_or_default();
                assert!(count > 0, "the relay closed the stream: {}; {}", log(), self.target.state());
                self.decoder.feed(&buffer[..count]);
            }
        }

        /// Where the function `rare` is, which is never called.
        fn rare(&self) -> u64 {
            let exe = std::fs::read_link(format!("/proc/{}/exe", self.target.pid())).unwrap();
            let names = pepo_testkit::command("nm").arg(&exe).output().unwrap();
            let names = String::from_utf8(names.stdout).unwrap();
            let line =
                names.lines().find(|line| line.ends_with(" t rare") || line.ends_with(" T rare")).unwrap();
            let offset = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
            let maps = process(self.target.pid()).maps().unwrap();
            offset + maps.iter().find(|map| map.path.as_deref() == Some(exe.as_path())).unwrap().start
        }

        async fn let_go(&mut self) -> LetGo {
            Box::new(self.handle.take().unwrap()).let_go().await
        }

        fn assert_free(&mut self) {
            wait::until("untraced", Duration::from_secs(5), || match tracer(self.target.pid()) {
                Some(0) => Ok(()),
                _ => Err(self.target.state()),
            });
            self.target.assert_goes_on();
            self.snapshot.assert_same();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_guard_that_is_not_needed_ends_without_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("guard.log");
        let waiting = Waiting::start(&guard_program(), log.clone()).unwrap();
        let guard = process(waiting.id().unwrap());
        assert!(guard.alive());
        drop(waiting);
        wait::until("the guard's end", Duration::from_secs(10), || {
            (!guard.alive()).then_some(()).ok_or("it runs")
        });
        assert_eq!(std::fs::read_to_string(log).unwrap(), "");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_debugger_that_kills_only_lets_go() {
        for kind in [StubKind::LldbServer, StubKind::Gdbserver] {
            for kill in ["k", "vKill;1"] {
                let mut spoken = Spoken::to(kind).await;
                let rare = spoken.rare();
                assert_eq!(spoken.ask(&format!("Z0,{rare:x},1")), "OK");
                assert!(["OK", "X09"].contains(&spoken.ask(kill).as_str()));
                spoken.assert_free();
                assert_eq!(spoken.let_go().await.left_behind, Vec::<String>::new());
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_starts_ends_or_leaves_the_target_is_refused() {
        for kind in [StubKind::LldbServer, StubKind::Gdbserver] {
            let mut spoken = Spoken::to(kind).await;
            for packet in [
                "vRun;2f62696e2f7368",
                "vAttach;1",
                "!",
                "R00",
                "qRcmd,65786974",
                "vFile:unlink:2f746d702f78",
            ] {
                assert_eq!(spoken.ask(packet), "", "{packet}");
            }
            assert_eq!(spoken.ask("vFile:open:2f746d702f78,601,1a4"), "F-1,d");
            let pid = spoken.target.pid();
            assert_eq!(spoken.ask(&format!("D;{pid:x}")), "OK");
            spoken.assert_free();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_deadly_signal_is_not_passed_on() {
        for kind in [StubKind::LldbServer, StubKind::Gdbserver] {
            let mut spoken = Spoken::to(kind).await;
            spoken.say("vCont;C09");
            spoken.target.assert_goes_on();
            drop(spoken.let_go().await);
            spoken.assert_free();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn text_written_as_memory_is_put_back_and_data_is_not() {
        for kind in [StubKind::LldbServer, StubKind::Gdbserver] {
            let mut spoken = Spoken::to(kind).await;
            let rare = spoken.rare();
            assert_eq!(spoken.ask(&format!("M{rare:x},2:cccc")), "OK");
            assert!(!spoken.snapshot.differences().is_empty());
            spoken.stream.shutdown(std::net::Shutdown::Both).unwrap();
            let gone = spoken.let_go().await;
            assert_eq!(gone.repairs, ["restored 2 text bytes"]);
            spoken.assert_free();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_is_read_as_if_no_breakpoint_stood_in_it() {
        for kind in [StubKind::LldbServer, StubKind::Gdbserver] {
            let mut spoken = Spoken::to(kind).await;
            let rare = spoken.rare();
            let read = format!("m{:x},8", rare - 2);
            let before = spoken.ask(&read);
            assert_eq!(before.len(), 16, "{before}");
            assert_eq!(spoken.ask(&format!("Z0,{rare:x},1")), "OK");
            assert!(!spoken.snapshot.differences().is_empty(), "{kind:?}");
            assert_eq!(spoken.ask(&read), before, "{kind:?}");
            assert_eq!(spoken.ask(&format!("z0,{rare:x},1")), "OK");
            // What a debugger has written itself is there.
            assert_eq!(spoken.ask(&format!("M{:x},1:90", rare + 1)), "OK");
            assert_eq!(spoken.ask(&format!("m{:x},1", rare + 1)), "90");
            assert!(spoken.ask("m0,8").starts_with('E'), "{kind:?}");
            spoken.let_go().await;
            spoken.assert_free();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_interrupt_reaches_the_target_alone_and_not_its_group() {
        for kind in [StubKind::LldbServer, StubKind::Gdbserver] {
            // The target leads a process group in which a bystander lives, as under a shell.
            let fixture = fixtures::c(Variant::debug());
            let script =
                format!("/bin/sleep 600 & echo bystander $!; exec {} 1000 worker", fixture.path.display());
            let target = pepo_testkit::spawn_command(
                pepo_testkit::command("setsid").args(["-w", "sh", "-c", &script]),
            );
            target.wait_started();
            let line = target.wait_for_line("bystander", Duration::from_secs(5));
            let bystander: u32 = line.split(' ').nth(1).unwrap().parse().unwrap();
            let mut spoken = Spoken::with(kind, target).await;
            spoken.say("vCont;c");
            spoken.target.assert_goes_on();
            spoken.stream.write_all(&[3]).unwrap();
            let stop = spoken.hear();
            let expected = if kind == StubKind::Gdbserver { "T02" } else { "T13" };
            assert!(stop.starts_with(expected), "{stop}");
            assert!(
                std::path::Path::new(&format!("/proc/{bystander}")).exists(),
                "the bystander died of the interrupt"
            );
            spoken.let_go().await;
            spoken.assert_free();
            crate::rig::kill(bystander);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn noise_ends_the_session_and_not_the_target() {
        for noise in [&b"$nonsense#00"[..], &[b'$'; 3 << 20]] {
            let mut spoken = Spoken::to(StubKind::LldbServer).await;
            let _ = spoken.stream.write_all(noise);
            spoken.assert_free();
            assert_eq!(spoken.let_go().await.left_behind, Vec::<String>::new());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_clock_counts_while_the_target_stands() {
        let mut spoken = Spoken::to(StubKind::LldbServer).await;
        let handle = spoken.handle.as_mut().unwrap();
        let Some(Report::State { standing: true, stood_micros: first, points: 0 }) = handle.state().await
        else {
            panic!()
        };
        let Some(Report::State { standing: true, stood_micros: second, .. }) = handle.state().await else {
            panic!()
        };
        assert!(second > first, "{first} {second}");
        spoken.say("vCont;c");
        spoken.target.assert_goes_on();
        let handle = spoken.handle.as_mut().unwrap();
        let Some(Report::State { standing: false, stood_micros: third, .. }) = handle.state().await else {
            panic!()
        };
        let Some(Report::State { standing: false, stood_micros: fourth, .. }) = handle.state().await else {
            panic!()
        };
        assert_eq!(third, fourth);
        spoken.let_go().await;
        spoken.assert_free();
    }

    #[test]
    fn an_agent_that_hangs_loses_its_lease() {
        let target = target();
        let snapshot = Snapshot::take(target.pid());
        let folder = tempfile::tempdir().unwrap();
        let order = order(target.pid(), folder.path(), StubKind::LldbServer, 300);
        let (mut control, theirs) = UnixStream::pair().unwrap();
        let (_dap, dap) = UnixStream::pair().unwrap();
        let mut command = pepo_testkit::command(guard_program());
        command.arg("guard").stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(dap)).stderr(Stdio::null());
        let mut guard = command.spawn().unwrap();
        drop(command);
        control.write_all(&serde_json::to_vec(&order).unwrap()).unwrap();
        control.write_all(b"\n").unwrap();
        let socket = folder.path().join("gdb.sock");
        let _debugger =
            wait::until("the relay's socket", Duration::from_secs(5), || UnixStream::connect(&socket));
        wait::until("traced", Duration::from_secs(5), || match tracer(target.pid()) {
            Some(0) | None => Err("not yet"),
            Some(_) => Ok(()),
        });
        // Nobody says a word: neither agent nor debugger. All streams stay open.
        wait::until("the guard's end", Duration::from_secs(10), || match guard.try_wait() {
            Ok(Some(status)) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        target.assert_goes_on();
        snapshot.assert_same();
        let mut told = String::new();
        let _ = control.read_to_string(&mut told);
        assert!(told.contains("lease lost"), "{told}");
    }

    #[test]
    fn a_number_that_was_reused_is_not_touched() {
        let target = target();
        let folder = tempfile::tempdir().unwrap();
        let mut order = order(target.pid(), folder.path(), StubKind::LldbServer, 20_000);
        order.start_time += 1;
        let (mut control, theirs) = UnixStream::pair().unwrap();
        let mut guard = pepo_testkit::command(guard_program());
        guard.arg("guard").stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().unwrap();
        control.write_all(&serde_json::to_vec(&order).unwrap()).unwrap();
        control.write_all(b"\n").unwrap();
        let status = guard.wait_with_output().unwrap().status;
        assert!(!status.success());
        assert_eq!(tracer(target.pid()), Some(0));
        target.assert_goes_on();
        gone(&[]).unwrap();
    }
}
