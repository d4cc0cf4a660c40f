//! Each adapter on its own, guarded and not: attach, breakpoint, variables, a change, and the way out.

mod debuggers {
    use pepo_debug::debugger::{GuardChoice, GuardKind};
    use pepo_testkit::{Isolation, Language, Life as _, Symbols, Variant};
    use serde_json::json;

    use crate::rig::{Rig, Which, gone};

    /// Stops at the breakpoint, looks, changes `factor`, and lets go.
    async fn changes_a_variable(which: Which, guard: GuardChoice, kind: GuardKind) {
        let mut rig = Rig::new(which, guard).await;
        assert_eq!(rig.guard, kind);
        let ready = rig.ready(&["BREAK"]).await.unwrap();
        let thread = rig.client().hit().await.unwrap();
        let stop = rig.began.elapsed();
        eprintln!(
            "measured {which:?} {kind:?}: ready {} ms, first stop {} ms",
            ready.as_millis(),
            stop.as_millis()
        );
        let parties = (kind == GuardKind::Relay).then(|| rig.parties());
        let (frame, function, line) = rig.client().top(thread).await.unwrap();
        assert!(function.contains("tick"), "{function}");
        assert_eq!(line, i64::from(rig.fixture.line("BREAK")));
        let (scope, locals) = rig.client().locals(frame).await.unwrap();
        let factor = locals.iter().find(|(name, _)| name == "factor");
        assert_eq!(factor.map(|(_, value)| value.as_str()), Some("2"), "{locals:?}");
        let change = json!({"variablesReference": scope, "name": "factor", "value": "5"});
        rig.client().ask("setVariable", change).await.unwrap();
        let (_, changed) = rig.client().locals(frame).await.unwrap();
        assert!(changed.contains(&("factor".to_owned(), "5".to_owned())), "{changed:?}");
        let source = json!({"source": {"path": rig.fixture.source}, "breakpoints": []});
        rig.client().ask("setBreakpoints", source).await.unwrap();
        rig.client().go_on(thread).await.unwrap();
        if rig.fixture.language == Language::C {
            // Without optimisation C alone promises to read a variable where it stands.
            rig.target.wait_for_answer(105);
        }
        rig.client().disconnect().await.unwrap();
        let gone_well = rig.let_go().await;
        assert_eq!(gone_well.left_behind, Vec::<String>::new());
        rig.goes_on().unwrap();
        rig.snapshot.assert_same();
        if let Some(parties) = parties {
            gone(&parties.all()).unwrap();
        }
        assert_eq!(files(&rig), Vec::<String>::new(), "files in the session's folder");
    }

    fn files(rig: &Rig) -> Vec<String> {
        let files = std::fs::read_dir(rig.run_dir.path()).unwrap().flatten();
        files
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.'))
            .collect()
    }

