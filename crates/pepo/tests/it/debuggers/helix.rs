//! Helix, an editor that speaks the protocol by itself, with the configuration of `docs/editors.md`.

use std::{os::unix::fs::symlink, path::PathBuf};

use pepo_testkit::{Fixture, Language, Life as _, clean::Snapshot, tools, wait};

use crate::{
    documented,
    session::{self, LIMIT},
    support::{PEPO, Surroundings},
    terminal::Terminal,
};

/// The key Escape, in the form (CSI u) that no following key can be taken for a part of.
const ESCAPE: &str = "\x1b[27u";

/// An editor on a source, and its own log of what it said and heard.
struct Helix {
    surroundings: Surroundings,
    terminal: Terminal,
}

impl Helix {
    fn open(fixture: &Fixture) -> Helix {
        let surroundings = Surroundings::new();
        let settings = surroundings.path("settings");
        std::fs::create_dir_all(settings.join("helix")).unwrap();
        let name = match fixture.language {
            Language::Go => "go",
            Language::Python => "python",
            _ => "c",
        };
        let page = documented::block("toml").replace("name = \"go\"", &format!("name = \"{name}\""));
        std::fs::write(settings.join("helix/languages.toml"), page).unwrap();
        let programs = surroundings.path("programs");
        std::fs::create_dir_all(&programs).unwrap();
        symlink(PEPO, programs.join("pepo")).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let surroundings = surroundings
            .with("PATH", path)
            .with("XDG_CONFIG_HOME", settings.to_str().unwrap())
            .with("TERM", "xterm");
        let (log, editor) = (surroundings.path("log"), tools().join("helix/bin/hx"));
        let arguments = ["-vv", "--log", log.to_str().unwrap(), fixture.source.to_str().unwrap()];
        let mut command = surroundings.other(editor.to_str().unwrap(), &arguments);
        command.current_dir(fixture.source.parent().unwrap());
        Helix { terminal: Terminal::of(command, 200), surroundings }
    }

    fn log(&self) -> PathBuf {
        self.surroundings.path("log")
    }

    /// Waits until some words stand in the log.
    #[track_caller]
    fn notes(&self, words: &str) {
        let seen = wait::try_until(LIMIT, || {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            if log.contains(words) { Ok(()) } else { Err(log) }
        });
        if let Err(log) = seen {
            panic!("no {words:?} in the log of the editor:\n{log}");
        }
    }
}

/// Breakpoint by key, attach by name, a value by `:debug-eval`, on by key, the end by key: the target goes on as it was.
fn debugs(fixture: &Fixture) {
    let (running, name) = super::target(fixture);
    let before = Snapshot::take(running.pid());
    let mut helix = Helix::open(fixture);
    // Its status line: from now on it reads keys.
    helix.terminal.waits_for("NOR", 1);
    helix.terminal.types(&format!("{}gg Gb{ESCAPE}", fixture.line("BREAK")));
    helix.terminal.types(&format!(":debug-start attach {name}\r"));
    helix.notes("\"event\":\"stopped\"");
    helix.notes("\"stackFrames\":[");
    helix.terminal.types(":debug-eval factor * 21\r");
    helix.notes("\"result\":\"42");
    helix.terminal.types(" Gb");
    helix.notes("\"breakpoints\":[],");
    helix.terminal.types("c");
    helix.notes("\"command\":\"continue\"");
    running.assert_goes_on();
    helix.terminal.types("t");
    helix.notes("\"command\":\"disconnect\"");
    helix.terminal.types(&format!("{ESCAPE}:q!\r"));
    assert_eq!(helix.terminal.status(), Some(0));
    let log = std::fs::read_to_string(helix.log()).unwrap();
    assert!(!log.contains("err: <- Parse"), "the editor did not understand:\n{log}");
    running.assert_goes_on();
    before.assert_same();
}

#[test]
fn it_debugs_every_language_as_the_page_says() {
    let fixtures = session::fixtures();
    std::thread::scope(|scope| {
        fixtures.iter().for_each(|fixture| drop(scope.spawn(move || debugs(fixture))));
    });
}
