//! An engine ends, or is killed, and comes back under a session by a helper whose breakpoint may be hit a thousand times a second: its
//! containers run on (`--live-restore`), so must what is debugged in them. Sessions in process are a column of `docs/safety.md`.

use pepo_testkit::{Container, Engine, Fixture, Image, Kind, Life as _, RunOptions, clean::Snapshot};

use super::{image_for_a_helper, until_only};
use crate::{
    session::{self, language},
    support::Surroundings,
    terminal::Terminal,
};

/// What becomes of the engine, one after the other.
const ENDS: [fn(&Engine); 3] = [Engine::restart, Engine::kill_and_start, Engine::restart];

fn run(engine: &Engine, image: &Image, fixture: &Fixture, options: fn(&str) -> RunOptions) -> Container {
    engine.load(image);
    let name = format!("restart-{}-{}", language(fixture), std::process::id());
    let container = engine.run(image, &options(&name).args(&["1000"]));
    container.wait_started();
    container
}

/// A breakpoint that is hit all the time, by a condition that is never true.
fn hot(fixture: &Fixture) -> String {
    format!("break {}:{} if counter < 0\r", fixture.source_name(), fixture.line("BREAK"))
}

/// One that is never hit.
fn rare(fixture: &Fixture) -> String {
    format!("break {}:{}\r", fixture.source_name(), fixture.line("RARE"))
}

/// A session with a breakpoint in its target.
fn armed(surroundings: &Surroundings, container: &Container, breakpoint: &str) -> Terminal {
    let target = format!("docker/{}", container.name());
    let mut terminal = Terminal::run(surroundings, &["attach", &target, "--pause-budget", "0"]);
    terminal.waits_for("(pepo)", 1);
    terminal.types(breakpoint);
    terminal.waits_for("(pepo)", 2);
    terminal
}

#[test]
fn a_session_by_a_helper_ends_with_its_engine_and_its_target_lives() {
    let engine = Engine::start(Kind::Docker);
    let surroundings = Surroundings::new().at(&engine).without_ptrace();
    let mut targets = Vec::new();
    for fixture in session::fixtures() {
        let Some(image) = image_for_a_helper(&fixture) else { continue };
        let container = run(&engine, &image, &fixture, RunOptions::restricted);
        targets.push((fixture, container));
    }
    let containers = engine.containers();
    for end in ENDS {
        let sessions: Vec<_> = targets
            .iter()
            .map(|(fixture, container)| {
                let before = Snapshot::take(container.pid());
                // delve is guarded where lldb-server is, and in this image it isn't.
                let breakpoint = if language(fixture) == "go" { rare(fixture) } else { hot(fixture) };
                (container, before, armed(&surroundings, container, &breakpoint))
            })
            .collect();
        assert_eq!(engine.containers().len(), containers.len() + sessions.len());
        end(&engine);
        for (container, before, mut terminal) in sessions {
            assert_eq!(terminal.status(), Some(5), "{}", terminal.said());
            terminal.waits_for("P0305", 1);
            container.assert_goes_on();
            before.assert_same();
        }
        until_only(&engine, &containers);
    }
}
