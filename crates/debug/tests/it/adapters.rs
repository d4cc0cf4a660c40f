//! Each adapter on its own, guarded and not: attach, breakpoint, variables, a change, and the way out.

mod debuggers {
    use pepo_debug::debugger::{GuardChoice, GuardKind};
    use pepo_testkit::{Language, Life as _};
    use serde_json::json;

    use crate::rig::{Rig, Which, gone};

    /// Stops at the breakpoint, looks, changes `factor`, and lets go.
    async fn changes_a_variable(which: Which, guard: GuardChoice, kind: GuardKind) {
        let mut rig = Rig::new(which, guard).await;
        assert_eq!(rig.guard, kind);
        let ready = rig.ready(&["BREAK"]).await.unwrap();
        let thread = rig.client().hit().await.unwrap();
        let stop = rig.began.elapsed();
        eprintln!("measured {which:?} {kind:?}: ready {} ms, first stop {} ms", ready.as_millis(), stop.as_millis());
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
        files.map(|file| file.file_name().to_string_lossy().into_owned()).filter(|name| !name.starts_with('.')).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_changes_a_variable_in_c_through_the_relay() {
        changes_a_variable(Which::LldbC, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_changes_a_variable_in_rust_through_the_relay() {
        changes_a_variable(Which::LldbRust, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lldb_changes_a_variable_without_guard() {
        changes_a_variable(Which::LldbC, GuardChoice::Off, GuardKind::Off).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_changes_a_variable_in_c_through_the_relay() {
        changes_a_variable(Which::GdbC, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_changes_a_variable_in_rust_through_the_relay() {
        changes_a_variable(Which::GdbRust, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gdb_changes_a_variable_without_guard() {
        changes_a_variable(Which::GdbC, GuardChoice::Off, GuardKind::Off).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delve_changes_a_variable_through_the_relay() {
        changes_a_variable(Which::DelveGo, GuardChoice::On, GuardKind::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delve_changes_a_variable_without_guard() {
        changes_a_variable(Which::DelveGo, GuardChoice::Off, GuardKind::Off).await;
    }
}