    /// Process 1 of its own namespaces, another user, nothing writable, libraries in a root of its own.
    async fn finds_its_way_in_other_namespaces(which: Which, guard: GuardChoice) {
        let fixture = which.fixture(Variant::debug());
        let isolation = Isolation { uid: 65534, read_only_root: true };
        let target = pepo_testkit::spawn_isolated(&fixture, &["1000", "worker"], isolation);
        let mut rig = Rig::on(which, guard, fixture, target).await;
        rig.ready(&["BREAK"]).await.unwrap();
        let thread = match guard {
            // lldb-server alone takes its own SIGSTOP for a stranger's in another PID namespace, and reports more stops.
            GuardChoice::Off => rig.client().hit_at_last().await.unwrap(),
            _ => rig.client().hit().await.unwrap(),
        };
        let (frame, _, line) = rig.client().top(thread).await.unwrap();
        assert_eq!(line, i64::from(rig.fixture.line("BREAK")), "{:#?}", rig.client().heard);
        let (_, locals) = rig.client().locals(frame).await.unwrap();
        assert!(locals.contains(&("factor".to_owned(), "2".to_owned())), "{locals:?}");
        if rig.fixture.language == Language::C {
            // Through frames of the C library, which only the target's own root has at that path.
            let frames = rig.client().all_frames().await.unwrap();
            assert!(frames.iter().any(|name| name.contains("idle_for_ever")), "{frames:?}");
        }
        rig.client().disconnect().await.unwrap();
        assert_eq!(rig.let_go().await.left_behind, Vec::<String>::new());
        rig.goes_on().unwrap();
        rig.snapshot.assert_same();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_finds_its_way_in_other_namespaces() {
        finds_its_way_in_other_namespaces(Which::LldbC, GuardChoice::On).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_finds_its_way_in_other_namespaces() {
        finds_its_way_in_other_namespaces(Which::GdbC, GuardChoice::On).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delve_finds_its_way_in_other_namespaces() {
        finds_its_way_in_other_namespaces(Which::DelveGo, GuardChoice::On).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn adapters_without_guard_find_their_way_in_other_namespaces() {
        for which in [Which::LldbC, Which::GdbC, Which::DelveGo] {
            finds_its_way_in_other_namespaces(which, GuardChoice::Off).await;
        }
    }

    /// Split debug information is found in the folder that is given.
    async fn finds_split_debug_information(which: Which) {
        let fixture = which.fixture(Variant::debug().symbols(Symbols::Split));
        let target = pepo_testkit::spawn(&fixture, &["1000", "worker"]);
        let folder = fixture.debug_file.as_ref().unwrap().parent().unwrap().to_owned();
        let mut rig = Rig::with_symbols(which, fixture, target, &[folder]).await;
        rig.ready(&["BREAK"]).await.unwrap();
        let thread = rig.client().hit().await.unwrap();
        let (_, function, line) = rig.client().top(thread).await.unwrap();
        assert!(function.contains("tick"), "{function}");
        assert_eq!(line, i64::from(rig.fixture.line("BREAK")));
        rig.client().disconnect().await.unwrap();
        assert_eq!(rig.let_go().await.left_behind, Vec::<String>::new());
        rig.goes_on().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_finds_split_debug_information() {
        finds_split_debug_information(Which::LldbC).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_finds_split_debug_information() {
        finds_split_debug_information(Which::GdbC).await;
    }

    /// Adapters have a session of their own, no network but a loopback interface of their own, and no descriptor of ours.
    #[tokio::test(flavor = "multi_thread")]
    async fn adapters_have_little_privilege() {
        for which in [Which::LldbC, Which::GdbC, Which::DelveGo] {
            let mut rig = Rig::new(which, GuardChoice::On).await;
            rig.ready(&["BREAK"]).await.unwrap();
            rig.client().hit().await.unwrap();
            let parties = rig.parties();
            let link = |pid: u32, name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
            let own = std::process::id();
            assert_ne!(link(parties.adapter, "ns/net"), link(own, "ns/net"), "{which:?}");
            for pid in [parties.adapter, parties.stub, parties.keeper] {
                assert_eq!(
                    rustix::process::getsid(rustix::process::Pid::from_raw(pid as i32))
                        .unwrap()
                        .as_raw_nonzero()
                        .get(),
                    pid as i32
                );
            }
            // CAP_DAC_READ_SEARCH; and CAP_DAC_OVERRIDE, CAP_KILL, CAP_SYS_PTRACE.
            let (reads, owns) = (1 << 2, 1 << 1 | 1 << 2 | 1 << 5 | 1 << 19);
            for (pid, may_have) in [(parties.adapter, reads), (parties.stub, owns)] {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let of = |name: &str| {
                    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
                    u64::from_str_radix(line.unwrap(), 16).unwrap()
                };
                assert_eq!((of("NoNewPrivs"), of("Seccomp")), (1, 2), "{which:?} {pid}");
                for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                    assert_eq!(of(set) & !may_have, 0, "{which:?} {pid}: {set}");
                }
            }
            let status = std::fs::read_to_string(format!("/proc/{}/status", rig.target.pid())).unwrap();
            assert!(status.contains("NoNewPrivs:\t0") && status.contains("Seccomp:\t0"), "{status}");
            rig.client().disconnect().await.unwrap();
            rig.let_go().await;
            rig.goes_on().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_changes_a_variable_in_c_through_the_relay() {
        changes_a_variable(Which::LldbC, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_changes_a_variable_in_cpp_through_the_relay() {
        changes_a_variable(Which::LldbCpp, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_changes_a_variable_in_rust_through_the_relay() {
        changes_a_variable(Which::LldbRust, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_changes_a_variable_without_guard() {
        changes_a_variable(Which::LldbC, GuardChoice::Off, GuardKind::Text).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_changes_a_variable_in_c_through_the_relay() {
        changes_a_variable(Which::GdbC, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_changes_a_variable_in_cpp_through_the_relay() {
        changes_a_variable(Which::GdbCpp, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_changes_a_variable_in_rust_through_the_relay() {
        changes_a_variable(Which::GdbRust, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_changes_a_variable_without_guard() {
        changes_a_variable(Which::GdbC, GuardChoice::Off, GuardKind::Text).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delve_changes_a_variable_through_the_relay() {
        changes_a_variable(Which::DelveGo, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delve_changes_a_variable_without_guard() {
        changes_a_variable(Which::DelveGo, GuardChoice::Off, GuardKind::Text).await;
    }
}
