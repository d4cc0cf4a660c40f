//! Whoever dies, the target goes on.
//!
//! Each cell: three rounds, each on a fresh target, with a breakpoint that is hit a thousand times a second (its condition is
//! never true, so the debugger goes on from each hit) and with one that is never hit.

mod safety {
    use std::time::{Duration, Instant};

    use pepo_debug::debugger::GuardChoice;
    use pepo_testkit::Life as _;
    use serde_json::json;

    use crate::rig::{Parties, Rig, Which, gone, kill};

    /// Rounds of a cell.
    const ROUNDS: usize = 3;

    /// Who dies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Victim {
        /// The debug adapter.
        Adapter,
        /// The process that relays.
        Worker,
        /// The process that waits for the one that relays.
        Keeper,
        /// The agent: its ends of all streams close at once.
        Agent,
        /// The adapter's DAP stream is cut.
        Stream,
    }

    /// Which breakpoint is armed when it happens.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Armed {
        /// Hit all the time.
        Hot,
        /// Never hit.
        Cold,
        /// The target stands at it.
        Standing,
        /// The target stands at it in a call that was evaluated.
        Calling,
    }

    async fn armed(which: Which, what: Armed) -> (Rig, Parties) {
        let mut rig = Rig::new(which, GuardChoice::On).await;
        match what {
            Armed::Standing => {
                rig.ready(&["BREAK"]).await.unwrap();
                rig.client().hit().await.unwrap();
            }
            Armed::Calling => {
                rig.ready(&["BREAK"]).await.unwrap();
                let thread = rig.client().hit().await.unwrap();
                let (frame, _, _) = rig.client().top(thread).await.unwrap();
                let call = json!({"expression": "tick(1)", "context": "watch", "frameId": frame});
                let interrupted = rig.client().ask("evaluate", call).await.unwrap_err();
                assert!(interrupted.contains("stopped while in a function"), "{interrupted}");
            }
            Armed::Hot | Armed::Cold => rig.arm(what == Armed::Hot).await,
        }
        let parties = rig.parties();
        (rig, parties)
    }

    async fn round(which: Which, victim: Victim, what: Armed) -> Result<Duration, String> {
        let (mut rig, parties) = armed(which, what).await;
        let begin = Instant::now();
        match victim {
            Victim::Adapter => kill(parties.adapter),
            Victim::Worker => kill(parties.worker),
            Victim::Keeper => kill(parties.keeper),
            Victim::Agent => {
                rig.client = None;
                rig.hold = None;
            }
            Victim::Stream => rig.client = None,
        }
        if victim == Victim::Keeper {
            // The relay lives on without it; what ends the session is something else.
            rig.client = None;
        }
        let free = pepo_testkit::wait::try_until(Duration::from_secs(10), || {
            match crate::rig::tracer(rig.target.pid()) {
                Some(0) => Ok(begin.elapsed()),
                other => Err(format!("tracer {other:?}: {}", rig.target.state())),
            }
        })?;
        rig.goes_on()?;
        let differences = rig.snapshot.differences();
        if !differences.is_empty() {
            let told = if rig.hold.is_some() { format!("{:?}", rig.let_go().await) } else { String::new() };
            return Err(format!("left behind: {differences:?} {told} {}", rig.target.state()));
        }
        if rig.hold.is_some() && !matches!(victim, Victim::Worker | Victim::Keeper) {
            let gone = rig.let_go().await;
            if !gone.left_behind.is_empty() {
                return Err(format!("{gone:?}"));
            }
        }
        gone(&parties.all())?;
        Ok(free)
    }

    async fn cell(which: Which, victim: Victim, what: Armed) {
        let mut times = Vec::new();
        let mut deaths = Vec::new();
        for _ in 0..rounds() {
            match round(which, victim, what).await {
                Ok(time) => times.push(time.as_millis()),
                Err(error) => deaths.push(error),
            }
        }
        eprintln!(
            "measured {which:?} {victim:?} {what:?}: {} of {} live, free after {times:?} ms",
            times.len(),
            rounds()
        );
        assert!(deaths.is_empty(), "{which:?} {victim:?} {what:?}: {deaths:#?}");
    }

    /// More when figures are wanted.
    fn rounds() -> usize {
        std::env::var("PEPO_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
    }

    macro_rules! cells {
        ($($name:ident: $which:ident $victim:ident $armed:ident;)+) => {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                cell(Which::$which, Victim::$victim, Armed::$armed).await;
            })+
        };
    }

    cells! {
        lldb_lives_when_the_adapter_is_killed_at_a_thousand_hits: LldbC Adapter Hot;
        lldb_lives_when_the_adapter_is_killed_before_any_hit: LldbC Adapter Cold;
        lldb_lives_when_the_adapter_is_killed_while_it_stands: LldbC Adapter Standing;
        lldb_lives_when_the_relay_is_killed_at_a_thousand_hits: LldbC Worker Hot;
        lldb_lives_when_the_relay_is_killed_before_any_hit: LldbC Worker Cold;
        lldb_lives_when_the_relay_is_killed_while_it_stands: LldbC Worker Standing;
        lldb_lives_when_the_keeper_is_killed: LldbC Keeper Hot;
        lldb_lives_when_the_agent_goes: LldbC Agent Hot;
        lldb_lives_when_the_agent_goes_while_it_stands: LldbC Agent Standing;
        lldb_lives_when_the_stream_is_cut: LldbC Stream Hot;

        gdb_lives_when_the_adapter_is_killed_at_a_thousand_hits: GdbC Adapter Hot;
        gdb_lives_when_the_adapter_is_killed_before_any_hit: GdbC Adapter Cold;
        gdb_lives_when_the_adapter_is_killed_while_it_stands: GdbC Adapter Standing;
        gdb_lives_when_the_relay_is_killed_at_a_thousand_hits: GdbC Worker Hot;
        gdb_lives_when_the_relay_is_killed_before_any_hit: GdbC Worker Cold;
        gdb_lives_when_the_relay_is_killed_while_it_stands: GdbC Worker Standing;
        gdb_lives_when_the_adapter_is_killed_in_a_call: GdbC Adapter Calling;
        gdb_lives_when_the_relay_is_killed_in_a_call: GdbC Worker Calling;
        gdb_lives_when_the_agent_goes_in_a_call: GdbC Agent Calling;
        gdb_lives_when_the_keeper_is_killed: GdbC Keeper Hot;
        gdb_lives_when_the_agent_goes: GdbC Agent Hot;
        gdb_lives_when_the_agent_goes_while_it_stands: GdbC Agent Standing;
        gdb_lives_when_the_stream_is_cut: GdbC Stream Hot;

        delve_lives_when_the_adapter_is_killed_at_a_thousand_hits: DelveGo Adapter Hot;
        delve_lives_when_the_adapter_is_killed_before_any_hit: DelveGo Adapter Cold;
        delve_lives_when_the_adapter_is_killed_while_it_stands: DelveGo Adapter Standing;
        delve_lives_when_the_relay_is_killed_at_a_thousand_hits: DelveGo Worker Hot;
        delve_lives_when_the_relay_is_killed_before_any_hit: DelveGo Worker Cold;
        delve_lives_when_the_relay_is_killed_while_it_stands: DelveGo Worker Standing;
        delve_lives_when_the_keeper_is_killed: DelveGo Keeper Hot;
        delve_lives_when_the_agent_goes: DelveGo Agent Hot;
        delve_lives_when_the_agent_goes_while_it_stands: DelveGo Agent Standing;
        delve_lives_when_the_stream_is_cut: DelveGo Stream Hot;
    }

    /// Adapters that own ptrace: what the text guard saves.
    mod text {
        use super::{GuardChoice, Rig, Which, gone, kill};
        use pepo_debug::debugger::GuardKind;
        use pepo_testkit::{Life as _, wait};
        use std::time::Duration;

        /// A toolkit without any stub, so that only the text guard is left.
        async fn rig(which: Which, program: &str) -> (Rig, tempfile::TempDir) {
            let kit = tempfile::tempdir().unwrap();
            let name = which.debugger().facts().name;
            let bin = kit.path().join(name).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            let tool = crate::rig::tools().find(program).expect("the debugger is installed");
            std::os::unix::fs::symlink(&tool.path, bin.join(program)).unwrap();
            let tools = pepo_debug::tools::Tools::in_folders(vec![kit.path().to_owned()], Vec::new());
            let rig = Rig::with_tools(which, GuardChoice::Default, &tools).await;
            assert_eq!(rig.guard, GuardKind::Text);
            (rig, kit)
        }

        async fn restores(which: Which, program: &str) {
            for _ in 0..super::rounds() {
                let (mut rig, _kit) = rig(which, program).await;
                rig.ready(&["RARE"]).await.unwrap();
                let adapter = crate::rig::tracer(rig.target.pid()).unwrap();
                wait::until("a breakpoint in the text", Duration::from_secs(20), || {
                    let differences = rig.snapshot.differences();
                    if differences.iter().any(|one| one.contains("text")) {
                        Ok(())
                    } else {
                        Err(format!("{differences:?}"))
                    }
                });
                kill(adapter);
                gone(&[adapter]).unwrap();
                let gone_well = rig.let_go().await;
                assert_eq!(gone_well.left_behind, Vec::<String>::new());
                if !rig.target.is_alive() {
                    // It was about to run into what nobody can take back; how often is for the figures.
                    eprintln!("measured {which:?} text guard Cold: died");
                    continue;
                }
                assert!(gone_well.repairs.iter().any(|repair| repair.contains("text byte")), "{gone_well:?}");
                rig.goes_on().unwrap();
                rig.snapshot.assert_same();
            }
        }

        /// The agent goes while its breakpoint is hit a thousand times a second.
        async fn lets_go(which: Which, program: &str) {
            for _ in 0..super::rounds() {
                let (mut rig, _kit) = rig(which, program).await;
                rig.arm(true).await;
                let adapter = crate::rig::tracer(rig.target.pid()).unwrap();
                rig.client = None;
                rig.hold = None;
                gone(&[adapter]).unwrap();
                rig.goes_on().unwrap();
                rig.snapshot.assert_same();
            }
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn delve_lets_go_of_a_hot_breakpoint_when_the_agent_goes() {
            lets_go(Which::DelveGo, "dlv").await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn gdb_lets_go_of_a_hot_breakpoint_when_the_agent_goes() {
            lets_go(Which::GdbC, "gdb").await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn lldb_lets_go_of_a_hot_breakpoint_when_the_agent_goes() {
            lets_go(Which::LldbC, "lldb-dap").await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn delves_breakpoints_are_taken_back_when_it_is_killed_before_any_hit() {
            restores(Which::DelveGo, "dlv").await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn gdbs_breakpoints_are_taken_back_when_it_is_killed_before_any_hit() {
            restores(Which::GdbC, "gdb").await;
        }
    }
}
