//! `pepo top` on a terminal: what a person sees of it, what keys do, and that the terminal is as it was afterwards.

use pepo_testkit::{Language, Life as _, Running, Symbols, wait};
use rustix::process::Signal;

use crate::{
    profiles::{LIMIT, hot, name, steady},
    support::Surroundings,
    terminal::Terminal,
};

/// Waits until what is shown is as wanted.
#[track_caller]
fn shows(terminal: &Terminal, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let seen = wait::try_until(LIMIT, || {
        let lines = terminal.screen();
        if wanted(&lines) { Ok(lines) } else { Err(lines.join("\n")) }
    });
    match seen {
        Ok(lines) => lines,
        Err(lines) => panic!("{what} is not shown, but:\n{lines}"),
    }
}

/// The first words of the rows after their two numbers.
fn names(lines: &[String]) -> Vec<String> {
    let rows = lines.iter().skip_while(|line| !line.trim_start().starts_with("SELF")).skip(1);
    let rows = rows.take_while(|line| line.contains(" % "));
    rows.map(|line| line.split_whitespace().nth(4).unwrap_or_default().to_owned()).collect()
}

fn begin(surroundings: &Surroundings, target: &Running, columns: u16) -> Terminal {
    Terminal::of(surroundings.command(&["top", &name(target), "-i", "200ms"]), columns)
}

#[test]
fn the_live_table_is_sorted_grouped_filtered_and_held_by_keys() {
    let target = steady();
    let surroundings = Surroundings::new().with("NO_COLOR", "1");
    let mut terminal = begin(&surroundings, &target, 120);
    let first =
        |wanted: &'static str| move |lines: &[String]| names(lines).first().is_some_and(|one| one == wanted);
    let lines = shows(&terminal, "a table", |lines| names(lines).len() > 4 && first("burn")(lines));
    assert!(lines[0].contains(&name(&target)) && lines[1] == "by function, sorted by self", "{lines:?}");
    assert!(!terminal.is_as_it_was());
    terminal.types("s");
    shows(&terminal, "the other order", |lines| lines[1].ends_with("total") && names(lines).len() > 4);
    terminal.types("/ARM\r");
    shows(&terminal, "a filter", |lines| {
        lines[1] == "by function, sorted by total · only ARM" && names(lines) == ["warm"]
    });
    terminal.types("\x1b");
    shows(&terminal, "no filter", |lines| lines[1].ends_with("total") && names(lines).len() > 4);
    terminal.types("2");
    shows(&terminal, "lines", |lines| {
        lines[1].starts_with("by line") && lines.iter().any(|line| line.contains("hot.c:"))
    });
    terminal.types("\t");
    shows(&terminal, "threads", |lines| lines[1].starts_with("by thread") && first("hot")(lines));
    terminal.types("p");
    let held = shows(&terminal, "that it is held", |lines| lines[1].contains("held"));
    terminal.types("?");
    shows(&terminal, "help", |lines| lines.iter().any(|line| line.starts_with("q, Ctrl-C: end")));
    terminal.types("?");
    assert_eq!(shows(&terminal, "the same as before", |lines| names(lines) == names(&held)), held);
    terminal.types("p1");
    terminal.becomes(40, 12);
    shows(&terminal, "a narrow table", |lines| {
        lines.len() == 12 && lines.iter().all(|line| line.chars().count() <= 40) && !names(lines).is_empty()
    });
    target.assert_goes_on();
    terminal.types("q");
    assert_eq!(terminal.status(), Some(0));
    assert!(terminal.is_as_it_was());
    let said = terminal.said_in_all();
    assert!(said.ends_with("\x1b[?1049l") && !said.contains("\x1b[1m"), "{said:?}");
}

#[test]
fn whatever_ends_the_live_table_leaves_the_terminal_as_it_was() {
    let surroundings = Surroundings::new();
    let signals = [("SIGINT", Signal::INT), ("SIGTERM", Signal::TERM), ("SIGHUP", Signal::HUP)];
    let ends = signals.map(|(what, signal)| (what, Some(signal))).into_iter().chain([("Ctrl-C", None)]);
    let target = steady();
    for (what, end) in ends {
        let mut terminal = begin(&surroundings, &target, 80);
        shows(&terminal, "a table", |lines| !names(lines).is_empty());
        match end {
            Some(signal) => terminal.is_sent(signal),
            None => terminal.types("\x03"),
        }
        assert_eq!((terminal.status(), terminal.is_as_it_was()), (Some(0), true), "{what}");
        let said = terminal.said_in_all();
        assert!(said.contains("\x1b[1m") && said.ends_with("\x1b[?25h\x1b[?1049l"), "{what}: {said:?}");
    }
    target.assert_goes_on();
}

#[test]
fn what_was_known_last_of_a_process_that_ends_stays_on_the_terminal() {
    let (_, target) = hot(Language::C, Symbols::Inside, "steady");
    target.wait_started();
    let surroundings = Surroundings::new();
    let mut terminal = begin(&surroundings, &target, 120);
    shows(&terminal, "a table", |lines| !names(lines).is_empty());
    drop(target);
    assert_eq!((terminal.status(), terminal.is_as_it_was()), (Some(0), true));
    let said = terminal.said_in_all();
    let last = said.rsplit("\x1b[?1049l").next().unwrap();
    assert!(last.contains("SELF") && last.contains("burn") && last.contains("hot"), "{said:?}");
}
