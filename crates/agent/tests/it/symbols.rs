//! Debug files from the client's side: an agent that cannot take them, and a client that dies while it sends them.

mod debuggers {
    use std::{fs::File, path::Path, time::Duration};

    use pepo_client::{Agent, SymbolPaths};
    use pepo_testkit::{Fixture, Life as _, Symbols, Variant, clean::Snapshot, fixtures, spawn, wait};
    use pepo_wire::{
        Code,
        agent::{Grant, OpenSession, Right, Target},
    };

    use crate::{agent, config, process};

    /// How long anything may take on a busy machine.
    const LIMIT: Duration = Duration::from_secs(30);

    fn request(target: Target) -> OpenSession {
        OpenSession {
            target: Some(target),
            debugger: "lldb".to_owned(),
            grant: Some(Grant {
                who: "a test".to_owned(),
                rights: vec![Right::Stop as i32, Right::Modify as i32],
                lease_seconds: 20,
                pause_budget_millis: Some(0),
            }),
            ..OpenSession::default()
        }
    }

    fn split() -> Fixture {
        fixtures::c(Variant::debug().symbols(Symbols::Split))
    }

    fn paths(file: &Path) -> SymbolPaths {
        SymbolPaths::new(&[file.to_owned()], false).unwrap()
    }

    fn sessions(run: &Path) -> Vec<std::path::PathBuf> {
        let sessions = std::fs::read_dir(run.join("run/sessions")).into_iter().flatten();
        sessions.flatten().map(|entry| entry.path()).collect()
    }

    #[tokio::test]
    async fn an_agent_that_cannot_take_debug_files_is_told_and_serves_without_them() {
        let run = tempfile::tempdir().unwrap();
        let mut config = config(run.path());
        config.offers = &["list", "check", "stack", "session", "sessions", "release"];
        let (stream, _served) = pepo_agent::serve_in_process(config);
        let agent = Agent::connect(stream).await.unwrap();
        let fixture = fixtures::c(Variant::debug());
        let target = spawn(&fixture, &["1000"]);
        let refused =
            agent.session_with(request(process(target.pid())), paths(&fixture.path)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotOffered);
        assert!(refused.hints[0].text.contains("without `--symbols`"), "{refused:?}");
        let session = agent.session(request(process(target.pid()))).await.unwrap();
        assert_eq!(session.close().await.unwrap().left_behind, Vec::<String>::new());
        target.assert_goes_on();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_dies_while_it_sends_debug_files_leaves_nothing_and_the_next_one_is_served() {
        let run = tempfile::tempdir().unwrap();
        let fixture = split();
        let file = fixture.debug_file.clone().unwrap();
        // So large that it is under way for a while: the same file, and nothing behind its end.
        let large = run.path().join("large.debug");
        std::fs::copy(&file, &large).unwrap();
        File::options().write(true).open(&large).unwrap().set_len(2 << 30).unwrap();
        let target = spawn(&fixture, &["1000"]);
        let before = Snapshot::take(target.pid());
        let (agent, _served) = agent(run.path()).await;
        let (client, open) = (agent.clone(), request(process(target.pid())));
        let sending = tokio::spawn(async move { client.session_with(open, paths(&large)).await.map(drop) });
        wait::until("the first bytes beside the target", LIMIT, || {
            let arrived = sessions(run.path())
                .iter()
                .any(|session| session.join("symbols/0.debug").metadata().is_ok_and(|meta| meta.len() > 0));
            if arrived { Ok(()) } else { Err(format!("{:?}", sessions(run.path()))) }
        });
        sending.abort();
        assert!(sending.await.unwrap_err().is_cancelled(), "it was still sending");
        wait::until("the session's folder gone", LIMIT, || match sessions(run.path()) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        target.assert_goes_on();
        before.assert_same();
        let session = agent.session_with(request(process(target.pid())), paths(&file)).await.unwrap();
        assert_eq!(session.close().await.unwrap().left_behind, Vec::<String>::new());
        target.assert_goes_on();
        before.assert_same();
    }
}
